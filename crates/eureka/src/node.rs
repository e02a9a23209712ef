//! One small tree for both formats: what a body says, in its order, before anyone asks what it
//! means. XML becomes what Eureka's JSON looks like anyway: attributes are `@name`, text beside
//! attributes is `$`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A name and its value; names may repeat.
pub(crate) type Field<'a> = (Cow<'a, str>, Node<'a>);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node<'a> {
    /// JSON's `null`.
    Null,
    /// JSON's booleans.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number too large for the above.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// JSON's strings, and elements without children and attributes.
    Text(Cow<'a, str>),
    /// JSON's arrays.
    List(Vec<Self>),
    /// JSON's objects, and elements with children or attributes.
    Object(Vec<Field<'a>>),
}

impl<'a> Node<'a> {
    /// A scalar as text; that of an element with attributes too. `None` for anything else.
    pub(crate) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null | Self::List(_) => None,
            Self::Bool(it) => Some(Cow::Borrowed(if *it { "true" } else { "false" })),
            Self::Integer(it) => Some(Cow::Owned(it.to_string())),
            Self::Unsigned(it) => Some(Cow::Owned(it.to_string())),
            // `{:?}` writes large ones with an exponent: five bytes must not become three hundred.
            Self::Float(it) => Some(Cow::Owned(format!("{it:?}"))),
            Self::Text(it) => Some(Cow::Borrowed(it)),
            Self::Object(fields) => match lookup(fields, "$")? {
                Self::Object(_) => None,
                inner => inner.text(),
            },
        }
    }

    /// The fields of an object. Blank text counts as an object without fields, because that is what
    /// an empty element looks like.
    pub(crate) fn fields(&self) -> Option<&[Field<'a>]> {
        match self {
            Self::Object(fields) => Some(fields),
            Self::Text(text) if text.trim().is_empty() => Some(&[]),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Unsigned(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::List(_) => None,
        }
    }
}

/// The last value of a name, unless it is null.
pub(crate) fn lookup<'n, 'a>(fields: &'n [Field<'a>], name: &str) -> Option<&'n Node<'a>> {
    let (_, node) = fields.iter().rev().find(|(held, _)| held == name)?;
    if *node == Node::Null { None } else { Some(node) }
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(|node: Node<'de>| node)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Node<'de>, E> {
        Ok(Node::Integer(it))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Node<'de>, E> {
        Ok(i64::try_from(it).map_or(Node::Unsigned(it), Node::Integer))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Node<'de>, E> {
        Ok(Node::Float(it))
    }

    fn visit_borrowed_str<E>(self, it: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(it)))
    }

    fn visit_str<E>(self, it: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(it.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((Name(name), node)) = map.next_entry()? {
            fields.push((name, node));
        }
        Ok(Node::Object(fields))
    }
}

/// An object's key, borrowed where the body allows.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, it: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(it)))
    }

    fn visit_str<E>(self, it: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(it.to_owned())))
    }
}
