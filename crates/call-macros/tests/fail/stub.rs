//! The part of the call crate that an expansion names, with the same bounds and no content.

#[derive(Clone, Debug)]
pub struct CallError;

#[doc(hidden)]
pub mod __private {
    use std::fmt::Display;

    pub use super::CallError;

    #[derive(Clone, Debug)]
    pub struct Channel;

    pub struct Request;

    pub struct Method;

    impl Method {
        pub const GET: Self = Self;
        pub const POST: Self = Self;
    }

    impl Request {
        pub fn new(_: Method, _: &'static str) -> Self {
            Self
        }
        pub fn literal(self, _: &'static str) -> Self {
            self
        }
        pub fn segment(self, _: &'static str, _: &dyn Display) -> Self {
            self
        }
        pub fn query(self, _: &'static str, _: &dyn Display) -> Self {
            self
        }
        pub fn header(self, _: &'static str, _: &dyn Display) -> Self {
            self
        }
    }

    impl Channel {
        pub async fn call<T: Default>(&self, _: Request) -> Result<T, CallError> {
            Ok(T::default())
        }
    }
}
