//! What every request needs: the gateway behind the face, who may ask, and how much at once.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::Clients;
use crate::config::{Auth, ServerSettings};
use crate::dispatch::Gateway;
use crate::domain::environment::Environment;
use crate::domain::problem::{Code, Fault};

/// What the public face is built from.
#[derive(Clone)]
pub struct Face {
    /// The gateway it stands before.
    pub gateway: Gateway,
    /// Paths, limits and times.
    pub server: ServerSettings,
    /// Who may ask.
    pub auth: Auth,
    /// Clock and entropy, for request ids.
    pub environment: Environment,
    /// What protects the process from its callers.
    pub limits: Limits,
}

/// On which terms callers are served: who may ask, and paths, limits and times. Clones share them.
#[derive(Clone)]
pub struct Terms(Arc<ArcSwap<Current>>);

/// The terms of a moment.
pub(super) struct Current {
    pub(super) server: ServerSettings,
    pub(super) clients: Clients,
}

impl Terms {
    /// The terms a face is built with.
    #[must_use]
    pub fn of(face: &Face) -> Self {
        let current = Current { server: face.server.clone(), clients: Clients::new(&face.auth) };
        Self(Arc::new(ArcSwap::from_pointee(current)))
    }

    /// Puts others in their place, in one step. A client whose rate limit stays keeps what it has used of it. Where the
    /// routes are (`base_path`) and what their description says (`public_url`) was settled when they were made.
    pub fn replace(&self, server: ServerSettings, auth: &Auth) {
        let clients = Clients::after(&self.now().clients, auth);
        self.0.store(Arc::new(Current { server, clients }));
    }

    /// The terms as they are at the moment; a request that looks twice keeps them.
    pub(super) fn now(&self) -> Arc<Current> {
        self.0.load_full()
    }
}

/// What protects the process from its callers, beyond what operators set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests served at once; more are answered 503 `overloaded`.
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
pub(super) struct App(Arc<Shared>);

pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) terms: Terms,
    pub(super) environment: Environment,
    pub(super) limits: Limits,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) receptions: Arc<Semaphore>,
    pub(super) watchers: Arc<Semaphore>,
}

impl App {
    pub(super) fn new(face: &Face, terms: &Terms) -> Self {
        let Face { gateway, server: _, auth: _, environment, limits } = face.clone();
        let room = |places: usize| Arc::new(Semaphore::new(places));
        Self(Arc::new(Shared {
            gateway,
            terms: terms.clone(),
            environment,
            in_flight: room(limits.in_flight),
            receptions: room(limits.receptions),
            watchers: room(limits.watchers),
            limits,
        }))
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

/// A place in a room that has only so many.
///
/// # Errors
/// `overloaded`, saying what there are too many of.
pub(super) fn place(room: &Arc<Semaphore>, detail: &str) -> Result<OwnedSemaphorePermit, Fault> {
    room.clone().try_acquire_owned().map_err(|_| Fault::new(Code::Overloaded, detail))
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
