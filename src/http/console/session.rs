//! Sessions of the console: a sealed cookie that holds all there is of one, so that every replica accepts it and a restart
//! ends none.
//!
//! A session holds credentials, but permits nothing by itself: the API authenticates each call with them. So it ends
//! when the key is revoked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead as _, Payload};
use data_encoding::BASE64URL_NOPAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::config::ConsoleSettings;
use crate::domain::system::System;
use crate::http::console_parts::{ConsoleParts, SessionKeys};
use crate::secret::Secret;

/// The cookie of a session with a key. Browsers keep one with this prefix only if it is `Secure`, for the whole host and for
/// no other (RFC 6265bis §4.1.3.2).
const SIGNED_IN: &str = "__Host-examgate";
/// The cookie of a session without a key: before sign-in, and where none is needed. It has a name of its own since a page
/// that another site leads to is not sent the cookie of a session with a key, and must not replace it.
const VISITOR: &str = "__Host-examgate-visitor";
const NONCE_BYTES: usize = 24;
/// Maximum length of a sealed value that is opened.
const MAX_SEALED: usize = 4096;
/// A used session is sealed again after this long.
const RENEWAL: SignedDuration = SignedDuration::from_secs(60);
/// How far the clocks of two replicas may differ.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(60);

/// One person's session in one browser.
#[derive(Debug, Clone)]
pub(in crate::http::console) struct Session {
    id: String,
    /// The API key; `None` before sign-in, and where none is needed.
    pub(in crate::http::console) key: Option<Secret>,
    /// The token that every form carries.
    pub(in crate::http::console) csrf: String,
    began: Timestamp,
    used: Timestamp,
}

/// A session as it is sealed; times in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct SealedSession {
    id: String,
    key: Option<String>,
    csrf: String,
    began: i64,
    used: i64,
}

/// What a request's cookie holds.
#[derive(Debug)]
pub(in crate::http::console) enum Presented {
    /// No cookie.
    Nothing,
    /// A session that is over, or a cookie that was not sealed here.
    Ended,
    /// A session.
    Valid(Session),
}

/// Seals, opens and ends sessions.
pub(in crate::http::console) struct Sessions {
    keys: SessionKeys,
    settings: ConsoleSettings,
    environment: System,
    /// Sessions that were signed out in this process, until they would have ended by themselves.
    signed_out: Mutex<HashMap<String, Timestamp>>,
}

impl Session {
    /// Returns whether this is the session's token; takes the same time for every wrong one of its length.
    pub(in crate::http::console) fn has_token(&self, token: &str) -> bool {
        self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }

    fn cookie_name(&self) -> &'static str {
        if self.key.is_some() { SIGNED_IN } else { VISITOR }
    }
}

impl Sessions {
    pub(in crate::http::console) fn new(parts: &ConsoleParts, environment: &System) -> Self {
        let ConsoleParts { settings, keys } = parts.clone();
        Self { keys, settings, environment: environment.clone(), signed_out: Mutex::default() }
    }

    /// Begins a session with these credentials.
    pub(in crate::http::console) fn begin(&self, key: Option<Secret>) -> Session {
        let now = self.environment.now();
        let random = || BASE64URL_NOPAD.encode(&self.environment.random::<18>());
        Session { id: random(), key, csrf: random(), began: now, used: now }
    }

    /// Reads the session with a key of a request.
    pub(in crate::http::console) fn presented(&self, headers: &HeaderMap) -> Presented {
        self.read(headers, SIGNED_IN)
    }

    /// Reads the session without a key of a request.
    pub(in crate::http::console) fn visitor(&self, headers: &HeaderMap) -> Presented {
        self.read(headers, VISITOR)
    }

    fn read(&self, headers: &HeaderMap, name: &str) -> Presented {
        let Some(sealed) = cookie(headers, name) else { return Presented::Nothing };
        match self.open(name, sealed).filter(|session| session.cookie_name() == name && self.lasts(session)) {
            Some(session) => Presented::Valid(session),
            None => Presented::Ended,
        }
    }

