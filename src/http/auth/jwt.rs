//! Tokens of an identity provider (JWT, RFC 7519; pitfalls in RFC 8725): signed by one of the issuer's keys with that
//! key's algorithm, issued for this gateway, and not expired.
//!
//! Published keys are used for five minutes and then fetched again while the old ones remain in use. A token that names
//! an unknown key triggers a fetch at once, but at most every few seconds, whatever key ids callers invent. Keys the
//! issuer has not confirmed for an hour are no longer trusted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::{JwkSet, KeySource, TokenSettings, VerifyingKey};
use crate::domain::error::{Code, Error};
use crate::domain::scope::Scope;
use crate::http::app_state::JwksFetcher;
use crate::http::auth::unauthenticated;

/// How long published keys are used before they are fetched again.
const REFRESH_AFTER: Duration = Duration::from_mins(5);
/// How long they are used while the issuer does not respond.
const MAX_KEY_AGE: Duration = Duration::from_hours(1);
/// Minimum time between two fetches.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum length of a token, in bytes: more than any header line has room for.
const MAX_LENGTH: usize = 16 * 1024;

/// Verifies the tokens of one issuer.
pub(super) struct JwtVerifier {
    settings: TokenSettings,
    known: ArcSwap<Keys>,
    ask: JwksFetcher,
    /// When the keys were last fetched; locked during a fetch.
    asked: Mutex<Option<Instant>>,
}

/// The keys from the last successful fetch.
#[derive(Default)]
struct Keys {
    set: JwkSet,
    seen: Option<Instant>,
}

/// The verified claims of a token.
#[derive(Debug, PartialEq)]
pub(super) struct TokenClaims {
    /// The client's name.
    pub(super) client: String,
    /// The scopes the token grants.
    pub(super) scopes: BTreeSet<Scope>,
}

impl JwtVerifier {
    pub(super) fn new(settings: TokenSettings, ask: JwksFetcher) -> Arc<Self> {
        let set = match &settings.keys {
            KeySource::File(_, set) => set.clone(),
            KeySource::Published(_) => JwkSet::default(),
        };
        let known = ArcSwap::from_pointee(Keys { set, seen: None });
        Arc::new(Self { settings, known, ask, asked: Mutex::new(None) })
    }

    /// Returns whether this verifier was built from these settings.
    pub(super) fn is_same_config(&self, settings: &TokenSettings) -> bool {
        self.settings == *settings
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// `unauthenticated`; what a claim lacks is said only if the signature is valid. `issuer_unavailable` if the issuer's keys
    /// cannot be fetched.
    pub(super) async fn verify(self: &Arc<Self>, token: &[u8]) -> Result<TokenClaims, Error> {
        let unreadable = || unauthenticated("The request carries no readable token.");
        if token.len() > MAX_LENGTH {
            return Err(unreadable());
        }
        let header = decode_header(token).map_err(|_| unreadable())?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Err(unauthenticated("The token is not signed with RS256, ES256 or EdDSA."));
        }
        if header.crit.is_some() {
            // The token marks a header as critical that is not understood (RFC 7515 §4.1.11).
            return Err(unauthenticated("The token has a critical header field that is not supported."));
        }
        let key = self.key(&header).await?;
        let claims = decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm));
        let claims = claims.map_err(|error| unauthenticated(rejection_reason(error.kind())))?.claims;
        let client = claim(&claims, &self.settings.client_claim).and_then(Value::as_str);
        let client = client.ok_or_else(|| unauthenticated("The token has no claim that names a client."))?;
        let TokenSettings { scope_claims, scope_prefix, .. } = &self.settings;
        let granted = scope_claims.iter().find_map(|name| claim(&claims, name));
        Ok(TokenClaims { client: client.to_owned(), scopes: scopes(granted, scope_prefix) })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let TokenSettings { issuer, audience, leeway, .. } = &self.settings;
        let mut validation = Validation::new(algorithm);
        validation.leeway = leeway.0.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    /// Returns the key a token is signed with.
    async fn key(self: &Arc<Self>, header: &Header) -> Result<VerifyingKey, Error> {
        let find = |keys: &Keys| keys.set.find(header.kid.as_deref(), header.alg).cloned();
        let unknown = || unauthenticated("The token is not signed by a known key of its issuer.");
        let keys = self.known.load_full();
        if let KeySource::File(..) = self.settings.keys {
            return find(&keys).ok_or_else(unknown);
        }
        let age = keys.seen.map(|seen| seen.elapsed());
        let found = age.filter(|age| *age < MAX_KEY_AGE).and_then(|age| Some((find(&keys)?, age)));
        if let Some((key, age)) = found {
            // One request fetches; the others need not wait for the result.
            if age >= REFRESH_AFTER && self.asked.try_lock().is_ok_and(|asked| may_fetch(*asked)) {
                let issuer = Arc::clone(self);
                tokio::spawn(async move { issuer.fetch_keys().await });
            }
            return Ok(key);
        }
        self.fetch_keys().await;
        let keys = self.known.load_full();
        if keys.seen.is_none_or(|seen| seen.elapsed() >= MAX_KEY_AGE) {
            let error = Error::new(Code::IssuerUnavailable, "The token issuer's signing keys could not be fetched.");
            return Err(error.with_retry_after(Some(MIN_FETCH_INTERVAL)));
        }
        find(&keys).ok_or_else(unknown)
    }

    /// Fetches the keys, unless another request did so a moment ago.
    async fn fetch_keys(&self) {
        let KeySource::Published(url) = &self.settings.keys else { return };
        let mut asked = self.asked.lock().await;
        if !may_fetch(*asked) {
            return;
        }
        *asked = Some(Instant::now());
        match (self.ask)(url.clone()).await.and_then(|document| JwkSet::parse(&document)) {
            Ok(set) => {
                let changed = self.known.load().set != set;
                self.known.store(Arc::new(Keys { set, seen: Some(Instant::now()) }));
                if changed {
                    tracing::info!("the token issuer's signing keys have changed");
                }
            }
            Err(error) => tracing::error!(error, "fetching the token issuer's signing keys failed"),
        }
    }
}

