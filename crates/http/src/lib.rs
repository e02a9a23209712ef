//! Outbound HTTP/1.1: connections, pools, a time limit per phase, errors that know what was sent.
