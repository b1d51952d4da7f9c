//! Who is asking: API keys, compared by hash in constant time. A key itself is never kept, logged or answered.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::config::{Auth, ClientSettings, RateLimit};
use crate::dispatch::{Allowed, Caller};
use crate::domain::exchange::Exchange;
use crate::domain::journal::Origin;
use crate::domain::problem::{Code, Fault};
use crate::domain::scope::Scope;
use crate::domain::vendor::Lane;

/// The header that carries a key besides `Authorization`.
pub(super) const API_KEY_HEADER: &str = "x-api-key";

/// Everybody who may ask.
pub(super) struct Clients {
    all: Vec<Client>,
    /// Hash of a key, and whose it is.
    keys: Vec<([u8; 32], u32)>,
    /// Nobody is asked for a key; everybody is the first client.
    open: bool,
}

/// One client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) tenant: String,
    scopes: BTreeSet<Scope>,
    connections: Allowed,
    default_connection: Option<String>,
    rate_limit: Option<RateLimit>,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Clients {
    pub(super) fn new(auth: &Auth) -> Self {
        Self::after(&Self { all: Vec::new(), keys: Vec::new(), open: false }, auth)
    }

    /// Who may ask from now on. A client whose rate limit stays as it was keeps what it has used of it.
    pub(super) fn after(earlier: &Self, auth: &Auth) -> Self {
        match auth {
            Auth::None => Self { all: vec![Client::everybody()], keys: Vec::new(), open: true },
            Auth::Keys(clients) => {
                let owners = (0u32..).zip(clients.values());
                let keys = owners.flat_map(|(index, client)| client.key_sha256.iter().map(move |key| (*key, index)));
                let all = clients.values().map(|client| Client::new(client, earlier)).collect();
                Self { keys: keys.collect(), all, open: false }
            }
        }
    }

    /// Whether there is only one client.
    pub(super) fn alone(&self) -> bool {
        self.all.len() < 2
    }

    /// The client whose credentials the request carries.
    ///
    /// # Errors
    /// `unauthenticated`; the sentence does not say whether a part of the key was right.
    pub(super) fn recognise(&self, headers: &HeaderMap) -> Result<&Client, Fault> {
        let refused = || Fault::new(Code::Unauthenticated, "The request carries no valid API key.");
        if self.open {
            return self.all.first().ok_or_else(refused);
        }
        let presented: [u8; 32] = Sha256::digest(presented_key(headers).ok_or_else(refused)?).into();
        // Every hash is compared, whether or not one has matched: the time taken tells nothing.
        let mut found = u32::MAX;
        for (key, owner) in &self.keys {
            found.conditional_assign(owner, key.ct_eq(&presented));
        }
        usize::try_from(found).ok().and_then(|index| self.all.get(index)).ok_or_else(refused)
    }
}

impl Client {
    fn new(settings: &ClientSettings, earlier: &Clients) -> Self {
        let ClientSettings { name, tenant, key_sha256: _, scopes, connections, default_connection, rate_limit } =
            settings.clone();
        let before = earlier.all.iter().find(|client| client.name == name && client.rate_limit == Some(rate_limit));
        let limiter = before.map_or_else(|| limiter(rate_limit).map(Arc::new), |before| before.limiter.clone());
        Self { name, tenant, scopes, connections, default_connection, rate_limit: Some(rate_limit), limiter }
    }

    fn everybody() -> Self {
        Self {
            name: "default".to_owned(),
            tenant: "default".to_owned(),
            scopes: Scope::ALL.iter().copied().collect(),
            connections: Allowed::All,
            default_connection: None,
            rate_limit: None,
            limiter: None,
        }
    }

