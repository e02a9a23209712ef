//! The shop's invariants over all its databases.
