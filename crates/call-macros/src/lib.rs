//! The attribute that turns a trait into a client.