    /// Counts the request against the client's rate.
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait.
    pub(super) fn count(&self) -> Result<(), Fault> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let wait = wait.max(Duration::from_millis(1));
            Fault::new(Code::RateLimited, "The client asks faster than its rate limit allows.").after(Some(wait))
        })
    }

    /// Checks that the client may do this.
    ///
    /// # Errors
    /// `insufficient_scope`, naming the scope.
    pub(super) fn allow(&self, scope: Scope) -> Result<(), Fault> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("The client lacks the scope `{}`.", scope.as_str());
        Err(Fault::new(Code::InsufficientScope, detail))
    }

    /// The client as the gateway sees it.
    pub(super) fn caller(&self, exchange: Exchange) -> Caller {
        Caller {
            tenant: self.tenant.clone(),
            client: self.name.clone(),
            connections: self.connections.clone(),
            default_connection: self.default_connection.clone(),
            exchange,
            lane: Lane::Single,
            key: None,
            origin: Origin::default(),
            resumed: None,
        }
    }
}

fn limiter(rate: RateLimit) -> Option<DefaultDirectRateLimiter> {
    let per_second = NonZeroU32::new(rate.requests_per_second)?;
    let burst = NonZeroU32::new(rate.burst).unwrap_or(per_second);
    Some(DefaultDirectRateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)))
}

/// `Authorization: Bearer <key>` (RFC 6750 §2.1, the scheme's name in any case), else `X-Api-Key`.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return headers.get(API_KEY_HEADER).map(|key| key.as_bytes().trim_ascii());
    };
    let (scheme, rest) = authorization.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::HeaderValue;

    use super::*;

    fn clients() -> Clients {
        Clients::new(&Auth::Keys(configured()))
    }

    fn configured() -> BTreeMap<String, ClientSettings> {
        let client = |name: &str, keys: &[&str]| ClientSettings {
            name: name.to_owned(),
            tenant: name.to_owned(),
            key_sha256: keys.iter().map(|key| Sha256::digest(key.as_bytes()).into()).collect(),
            scopes: BTreeSet::from([Scope::CandidatesRead]),
            connections: Allowed::All,
            default_connection: None,
            rate_limit: RateLimit { requests_per_second: 1, burst: 2 },
        };
        let named = [client("lms", &["old", "new"]), client("hr", &["other"])];
        named.into_iter().map(|client| (client.name.clone(), client)).collect()
    }

    #[test]
    fn a_rate_that_was_used_up_stays_so_unless_it_is_changed() {
        let clients = clients();
        for client in &clients.all {
            assert!(client.count().is_ok() && client.count().is_ok() && client.count().is_err(), "{}", client.name);
        }
        let mut changed = configured();
        changed.get_mut("hr").unwrap().rate_limit.burst = 3;
        let after = Clients::after(&clients, &Auth::Keys(changed));
        let used_up = |name: &str| after.all.iter().find(|client| client.name == name).unwrap().count().is_err();
        assert!(used_up("lms") && !used_up("hr"));
    }

    fn asked(name: &'static str, value: &'static str) -> Option<String> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);
        clients().recognise(&headers).ok().map(|client| client.name.clone())
    }

    #[test]
    fn every_live_key_is_recognised_in_either_header() {
        assert_eq!(asked("authorization", "Bearer old").as_deref(), Some("lms"));
        assert_eq!(asked("authorization", "bearer  new ").as_deref(), Some("lms"));
        assert_eq!(asked("x-api-key", "other").as_deref(), Some("hr"));
    }

    #[test]
    fn everything_else_is_refused() {
        for value in ["Bearer ", "Bearer", "old", "Basic old", "Bearer olds", "Bearer ol", ""] {
            assert_eq!(asked("authorization", value), None, "{value}");
        }
        assert_eq!(asked("x-api-key", ""), None);
        assert!(clients().recognise(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_used_up_rate_says_how_long_to_wait() {
        let clients = clients();
        assert!(clients.all[0].count().is_ok() && clients.all[0].count().is_ok());
        let fault = clients.all[0].count().unwrap_err();
        assert_eq!(fault.code, Code::RateLimited);
        assert!(fault.retry_after.unwrap() > Duration::ZERO);
        assert!(clients.all[1].count().is_ok(), "one client's rate is not another's");
    }

    #[test]
    fn a_lacking_scope_is_named() {
        let clients = clients();
        assert!(clients.all[0].allow(Scope::CandidatesRead).is_ok());
        assert!(clients.all[0].allow(Scope::CandidatesWrite).unwrap_err().detail.contains("candidates:write"));
    }
}
