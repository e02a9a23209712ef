//! The `tradewind` binary.
fn main() {}
