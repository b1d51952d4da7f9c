//! What every request needs: the gateway behind the face, who may ask, and how much at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::auth::Clients;
use crate::config::{Auth, ServerSettings};
use crate::dispatch::Gateway;
use crate::domain::environment::Environment;
use crate::domain::problem::{Code, Fault};
use crate::meter::{self, Shed};

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
    /// How much is under way.
    pub busy: Busy,
    /// How the keys are asked for that an issuer of tokens publishes.
    pub ask: AskForKeys,
}

/// Asks for the document at an address; fails with a sentence for the operator.
pub type AskForKeys = Arc<dyn Fn(Url) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// How much is under way, for the figures; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    connections: AtomicUsize,
}

impl Busy {
    /// Sets the figures. To be called when somebody asks for them: two changes at once would otherwise be told in any order.
    pub fn tell(&self) {
        meter::requests_in_flight(self.0.requests.load(Ordering::Relaxed));
        meter::connections(self.0.connections.load(Ordering::Relaxed));
    }

    pub(super) fn connections(&self, count: usize) {
        self.0.connections.store(count, Ordering::Relaxed);
    }
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
        let current = Current { server: face.server.clone(), clients: Clients::new(&face.auth, &face.ask) };
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
    /// Requests served at once; more are answered 503 `overloaded`. Where there are several clients one of them gets at most
    /// three quarters, so that none can keep all others out.
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
    pub(super) places: Arc<Places>,
    pub(super) receptions: Arc<Semaphore>,
    pub(super) watchers: Arc<Semaphore>,
}

impl App {
    pub(super) fn new(face: &Face, terms: &Terms) -> Self {
        let Face { gateway, server: _, auth: _, environment, limits, busy, ask: _ } = face.clone();
        let room = |places: usize| Arc::new(Semaphore::new(places));
        Self(Arc::new(Shared {
            gateway,
            terms: terms.clone(),
            environment,
            places: Arc::new(Places::new(limits.in_flight, busy)),
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
pub(super) fn place(room: &Arc<Semaphore>, what: Shed, detail: &str) -> Result<OwnedSemaphorePermit, Fault> {
    room.clone().try_acquire_owned().map_err(|_| overloaded(what, detail))
}

fn overloaded(what: Shed, detail: &str) -> Fault {
    meter::shed(what);
    Fault::new(Code::Overloaded, detail)
}

/// The places of requests.
pub(super) struct Places {
    most: usize,
    /// Who has how many.
    taken: Mutex<HashMap<String, usize>>,
    busy: Busy,
}

/// A request's place, free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    client: String,
}

impl Places {
    fn new(most: usize, busy: Busy) -> Self {
        Self { most, taken: Mutex::default(), busy }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a request of this client, who may be the only one there is.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn take(self: &Arc<Self>, client: &str, alone: bool) -> Result<Place, Fault> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= self.most {
            return Err(overloaded(Shed::Requests, "Too many requests are being served."));
        }
        let most_each = if alone { self.most } else { self.most - self.most / 4 };
        let own = taken.entry(client.to_owned()).or_default();
        if *own >= most_each {
            return Err(overloaded(Shed::Requests, "Too many requests of this client are being served."));
        }
        *own += 1;
        self.busy.0.requests.fetch_add(1, Ordering::Relaxed);
        Ok(Place { places: Arc::clone(self), client: client.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
        }
        self.places.busy.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_gets_all_places_where_there_are_others() {
        let [several, one] = [0, 1].map(|_| Arc::new(Places::new(4, Busy::default())));
        let taken: Vec<_> = (0..5).map(|_| several.take("a", false)).collect();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 3);
        assert!(several.take("b", false).is_ok());
        let held = several.take("b", false);
        assert!(held.is_ok() && several.take("c", false).is_err());
        drop(taken);
        assert!(several.take("c", false).is_ok());
        let all: Vec<_> = (0..5).map(|_| one.take("a", true)).collect();
        assert_eq!(all.iter().filter(|taken| taken.is_ok()).count(), 4);
        assert_eq!(one.busy.0.requests.load(Ordering::Relaxed), 4);
        drop(all);
        assert_eq!(one.busy.0.requests.load(Ordering::Relaxed), 0);
    }
}
