//! Path templates: `/orders/{order}/lines`, whole segments only.

use crate::model::Piece;

/// Reads a template.
///
/// # Errors
/// Says what is wrong with it, in a sentence for the user of the attribute.
pub(crate) fn read(template: &str) -> Result<Vec<Piece>, String> {
    let Some(rest) = template.strip_prefix('/') else {
        return Err("a path starts with `/`".into());
    };
    let mut pieces = Vec::new();
    let mut literal = String::from("/");
    for (index, segment) in rest.split('/').enumerate() {
        if 0 < index {
            literal.push('/');
        }
        match parameter(segment)? {
            Some(name) => {
                if pieces.contains(&Piece::Parameter(name.to_owned())) {
                    return Err(format!("`{{{name}}}` stands twice in the path"));
                }
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                pieces.push(Piece::Parameter(name.to_owned()));
            }
            None => {
                check_literal(segment)?;
                literal.push_str(segment);
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// The names of the parameters, in order.
pub(crate) fn names(pieces: &[Piece]) -> impl Iterator<Item = &str> {
    pieces.iter().filter_map(|it| match it {
        Piece::Literal(_) => None,
        Piece::Parameter(name) => Some(name.as_str()),
    })
}

fn parameter(segment: &str) -> Result<Option<&str>, String> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let name = segment.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    let Some(name) = name.filter(|it| !it.contains(['{', '}'])) else {
        return Err(format!("a parameter is a whole path segment, like `/{{id}}`: `{segment}`"));
    };
    let starts = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    let right = starts && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if right { Ok(Some(name)) } else { Err(format!("`{name}` is not a parameter name")) }
}

/// Literal text is what RFC 3986 §3.3 lets stand in a segment without an escape: an escape in the
/// template would leave open whether it is meant to be encoded once more.
fn check_literal(segment: &str) -> Result<(), String> {
    if matches!(segment, "." | "..") {
        return Err("`.` and `..` are not segments: servers resolve them away".into());
    }
    match segment
        .chars()
        .find(|it| !it.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:@".contains(*it))
    {
        Some('?') => Err("the query is made of `#[query]` parameters, not of the path".into()),
        Some(bad) => Err(format!("`{bad}` cannot stand in a path")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.into())
    }

    fn parameter(name: &str) -> Piece {
        Piece::Parameter(name.into())
    }

    #[test]
    fn pieces_put_together_give_the_template_back() {
        for template in [
            "/",
            "/products",
            "/products/{id}",
            "/{a}/{b}",
            "/orders/{order}/lines/{line_2}/",
            "/a:b@c",
        ] {
            let text: String = read(template)
                .unwrap()
                .into_iter()
                .map(|it| match it {
                    Piece::Literal(text) => text,
                    Piece::Parameter(name) => format!("{{{name}}}"),
                })
                .collect();
            assert_eq!(text, template);
        }
    }

    #[test]
    fn literals_and_parameters_are_told_apart() {
        assert_eq!(
            read("/orders/{order}/lines").unwrap(),
            [literal("/orders/"), parameter("order"), literal("/lines")]
        );
        assert_eq!(names(&read("/{a}/x/{b}").unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_path_is_refused_with_its_reason() {
        for (bad, reason) in [
            ("", "a path starts with `/`"),
            ("products", "a path starts with `/`"),
            ("/a?x=1", "`#[query]` parameters"),
            ("/a b", "` ` cannot stand"),
            ("/a%20b", "`%` cannot stand"),
            ("/a#b", "`#` cannot stand"),
            ("/ä", "`ä` cannot stand"),
            ("/a/../b", "are not segments"),
            ("/{id}.json", "a whole path segment"),
            ("/{id", "a whole path segment"),
            ("/{{id}}", "a whole path segment"),
            ("/{}", "`` is not a parameter name"),
            ("/{*rest}", "`*rest` is not a parameter name"),
            ("/{1a}", "`1a` is not a parameter name"),
            ("/{a}/{a}", "stands twice"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
