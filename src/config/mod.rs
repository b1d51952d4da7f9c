//! What an operator can set: read from a TOML file and the environment, checked as a whole, every fault told at once with
//! its key and line, and never a secret shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use url::Url;

use crate::dispatch::Allowed;
use crate::domain::scope::Scope;
use crate::domain::units::{Size, Span};

/// `[server]`: where and how the gateway listens.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where callers reach it.
    pub listen: SocketAddr,
    /// Where operators reach it; `None` turns it off.
    pub admin_listen: Option<SocketAddr>,
    /// The path it is mounted below, `""` or `/…` without a final slash.
    pub base_path: String,
    /// The absolute address callers use, for `Location` and the document's servers.
    pub public_url: Option<Url>,
    /// Longest body of a single request.
    pub body_limit: Size,
    /// Longest body of a bulk.
    pub bulk_body_limit: Size,
    /// After this the caller gets 202 as with `Prefer: wait`.
    pub request_timeout: Span,
    /// How long requests under way may take after a stop was asked for.
    pub shutdown_grace: Span,
}

/// `[auth]`: how callers are recognised.
#[derive(Debug, Clone)]
pub enum Auth {
    /// By API key.
    Keys(BTreeMap<String, ClientSettings>),
    /// Not at all: one tenant with all scopes.
    None,
}

/// `[auth.clients.<name>]`: one client.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The client's name.
    pub name: String,
    /// Who owns what it makes.
    pub tenant: String,
    /// SHA-256 of each live key.
    pub key_sha256: Vec<[u8; 32]>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The connections it may use.
    pub connections: Allowed,
    /// Used when a request names no connection.
    pub default_connection: Option<String>,
    /// How fast it may ask.
    pub rate_limit: RateLimit,
}

/// How fast a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second in the long run.
    pub requests_per_second: u32,
    /// Requests at once.
    pub burst: u32,
}
