//! From text to the tree.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::DEPTH_MAX;
use super::name::decode;
use crate::node::{Field, Node};
use crate::read::{ReadError, append};

/// The attributes that mean something; others are passed over, so that none of them can be taken
/// for a metadata pair.
const ATTRIBUTES: [(&str, &str); 2] = [("class", "@class"), ("enabled", "@enabled")];

/// The element whose children's names are keys.
const METADATA: &str = "metadata";

/// An element under way.
struct Open<'a> {
    name: Cow<'a, str>,
    attributes: Vec<Field<'a>>,
    children: Vec<Field<'a>>,
    text: Cow<'a, str>,
}

impl<'a> Open<'a> {
    fn start(tag: &BytesStart<'a>, parent: Option<&Self>) -> Result<Self, ReadError> {
        let is_key = parent.is_some_and(|parent| parent.name == METADATA);
        let name = tag.name();
        let name: &str = name.as_ref();
        let name = if is_key { decode(name).into_owned() } else { name.to_owned() };
        let mut attributes = Vec::new();
        for (wire, held) in ATTRIBUTES {
            let found = tag.try_get_attribute(wire).map_err(|err| ReadError::Xml(err.into()))?;
            if let Some(attribute) = found {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                let value = value.map_err(ReadError::Xml)?.into_owned();
                attributes.push((Cow::Borrowed(held), Node::Text(Cow::Owned(value))));
            }
        }
        Ok(Self { name: Cow::Owned(name), attributes, children: Vec::new(), text: "".into() })
    }

    fn end(self) -> Field<'a> {
        let Self { name, attributes: mut fields, children, text } = self;
        let node = if !children.is_empty() {
            // Text between elements is layout.
            fields.extend(children);
            Node::Object(fields)
        } else if fields.is_empty() {
            Node::Text(text)
        } else {
            if !text.trim().is_empty() {
                fields.push((Cow::Borrowed("$"), Node::Text(text)));
            }
            Node::Object(fields)
        };
        (name, node)
    }
}

/// Reads a document whose root element has this name.
pub(super) fn document<'a>(text: &'a str, root: &'static str) -> Result<Node<'a>, ReadError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open<'a>> = Vec::new();
    let mut done: Option<Node<'a>> = None;
    loop {
        let closed = match reader.read_event().map_err(ReadError::Xml)? {
            Event::Start(tag) => {
                if open.len() == DEPTH_MAX {
                    return Err(ReadError::TooDeep(DEPTH_MAX));
                }
                open.push(Open::start(&tag, open.last())?);
                None
            }
            Event::Empty(tag) => Some(Open::start(&tag, open.last())?.end()),
            Event::End(_) => open.pop().map(Open::end),
            Event::Text(text) => write_text(&mut open, text.xml10_content(), root)?,
            Event::CData(text) => write_text(&mut open, text.xml10_content(), root)?,
            Event::GeneralRef(entity) => write_text(&mut open, resolve(&entity)?, root)?,
            Event::DocType(_) => return Err(ReadError::Entity),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
            Event::Eof => break,
        };
        match (closed, open.last_mut()) {
            (None, _) => (),
            (Some(child), Some(parent)) => parent.children.push(child),
            (Some((name, node)), None) if done.is_none() && name == root => done = Some(node),
            (Some(_), None) => return Err(ReadError::Root(root)),
        }
    }
    match done {
        Some(node) if open.is_empty() => Ok(node),
        Some(_) | None => Err(ReadError::Root(root)),
    }
}

/// Adds text to the innermost element; outside the root only white space may stand.
fn write_text<'a>(
    open: &mut [Open<'a>],
    text: Cow<'a, str>,
    root: &'static str,
) -> Result<Option<Field<'a>>, ReadError> {
    match open.last_mut() {
        // Once there are children, text is layout and need not be kept.
        Some(element) if element.children.is_empty() => append(&mut element.text, text),
        Some(_) => (),
        None if text.trim().is_empty() => (),
        None => return Err(ReadError::Root(root)),
    }
    Ok(None)
}

/// A reference to a character or to one of XML's five entities.
fn resolve<'a>(entity: &BytesRef<'_>) -> Result<Cow<'a, str>, ReadError> {
    match entity.resolve_char_ref().map_err(ReadError::Xml)? {
        Some(character) => Ok(Cow::Owned(character.to_string())),
        None => resolve_predefined_entity(entity)
            .map_or(Err(ReadError::Entity), |text| Ok(Cow::Borrowed(text))),
    }
}
