//! The configured connections: which one a request means, and in what condition each is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::candidate::Identity;
use crate::domain::capability::{Capability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, ConnectionRef, Error, VendorResponse};
use crate::domain::intent::{Intent, Write};
use crate::domain::validation::normalize_identity;
use crate::domain::vendor::{CallPurpose, CredentialCheck, Vendor};
use crate::secret::ConfigFingerprint;
use crate::service::cluster::lease::Lease;
use crate::service::diagnostics::{DiagnosticReport, diagnose};
use crate::service::fair_semaphore::{FairPermit, FairSemaphore, QueueKey};
use crate::service::seat_limit::SeatLimit;
use crate::service::{Gateway, RequestContext, call};
use crate::transport::{self, ConnectionSettings, ConnectionStats};
use crate::vendors::VendorConnection;

/// One configured connection, ready for use.
pub struct ConnectionSetup {
    /// The adapter and its way out.
    pub connected: VendorConnection,
    /// Grace, batch size and the rest.
    pub settings: ConnectionSettings,
    /// Everything it was made of.
    pub likeness: ConfigFingerprint,
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

/// Whether calls go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// They do.
    Closed,
    /// Not before the cool-down is over.
    Open,
    /// One call probes.
    HalfOpen,
}

/// A connection as it is shown: never a secret, never an address with one.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The operator's name.
    pub name: String,
    /// Its kind.
    pub descriptor: &'static VendorDescriptor,
    /// Its condition.
    pub status: ConnectionStatus,
    /// The condition in a sentence, with what to do about it.
    pub detail: String,
    /// When that was seen.
    pub since: Option<Timestamp>,
    /// Its circuit breaker.
    pub circuit: CircuitState,
    /// Calls at the vendor now.
    pub in_flight: usize,
    /// Calls that wait for its limits.
    pub waiting: usize,
    /// How far the vendor's clock was ahead by its last answer, in seconds.
    pub clock_ahead: Option<i64>,
}

/// A connection at work.
pub(super) struct Connection {
    pub(super) name: String,
    destination: Box<str>,
    connected: VendorConnection,
    settings: ConnectionSettings,
    likeness: ConfigFingerprint,
    seen: Mutex<LastCheck>,
    lent: BulkLimits,
    seats: SeatLimit,
}

/// What a connection lends to operations, by tenant and operation in turn, call by call.
#[derive(Clone)]
struct BulkLimits {
    /// Places for calls at the vendor. One fewer than it has, so that a single request never waits for a bulk to end.
    calls: Arc<FairSemaphore>,
    /// Places for calls that are begun: at the vendor, or journalled and waiting for a place there, so that one that comes
    /// free is taken at once. A quarter more only: after a crash, each row that is begun has to be settled.
    begun: Arc<FairSemaphore>,
    /// Places for changes of programs' employees, whose callers wait as with any single write: they never wait for a bulk.
    enrolments: Arc<FairSemaphore>,
}

#[derive(Clone)]
struct LastCheck {
    status: ConnectionStatus,
    detail: String,
    since: Option<Timestamp>,
}

/// Leave to begin a call of an operation, given back when it is dropped.
pub(super) struct ClaimPermit {
    /// Among the calls begun, or at the vendor.
    _place: FairPermit,
    /// Whether it is journalled first, and waits for its place at the vendor when it is about to be sent.
    ahead: bool,
}

impl Connection {
    pub(super) fn new(name: String, setup: ConnectionSetup) -> Self {
        let lent = BulkLimits::new(&setup.settings);
        Self::with_limits(name, setup, lent)
    }

    /// The connection that takes the place of one with other settings. Where it leads to the same account at the same address
    /// it goes on with what is known there: calls under way count, and a rate that was used up stays so.
    pub(super) fn replacing(earlier: &Self, setup: ConnectionSetup) -> Self {
        let name = earlier.name.clone();
        if *setup.connected.destination() != *earlier.destination {
            return Self::new(name, setup);
        }
        earlier.lent.resize(&setup.settings);
        setup.connected.client.inherit_state(&earlier.connected.client);
        Self::with_limits(name, setup, earlier.lent.clone())
    }