    /// Returns the `Set-Cookie` that keeps the session, if the browser's is not recent enough.
    pub(in crate::http::console) fn renewed(&self, session: &Session) -> Option<HeaderValue> {
        let now = self.environment.now();
        let due = RENEWAL.min(limit(self.settings.idle.0) / 4);
        (now.duration_since(session.used) >= due)
            .then(|| self.cookie(&Session { used: now, ..session.clone() }))
            .flatten()
    }

    /// Returns the `Set-Cookie` of the session; `None` if there is no key to seal it.
    pub(in crate::http::console) fn cookie(&self, session: &Session) -> Option<HeaderValue> {
        set_cookie(session.cookie_name(), &self.seal(session)?, "")
    }

    /// Returns the `Set-Cookie` that removes the cookie of a session with a key.
    pub(in crate::http::console) fn removal() -> Option<HeaderValue> {
        set_cookie(SIGNED_IN, "", "; Max-Age=0")
    }

    /// Ends the session: this process does not accept it any more, from any copy of the cookie.
    pub(in crate::http::console) fn end(&self, session: &Session) {
        let now = self.environment.now();
        let until = session.began + limit(self.settings.absolute.0);
        let mut signed_out = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner);
        signed_out.retain(|_, until| *until > now);
        signed_out.insert(session.id.clone(), until);
    }

    fn lasts(&self, session: &Session) -> bool {
        let now = self.environment.now();
        let within = |since: Timestamp, most: SignedDuration| {
            let age = now.duration_since(since);
            age < most && age > -CLOCK_DIFFERENCE
        };
        let signed_out = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner);
        within(session.used, limit(self.settings.idle.0))
            && within(session.began, limit(self.settings.absolute.0))
            && !signed_out.contains_key(&session.id)
    }

    fn seal(&self, session: &Session) -> Option<String> {
        let cipher = self.keys.ciphers().first()?;
        let Session { id, key, csrf, began, used } = session;
        let key = key.as_ref().map(|key| key.expose().to_owned());
        let plain =
            SealedSession { id: id.clone(), key, csrf: csrf.clone(), began: began.as_second(), used: used.as_second() };
        let text = Zeroizing::new(serde_json::to_vec(&plain).ok()?);
        drop(plain.key.map(Zeroizing::new));
        let nonce = self.environment.random::<NONCE_BYTES>();
        let body =
            cipher.encrypt(&XNonce::from(nonce), Payload { msg: &text, aad: session.cookie_name().as_bytes() }).ok()?;
        Some(BASE64URL_NOPAD.encode(&[nonce.as_slice(), &body].concat()))
    }

    fn open(&self, name: &str, sealed: &str) -> Option<Session> {
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let (nonce, body) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let opened =
            self.keys.ciphers().iter().find_map(|cipher| {
                cipher.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: name.as_bytes() }).ok()
            });
        let text = Zeroizing::new(opened?);
        let SealedSession { id, key, csrf, began, used } = serde_json::from_slice(&text).ok()?;
        let began = Timestamp::from_second(began).ok()?;
        Some(Session { id, key: key.map(Secret::new), csrf, began, used: Timestamp::from_second(used).ok()? })
    }
}

fn limit(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Returns the value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(known, _)| *known == name);
    values.map(|(_, value)| value.trim()).find(|value| !value.is_empty() && value.len() <= MAX_SEALED)
}

/// Returns the `SameSite` attribute of a cookie: `Strict` if it holds a credential.
///
/// A visitor's is `Lax`: a link on another site, as in a mail, is sent it too. Without it the page would begin another
/// session, and the forms that are open would no longer count. It holds no credential, and forms of other sites count as
/// little as before: browsers send a `Lax` cookie along with no request from another site but the opening of a page (`GET`),
/// which changes nothing; and a form needs the token that is sealed in the cookie, which no other site can read.
fn same_site(name: &str) -> &'static str {
    if name == VISITOR { "Lax" } else { "Strict" }
}

fn set_cookie(name: &str, value: &str, more: &str) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={}{more}", same_site(name));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
