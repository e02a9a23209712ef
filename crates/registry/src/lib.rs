//! The registry server: lease table, replication, Eureka REST and the native change stream.

pub mod machine;
