//! The configured connections: which one a request means, and in what condition each is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Caller, Gateway, call};
use crate::domain::capability::{Capability, Descriptor, Operation, Repeat};
use crate::domain::journal::Write;
use crate::domain::problem::{Code, ConnectionName, Fault, FieldFault, VendorAnswer};
use crate::domain::vendor::{Attempt, Health, Vendor};
use crate::transport::{Circuit, Condition, ConnectionSettings};
use crate::vendors::Connected;

/// One configured connection, ready for use.
pub struct ConnectionSetup {
    /// The adapter and its way out.
    pub connected: Connected,
    /// Grace, batch size and the rest.
    pub settings: ConnectionSettings,
}

/// What is known of a connection's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The last call was answered.
    Ok,
    /// The last calls failed.
    Degraded,
    /// Nothing is sent at the moment.
    CircuitOpen,
    /// The vendor refuses the credentials.
    CredentialsInvalid,
    /// The vendor finds the clock wrong.
    ClockSkew,
    /// Nothing was called yet, or nothing harmless can be.
    Unchecked,
}

/// A connection as it is shown: never a secret, never an address with one.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// The operator's name.
    pub name: String,
    /// Its kind.
    pub descriptor: &'static Descriptor,
    /// Its condition.
    pub status: ConnectionStatus,
    /// The condition in a sentence, with what to do about it.
    pub detail: String,
    /// When that was seen.
    pub since: Option<Timestamp>,
}

/// A connection at work.
pub(super) struct Connection {
    pub(super) name: String,
    connected: Connected,
    settings: ConnectionSettings,
    condition: Mutex<Seen>,
    /// Places for the calls of operations. One fewer than the vendor has, so that a single request never waits for a bulk
    /// to end; handed out first come, first served, so that operations take turns.
    bulk: Semaphore,
}

#[derive(Clone)]
struct Seen {
    status: ConnectionStatus,
    detail: String,
    since: Option<Timestamp>,
}

impl Connection {
    pub(super) fn new(name: String, setup: ConnectionSetup) -> Self {
        let ConnectionSetup { connected, settings } = setup;
        let condition =
            Seen { status: ConnectionStatus::Unchecked, detail: "Nothing was called yet.".to_owned(), since: None };
        let bulk = Semaphore::new(settings.max_in_flight.saturating_sub(1).clamp(1, Semaphore::MAX_PERMITS));
        Self { name, connected, settings, condition: Mutex::new(condition), bulk }
    }

    /// Lets requests leave only while this says so.
    pub(super) fn only_while(&self, permit: impl Fn() -> bool + Send + Sync + 'static) {
        self.connected.client.only_while(permit);
    }

    /// A place for a call of an operation.
    pub(super) async fn bulk_place(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed, so there is always one in the end.
        self.bulk.acquire().await.ok()
    }

    /// How often a call of an operation is tried that nothing came of through no fault of its rows.
    pub(super) fn bulk_attempts(&self) -> u32 {
        self.settings.retry.attempts.max(1)
    }

    /// Pause before such a call is tried again, where nobody said how long.
    pub(super) fn bulk_pause(&self) -> Duration {
        self.settings.retry.max.0
    }

    /// What is under way at the vendor.
    pub(super) fn condition(&self) -> Condition {
        self.connected.client.condition()
    }

    pub(super) fn vendor(&self) -> &dyn Vendor {
        self.connected.vendor.as_ref()
    }

