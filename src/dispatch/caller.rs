//! Who asks, and what they may use.

use std::collections::BTreeSet;

/// Who asks: an authenticated client, with what it may use.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who owns what the caller sees and makes.
    pub tenant: String,
    /// The configured client.
    pub client: String,
    /// The connections it may use.
    pub connections: Allowed,
    /// Used when a request names no connection.
    pub default_connection: Option<String>,
    /// The request's id, for logs and exchanges.
    pub request_id: String,
    /// W3C `traceparent` of the request.
    pub traceparent: Option<String>,
}

/// The connections a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl Allowed {
    /// Whether this connection is among them.
    #[must_use]
    pub fn contains(&self, connection: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(connection),
        }
    }
}
