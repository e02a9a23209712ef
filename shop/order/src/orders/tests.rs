#[cfg(feature = "services")]
mod between;
mod cancelling;
mod crashes;
mod placing;
mod support;
#[cfg(feature = "services")]
mod unknown;
