//! Eureka's wire shapes: JSON and XML, exact to the byte.
//!
//! A registry that unmodified Eureka clients use must write what a stock server writes: the fields
//! in its order, numbers in quotes where it quotes them, Java class names, doubled underscores.
//! Spring's client drops a whole fetch for one field it does not know, the Python client raises on
//! a missing attribute. So this crate is *strict when it writes and lenient when it reads*, and it
//! does nothing else: no IO, no clock, no state.
//!
//! - [`Instance`], [`Applications`], [`ReplicationList`], [`ReplicationResponse`]: what is carried.
//! - [`json`] and [`xml`]: writers and readers of each.
//! - [`Format`], [`Form`], [`Version`], [`Charset`]: what the headers and the path ask for.
//! - [`hash_code`]: the summary by which clients check their copy.
//!
//! The writers append to a `String` and borrow the instances (`&Instance`, `Arc<Instance>` or
//! `&Arc<Instance>`), so that a large table is written without a copy of it. Both readers make one
//! small tree of the body and share what follows; what a field may look like is written down once.
//!
//! ```
//! use std::sync::Arc;
//! use tradewind_eureka::{DataCenter, Head, Instance, hash_code, json, xml};
//!
//! let body = br#"{"instance":{"app":"orders","hostName":"h1","ipAddr":"10.0.0.1",
//!     "port":{"$":8080,"@enabled":true},
//!     "dataCenterInfo":{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}"#;
//! let instance = Arc::new(json::read_instance(body)?);
//! assert_eq!(instance.validate("orders"), Ok(()));
//! assert_eq!(instance.effective_id(), "h1");
//! assert_eq!(instance.data_center, Some(DataCenter::MyOwn));
//!
//! let hash = hash_code([instance.status]);
//! assert_eq!(hash, "UP_1_");
//! let head = Head { version_delta: "1", hash_code: &hash };
//! let mut out = String::new();
//! json::applications(&mut out, head, [("ORDERS", [&instance])]);
//! assert!(out.starts_with(r#"{"applications":{"versions__delta":"1","apps__hashcode":"UP_1_","#));
//!
//! out.clear();
//! xml::instance(&mut out, &instance, xml::Style::default());
//! assert_eq!(xml::read_instance(out.as_bytes())?, *instance);
//! # Ok::<(), tradewind_eureka::ReadError>(())
//! ```
//!
//! # Limits
//!
//! The caller bounds a body's length and the size of the metadata it accepts
//! ([`Metadata::size_bytes`]). Depth is bounded here. A reader's time is linear in the body's
//! length; its memory is about twice the length for usual bodies and up to some thirty times for
//! one made of nothing but brackets, so a body's bound is a bound on memory too.

pub mod json;
mod model;
mod negotiate;
mod node;
mod read;
pub mod xml;

pub use model::metadata::Metadata;
pub use model::replication::{
    ReplicationAction, ReplicationInstance, ReplicationList, ReplicationResponse, ReplicationResult,
};
pub use model::status::{Status, hash_code};
pub use model::{
    ActionType, Application, Applications, DataCenter, Head, Instance, Invalid, LeaseInfo, Port,
};
pub use negotiate::{Charset, CharsetError, Form, Format, Version};
pub use read::ReadError;
