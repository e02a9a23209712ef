//! Reads one parameter of a call.

use syn::{Attribute, Error, LitStr, Pat, PatType, Result, Type};

use super::Mistakes;
use crate::arguments::optional_name;
use crate::model::{Parameter, Place};

const PLACES: &str = "say where it goes: `#[path]`, `#[query]`, `#[header(\"name\")]` or `#[json]`";

/// Headers that the call itself writes, or that say how a message is framed: a parameter that set
/// one would forge an identity or break the connection.
const RESERVED: [&str; 12] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Reads the parameter, or records what is wrong with it.
pub(super) fn read(item: &PatType, mistakes: &mut Mistakes) -> Option<Parameter> {
    let name = match &*item.pat {
        Pat::Ident(it) if it.by_ref.is_none() && it.mutability.is_none() && it.subpat.is_none() => {
            it.ident.clone()
        }
        other => {
            mistakes.at(other, "a parameter is a plain name");
            return None;
        }
    };
    if let Type::ImplTrait(it) = &*item.ty {
        mistakes.at(it, "generics are not supported in a client trait: name the type");
    }
    let Some((first, more)) = item.attrs.split_first() else {
        mistakes.at(&name, PLACES);
        return None;
    };
    for it in more {
        mistakes.at(it, "a parameter goes to one place");
    }
    let place = mistakes.keep(place(first, &name.to_string()))?;
    Some(Parameter { name, kind: (*item.ty).clone(), place })
}

fn place(attribute: &Attribute, parameter: &str) -> Result<Place> {
    // `r#type` is sent as `type`.
    let plain = parameter.strip_prefix("r#").unwrap_or(parameter);
    let path = attribute.path();
    if path.is_ident("path") {
        let name = optional_name(attribute)?;
        return Ok(Place::Path(name.map_or_else(|| plain.to_owned(), |it| it.value())));
    }
    if path.is_ident("query") {
        return match optional_name(attribute)? {
            None => Ok(Place::Query(plain.to_owned())),
            Some(it) if it.value().is_empty() => {
                Err(Error::new(it.span(), "a query parameter has a name"))
            }
            Some(it) => Ok(Place::Query(it.value())),
        };
    }
    if path.is_ident("header") {
        return match optional_name(attribute)? {
            Some(it) => header(&it),
            None => {
                Err(Error::new_spanned(attribute, "name the header: `#[header(\"if-match\")]`"))
            }
        };
    }
    if path.is_ident("json") {
        return match &attribute.meta {
            syn::Meta::Path(_) => Ok(Place::Json),
            other => Err(Error::new_spanned(other, "`#[json]` takes no arguments")),
        };
    }
    Err(Error::new_spanned(attribute, PLACES))
}

fn header(text: &LitStr) -> Result<Place> {
    let name = text.value().to_ascii_lowercase();
    // A token (RFC 9110 §5.6.2).
    let token = !name.is_empty()
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it));
    if !token {
        return Err(Error::new(text.span(), "this is not a header name"));
    }
    if name.starts_with("x-tradewind-") || RESERVED.contains(&name.as_str()) {
        return Err(Error::new(text.span(), format!("`{name}` is written by the call itself")));
    }
    Ok(Place::Header(name))
}
