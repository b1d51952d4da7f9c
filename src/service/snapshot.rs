//! What the operator has configured, as far as it may change while the gateway runs: connections, catalogue, retention. It is
//! replaced as a whole. Whoever looks something up takes it once and keeps it as long as the pieces must fit together;
//! whoever works for long takes it anew for each call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use crate::domain::error::{Code, Error, FieldError};
use crate::service::cluster::lease::Lease;
use crate::service::connections::{Connection, short};
use crate::service::{Catalogue, ConnectionSetup, Gateway, RequestContext, Retention};
use crate::telemetry::metrics;

/// Everything of the configuration that requests look things up in.
pub(super) struct Snapshot {
    pub(super) connections: BTreeMap<String, Arc<Connection>>,
    pub(super) catalogue: Catalogue,
    pub(super) retention: Retention,
}

/// What a new configuration changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Names of connections that were not there before.
    pub added: Vec<String>,
    /// Names of connections with other settings or secrets.
    pub changed: Vec<String>,
    /// Names of connections that are gone.
    pub removed: Vec<String>,
    /// Whether the catalogue is another.
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

    /// What takes the place of this. A connection nothing changed about stays the very same, with its circuit, its limits and
    /// its condition; one that changed goes on where its predecessor stands.
    fn with_changes(
        &self,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        retention: Retention,
        lease: &Lease,
    ) -> (Self, ConfigDiff) {
        let mut told = ConfigDiff { catalogue: self.catalogue != catalogue, ..ConfigDiff::default() };
        let gone = self.connections.keys().filter(|name| !connections.contains_key(*name));
        told.removed = gone.cloned().collect();
        let mut next = BTreeMap::new();
        for (name, setup) in connections {
            let connection = match self.connections.get(&name) {
                Some(earlier) if earlier.is_same_config(&setup) => Arc::clone(earlier),
                earlier => {
                    let of_name = if earlier.is_some() { &mut told.changed } else { &mut told.added };
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
        (Self { connections: next, catalogue, retention }, told)
    }

    /// The connection with this name, if the caller may use it.
    pub(super) fn named(&self, caller: &RequestContext, name: &str) -> Result<Arc<Connection>, Error> {
        let Some(connection) = self.connections.get(name) else {
            return Err(Error::new(Code::ConnectionNotFound, format!("There is no connection `{}`.", short(name))));
        };
        if caller.connections.contains(name) {
            return Ok(Arc::clone(connection));
        }
        Err(forbidden(name))
    }

    /// The connection a request means: the one it names, else the one its catalogue entry lives at, else the client's
    /// default, else the only one there is.
    pub(super) fn chosen(
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
            _ => Err(Error::new(Code::ConnectionRequired, "The request names no connection and there are several.")
                .with_field(FieldError::missing("/connection", "is needed: several connections are configured"))),
        }
    }
}

impl Gateway {
    /// What is configured at the moment.
    pub(super) fn configured(&self) -> Arc<Snapshot> {
        self.0.configured.load_full()
    }

    /// Puts another configuration in the place of the present one, in one step. Requests under way end with what they began
    /// with; operations and settling take the new one for their next call.
    pub async fn reconfigure(
        &self,
        connections: BTreeMap<String, ConnectionSetup>,
        catalogue: Catalogue,
        retention: Retention,
    ) -> ConfigDiff {
        let (next, told) = self.configured().with_changes(connections, catalogue, retention, &self.0.lease);
        self.0.configured.store(Arc::new(next));
        self.spawn_reconcilers();
        // Rows that were planned for a connection as it was are planned again.
        self.0.board.notify();
        for name in &told.removed {
            // They would stand there forever as they were last.
            metrics::circuit(name, metrics::Breaker::Closed);
            metrics::at_vendor(name, 0);
            metrics::waiting(name, 0, 0);
        }
        self.warn_of_unsettled(&told.removed).await;
        told
    }

    /// Whether a settler has to be begun for a connection of this name; whoever asks begins it.
    pub(super) fn register_reconciler(&self, name: &str) -> bool {
        self.0.settlers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned())
    }

    /// Whether the settler of this name goes on. Asked and answered under one lock, so that a name that comes back has one
    /// settler, not two and not none.
    pub(super) fn is_reconciler_needed(&self, name: &str) -> bool {
        let mut settlers = self.0.settlers.lock().unwrap_or_else(PoisonError::into_inner);
        let keeps = self.configured().connections.contains_key(name);
        if !keeps {
            settlers.remove(name);
        }
        keeps
    }

    /// What was sent to a connection that is gone, and never answered, only a person can settle now.
    async fn warn_of_unsettled(&self, removed: &[String]) {
        if removed.is_empty() {
            return;
        }
        let unsettled = match self.0.store.unsettled().await {
            Ok(unsettled) => unsettled,
            Err(error) => {
                tracing::warn!(%error, connections = removed.join(", "), "unsettled writes cannot be counted");
                return;
            }
        };
        let removed: BTreeSet<&str> = removed.iter().map(String::as_str).collect();
        for name in removed {
            let count: u64 = unsettled.iter().filter(|open| open.connection == name).map(|open| open.count).sum();
            if count > 0 {
                tracing::warn!(connection = name, count, "a removed connection has writes that nobody settles now");
            }
        }
    }
}

/// The fault of a client that may not use a connection.
pub(super) fn forbidden(name: &str) -> Error {
    Error::new(Code::ConnectionForbidden, format!("This client may not use the connection `{name}`."))
}
