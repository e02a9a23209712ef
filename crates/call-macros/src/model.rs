//! What a declared client is, once it has been read and found right.

use proc_macro2::Ident;
use syn::{Attribute, Path, Type, TypeParamBound, Visibility, punctuated::Punctuated, token::Plus};

/// A whole client.
pub(crate) struct Client {
    /// Where the expansion finds the call crate.
    pub(crate) root: Path,
    /// The name of the service that is called.
    pub(crate) service: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) supertraits: Punctuated<TypeParamBound, Plus>,
    pub(crate) methods: Vec<Method>,
}

/// One call.
pub(crate) struct Method {
    /// What is not ours on the method: documentation, `cfg`, lints.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) name: Ident,
    pub(crate) verb: Verb,
    pub(crate) template: String,
    /// The pieces of the path, in order.
    pub(crate) path: Vec<Piece>,
    /// Every parameter after `&self`, in order.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) idempotent: bool,
    /// The time limit of the whole call, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// The return type as written.
    pub(crate) output: Type,
    /// The type inside the `Result` is `()`: the answer's body is of no interest.
    pub(crate) unit: bool,
}

/// The HTTP method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// The verb an attribute stands for.
    pub(crate) fn of_attribute(name: &str) -> Option<Self> {
        Some(match name {
            "get" => Self::Get,
            "post" => Self::Post,
            "put" => Self::Put,
            "patch" => Self::Patch,
            "delete" => Self::Delete,
            _ => return None,
        })
    }

    /// The name of the constant of `http::Method`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request body has a meaning (RFC 9110 §9.3).
    pub(crate) const fn takes_body(self) -> bool {
        match self {
            Self::Post | Self::Put | Self::Patch => true,
            Self::Get | Self::Delete => false,
        }
    }
}

/// A piece of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text that stands as it is.
    Literal(String),
    /// One whole segment, filled by the parameter of that name.
    Parameter(String),
}

/// One parameter of a call.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) kind: Type,
    pub(crate) place: Place,
}

/// Where a parameter goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The path segment of that name.
    Path(String),
    /// The query parameter of that name.
    Query(String),
    /// The header of that name.
    Header(String),
    /// The body, as JSON.
    Json,
}