/// Returns whether the last fetch was long enough ago.
fn may_fetch(asked: Option<Instant>) -> bool {
    asked.is_none_or(|at| at.elapsed() >= MIN_FETCH_INTERVAL)
}

/// Returns the reason for rejecting a token that the caller may see: none before the signature is known to be valid.
fn rejection_reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired.",
        ErrorKind::ImmatureSignature => "The token is not valid yet.",
        ErrorKind::InvalidIssuer => "The token is from another issuer.",
        ErrorKind::InvalidAudience => "The token's `aud` does not include this gateway.",
        ErrorKind::MissingRequiredClaim(_) => "The token lacks one of the claims `exp`, `iss` and `aud`.",
        ErrorKind::InvalidClaimFormat(_) => "The token's timestamps are not numbers.",
        _ => "The token's signature is not valid.",
    }
}

/// Returns the claim with this name or, if there is none, at this dotted path. A name may contain dots itself, as the
/// claims do that Auth0 names by URLs. `null` counts as absent.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value).filter(|value| !value.is_null());
    }
    path.match_indices('.').find_map(|(dot, _)| claim(claims.get(&path[..dot])?.as_object()?, &path[dot + 1..]))
}

/// Parses scopes: words separated by spaces (RFC 8693 §4.2) or, as some issuers send them, a list. Ignores words without
/// the prefix and words that are not scopes of this gateway; they are meant for other services.
fn scopes(claim: Option<&Value>, prefix: &str) -> BTreeSet<Scope> {
    let words: Vec<&str> = match claim {
        Some(Value::String(words)) => words.split_ascii_whitespace().collect(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let own: BTreeSet<&str> = words.iter().filter_map(|word| word.strip_prefix(prefix)).collect();
    Scope::ALL.iter().copied().filter(|scope| own.contains(scope.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::plain("azp", Some(json!("lms")))]
    #[case::nested("resource_access.examgate.roles", Some(json!(["a"])))]
    #[case::url("https://examgate.example.com/scopes", Some(json!("b")))]
    #[case::below_a_url("https://examgate.example.com/app.name", Some(json!("c")))]
    #[case::key_with_dots("resource_access.exam.gate.roles", Some(json!(["d"])))]
    #[case::the_literal_name_wins("realm.roles", Some(json!("literal")))]
    #[case::null("nothing", None)]
    #[case::absent("scope", None)]
    #[case::through_a_text("azp.x", None)]
    #[case::only_the_beginning("resource_access.examgate.role", None)]
    #[case::empty_step("resource_access..roles", None)]
    fn claims_are_found_by_name_or_path(#[case] path: &str, #[case] expected: Option<Value>) {
        let claims = json!({
            "azp": "lms", "nothing": null, "realm.roles": "literal", "realm": { "roles": "path" },
            "resource_access": { "examgate": { "roles": ["a"] }, "exam.gate": { "roles": ["d"] } },
            "https://examgate.example.com/scopes": "b", "https://examgate.example.com/app": { "name": "c" },
        });
        assert_eq!(claim(claims.as_object().unwrap(), path), expected.as_ref());
    }

    #[rstest]
    #[case::words(json!("openid catalogue:read  audit:read"), "", &["catalogue:read", "audit:read"])]
    #[case::list(json!(["catalogue:read", 7, "x"]), "", &["catalogue:read"])]
    #[case::prefix(json!("examgate/catalogue:read audit:read"), "examgate/", &["catalogue:read"])]
    #[case::prefix_in_a_list(json!(["api://eg/audit:read", "catalogue:read"]), "api://eg/", &["audit:read"])]
    #[case::another_prefix(json!("other/catalogue:read"), "examgate/", &[])]
    #[case::number(json!(1), "", &[])]
    #[case::object(json!({ "catalogue:read": true }), "", &[])]
    fn scopes_are_words_with_the_prefix(#[case] claim: Value, #[case] prefix: &str, #[case] expected: &[&str]) {
        let found = scopes(Some(&claim), prefix);
        let mut found: Vec<&str> = found.iter().map(|scope| scope.as_str()).collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
