//! Where lists come from. A source learns from the store which services are followed and publishes
//! their lists into it; nothing else of it is known outside.

pub(crate) mod fixed;
pub(crate) mod registry;
