//! Request bodies: whole, decompressed, within bounds.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tradewind_eureka::{Charset, Format};
use tradewind_service::axum::extract::Request;
use tradewind_service::edge::BodyError;

/// A request body as the readers of the wire shapes take it.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) headers: HeaderMap,
    pub(super) format: Format,
    pub(super) bytes: Vec<u8>,
}

/// Reads the body of `request`.
///
/// # Errors
/// The status of the refusal: too large, too slow, broken, or in an encoding that is not taken.
pub(super) async fn read(request: Request, bytes_max: u64) -> Result<Body, StatusCode> {
    let (parts, body) = request.into_parts();
    let text = |name| parts.headers.get(name).and_then(|it| it.to_str().ok());
    let Ok((format, charset)) = Format::of_body(text(CONTENT_TYPE)) else {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    };
    let whole = body.collect().await.map_err(|it| refusal(&it))?.to_bytes();
    let bytes = match text(CONTENT_ENCODING).map(str::trim) {
        None => whole.to_vec(),
        Some(it) if it.is_empty() || it.eq_ignore_ascii_case("identity") => whole.to_vec(),
        Some(it) if it.eq_ignore_ascii_case("gzip") || it.eq_ignore_ascii_case("x-gzip") => {
            decompress(&whole, bytes_max)?
        }
        Some(_) => return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    };
    let bytes = match charset {
        Charset::Utf8 => bytes,
        Charset::Latin1 => charset.to_utf8(&bytes).into_owned(),
    };
    Ok(Body { headers: parts.headers, format, bytes })
}

/// A small body may unpack to any size; it is unpacked no further than the bound.
fn decompress(packed: &[u8], bytes_max: u64) -> Result<Vec<u8>, StatusCode> {
    let mut bytes = Vec::new();
    let mut unpacked = MultiGzDecoder::new(packed).take(bytes_max.saturating_add(1));
    unpacked.read_to_end(&mut bytes).map_err(|_| StatusCode::BAD_REQUEST)?;
    if bytes_max < bytes.len() as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Ok(bytes)
}

fn refusal(error: &tradewind_service::axum::Error) -> StatusCode {
    match BodyError::of(error) {
        Some(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(BodyError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_bound_of_the_edge_has_its_status() {
        for (error, expected) in [
            (BodyError::TooLarge, StatusCode::PAYLOAD_TOO_LARGE),
            (BodyError::TooSlow, StatusCode::REQUEST_TIMEOUT),
            // What a client broke off may say anything, also words of the other reasons.
            (BodyError::Broken("too large a deadline".into()), StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(refusal(&tradewind_service::axum::Error::new(error)), expected);
        }
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_the_bound() {
        assert_eq!(decompress(&packed(b"hello"), 5), Ok(b"hello".to_vec()));
        assert_eq!(decompress(&packed(&[0; 6]), 5), Err(StatusCode::PAYLOAD_TOO_LARGE));
        let bomb = packed(&vec![0; 8 << 20]);
        assert_eq!(decompress(&bomb, 1 << 20), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(decompress(b"not gzip", 100), Err(StatusCode::BAD_REQUEST));
    }
}
