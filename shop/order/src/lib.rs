//! The shop's order service: login, quotes, orders.
