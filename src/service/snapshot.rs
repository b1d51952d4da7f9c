//! Configuration snapshot: the settings that may change while the gateway runs (connections, catalogue, retention),
//! replaced as a whole. Load the snapshot once per request so that its parts are consistent; long-running work reloads
//! it before each vendor call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::suggest;
use crate::service::cluster::lease::Lease;
use crate::service::connections::{Connection, short};
use crate::service::{Catalogue, ConnectionSetup, Gateway, RequestContext, Retention};
use crate::telemetry::metrics;

/// Reloadable part of the configuration.
pub(super) struct Snapshot {
    pub(super) connections: BTreeMap<String, Arc<Connection>>,
    pub(super) catalogue: Catalogue,
    pub(super) retention: Retention,
}

/// Changes that a reload made to the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Names of new connections.
    pub added: Vec<String>,
    /// Names of connections with changed settings or secrets.
    pub changed: Vec<String>,
    /// Names of removed connections.
    pub removed: Vec<String>,
    /// Whether the catalogue changed.
    pub catalogue: bool,
}

impl Snapshot {
    pub(super) fn new(
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        retention: Retention,
        lease: &Lease,
    ) -> Self {
        let connected = |(name, setup): (String, ConnectionSetup)| {
            let connection = Connection::new(name.clone(), setup);
            connection.bind_lease(lease);
            (name, Arc::new(connection))
        };
        Self { connections: connections.into_iter().map(connected).collect(), catalogue, retention }
    }

    /// Builds the successor of this snapshot. An unchanged connection is kept, with its circuit, limits and status; a
    /// changed one inherits the state of its predecessor.
    fn with_changes(
        &self,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        retention: Retention,
        lease: &Lease,
    ) -> (Self, ConfigDiff) {
        let mut diff = ConfigDiff { catalogue: self.catalogue != catalogue, ..ConfigDiff::default() };
        let gone = self.connections.keys().filter(|name| !connections.contains_key(*name));
        diff.removed = gone.cloned().collect();
        let mut next = BTreeMap::new();
        for (name, setup) in connections {
            let connection = match self.connections.get(&name) {
                Some(earlier) if earlier.is_same_config(&setup) => Arc::clone(earlier),
                earlier => {
                    let of_name = if earlier.is_some() { &mut diff.changed } else { &mut diff.added };
                    of_name.push(name.clone());
                    let connection = match earlier {
                        Some(earlier) => Connection::replacing(earlier, setup),
                        None => Connection::new(name.clone(), setup),
                    };
                    connection.bind_lease(lease);
                    Arc::new(connection)
                }
            };
            next.insert(name, connection);
        }
        (Self { connections: next, catalogue, retention }, diff)
    }

    /// Returns the connection with this name, if the caller may use it.
    pub(super) fn named(&self, caller: &RequestContext, name: &str) -> Result<Arc<Connection>, Error> {
        let Some(connection) = self.connections.get(name) else {
            let usable = self.connections.keys().filter(|known| caller.connections.contains(known));
            let meant = suggest::word(name, usable.map(String::as_str));
            let detail = format!("There is no connection `{}`{meant}.", short(name));
            return Err(Error::new(Code::ConnectionNotFound, detail));
        };
        if caller.connections.contains(name) {
            return Ok(Arc::clone(connection));
        }
        Err(forbidden_error(name))
    }

    /// Returns the connection of a stored record.
    ///
    /// # Errors
    /// `connection_not_found` if it was removed from the configuration.
    pub(super) fn connection_of(&self, name: &str) -> Result<Arc<Connection>, Error> {
        self.connections.get(name).cloned().ok_or_else(|| {
            let detail = format!("The connection `{name}` of this record is no longer configured.");
            Error::new(Code::ConnectionNotFound, detail)
        })
    }

    /// Selects the connection of a request: the one it names, else that of its catalogue entry, else the client's
    /// default, else the only one there is.
    pub(super) fn select_connection(
        &self,
        caller: &RequestContext,
        named: Option<&str>,
        of_entry: Option<&str>,
    ) -> Result<Arc<Connection>, Error> {
        if let Some(name) = named.or(of_entry).or(caller.default_connection.as_deref()) {
            return self.named(caller, name);
        }
        let mut usable = self.connections.keys().filter(|name| caller.connections.contains(name));
        match (usable.next(), usable.next()) {
            (Some(only), None) => self.named(caller, only),
            _ => Err(Error::new(
                Code::ConnectionRequired,
                "The request names no connection, and several are configured.",
            )
            .with_field(FieldError::missing("/connection", "is required: several connections are configured"))),
        }
    }
}

impl Gateway {
    /// Returns the current snapshot.
    pub(super) fn configured(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Replaces the configuration atomically. Requests in flight finish with the snapshot they loaded; operations and
    /// reconciliation use the new one from their next call on.
    pub async fn reconfigure(
        &self,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        retention: Retention,
    ) -> ConfigDiff {
        let (next, diff) = self.configured().with_changes(connections, catalogue, retention, &self.0.lease);
        self.0.snapshot.store(Arc::new(next));
        self.spawn_reconcilers();
        self.spawn_report_readers();
        // Plan rows again that were planned for a changed connection.
        self.0.active_operations.notify();
        for name in &diff.removed {
            // Reset the gauges; they would otherwise keep their last values for ever.
            metrics::circuit(name, metrics::Breaker::Closed);
            metrics::at_vendor(name, 0);
            metrics::waiting(name, 0, 0);
        }
        self.warn_of_unsettled(&diff.removed).await;
        diff
    }

    /// Registers a reconciler for this connection name; returns `true` if there was none, and the caller must then
    /// spawn it.
    pub(super) fn register_reconciler(&self, name: &str) -> bool {
        self.0.reconcilers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned())
    }

    /// Returns whether the reconciler of this name is still needed, and unregisters it if not. Both happen under one
    /// lock, so a name that is configured again has exactly one reconciler.
    pub(super) fn is_reconciler_needed(&self, name: &str) -> bool {
        let mut reconcilers = self.0.reconcilers.lock().unwrap_or_else(PoisonError::into_inner);
        let keeps = self.configured().connections.contains_key(name);
        if !keeps {
            reconcilers.remove(name);
        }
        keeps
    }

    /// Logs a warning about unknown writes of removed connections: only a person can settle them now.
    async fn warn_of_unsettled(&self, removed: &[String]) {
        if removed.is_empty() {
            return;
        }
        let unsettled = match self.0.store.count_unsettled_intents().await {
            Ok(unsettled) => unsettled,
            Err(error) => {
                tracing::warn!(%error, connections = removed.join(", "), "counting unsettled writes failed");
                return;
            }
        };
        let removed: BTreeSet<&str> = removed.iter().map(String::as_str).collect();
        for name in removed {
            let count: u64 = unsettled.iter().filter(|open| open.connection == name).map(|open| open.count).sum();
            if count > 0 {
                tracing::warn!(
                    connection = name,
                    count,
                    "removed connection has unknown writes that only a person can settle"
                );
            }
        }
    }
}

/// Builds the error of a client that may not use a connection.
pub(super) fn forbidden_error(name: &str) -> Error {
    Error::new(Code::ConnectionForbidden, format!("This client may not use the connection `{name}`."))
}
