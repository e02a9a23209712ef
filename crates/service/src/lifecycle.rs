//! When a server stops, and what the servers of one estate share.

mod keys;
mod shared;
mod stop;

pub use keys::{AdminToken, Keys, KeysError, private_folder};
pub use shared::{Shared, SharedConfig};
pub use stop::Stop;
