//! The address that a request came from.

use std::net::IpAddr;

/// The address of the other end of a request's connection: the caller's, or that of a proxy before the gateway; kept in the
/// request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct PeerAddress(pub(in crate::http) IpAddr);
