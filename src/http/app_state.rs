//! The state every request needs: the gateway, authentication and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use url::Url;

use crate::config::{Auth, ServerSettings};
use crate::domain::error::Error;
use crate::domain::system::System;
use crate::http::auth::ClientRegistry;
use crate::http::console_parts::ConsoleParts;
use crate::http::middleware::in_flight_limit::{InFlightLimiter, InFlightPermit};
use crate::service::Gateway;
use crate::telemetry::metrics;
use crate::telemetry::metrics::ShedReason;

/// Everything the HTTP API is built from.
#[derive(Clone)]
pub struct ApiParts {
    /// The service behind the API.
    pub gateway: Gateway,
    /// Paths, limits and timeouts.
    pub server: ServerSettings,
    /// Credentials of the clients that may call.
    pub auth: Auth,
    /// Clock and entropy, for request ids.
    pub environment: System,
    /// Limits that protect the process from its callers.
    pub limits: Limits,
    /// Gauges of the current load.
    pub busy: LoadGauges,
    /// Fetches the signing keys a token issuer publishes.
    pub ask: JwksFetcher,
    /// The console; `None`: there is none.
    pub console: Option<ConsoleParts>,
}

/// Fetches the document at a URL; fails with a sentence for the operator.
pub type JwksFetcher = Arc<dyn Fn(Url) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Gauges of the current load; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadGauges(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Arc<AtomicUsize>,
    connections: AtomicUsize,
}

impl LoadGauges {
    /// Sets the metrics. Call it when they are scraped: set on each change, two concurrent changes could arrive in
    /// either order.
    pub fn update_metrics(&self) {
        metrics::requests_in_flight(self.0.requests.load(Ordering::Relaxed));
        metrics::connections(self.0.connections.load(Ordering::Relaxed));
    }

    pub(super) fn connections(&self, count: usize) {
        self.0.connections.store(count, Ordering::Relaxed);
    }
}

/// Settings that can be reloaded: authentication, paths, limits and timeouts. Clones share them.
#[derive(Clone)]
pub struct LiveSettings(Arc<ArcSwap<Settings>>);

/// A snapshot of the reloadable settings.
pub(super) struct Settings {
    pub(super) server: ServerSettings,
    pub(super) clients: ClientRegistry,
}

impl LiveSettings {
    /// Builds the settings the API starts with.
    #[must_use]
    pub fn of(parts: &ApiParts) -> Self {
        let current = Settings { server: parts.server.clone(), clients: ClientRegistry::new(&parts.auth, &parts.ask) };
        Self(Arc::new(ArcSwap::from_pointee(current)))
    }

    /// Replaces the settings atomically. A client whose rate limit stays the same keeps its usage. The routes' location
    /// (`base_path`) and the address in the description (`public_url`) are fixed when the routes are built.
    pub fn replace(&self, server: ServerSettings, auth: &Auth) {
        let clients = ClientRegistry::replacing(&self.now().clients, auth);
        self.0.store(Arc::new(Settings { server, clients }));
    }

    /// Returns the current snapshot; a request that needs it twice keeps it.
    pub(super) fn now(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}

/// Limits that protect the process from its callers, besides those operators set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of requests in flight, until their responses are sent; more get 503 `overloaded`. If there are
    /// several clients, one client may hold no more of these permits, or of the next two kinds, than it leaves free, so
    /// that it cannot lock the others out.
    pub in_flight: usize,
    /// Maximum number of bulk requests received at once; each holds a thread for as long as it runs.
    pub receptions: usize,
    /// Maximum number of concurrent event streams.
    pub watchers: usize,
    /// How long a request's body may take before its speed counts.
    pub body_allowance: Duration,
    /// Average bytes per second a body must sustain after the allowance.
    pub body_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            receptions: 64,
            watchers: 1024,
            body_allowance: Duration::from_secs(10),
            body_rate: 64 * 1024,
        }
    }
}

/// State shared by all requests; cheap to clone.
#[derive(Clone)]
pub(super) struct AppState(Arc<Shared>);

pub(super) struct Shared {
    pub(super) gateway: Gateway,
    /// The path the routes are below.
    base_path: Box<str>,
    pub(super) terms: LiveSettings,
    pub(super) environment: System,
    pub(super) limits: Limits,
    pub(super) requests: Arc<InFlightLimiter>,
    pub(super) receptions: Arc<InFlightLimiter>,
    pub(super) watchers: Arc<InFlightLimiter>,
}

impl AppState {
    pub(super) fn new(parts: &ApiParts, terms: &LiveSettings, base_path: &str) -> Self {
        let ApiParts { gateway, server: _, auth: _, environment, limits, busy, ask: _, console: _ } = parts.clone();
        Self(Arc::new(Shared {
            gateway,
            base_path: base_path.into(),
            terms: terms.clone(),
            environment,
            requests: InFlightLimiter::new(limits.in_flight, ShedReason::Requests, Arc::clone(&busy.0.requests)),
            receptions: InFlightLimiter::new(limits.receptions, ShedReason::Receptions, Arc::default()),
            watchers: InFlightLimiter::new(limits.watchers, ShedReason::Watchers, Arc::default()),
            limits,
        }))
    }

    /// Acquires an in-flight permit from this limiter for the client.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn acquire_permit(&self, limiter: &Arc<InFlightLimiter>, client: &str) -> Result<InFlightPermit, Error> {
        limiter.acquire(client, self.terms.now().clients.alone())
    }

    /// Returns the pattern of a matched route below the base path, as logs, traces and metrics name it: the same in every
    /// installation.
    pub(super) fn route<'a>(&self, matched: &'a str) -> &'a str {
        match matched.strip_prefix(&*self.base_path) {
            Some("") => "/",
            Some(route) => route,
            None => matched,
        }
    }

    /// Returns the address of a resource as the caller must use it.
    pub(super) fn location(&self, path: &str) -> String {
        let terms = self.terms.now();
        match &terms.server.public_url {
            Some(url) => format!("{}{path}", url.as_str().trim_end_matches('/')),
            None => format!("{}{path}", terms.server.base_path),
        }
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
