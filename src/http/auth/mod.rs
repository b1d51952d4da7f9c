//! Authentication: by API key, compared by hash in constant time, or by a token of an identity provider (`jwt`).
//! Neither is ever stored, logged or returned.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::config::{Auth, ClientSettings, DEFAULT_TENANT};
use crate::domain::error::{Code, Error};
use crate::domain::exchange::Exchange;
use crate::domain::intent::WriteOrigin;
use crate::domain::scope::Scope;
use crate::domain::vendor::Priority;
use crate::http::app_state::JwksFetcher;
use crate::http::auth::jwt::JwtVerifier;
pub(super) use crate::http::auth::rate_limit::RateLimitState;
use crate::http::auth::rate_limit::RateLimiter;
use crate::service::{ConnectionAccess, RequestContext};
use crate::telemetry::metrics;

pub(super) mod challenge;
mod jwt;
mod rate_limit;

/// The header that carries a key, as an alternative to `Authorization`.
pub(super) const API_KEY_HEADER: &str = "x-api-key";

/// Number of bytes of a key's SHA-256 that identify it in logs: enough to tell the few keys of a client apart.
const KEY_ID_BYTES: usize = 4;

/// All clients that may call.
pub(super) struct ClientRegistry {
    all: Vec<Client>,
    /// Hash of a key, and the client it belongs to.
    keys: Vec<([u8; 32], u32)>,
    by: AuthMode,
    ask: JwksFetcher,
}

/// The credentials a request must carry.
enum AuthMode {
    /// An API key.
    Key,
    /// A token of this issuer.
    Token(Arc<JwtVerifier>),
    /// None: every caller is the first client.
    Nothing,
}

/// A kind of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// An API key.
    Key,
    /// A token of an identity provider.
    Token,
    /// None.
    None,
}

/// An authenticated client.
pub(super) struct Authenticated<'a> {
    pub(super) client: &'a Client,
    /// The client's scopes that its token grants; `None` if it presented no token.
    granted: Option<BTreeSet<Scope>>,
    /// The first eight hexadecimal digits of the SHA-256 of the key it presented; `None` without a key.
    pub(super) key: Option<String>,
}

/// What the credentials of a request permit; kept in the request's extensions.
#[derive(Clone)]
pub(super) struct Permissions {
    pub(super) scopes: Vec<Scope>,
    pub(super) key: Option<String>,
}

/// One client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) tenant: String,
    scopes: BTreeSet<Scope>,
    connections: ConnectionAccess,
    default_connection: Option<String>,
    rate: Option<Arc<RateLimiter>>,
}

impl ClientRegistry {
    pub(super) fn new(auth: &Auth, ask: &JwksFetcher) -> Self {
        let ask = Arc::clone(ask);
        Self::replacing(&Self { all: Vec::new(), keys: Vec::new(), by: AuthMode::Nothing, ask }, auth)
    }

    /// Builds the registry for new settings. A client whose rate limit is unchanged keeps its usage, and an issuer's
    /// fetched keys are kept.
    pub(super) fn replacing(earlier: &Self, auth: &Auth) -> Self {
        let ask = Arc::clone(&earlier.ask);
        let Some(clients) = auth.clients() else {
            return Self { all: vec![Client::everybody()], keys: Vec::new(), by: AuthMode::Nothing, ask };
        };
        let by = match (auth, &earlier.by) {
            (Auth::Jwt(_, settings), AuthMode::Token(issuer)) if issuer.is_same_config(settings) => {
                AuthMode::Token(Arc::clone(issuer))
            }
            (Auth::Jwt(_, settings), _) => AuthMode::Token(JwtVerifier::new(settings.clone(), Arc::clone(&ask))),
            (Auth::Keys(_) | Auth::None, _) => AuthMode::Key,
        };
        let owners = (0u32..).zip(clients.values());
        let keys = owners.flat_map(|(index, client)| client.key_sha256.iter().map(move |key| (*key, index)));
        for client in clients.values().filter(|_| matches!(by, AuthMode::Key)) {
            client.key_sha256.iter().for_each(|key| metrics::client_key(&client.name, &key_id(key)));
        }
        let all = clients.values().map(|client| Client::new(client, earlier)).collect();
        Self { keys: keys.collect(), all, by, ask }
    }

    /// Returns the tenant's client of this name.
    pub(super) fn client(&self, tenant: &str, name: &str) -> Option<&Client> {
        self.all.iter().find(|client| client.name == name && client.tenant == tenant)
    }

    /// Returns the kind of credentials that requests must carry.
    pub(super) const fn credentials(&self) -> Credentials {
        match &self.by {
            AuthMode::Key => Credentials::Key,
            AuthMode::Token(_) => Credentials::Token,
            AuthMode::Nothing => Credentials::None,
        }
    }

    /// Returns the only tenant there is; `None` if there are several.
    pub(super) fn only_tenant(&self) -> Option<&str> {
        let first = self.all.first()?;
        self.all.iter().all(|client| client.tenant == first.tenant).then_some(first.tenant.as_str())
    }

    /// Returns whether there is only one client.
    pub(super) fn alone(&self) -> bool {
        self.all.len() < 2
    }

