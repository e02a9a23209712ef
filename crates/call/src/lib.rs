//! Declared HTTP clients: balance, time limits, retry, warm connections.
