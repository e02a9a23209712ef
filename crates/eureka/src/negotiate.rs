//! What the headers and the path ask for.

use std::borrow::Cow;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON.
    Json,
    /// XML: what a client gets that does not ask for JSON by name.
    Xml,
}

impl Format {
    /// The format of an answer: JSON if the `Accept` header contains `json`, otherwise XML, also
    /// when the header is missing or `*/*`. The Python client sends none and reads XML only.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.to_ascii_lowercase().contains("json") => Self::Json,
            Some(_) | None => Self::Xml,
        }
    }

    /// The format and the charset of a request's body: JSON if the subtype is `json` (or ends in
    /// `+json`), otherwise XML.
    ///
    /// # Errors
    /// When a charset is named that is neither UTF-8 nor ISO-8859-1.
    pub fn of_body(content_type: Option<&str>) -> Result<(Self, Charset), CharsetError> {
        let mut parts = content_type.unwrap_or_default().split(';');
        let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = media.split_once('/').map_or("", |(_, subtype)| subtype);
        let format = match subtype {
            "json" => Self::Json,
            other if other.ends_with("+json") => Self::Json,
            _ => Self::Xml,
        };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("charset") {
                return Ok((format, Charset::parse(value.trim().trim_matches('"'))?));
            }
        }
        Ok((format, Charset::Utf8))
    }

    /// The `Content-Type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "application/xml",
        }
    }
}

/// The charsets a stock server takes bodies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charset {
    /// UTF-8, also when none is named.
    Utf8,
    /// ISO-8859-1: each byte is the character of that number.
    Latin1,
}

/// A body in a charset that Eureka does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("charset {0:?} is neither UTF-8 nor ISO-8859-1")]
pub struct CharsetError(String);

impl Charset {
    fn parse(name: &str) -> Result<Self, CharsetError> {
        match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" => Ok(Self::Utf8),
            "iso-8859-1" | "latin1" => Ok(Self::Latin1),
            _ => Err(CharsetError(name.chars().take(40).collect())),
        }
    }

    /// The body as the readers want it. UTF-8 is passed on unchecked: the readers check.
    #[must_use]
    pub fn to_utf8(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Latin1 if !body.is_ascii() => {
                let text: String = body.iter().copied().map(char::from).collect();
                Cow::Owned(text.into_bytes())
            }
            Self::Latin1 | Self::Utf8 => Cow::Borrowed(body),
        }
    }
}

/// How much of an instance an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Everything.
    #[default]
    Full,
    /// What is needed to call it.
    Compact,
}

impl Form {
    /// The form that the header `X-Eureka-Accept` asks for; full unless it says `compact`.
    #[must_use]
    pub fn of_header(eureka_accept: Option<&str>) -> Self {
        match eureka_accept {
            Some(form) if form.trim().eq_ignore_ascii_case("compact") => Self::Compact,
            Some(_) | None => Self::Full,
        }
    }
}

/// Whether a key of Amazon's metadata stays in the compact form.
pub(crate) fn compact_key(key: &str) -> bool {
    matches!(
        key,
        "instance-id" | "public-ipv4" | "public-hostname" | "local-ipv4" | "availability-zone"
    )
}

/// The version in the path, `/eureka/v1` or `/eureka/v2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// Shows UP, DOWN and STARTING only, see [`Status::for_v1`](crate::Status::for_v1); XML only.
    V1,
    /// Everything else.
    #[default]
    V2,
}

impl Version {
    /// The version a path segment names. Any other segment means v2, also Spring's `eureka`.
    #[must_use]
    pub fn of_segment(segment: &str) -> Self {
        if segment.eq_ignore_ascii_case("v1") { Self::V1 } else { Self::V2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_xml_unless_json_is_asked_for() {
        for (accept, format) in [
            (None, Format::Xml),
            (Some(""), Format::Xml),
            (Some("*/*"), Format::Xml),
            (Some("application/xml"), Format::Xml),
            (Some("application/json"), Format::Json),
            (Some("application/*+json, application/json"), Format::Json),
            (Some("text/html, Application/JSON;q=0.1"), Format::Json),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn a_body_is_xml_unless_its_type_is_json() {
        for (content_type, expected) in [
            (None, (Format::Xml, Charset::Utf8)),
            (Some("application/json"), (Format::Json, Charset::Utf8)),
            (Some("Application/JSON; charset=UTF-8"), (Format::Json, Charset::Utf8)),
            (Some("application/vnd.x+json"), (Format::Json, Charset::Utf8)),
            (Some("application/json;charset=\"iso-8859-1\""), (Format::Json, Charset::Latin1)),
            (Some("text/xml; q; charset=utf8"), (Format::Xml, Charset::Utf8)),
            (Some("json"), (Format::Xml, Charset::Utf8)),
        ] {
            assert_eq!(Format::of_body(content_type), Ok(expected), "{content_type:?}");
        }
        assert!(Format::of_body(Some("application/json; charset=utf-16")).is_err());
    }

    #[test]
    fn latin1_bodies_are_read_byte_by_character() {
        assert_eq!(&*Charset::Latin1.to_utf8(b"caf\xe9"), "café".as_bytes());
        assert_eq!(&*Charset::Utf8.to_utf8(b"caf\xe9"), b"caf\xe9");
    }

    #[test]
    fn forms_and_versions_fall_back_to_the_usual_one() {
        assert_eq!(Form::of_header(None), Form::Full);
        assert_eq!(Form::of_header(Some("full")), Form::Full);
        assert_eq!(Form::of_header(Some("Compact")), Form::Compact);
        assert_eq!(Version::of_segment("v1"), Version::V1);
        assert_eq!(Version::of_segment("eureka"), Version::V2);
    }
}
