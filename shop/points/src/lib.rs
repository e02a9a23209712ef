//! The shop's points service: accounts and their ledger.
