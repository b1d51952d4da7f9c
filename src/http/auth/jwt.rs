//! Tokens of an identity provider (JWT, RFC 7519; RFC 8725 for what to beware of): signed by one of the issuer's keys with the
//! algorithm of that key, for this gateway, not expired.
//!
//! Published keys are kept for five minutes and then asked for anew while the old ones go on serving; a token that names an
//! unknown key has them asked for at once, but not more often than every few seconds, whatever callers invent. Keys the
//! issuer has not confirmed for an hour are not believed any more.

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

/// How long published keys are used before they are asked for again.
const FRESH: Duration = Duration::from_mins(5);
/// How long they are used while the issuer does not answer.
const BELIEVED: Duration = Duration::from_hours(1);
/// Least time between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest token, in bytes: more than any header line leaves room for.
const MAX_LENGTH: usize = 16 * 1024;

/// Who issues tokens.
pub(super) struct JwtVerifier {
    settings: TokenSettings,
    known: ArcSwap<Keys>,
    ask: JwksFetcher,
    /// When they were last asked for; held while they are.
    asked: Mutex<Option<Instant>>,
}

/// The keys as they were last seen.
#[derive(Default)]
struct Keys {
    set: JwkSet,
    seen: Option<Instant>,
}

/// What a token says of who carries it.
#[derive(Debug, PartialEq)]
pub(super) struct TokenClaims {
    /// The client's name.
    pub(super) client: String,
    /// What the token permits.
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

    /// Whether this is the issuer of these settings.
    pub(super) fn is_same_config(&self, settings: &TokenSettings) -> bool {
        self.settings == *settings
    }

    /// What a token says, if it can be believed.
    ///
    /// # Errors
    /// `unauthenticated`, saying why once the signature is right; `issuer_unavailable` where the issuer's keys cannot be had.
    pub(super) async fn verify(self: &Arc<Self>, token: &[u8]) -> Result<TokenClaims, Error> {
        let unreadable = || unauthenticated("The request carries no token that can be read.");
        if token.len() > MAX_LENGTH {
            return Err(unreadable());
        }
        let header = decode_header(token).map_err(|_| unreadable())?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return Err(unauthenticated("The token is not signed with RS256, ES256 or EdDSA."));
        }
        if header.crit.is_some() {
            // What must be understood is not (RFC 7515 §4.1.11).
            return Err(unauthenticated("The token has a header member that must be understood and is not."));
        }
        let key = self.key(&header).await?;
        let claims = decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm));
        let claims = claims.map_err(|error| unauthenticated(rejection_reason(error.kind())))?.claims;
        let client = claims.get(&self.settings.client_claim).and_then(Value::as_str);
        let client = client.ok_or_else(|| unauthenticated("The token has no claim that names a client."))?;
        Ok(TokenClaims { client: client.to_owned(), scopes: scopes(claims.get("scope")) })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let TokenSettings { issuer, audience, keys: _, client_claim: _, leeway } = &self.settings;
        let mut validation = Validation::new(algorithm);
        validation.leeway = leeway.0.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    /// The key a token is signed with.
    async fn key(self: &Arc<Self>, header: &Header) -> Result<VerifyingKey, Error> {
        let find = |keys: &Keys| keys.set.find(header.kid.as_deref(), header.alg).cloned();
        let unknown = || unauthenticated("The token is signed with no key of its issuer.");
        let keys = self.known.load_full();
        if let KeySource::File(..) = self.settings.keys {
            return find(&keys).ok_or_else(unknown);
        }
        let age = keys.seen.map(|seen| seen.elapsed());
        let found = age.filter(|age| *age < BELIEVED).and_then(|age| Some((find(&keys)?, age)));
        if let Some((key, age)) = found {
            // One asks; the others need not wait in line for what it learns.
            if age >= FRESH && self.asked.try_lock().is_ok_and(|asked| may_fetch(*asked)) {
                let issuer = Arc::clone(self);
                tokio::spawn(async move { issuer.fetch_keys().await });
            }
            return Ok(key);
        }
        self.fetch_keys().await;
        let keys = self.known.load_full();
        if keys.seen.is_none_or(|seen| seen.elapsed() >= BELIEVED) {
            let fault = Error::new(Code::IssuerUnavailable, "The keys of the token's issuer cannot be had.");
            return Err(fault.with_retry_after(Some(PAUSE)));
        }
        find(&keys).ok_or_else(unknown)
    }

    /// Asks for the keys, unless that was done a moment ago, by whomever.
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
                    tracing::info!("the keys of the tokens' issuer have changed");
                }
            }
            Err(error) => tracing::error!(error, "the keys of the tokens' issuer cannot be had"),
        }
    }
}

/// Whether the last question is long enough ago.
fn may_fetch(asked: Option<Instant>) -> bool {
    asked.is_none_or(|at| at.elapsed() >= PAUSE)
}

/// What may be told of a token that is not believed: nothing before its signature is right.
fn rejection_reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired.",
        ErrorKind::ImmatureSignature => "The token is not valid yet.",
        ErrorKind::InvalidIssuer => "The token is of another issuer.",
        ErrorKind::InvalidAudience => "The token is meant for somebody else (`aud`).",
        ErrorKind::MissingRequiredClaim(_) => "The token lacks one of the claims `exp`, `iss` and `aud`.",
        ErrorKind::InvalidClaimFormat(_) => "The token's times are not numbers.",
        _ => "The token's signature is not right.",
    }
}

/// Scopes as words with spaces between (RFC 8693 §4.2) or, as some issuers have them, as a list. Words that are not scopes
/// here are meant for others.
fn scopes(claim: Option<&Value>) -> BTreeSet<Scope> {
    let words: Vec<&str> = match claim {
        Some(Value::String(words)) => words.split(' ').collect(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let all = Scope::ALL.iter().copied();
    all.filter(|scope| words.contains(&scope.as_str())).collect()
}
