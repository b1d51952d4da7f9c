//! The listener: accepts connections, limits how many there are and how long each may take, serves HTTP/1.1 and HTTP/2
//! over plain TCP or TLS, and shuts down in two phases.

pub(super) mod connection_limit;
pub(super) mod connection_state;
pub(super) mod io;
pub(super) mod listener;
pub(super) mod peer;
pub(super) mod shutdown;
pub(super) mod tls;