    /// Returns the client whose credentials the request carries.
    ///
    /// # Errors
    /// `unauthenticated`; the message does not reveal whether a part of a key was right. `issuer_unavailable` if a
    /// token cannot be verified.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<Authenticated<'_>, Error> {
        let (client, key) = match &self.by {
            AuthMode::Key => self.find_client(presented_key(headers)).unzip(),
            AuthMode::Nothing => (self.all.first(), None),
            AuthMode::Token(issuer) => {
                let token = bearer(headers).ok_or_else(|| unauthenticated("The request carries no token."))?;
                let bearer = issuer.verify(token).await?;
                let client = self.all.iter().find(|client| client.name == bearer.client);
                let client = client.ok_or_else(|| unauthenticated("The token names an unknown client."))?;
                return Ok(Authenticated { client, granted: Some(bearer.scopes), key: None });
            }
        };
        let client = client.ok_or_else(|| unauthenticated("The request carries no valid API key."))?;
        Ok(Authenticated { client, granted: None, key })
    }

    /// Returns whether the request presents credentials of the accepted kind, valid or not.
    pub(super) fn has_credentials(&self, headers: &HeaderMap) -> bool {
        let bearer = bearer_tokens(headers).next().is_some();
        match &self.by {
            AuthMode::Key => bearer || headers.contains_key(API_KEY_HEADER),
            AuthMode::Token(_) => bearer,
            AuthMode::Nothing => false,
        }
    }

    /// Returns the client this key belongs to, and the key's id. Compares every hash, whether or not one has matched, so that timing
    /// reveals nothing.
    fn find_client(&self, key: Option<&[u8]>) -> Option<(&Client, String)> {
        let presented: [u8; 32] = Sha256::digest(key?).into();
        let mut found = u32::MAX;
        for (key, owner) in &self.keys {
            found.conditional_assign(owner, key.ct_eq(&presented));
        }
        let client = self.all.get(usize::try_from(found).ok()?)?;
        Some((client, key_id(&presented)))
    }
}

/// Returns the id by which logs, exchanges and metrics name the key with this SHA-256.
fn key_id(hash: &[u8; 32]) -> String {
    HEXLOWER.encode(&hash[..KEY_ID_BYTES])
}

fn unauthenticated(detail: &str) -> Error {
    Error::new(Code::Unauthenticated, detail)
}

impl Authenticated<'_> {
    /// Checks that the client has this scope.
    ///
    /// # Errors
    /// `insufficient_scope`, naming the scope.
    pub(super) fn authorize(&self, scope: Scope) -> Result<(), Error> {
        let who = match &self.granted {
            _ if !self.client.scopes.contains(&scope) => "client",
            Some(granted) if !granted.contains(&scope) => "token",
            _ => return Ok(()),
        };
        Err(Error::new(Code::InsufficientScope, format!("The {who} lacks the scope `{}`.", scope.as_str())))
    }

    /// Returns what the credentials permit.
    pub(super) fn permissions(&self) -> Permissions {
        let has = |scope: &Scope| self.granted.as_ref().is_none_or(|granted| granted.contains(scope));
        let scopes = self.client.scopes.iter().copied().filter(has).collect();
        Permissions { scopes, key: self.key.clone() }
    }
}

impl Client {
    fn new(settings: &ClientSettings, earlier: &ClientRegistry) -> Self {
        let ClientSettings { name, tenant, key_sha256: _, scopes, connections, default_connection, rate_limit } =
            settings.clone();
        let before = earlier.all.iter().find(|client| client.name == name).and_then(|before| before.rate.clone());
        let rate = before
            .filter(|rate| rate.is_same_config(rate_limit))
            .or_else(|| RateLimiter::new(rate_limit).map(Arc::new));
        Self { name, tenant, scopes, connections, default_connection, rate }
    }

    fn everybody() -> Self {
        Self {
            name: "default".to_owned(),
            tenant: DEFAULT_TENANT.to_owned(),
            scopes: Scope::ALL.iter().copied().collect(),
            connections: ConnectionAccess::All,
            default_connection: None,
            rate: None,
        }
    }

    /// Returns whether the client has this scope.
    pub(super) fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Returns the connections that the client may use.
    pub(super) const fn connections(&self) -> &ConnectionAccess {
        &self.connections
    }

    /// Counts the request against the client's rate limit; returns the remaining quota, if the client has a limit.
    pub(super) fn count(&self) -> Option<RateLimitState> {
        self.rate.as_ref().map(|rate| rate.acquire())
    }

    /// Builds the request context of the client.
    pub(super) fn caller(&self, exchange: Exchange) -> RequestContext {
        RequestContext {
            tenant: self.tenant.clone(),
            client: self.name.clone(),
            connections: self.connections.clone(),
            default_connection: self.default_connection.clone(),
            exchange,
            priority: Priority::Interactive,
            key: None,
            origin: WriteOrigin::default(),
            resumed: None,
            audit_entry: None,
        }
    }
}

/// Returns the key from `Authorization: Bearer <key>`, else from `X-Api-Key`. Another scheme in `Authorization` belongs
/// to another recipient, such as a proxy, and does not hide `X-Api-Key`.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    if bearer_tokens(headers).next().is_some() {
        return bearer(headers);
    }
    only(headers.get_all(API_KEY_HEADER).iter().map(|key| key.as_bytes().trim_ascii()))
}

/// Returns the credentials of `Authorization: Bearer <credentials>`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    only(bearer_tokens(headers))
}

/// Parses each `Authorization: Bearer <credentials>` (RFC 6750 §2.1); the scheme's name is case-insensitive.
fn bearer_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, rest) = value.as_bytes().split_at_checked("Bearer".len())?;
        let whole = rest.first().is_none_or(u8::is_ascii_whitespace);
        (whole && scheme.eq_ignore_ascii_case(b"Bearer")).then(|| rest.trim_ascii())
    })
}

/// Returns the only value. Of several, none is chosen: two readers could choose differently.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests;
