//! The data path: hyper on one current-thread runtime per core.
//!
//! Each worker has its own listener on the one address (SO_REUSEPORT: the kernel spreads
//! connections), its own runtime and its own connections to services, so requests of different
//! workers share nothing but counters and the snapshot of routes. Bodies stream both ways; a side
//! is read only when the other takes what it gave.
//!
//! | part | does |
//! |---|---|
//! | `worker` | listeners, accepting, draining |
//! | `inbound` | the framing tracker and the clocks of a client, before hyper |
//! | `handle` | one request: route, user, fields |
//! | `forward` | which instance, whether again |
//! | `pool` | connections to services |
//! | `body` | streaming, limits, end of record |
//! | `tunnel` | WebSocket |
//! | `refuse` | the gateway's own answers |
//! | `record` | access log and counters, once per request |

pub(crate) mod body;
pub(crate) mod forward;
pub(crate) mod gate;
pub(crate) mod handle;
pub(crate) mod inbound;
pub(crate) mod pool;
pub(crate) mod record;
pub(crate) mod refuse;
pub(crate) mod tunnel;
pub(crate) mod worker;
