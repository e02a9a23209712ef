//! The shop's warehouse service: what leaves the house, and when.
