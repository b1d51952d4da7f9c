//! What callers see of connections, and their checks.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use super::Connection;
use crate::domain::capability::VendorDescriptor;
use crate::domain::error::Error;
use crate::domain::vendor::{CallPurpose, CredentialCheck};
use crate::service::connection_status::{ConnectionStatus, LastCheck};
use crate::service::diagnostics::{DiagnosticReport, diagnose};
use crate::service::mutex::lock_unpoisoned;
use crate::service::{Gateway, RequestContext};
use crate::transport::{self, CallHistory, ConnectionStats};

/// State of a connection's circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls are sent.
    Closed,
    /// No calls are sent until the cool-down ends.
    Open,
    /// One probe call is allowed.
    HalfOpen,
}

/// Public view of a connection; contains no secret and no address with one.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Name given by the operator.
    pub name: String,
    /// Vendor descriptor.
    pub descriptor: &'static VendorDescriptor,
    /// Observed status.
    pub status: ConnectionStatus,
    /// Status in a sentence, with what to do about it.
    pub detail: String,
    /// Time of the observation.
    pub since: Option<Timestamp>,
    /// State of the circuit breaker.
    pub circuit: CircuitState,
    /// Number of calls in flight.
    pub in_flight: usize,
    /// Number of calls waiting for the connection's limits.
    pub waiting: usize,
    /// Seconds by which the vendor's clock was ahead at its last response.
    pub clock_ahead: Option<i64>,
}

impl Connection {
    fn view(&self) -> ConnectionInfo {
        let LastCheck { status, detail, since, .. } = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ConnectionStats { circuit, in_flight, single_waiting, bulk_waiting, skew } = self.stats();
        let (circuit, status, detail) = match circuit {
            transport::CircuitState::Open { until } => {
                let detail = format!("Nothing is sent before {until}: {detail}");
                (CircuitState::Open, ConnectionStatus::CircuitOpen, detail)
            }
            transport::CircuitState::Closed => (CircuitState::Closed, status, detail),
            transport::CircuitState::HalfOpen => (CircuitState::HalfOpen, status, detail),
        };
        let (status, detail) = match self.seats.refusal() {
            Some(error) if status == ConnectionStatus::Ok => (ConnectionStatus::Degraded, error.detail),
            _ => (status, detail),
        };
        let feed_fault = lock_unpoisoned(&self.feed_faults).values().next().cloned();
        let (status, detail) = match feed_fault.or_else(|| lock_unpoisoned(&self.fetch_fault).clone()) {
            Some(fault) if status == ConnectionStatus::Ok => (ConnectionStatus::Degraded, fault),
            _ => (status, detail),
        };
        ConnectionInfo {
            name: self.name.clone(),
            descriptor: self.descriptor(),
            status,
            detail,
            since,
            circuit,
            in_flight,
            waiting: single_waiting + bulk_waiting,
            clock_ahead: skew.map(|skew| skew.as_secs()),
        }
    }
}

impl Gateway {
    /// Returns the connections the caller may use.
    #[must_use]
    pub fn connections(&self, caller: &RequestContext) -> Vec<ConnectionInfo> {
        let usable = |connection: &&Arc<Connection>| caller.connections.contains(&connection.name);
        self.configured().connections.values().filter(usable).map(|connection| connection.view()).collect()
    }

    /// Returns one connection; `connection_not_found` or `connection_forbidden` otherwise.
    pub fn connection(&self, caller: &RequestContext, name: &str) -> Result<ConnectionInfo, Error> {
        self.configured().named(caller, name).map(|connection| connection.view())
    }

    /// Returns what became of this instance's calls of a connection in the last hour.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`.
    pub fn connection_calls(&self, caller: &RequestContext, name: &str) -> Result<CallHistory, Error> {
        self.configured().named(caller, name).map(|connection| connection.connected.client.call_history())
    }

    /// Runs the connection's diagnostics, without side effects at the vendor.
    pub async fn check_connection(
        &self,
        caller: &RequestContext,
        name: &str,
    ) -> Result<(ConnectionInfo, DiagnosticReport), Error> {
        let connection = self.configured().named(caller, name)?;
        let examination = diagnose(&connection.connected, &caller.call_context(CallPurpose::Initial)).await;
        let now = self.0.system.now();
        if examination.error().is_none() {
            connection.seats.resume();
        }
        match (examination.error(), &examination.health) {
            (Some(error), _) => connection.note(Err(&error), now),
            (None, Some(CredentialCheck::Ok { detail })) => connection.set(LastCheck::ok(detail.clone(), now)),
            (None, Some(CredentialCheck::Unchecked { detail })) => {
                connection.set(LastCheck::unchecked(format!("The vendor responds. {detail}"), now));
            }
            (None, _) => {}
        }
        Ok((connection.view(), examination))
    }
}
