//! The API gateway: routes, filters, streaming proxy.