    fn with_limits(name: String, setup: ConnectionSetup, lent: BulkLimits) -> Self {
        let ConnectionSetup { connected, settings, likeness } = setup;
        let seen = LastCheck {
            status: ConnectionStatus::Unchecked,
            detail: "Nothing was called yet.".to_owned(),
            since: None,
        };
        let destination = connected.destination().into();
        let seats = SeatLimit::default();
        Self { name, destination, connected, settings, likeness, seen: Mutex::new(seen), lent, seats }
    }

    /// Whether it would be made the same from this.
    pub(super) fn is_same_config(&self, setup: &ConnectionSetup) -> bool {
        self.likeness.same(&setup.likeness)
    }

    /// Lets requests leave only while this lease holds.
    pub(super) fn bind_lease(&self, lease: &Lease) {
        let lease = lease.clone();
        self.connected.client.set_send_permit(move || lease.holds());
    }

    /// The place at the vendor that a call which was begun lacks still.
    pub(super) async fn acquire_in_flight(&self, begun: Option<&ClaimPermit>, key: &QueueKey) -> Option<FairPermit> {
        if begun.is_none_or(|begun| begun.ahead) { Some(self.lent.calls.acquire(key).await) } else { None }
    }

    /// How often a call of an operation is tried that nothing came of through no fault of its rows.
    pub(super) fn bulk_attempts(&self) -> u32 {
        self.settings.retry.attempts.max(1)
    }

    /// Pause before such a call is tried again, where nobody said how long.
    pub(super) fn bulk_pause(&self) -> Duration {
        self.settings.retry.max.0
    }

    /// The fault of these writes, where the vendor is known to refuse them at the moment. Settling is tried in any case.
    pub(super) fn refusal(&self, writes: &[Write], attempt: CallPurpose) -> Option<Error> {
        let registers = matches!(writes, [Write::Register(_), ..]) && attempt == CallPurpose::Initial;
        if registers { self.seats.refusal() } else { None }
    }

