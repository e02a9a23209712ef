mod cancelling;
mod crashes;
mod placing;
mod support;
