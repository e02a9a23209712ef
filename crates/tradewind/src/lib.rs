//! Tradewind for service authors: one dependency line.
