#[cfg(feature = "services")]
mod between;
mod cancelling;
mod coordinated;
mod crashes;
mod placing;
mod support;
#[cfg(feature = "services")]
mod unknown;
