//! Instance lists that follow the registry, and registering oneself.
