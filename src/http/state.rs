//! What every request needs: the gateway behind the face, who may ask, and how much at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::auth::Clients;
use crate::config::{Auth, ServerSettings};
use crate::dispatch::Gateway;
use crate::domain::environment::Environment;

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

/// What protects the process from its callers, beyond what operators set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests served at once; more are answered 503 `overloaded`.
    pub in_flight: usize,
    /// How long a request's body may take before its speed counts.
    pub body_allowance: Duration,
    /// Bytes a second a body must keep up on average after the allowance.
    pub body_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 1024, body_allowance: Duration::from_secs(10), body_rate: 64 * 1024 }
    }
}

/// The state shared by all requests: cheap to clone.
#[derive(Clone)]
pub(super) struct App(Arc<Shared>);

pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) server: ServerSettings,
    pub(super) clients: Clients,
    pub(super) environment: Environment,
    pub(super) limits: Limits,
    pub(super) in_flight: Arc<Semaphore>,
}

impl App {
    pub(super) fn new(face: &Face) -> Self {
        let Face { gateway, server, auth, environment, limits } = face.clone();
        let in_flight = Arc::new(Semaphore::new(limits.in_flight));
        Self(Arc::new(Shared { gateway, server, clients: Clients::new(&auth), environment, limits, in_flight }))
    }

    /// The address of a resource as the caller has to use it.
    pub(super) fn location(&self, path: &str) -> String {
        match &self.server.public_url {
            Some(url) => format!("{}{path}", url.as_str().trim_end_matches('/')),
            None => format!("{}{path}", self.server.base_path),
        }
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