    /// Learns from the faults of a call whether the vendor has seats left.
    pub(super) fn note_seats<'a>(&self, faults: impl Iterator<Item = &'a Error>) {
        self.seats.note(faults, self.settings.seat_limit_pause.0);
    }

    /// What is under way at the vendor.
    pub(super) fn stats(&self) -> ConnectionStats {
        self.connected.client.stats()
    }

    pub(super) fn vendor(&self) -> &dyn Vendor {
        self.connected.vendor.as_ref()
    }

    pub(super) fn descriptor(&self) -> &'static VendorDescriptor {
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

    /// Most bytes of a call's body with several rows.
    pub(super) fn call_bytes(&self) -> usize {
        usize::try_from(self.settings.max_request_bytes.0).unwrap_or(usize::MAX)
    }

    /// Most rows that any call of an operation takes.
    pub(super) fn largest_batch(&self) -> usize {
        let creates = [WriteKind::CandidatesCreate, WriteKind::AssignmentsCreate];
        creates
            .iter()
            .map(|operation| self.batch(self.descriptor().capability(*operation).max_batch))
            .max()
            .unwrap_or(1)
    }

    /// How long after an attempt without a complete answer the vendor may still act.
    pub(super) fn settle_grace(&self) -> Duration {
        self.settings.settle_grace.0
    }

    /// Not before this moment may an attempt begun now be settled, unless it ends with an answer.
    pub(super) fn settle_from(&self, started: Timestamp) -> Timestamp {
        let grace = SignedDuration::try_from(self.settings.settle_grace.0).unwrap_or(SignedDuration::MAX);
        started.saturating_add(grace).unwrap_or(started)
    }

    /// The account and the address it leads to.
    pub(super) fn destination(&self) -> Box<str> {
        self.destination.clone()
    }

    /// Whether the write went to another account or address than the connection leads to now.
    pub(super) fn is_elsewhere(&self, intent: &Intent) -> bool {
        intent.destination.as_ref().is_some_and(|destination| *destination != self.destination)
    }

    /// How an unclear write is settled: never where it went elsewhere, since nothing here tells of there.
    pub(super) fn repeat_of(&self, intent: &Intent) -> RetrySafety {
        if self.is_elsewhere(intent) { RetrySafety::Unsafe } else { intent.write.retry_safety(self.vendor()) }
    }

    /// What the vendor declares about the operation.
    ///
    /// # Errors
    /// `capability_unsupported` where it has none.
    pub(super) fn supported(&self, operation: WriteKind) -> Result<&'static Capability, Error> {
        let descriptor = self.descriptor();
        let capability = descriptor.capability(operation);
        if capability.supported {
            return Ok(capability);
        }
        let detail = format!("{} has no {}. {}", descriptor.name, operation.as_str(), capability.note);
        let asked = VendorResponse { operation: operation.as_str().to_owned(), ..VendorResponse::default() };
        Err(self.tag_connection(Error::new(Code::CapabilityUnsupported, detail.trim_end()).with_vendor_response(asked)))
    }

    /// The identity by which the vendor knows a person under this key.
    pub(super) fn identity_of_key(&self, key: &str) -> Identity {
        if self.descriptor().identifies_by_email() {
            Identity::Email(normalize_identity(key))
        } else {
            Identity::ExternalId(key.to_owned())
        }
    }

    /// The fault with the connection it is about.
    pub(super) fn tag_connection(&self, fault: Error) -> Error {
        let name = ConnectionRef { connection: self.name.clone(), vendor: self.descriptor().kind.to_owned() };
        Error { connection: Some(name), ..fault }
    }

    /// Learns the connection's condition from the end of a call.
    pub(super) fn note(&self, end: Result<(), &Error>, now: Timestamp) {
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
        self.set(LastCheck { status, detail, since: Some(now) });
    }

    fn set(&self, seen: LastCheck) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    fn view(&self) -> ConnectionInfo {
        let LastCheck { status, detail, since } = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
            Some(fault) if status == ConnectionStatus::Ok => (ConnectionStatus::Degraded, fault.detail),
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
    /// The connections the caller may use.
    #[must_use]
    pub fn connections(&self, caller: &RequestContext) -> Vec<ConnectionInfo> {
        let usable = |connection: &&Arc<Connection>| caller.connections.contains(&connection.name);
        self.configured().connections.values().filter(usable).map(|connection| connection.view()).collect()
    }

    /// One connection; `connection_not_found` or `connection_forbidden` otherwise.
    pub fn connection(&self, caller: &RequestContext, name: &str) -> Result<ConnectionInfo, Error> {
        self.configured().named(caller, name).map(|connection| connection.view())
    }

    /// Looks at a connection as far as that has no side effects, step by step.
    pub async fn check_connection(
        &self,
        caller: &RequestContext,
        name: &str,
    ) -> Result<(ConnectionInfo, DiagnosticReport), Error> {
        let connection = self.configured().named(caller, name)?;
        let examination = diagnose(&connection.connected, &call(caller, CallPurpose::Initial)).await;
        let now = self.0.environment.now();
        if examination.fault().is_none() {
            connection.seats.resume();
        }
        match (examination.fault(), &examination.health) {
            (Some(fault), _) => connection.note(Err(&fault), now),
            (None, Some(CredentialCheck::Ok { detail })) => {
                connection.set(LastCheck { status: ConnectionStatus::Ok, detail: detail.clone(), since: Some(now) });
            }
            (None, Some(CredentialCheck::Unchecked { detail })) => {
                let detail = format!("The vendor is there. {detail}");
                connection.set(LastCheck { status: ConnectionStatus::Unchecked, detail, since: Some(now) });
            }
            (None, _) => {}
        }
        Ok((connection.view(), examination))
    }

    /// The connection a stored record lives at; it may have left the configuration since.
    pub(super) fn connection_of(&self, name: &str) -> Result<Arc<Connection>, Error> {
        self.configured().connections.get(name).cloned().ok_or_else(|| {
            let detail = format!("The connection `{name}` this record lives at is not configured any more.");
            Error::new(Code::ConnectionNotFound, detail)
        })
    }

    /// Whether the connection is configured still, and as it was when it was taken.
    pub(super) fn is_current(&self, connection: &Connection) -> bool {
        let configured = self.configured();
        configured.connections.get(&connection.name).is_some_and(|now| std::ptr::eq(Arc::as_ptr(now), connection))
    }

    /// What has taken the connection's place since it was taken, if it leads to where it led.
    pub(super) fn successor(&self, connection: &Connection) -> Option<Arc<Connection>> {
        let now = self.connection_of(&connection.name).ok()?;
        let other = !std::ptr::eq(now.as_ref(), connection);
        (other && now.destination == connection.destination).then_some(now)
    }

    /// A place for a call of an operation, and the connection as it is configured when the place is free.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(super) async fn acquire_bulk(
        &self,
        name: &str,
        key: &QueueKey,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        self.place_of(name, key, |lent| &lent.calls).await
    }

    /// As [`Self::acquire_bulk`], for a call that changes a program's employees.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(super) async fn acquire_enrolment(
        &self,
        name: &str,
        key: &QueueKey,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        self.place_of(name, key, |lent| &lent.enrolments).await
    }

    /// Leave to begin a call of an operation, and the connection as [`Self::acquire_bulk`] has it. Ahead of its place at the
    /// vendor only where nothing may still keep it from being sent.
    ///
    /// # Errors
    /// `connection_not_found`.
    pub(super) async fn acquire_claim(
        &self,
        name: &str,
        key: &QueueKey,
        ahead: bool,
    ) -> Result<(Arc<Connection>, ClaimPermit), Error> {
        let (connection, place) =
            self.place_of(name, key, |lent| if ahead { &lent.begun } else { &lent.calls }).await?;
        Ok((connection, ClaimPermit { _place: place, ahead }))
    }

    async fn place_of(
        &self,
        name: &str,
        key: &QueueKey,
        among: impl Fn(&BulkLimits) -> &Arc<FairSemaphore>,
    ) -> Result<(Arc<Connection>, FairPermit), Error> {
        loop {
            let connection = self.connection_of(name)?;
            let place = among(&connection.lent).acquire(key).await;
            if self.is_current(&connection) {
                return Ok((connection, place));
            }
        }
    }
}

impl BulkLimits {
    fn new(settings: &ConnectionSettings) -> Self {
        let LimitSizes { calls, begun, enrolments } = LimitSizes::of(settings);
        Self {
            calls: FairSemaphore::new(calls),
            begun: FairSemaphore::new(begun),
            enrolments: FairSemaphore::new(enrolments),
        }
    }

    fn resize(&self, settings: &ConnectionSettings) {
        let LimitSizes { calls, begun, enrolments } = LimitSizes::of(settings);
        self.calls.resize(calls);
        self.begun.resize(begun);
        self.enrolments.resize(enrolments);
    }
}

/// How many places there are.
struct LimitSizes {
    calls: usize,
    begun: usize,
    enrolments: usize,
}

impl LimitSizes {
    fn of(settings: &ConnectionSettings) -> Self {
        let calls = settings.max_in_flight.saturating_sub(1).max(1);
        let begun = calls.saturating_add(calls.div_ceil(4));
        Self { calls, begun, enrolments: settings.max_in_flight.div_ceil(4) }
    }
}

pub(super) fn short(text: &str) -> String {
    crate::domain::validation::sanitize_for_display(text, 100)
}
