//! The shop's inventory service: catalogue and stock.
