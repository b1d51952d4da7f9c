//! The monitor of connections: reports a connection's change of state to its tenants, by an event.
//!
//! The last reported state is in the store, so that a change is reported once, whatever instances and restarts there
//! are. An instance reports only what its own calls have shown, and only once it has lasted a little: a single failed
//! call between two others is no news.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::domain::error::Error;
use crate::domain::event::ConnectionState;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::store::{ConnectionStateChange, Mutation, StoreError};

/// Interval between looks at the connections.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a state must last before it is reported: longer than the first pause before an unknown write is tried
/// again.
const SETTLE: Duration = Duration::from_secs(10);
/// Interval after which a lasting state is compared with the reported one again: the instance that reported another one
/// may be gone.
const COMPARE_INTERVAL: Duration = Duration::from_mins(1);

/// A state of a connection as this instance sees it.
struct Observation {
    state: ConnectionState,
    since: Instant,
    /// When it was last compared with the reported one.
    compared: Option<Instant>,
}

impl Gateway {
    /// Spawns the monitor. It holds the gateway weakly and ends with it.
    pub(in crate::service) fn spawn_connection_monitor(&self) {
        let gateway = std::sync::Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut observed = BTreeMap::new();
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(inner) = gateway.upgrade() else { return };
                let gateway = Self(inner);
                if !gateway.is_stopping() && gateway.0.lease.holds() {
                    gateway.look_at_connections(&mut observed).await;
                }
            }
        });
    }

    async fn look_at_connections(&self, observed: &mut BTreeMap<String, Observation>) {
        let configured = self.configured();
        observed.retain(|name, _| configured.connections.contains_key(name));
        for (name, connection) in &configured.connections {
            let Some((state, seen)) = connection.observed_state() else { continue };
            let now = Instant::now();
            let fresh = || Observation { state, since: now, compared: None };
            let known = observed.entry(name.clone()).or_insert_with(fresh);
            if known.state != state {
                *known = fresh();
            }
            let due = known.compared.is_none_or(|compared| {
                let age = self.0.system.now().duration_since(seen);
                let interval = SignedDuration::try_from(COMPARE_INTERVAL).unwrap_or(SignedDuration::MAX);
                compared.elapsed() >= COMPARE_INTERVAL && age < interval
            });
            if !due || known.since.elapsed() < SETTLE {
                continue;
            }
            match self.report_connection_state(connection, state).await {
                Ok(true) => known.compared = Some(now),
                // Compared again at the next look.
                Ok(false) => {}
                Err(error) => {
                    let code = error.code.as_str();
                    tracing::warn!(connection = name, code, "reporting a connection's state failed; will retry");
                    known.since = now;
                }
            }
        }
    }

    /// Commits the state, with an event for each tenant, unless it is the one that was reported last. Returns whether
    /// it is now the reported one.
    async fn report_connection_state(&self, connection: &Connection, state: ConnectionState) -> Result<bool, Error> {
        let name = &connection.name;
        let reported = self.0.store.connection_states().await.or_not_applied()?;
        let reported = reported.into_iter().find(|(known, _)| known == name).map(|(_, state)| state);
        if reported.as_deref() == Some(state.as_str()) {
            return Ok(true);
        }
        let before = reported.as_deref().and_then(ConnectionState::parse);
        let change =
            ConnectionStateChange { connection: name.clone(), before: reported, state: state.as_str().to_owned() };
        let mut changes = vec![Mutation::ConnectionState(change)];
        // That a connection works from the beginning is no change.
        if before.is_some() || state != ConnectionState::Ok {
            let events = connection.tenants().iter().map(|tenant| {
                let event = self.emitter().connection_changed(tenant, name, before, state);
                Mutation::Event(Box::new(event))
            });
            changes.extend(events);
        }
        match self.0.store.commit(changes).await {
            // Another instance has reported one meanwhile.
            Err(StoreError::Superseded) => Ok(false),
            committed => committed.or_not_applied().map(|()| true),
        }
    }
}
