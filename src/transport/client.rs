//! [`Client`]: the handle of one vendor connection. `layers` sends a request through it; `recording` notes what
//! operators may see of that.

mod layers;
mod recording;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use url::{Position, Url};

use super::attempt::SendPermit;
use super::call_history::CallHistory;
use super::http_client::RotatingClient;
use super::request::Target;
use super::settings::ConnectionSettings;
use super::shared_state::{ConnectionStats, SharedState};
use crate::domain::error::{ConnectionRef, VendorResponse};
use crate::domain::system::System;
use crate::domain::validation;
use crate::domain::vendor_error::VendorError;
use crate::secret::{Redactor, Secret};

/// Maximum characters of a vendor text that are kept (as documented for problems).
const SHOWN_CHARACTERS: usize = 300;

/// The HTTP client of one connection; clones share limits, breaker and connection pool.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    pool: Arc<RotatingClient>,
    state: Arc<Mutex<Arc<SharedState>>>,
    permit: Arc<OnceLock<SendPermit>>,
}

/// What never changes.
struct Inner {
    name: ConnectionRef,
    base_url: Url,
    settings: ConnectionSettings,
    secrets: Redactor,
    environment: System,
}

impl Client {
    /// Creates a client for this connection. Opens no connection.
    ///
    /// # Errors
    /// The address is not permitted, or the TLS set-up fails. The configuration has checked the other settings.
    pub fn new(
        name: ConnectionRef,
        base_url: &Url,
        settings: &ConnectionSettings,
        secrets: Redactor,
        environment: System,
    ) -> Result<Self, String> {
        settings.accepts(base_url).map_err(|reason| format!("base_url {reason}"))?;
        let pool = Arc::new(RotatingClient::new(settings)?);
        let (base_url, settings) = (base_url.clone(), settings.clone());
        let inner = Arc::new(Inner { name, base_url, settings, secrets, environment });
        Ok(Self { state: inner.new_state(), inner, pool, permit: Arc::default() })
    }

    /// Creates a client for the same connection with its own breaker and limits, for the calls of a signer.
    ///
    /// A signer runs while its call holds an in-flight permit and perhaps the breaker's half-open slot; through the
    /// same client it would wait for its own call to end.
    #[must_use]
    pub fn with_separate_limits(&self) -> Self {
        Self { state: self.inner.new_state(), permit: Arc::default(), ..self.clone() }
    }

    /// Creates a client for the same connection with a new connection pool, sharing breaker and limits; for probes that
    /// test whether new connections can be made.
    pub(super) fn with_new_pool(&self) -> Result<Self, String> {
        let pool = Arc::new(RotatingClient::new(&self.inner.settings)?);
        Ok(Self { pool, permit: Arc::default(), ..self.clone() })
    }

    /// Returns the operator's name of the connection.
    #[must_use]
    pub fn connection(&self) -> &str {
        &self.inner.name.connection
    }

    /// Returns the base address of all paths.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.inner.base_url
    }

    /// Takes over the earlier client's shared state (circuit, permits, rate) under this client's settings. Call before
    /// using this client; calls in flight on the earlier client keep counting.
    pub fn inherit_state(&self, earlier: &Self) {
        let state = earlier.state();
        state.set(&self.inner.settings);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Sets a permit that is checked just before the first byte of each request is sent. Call once, before sending the
    /// first request.
    pub fn set_send_permit(&self, permit: impl Fn() -> bool + Send + Sync + 'static) {
        // Set only once; a second gateway over the same client must not replace it.
        drop(self.permit.set(Arc::new(permit)));
    }

    /// Returns the connection's current load and state.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.state().stats()
    }

    /// Returns what became of the connection's calls in the last hour. The calls of a signer and of probes do not count.
    #[must_use]
    pub fn call_history(&self) -> CallHistory {
        self.state().history.read(self.now())
    }

    /// Sanitises a vendor text for display: masks configured secrets and the given ones, removes control characters,
    /// keeps at most 300 characters.
    #[must_use]
    pub fn clean<'a>(&self, text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
        // Mask before truncating; otherwise the end could show the beginning of a secret.
        validation::sanitize_for_display(&self.inner.secrets.with(secrets).mask(text), SHOWN_CHARACTERS)
    }

    /// Adds the connection and the operation to an error.
    #[must_use]
    pub fn error(&self, operation: &'static str, mut error: VendorError) -> VendorError {
        error.connection.get_or_insert_with(|| self.inner.name.clone());
        error
            .vendor
            .get_or_insert_with(|| VendorResponse { operation: operation.to_owned(), ..VendorResponse::default() });
        error
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.environment.now()
    }

    fn state(&self) -> Arc<SharedState> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn new_state(&self) -> Arc<Mutex<Arc<SharedState>>> {
        Arc::new(Mutex::new(Arc::new(SharedState::new(&self.settings))))
    }

    /// Builds the full address. The path text is sent byte for byte or not at all, because vendors sign it.
    fn address(&self, target: &Target) -> Result<Url, String> {
        let path = match target {
            Target::Url(url) => {
                self.settings.accepts(url).map_err(|reason| format!("The address {reason}."))?;
                return Ok(url.clone());
            }
            Target::Path(path) => path,
        };
        let base = self.base_url.as_str();
        let text = match path.chars().next() {
            None | Some('?') => format!("{base}{path}"),
            Some('/') => format!("{}{path}", base.trim_end_matches('/')),
            Some(_) => format!("{}/{path}", base.trim_end_matches('/')),
        };
        let url = if self.base_url.query().is_none() && self.base_url.fragment().is_none() {
            Some(self.base_url_with(&text))
        } else {
            Url::parse(&text).ok().filter(|url| url.fragment().is_none())
        };
        url.filter(|url| url.as_str() == text)
            .ok_or_else(|| "A URL parser would rewrite the request's path.".to_owned())
    }

    /// Replaces path and query of the base address by those of this text, which begins like it: scheme, host and port
    /// are not parsed again.
    fn base_url_with(&self, text: &str) -> Url {
        let rest = text.get(self.base_url[..Position::BeforePath].len()..).unwrap_or_default();
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut url = self.base_url.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
