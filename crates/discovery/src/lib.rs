//! Instance lists that follow the registry, and registering oneself.

mod config;
mod discovery;
mod instance;
mod registration;
mod source;
mod store;
mod view;
pub mod wire;

pub use config::RegistryClientConfig;
pub use discovery::{Discovery, Health, NotReady, SET_ASIDE, Suspicion};
pub use instance::{
    AddressError, Instance, InstanceId, InstanceIdError, List, ServiceName, ServiceNameError,
    Status,
};
pub use registration::{RegisterError, Registration};
pub use view::View;
