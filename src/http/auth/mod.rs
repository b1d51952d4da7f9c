//! Authentication: by API key, compared by hash in constant time, or by a token of an identity provider (`jwt`).
//! Neither is ever stored, logged or returned.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::config::{Auth, ClientSettings};
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

mod jwt;
mod rate_limit;

/// The header that carries a key, as an alternative to `Authorization`.
pub(super) const API_KEY_HEADER: &str = "x-api-key";

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

/// An authenticated client.
pub(super) struct Authenticated<'a> {
    pub(super) client: &'a Client,
    /// The client's scopes that its token grants; `None` if it presented no token.
    granted: Option<BTreeSet<Scope>>,
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
        let all = clients.values().map(|client| Client::new(client, earlier)).collect();
        Self { keys: keys.collect(), all, by, ask }
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
        let client = match &self.by {
            AuthMode::Key => self.find_client(presented_key(headers)),
            AuthMode::Nothing => self.all.first(),
            AuthMode::Token(issuer) => {
                let token = bearer(headers).ok_or_else(|| unauthenticated("The request carries no token."))?;
                let bearer = issuer.verify(token).await?;
                let client = self.all.iter().find(|client| client.name == bearer.client);
                let client = client.ok_or_else(|| unauthenticated("The token names an unknown client."))?;
                return Ok(Authenticated { client, granted: Some(bearer.scopes) });
            }
        };
        let client = client.ok_or_else(|| unauthenticated("The request carries no valid API key."))?;
        Ok(Authenticated { client, granted: None })
    }

    /// Returns the client this key belongs to. Compares every hash, whether or not one has matched, so that timing
    /// reveals nothing.
    fn find_client(&self, key: Option<&[u8]>) -> Option<&Client> {
        let presented: [u8; 32] = Sha256::digest(key?).into();
        let mut found = u32::MAX;
        for (key, owner) in &self.keys {
            found.conditional_assign(owner, key.ct_eq(&presented));
        }
        self.all.get(usize::try_from(found).ok()?)
    }
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
            tenant: "default".to_owned(),
            scopes: Scope::ALL.iter().copied().collect(),
            connections: ConnectionAccess::All,
            default_connection: None,
            rate: None,
        }
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

/// Returns the key from `Authorization: Bearer <key>`, else from `X-Api-Key`.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    if headers.contains_key(header::AUTHORIZATION) {
        return bearer(headers);
    }
    headers.get(API_KEY_HEADER).map(|key| key.as_bytes().trim_ascii())
}

/// Parses `Authorization: Bearer <credentials>` (RFC 6750 §2.1); the scheme's name is case-insensitive.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::HeaderValue;

    use super::*;
    use crate::config::RateLimit;

    fn clients() -> ClientRegistry {
        ClientRegistry::new(&Auth::Keys(configured()), &nobody())
    }

    /// A fetcher for tests without an issuer.
    fn nobody() -> JwksFetcher {
        Arc::new(|_| Box::pin(async { Err(String::new()) }))
    }

    fn configured() -> BTreeMap<String, ClientSettings> {
        let client = |name: &str, keys: &[&str]| ClientSettings {
            name: name.to_owned(),
            tenant: name.to_owned(),
            key_sha256: keys.iter().map(|key| Sha256::digest(key.as_bytes()).into()).collect(),
            scopes: BTreeSet::from([Scope::CandidatesRead]),
            connections: ConnectionAccess::All,
            default_connection: None,
            rate_limit: RateLimit { requests_per_second: 1, burst: 2 },
        };
        let named = [client("lms", &["old", "new"]), client("hr", &["other"])];
        named.into_iter().map(|client| (client.name.clone(), client)).collect()
    }

    #[test]
    fn used_up_rate_survives_a_reload_unless_changed() {
        let clients = clients();
        for client in &clients.all {
            let spent: Vec<bool> = (0..3).map(|_| client.count().unwrap().is_admitted().is_ok()).collect();
            assert_eq!(spent, [true, true, false], "{}", client.name);
        }
        let mut changed = configured();
        changed.get_mut("hr").unwrap().rate_limit.burst = 3;
        let after = ClientRegistry::replacing(&clients, &Auth::Keys(changed));
        let client = |name: &str| after.all.iter().find(|client| client.name == name).unwrap();
        let used_up = |name: &str| client(name).count().unwrap().is_admitted().is_err();
        assert!(used_up("lms") && !used_up("hr"));
    }

    async fn asked(name: &'static str, value: &'static str) -> Option<String> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);
        clients().authenticate(&headers).await.ok().map(|known| known.client.name.clone())
    }

    #[tokio::test]
    async fn every_configured_key_is_recognised_in_either_header() {
        assert_eq!(asked("authorization", "Bearer old").await.as_deref(), Some("lms"));
        assert_eq!(asked("authorization", "bearer  new ").await.as_deref(), Some("lms"));
        assert_eq!(asked("x-api-key", "other").await.as_deref(), Some("hr"));
    }

    #[tokio::test]
    async fn other_credentials_are_rejected() {
        for value in ["Bearer ", "Bearer", "old", "Basic old", "Bearer olds", "Bearer ol", ""] {
            assert_eq!(asked("authorization", value).await, None, "{value}");
        }
        assert_eq!(asked("x-api-key", "").await, None);
        assert!(clients().authenticate(&HeaderMap::new()).await.is_err());
    }

    #[test]
    fn clients_have_separate_rates() {
        let clients = clients();
        while clients.all[0].count().unwrap().is_admitted().is_ok() {}
        assert!(clients.all[1].count().unwrap().is_admitted().is_ok());
    }

    #[test]
    fn missing_scope_is_named_for_client_and_token() {
        let clients = clients();
        let mut known = Authenticated { client: &clients.all[0], granted: None };
        assert!(known.authorize(Scope::CandidatesRead).is_ok());
        let detail = known.authorize(Scope::CandidatesWrite).unwrap_err().detail;
        assert_eq!(detail, "The client lacks the scope `candidates:write`.");
        known.granted = Some(BTreeSet::from([Scope::CandidatesWrite]));
        assert!(known.authorize(Scope::CandidatesWrite).is_err(), "a token grants no scope the client lacks");
        let detail = known.authorize(Scope::CandidatesRead).unwrap_err().detail;
        assert_eq!(detail, "The token lacks the scope `candidates:read`.");
    }
}
