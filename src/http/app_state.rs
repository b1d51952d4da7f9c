//! What every request needs: the gateway behind the face, who may ask, and how much at once.

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
use crate::http::middleware::in_flight_limit::{InFlightLimiter, InFlightPermit};
use crate::service::Gateway;
use crate::telemetry::metrics;
use crate::telemetry::metrics::ShedReason;

/// What the public face is built from.
#[derive(Clone)]
pub struct ApiParts {
    /// The gateway it stands before.
    pub gateway: Gateway,
    /// Paths, limits and times.
    pub server: ServerSettings,
    /// Who may ask.
    pub auth: Auth,
    /// Clock and entropy, for request ids.
    pub environment: System,
    /// What protects the process from its callers.
    pub limits: Limits,
    /// How much is under way.
    pub busy: LoadGauges,
    /// How the keys are asked for that an issuer of tokens publishes.
    pub ask: JwksFetcher,
}

/// Asks for the document at an address; fails with a sentence for the operator.
pub type JwksFetcher = Arc<dyn Fn(Url) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// How much is under way, for the figures; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadGauges(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Arc<AtomicUsize>,
    connections: AtomicUsize,
}

impl LoadGauges {
    /// Sets the figures. To be called when somebody asks for them: two changes at once would otherwise be told in any order.
    pub fn tell(&self) {
        metrics::requests_in_flight(self.0.requests.load(Ordering::Relaxed));
        metrics::connections(self.0.connections.load(Ordering::Relaxed));
    }

    pub(super) fn connections(&self, count: usize) {
        self.0.connections.store(count, Ordering::Relaxed);
    }
}

/// On which terms callers are served: who may ask, and paths, limits and times. Clones share them.
#[derive(Clone)]
pub struct LiveSettings(Arc<ArcSwap<Settings>>);

/// The terms of a moment.
pub(super) struct Settings {
    pub(super) server: ServerSettings,
    pub(super) clients: ClientRegistry,
}

impl LiveSettings {
    /// The terms a face is built with.
    #[must_use]
    pub fn of(face: &ApiParts) -> Self {
        let current = Settings { server: face.server.clone(), clients: ClientRegistry::new(&face.auth, &face.ask) };
        Self(Arc::new(ArcSwap::from_pointee(current)))
    }

    /// Puts others in their place, in one step. A client whose rate limit stays keeps what it has used of it. Where the
    /// routes are (`base_path`) and what their description says (`public_url`) was settled when they were made.
    pub fn replace(&self, server: ServerSettings, auth: &Auth) {
        let clients = ClientRegistry::replacing(&self.now().clients, auth);
        self.0.store(Arc::new(Settings { server, clients }));
    }

    /// The terms as they are at the moment; a request that looks twice keeps them.
    pub(super) fn now(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}

/// What protects the process from its callers, beyond what operators set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests served at once, until their answers are sent; more are answered 503 `overloaded`. Of these and of the next two
    /// a client gets no more than it leaves free, where there are several clients, so that none can keep others out.
    pub in_flight: usize,
    /// Bulks received at once, as long as they may be under way; each holds a thread.
    pub receptions: usize,
    /// Streams of events at once.
    pub watchers: usize,
    /// How long a request's body may take before its speed counts.
    pub body_allowance: Duration,
    /// Bytes a second a body must keep up on average after the allowance.
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

/// The state shared by all requests: cheap to clone.
#[derive(Clone)]
pub(super) struct AppState(Arc<Shared>);

pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) terms: LiveSettings,
    pub(super) environment: System,
    pub(super) limits: Limits,
    pub(super) places: Arc<InFlightLimiter>,
    pub(super) receptions: Arc<InFlightLimiter>,
    pub(super) watchers: Arc<InFlightLimiter>,
}

impl AppState {
    pub(super) fn new(face: &ApiParts, terms: &LiveSettings) -> Self {
        let ApiParts { gateway, server: _, auth: _, environment, limits, busy, ask: _ } = face.clone();
        Self(Arc::new(Shared {
            gateway,
            terms: terms.clone(),
            environment,
            places: InFlightLimiter::new(limits.in_flight, ShedReason::Requests, Arc::clone(&busy.0.requests)),
            receptions: InFlightLimiter::new(limits.receptions, ShedReason::Receptions, Arc::default()),
            watchers: InFlightLimiter::new(limits.watchers, ShedReason::Watchers, Arc::default()),
            limits,
        }))
    }

    /// Takes a place for this client among these.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn place(&self, places: &Arc<InFlightLimiter>, client: &str) -> Result<InFlightPermit, Error> {
        places.acquire(client, self.terms.now().clients.alone())
    }

    /// The address of a resource as the caller has to use it.
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