    pub(super) fn descriptor(&self) -> &'static Descriptor {
        self.connected.vendor.descriptor()
    }

    /// Longest that one call takes, its waiting included.
    pub(super) fn longest_call(&self) -> Duration {
        self.settings.timeout.0.saturating_mul(3)
    }

    /// Calls at the vendor at once.
    pub(super) fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight.max(1)
    }

    /// Most rows in one call: the vendor's own maximum, or less where the operator says so.
    pub(super) fn batch(&self, vendor_maximum: usize) -> usize {
        let configured = if self.settings.batch_size == 0 { usize::MAX } else { self.settings.batch_size };
        vendor_maximum.min(configured).max(1)
    }

    /// Most rows that any call of an operation takes.
    pub(super) fn largest_batch(&self) -> usize {
        let creates = [Operation::CandidatesCreate, Operation::AssignmentsCreate];
        creates
            .iter()
            .map(|operation| self.batch(self.descriptor().capability(*operation).max_batch))
            .max()
            .unwrap_or(1)
    }

    /// Not before this moment may an attempt begun now be settled, unless it ends with an answer.
    pub(super) fn settle_from(&self, started: Timestamp) -> Timestamp {
        let grace = SignedDuration::try_from(self.settings.settle_grace.0).unwrap_or(SignedDuration::MAX);
        started.saturating_add(grace).unwrap_or(started)
    }

    /// How an unclear write of this kind is settled.
    pub(super) fn repeat_of(&self, write: &Write) -> Repeat {
        write.repeat(self.vendor())
    }

    /// What the vendor declares about the operation.
    ///
    /// # Errors
    /// `capability_unsupported` where it has none.
    pub(super) fn supported(&self, operation: Operation) -> Result<&'static Capability, Fault> {
        let descriptor = self.descriptor();
        let capability = descriptor.capability(operation);
        if capability.supported {
            return Ok(capability);
        }
        let detail = format!("{} has no {}. {}", descriptor.name, operation.as_str(), capability.note);
        let asked = VendorAnswer { operation: operation.as_str().to_owned(), ..VendorAnswer::default() };
        Err(self.own(Fault::new(Code::CapabilityUnsupported, detail.trim_end()).said(asked)))
    }

    /// The fault with the connection it is about.
    pub(super) fn own(&self, fault: Fault) -> Fault {
        let name = ConnectionName { connection: self.name.clone(), vendor: self.descriptor().kind.to_owned() };
        Fault { connection: Some(name), ..fault }
    }

    /// Learns the connection's condition from the end of a call.
    pub(super) fn note(&self, end: Result<(), &Fault>, now: Timestamp) {
        let (status, detail) = match end {
            Ok(()) => (ConnectionStatus::Ok, "The vendor answers.".to_owned()),
            Err(fault) => match fault.code {
                Code::ConnectionCredentialsInvalid => (ConnectionStatus::CredentialsInvalid, fault.detail.clone()),
                Code::VendorClockSkew => (ConnectionStatus::ClockSkew, fault.detail.clone()),
                Code::VendorTimeout
                | Code::VendorUnreachable
                | Code::VendorUnavailable
                | Code::VendorInternalError
                | Code::VendorBadResponse
                | Code::VendorContractError
                | Code::ConnectionMisconfigured => (ConnectionStatus::Degraded, fault.detail.clone()),
                // Nothing was sent, so nothing was learned.
                Code::VendorCircuitOpen | Code::ConnectionSaturated | Code::VendorRateLimited => return,
                _ => (ConnectionStatus::Ok, "The vendor answers.".to_owned()),
            },
        };
        self.set(Seen { status, detail, since: Some(now) });
    }

    fn set(&self, condition: Seen) {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }

    fn view(&self) -> ConnectionView {
        let condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (status, detail) = match self.connected.client.condition().circuit {
            Circuit::Open { until } => {
                (ConnectionStatus::CircuitOpen, format!("Nothing is sent before {until}: {}", condition.detail))
            }
            Circuit::Closed | Circuit::HalfOpen => (condition.status, condition.detail),
        };
        ConnectionView {
            name: self.name.clone(),
            descriptor: self.descriptor(),
            status,
            detail,
            since: condition.since,
        }
    }
}

impl Gateway {
    /// The connections the caller may use.
    #[must_use]
    pub fn connections(&self, caller: &Caller) -> Vec<ConnectionView> {
        let usable = |connection: &&Arc<Connection>| caller.connections.contains(&connection.name);
        self.0.connections.values().filter(usable).map(|connection| connection.view()).collect()
    }

    /// One connection; `connection_not_found` or `connection_forbidden` otherwise.
    pub fn connection(&self, caller: &Caller, name: &str) -> Result<ConnectionView, Fault> {
        self.named(caller, name).map(Connection::view)
    }

    /// Looks at a connection as far as that has no side effects.
    pub async fn check_connection(&self, caller: &Caller, name: &str) -> Result<ConnectionView, Fault> {
        let connection = self.named(caller, name)?;
        let health = connection.vendor().check(&call(caller, Attempt::First)).await;
        let now = self.0.environment.now();
        match health {
            Health::Ok { detail } => {
                connection.set(Seen { status: ConnectionStatus::Ok, detail, since: Some(now) });
            }
            Health::Unchecked { detail } => {
                connection.set(Seen { status: ConnectionStatus::Unchecked, detail, since: Some(now) });
            }
            Health::Faulty(fault) => connection.note(Err(&fault), now),
        }
        Ok(connection.view())
    }

    /// The connection with this name, if the caller may use it.
    pub(super) fn named(&self, caller: &Caller, name: &str) -> Result<&Connection, Fault> {
        let Some(connection) = self.0.connections.get(name) else {
            return Err(Fault::new(Code::ConnectionNotFound, format!("There is no connection `{}`.", short(name))));
        };
        if caller.connections.contains(name) {
            return Ok(connection);
        }
        Err(Fault::new(Code::ConnectionForbidden, format!("This client may not use the connection `{name}`.")))
    }

    /// The connection a request means: the one it names, else the one its catalogue entry lives at, else the client's
    /// default, else the only one there is.
    pub(super) fn chosen(
        &self,
        caller: &Caller,
        named: Option<&str>,
        of_entry: Option<&str>,
    ) -> Result<&Connection, Fault> {
        if let Some(name) = named.or(of_entry).or(caller.default_connection.as_deref()) {
            return self.named(caller, name);
        }
        let mut usable = self.0.connections.keys().filter(|name| caller.connections.contains(name));
        match (usable.next(), usable.next()) {
            (Some(only), None) => self.named(caller, only),
            _ => Err(Fault::new(Code::ConnectionRequired, "The request names no connection and there are several.")
                .about(FieldFault::missing("/connection", "is needed: several connections are configured"))),
        }
    }

    /// The connection a stored record lives at; it may have left the configuration since.
    pub(super) fn connection_of(&self, name: &str) -> Result<&Connection, Fault> {
        self.0.connections.get(name).map(Arc::as_ref).ok_or_else(|| {
            let detail = format!("The connection `{name}` this record lives at is not configured any more.");
            Fault::new(Code::ConnectionNotFound, detail)
        })
    }
}

/// Time from now to then, at least a second.
pub(super) fn wait_until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))
}

fn short(text: &str) -> String {
    crate::domain::text::shown(text, 100)
}
