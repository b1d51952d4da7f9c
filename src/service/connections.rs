//! Configured connections at run time: their vendor adapter, limits and observed status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::candidate::Identity;
use crate::domain::capability::{Capability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, ConnectionRef, Error, VendorResponse};
use crate::domain::event::ConnectionState;
use crate::domain::intent::{Intent, Write};
use crate::domain::results::ReportSource;
use crate::domain::vendor::{CallPurpose, Vendor};
use crate::secret::ConfigFingerprint;
use crate::service::Gateway;
use crate::service::bulk_limits::BulkLimits;
use crate::service::cluster::lease::Lease;
use crate::service::connection_status::{ConnectionStatus, LastCheck};
use crate::service::mutex::lock_unpoisoned;
use crate::service::seat_limit::SeatLimit;
use crate::transport::{self, ConnectionSettings, ConnectionStats};
use crate::vendors::VendorConnection;

mod permits;
pub(super) mod view;

/// Configured connection, ready for use.
pub struct ConnectionSetup {
    /// Vendor adapter with its HTTP client.
    pub connected: VendorConnection,
    /// Settings such as grace period and batch size.
    pub settings: ConnectionSettings,
    /// Fingerprint of its configuration.
    pub fingerprint: ConfigFingerprint,
    /// The only tenant there is; `None` if there are several, or if that is not known.
    pub only_tenant: Option<String>,
    /// The tenants with a client that may use it.
    pub tenants: BTreeSet<String>,
}

/// Run-time state of a connection.
pub(super) struct Connection {
    pub(super) name: String,
    destination: Box<str>,
    connected: VendorConnection,
    settings: ConnectionSettings,
    fingerprint: ConfigFingerprint,
    only_tenant: Option<String>,
    tenants: BTreeSet<String>,
    seen: Mutex<LastCheck>,
    bulk_limits: BulkLimits,
    seats: SeatLimit,
    /// Why feeds could not be read at the last attempt, by centre.
    feed_faults: Mutex<BTreeMap<String, String>>,
    /// That reports could not be fetched, in a sentence.
    fetch_fault: Mutex<Option<String>>,
}

impl Connection {
    pub(super) fn new(name: String, setup: ConnectionSetup) -> Self {
        let bulk_limits = BulkLimits::new(&setup.settings);
        Self::with_limits(name, setup, bulk_limits)
    }

    /// Creates the successor of a connection with changed settings. For the same account and address it inherits the
    /// state: calls in flight count, and a used-up rate limit stays used up.
    pub(super) fn replacing(earlier: &Self, setup: ConnectionSetup) -> Self {
        let name = earlier.name.clone();
        if *setup.connected.destination() != *earlier.destination {
            return Self::new(name, setup);
        }
        earlier.bulk_limits.resize(&setup.settings);
        setup.connected.client.inherit_state(&earlier.connected.client);
        Self::with_limits(name, setup, earlier.bulk_limits.clone())
    }

    fn with_limits(name: String, setup: ConnectionSetup, bulk_limits: BulkLimits) -> Self {
        let ConnectionSetup { connected, settings, fingerprint, only_tenant, tenants } = setup;
        let destination = connected.destination().into();
        let (seen, seats, feed_faults) = (Mutex::default(), SeatLimit::default(), Mutex::default());
        Self {
            name,
            destination,
            connected,
            settings,
            fingerprint,
            only_tenant,
            tenants,
            seen,
            bulk_limits,
            seats,
            feed_faults,
            fetch_fault: Mutex::default(),
        }
    }

    /// Returns whether this setup has the same configuration.
    pub(super) fn is_same_config(&self, setup: &ConnectionSetup) -> bool {
        self.fingerprint.same(&setup.fingerprint)
            && self.only_tenant == setup.only_tenant
            && self.tenants == setup.tenants
    }

    /// Makes the client send requests only while this lease is held.
    pub(super) fn bind_lease(&self, lease: &Lease) {
        let lease = lease.clone();
        self.connected.client.set_send_permit(move || lease.holds());
    }

    /// Returns the maximum number of attempts for a bulk call that fails for transient reasons.
    pub(super) fn bulk_attempts(&self) -> u32 {
        self.settings.retry.attempts.max(1)
    }

    /// Returns the pause before such a retry if the vendor suggests none.
    pub(super) fn bulk_pause(&self) -> Duration {
        self.settings.retry.max.0
    }

    /// Returns the error of registrations while the vendor's seat limit pauses them. Reconciliation is not paused.
    pub(super) fn seat_limit_error(&self, writes: &[Write], attempt: CallPurpose) -> Option<Error> {
        let registers = matches!(writes, [Write::Register(_), ..]) && attempt == CallPurpose::Initial;
        if registers { self.seats.refusal() } else { None }
    }

    /// Starts the seat-limit pause if an error reports it.
    pub(super) fn record_seat_limit<'a>(&self, errors: impl Iterator<Item = &'a Error>) {
        self.seats.note(errors, self.settings.seat_limit_pause.0);
    }

    /// Returns the connection's current load.
    pub(super) fn stats(&self) -> ConnectionStats {
        self.connected.client.stats()
    }

    pub(super) fn vendor(&self) -> &dyn Vendor {
        self.connected.vendor.as_ref()
    }

    pub(super) fn descriptor(&self) -> &'static VendorDescriptor {
        self.connected.vendor.descriptor()
    }

    /// Returns the maximum duration of one call, including waiting.
    pub(super) fn longest_call(&self) -> Duration {
        self.settings.timeout.0.saturating_mul(3)
    }

    /// Returns the maximum number of calls in flight.
    pub(super) fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight.max(1)
    }

    /// Returns the maximum number of rows per call: the vendor's maximum, or less if the operator limits it.
    pub(super) fn batch(&self, vendor_maximum: usize) -> usize {
        let configured = if self.settings.batch_size == 0 { usize::MAX } else { self.settings.batch_size };
        vendor_maximum.min(configured).max(1)
    }

    /// Returns the maximum body size of a call with several rows, in bytes.
    pub(super) fn call_bytes(&self) -> usize {
        usize::try_from(self.settings.max_request_bytes.0).unwrap_or(usize::MAX)
    }

    /// Returns the maximum number of rows of any bulk call.
    pub(super) fn largest_batch(&self) -> usize {
        let creates = [WriteKind::CandidatesCreate, WriteKind::AssignmentsCreate];
        creates
            .iter()
            .map(|operation| self.batch(self.descriptor().capability(*operation).max_batch))
            .max()
            .unwrap_or(1)
    }

    /// Returns how long after an attempt without a complete response the vendor may still apply it.
    pub(super) fn settle_grace(&self) -> Duration {
        self.settings.settle_grace.0
    }

    /// Returns the earliest time to reconcile an attempt started at `started`, unless it ends with a complete response.
    pub(super) fn reconcile_from(&self, started: Timestamp) -> Timestamp {
        let grace = SignedDuration::try_from(self.settings.settle_grace.0).unwrap_or(SignedDuration::MAX);
        started.saturating_add(grace).unwrap_or(started)
    }

    /// Returns the account and address it connects to.
    pub(super) fn destination(&self) -> Box<str> {
        self.destination.clone()
    }

    /// Returns whether the write was sent to another account or address than the connection uses now.
    pub(super) fn is_other_destination(&self, intent: &Intent) -> bool {
        intent.destination.as_ref().is_some_and(|destination| *destination != self.destination)
    }

    /// Returns how an unknown write may be resent: never if it was sent elsewhere, because this vendor account knows
    /// nothing of it.
    pub(super) fn retry_safety(&self, intent: &Intent) -> RetrySafety {
        if self.is_other_destination(intent) { RetrySafety::Unsafe } else { intent.write.retry_safety(self.vendor()) }
    }

    /// Returns the vendor's capability for the write kind.
    ///
    /// # Errors
    /// `capability_unsupported` if the vendor does not support it.
    pub(super) fn require_capability(&self, operation: WriteKind) -> Result<&'static Capability, Error> {
        let capability = self.descriptor().capability(operation);
        if capability.supported { Ok(capability) } else { Err(self.unsupported(operation)) }
    }

    /// Builds the error of a write kind that the vendor does not support.
    pub(super) fn unsupported(&self, operation: WriteKind) -> Error {
        let (vendor, note) = (self.descriptor().name, self.descriptor().capability(operation).note);
        let detail = format!("{vendor} does not support `{}`. {note}", operation.as_str());
        let asked = VendorResponse { operation: operation.as_str().to_owned(), ..VendorResponse::default() };
        self.tag_connection(Error::new(Code::CapabilityUnsupported, detail.trim_end()).with_vendor_response(asked))
    }

    /// Returns the identity that a vendor's key of a person stands for.
    pub(super) fn identity_of_key(&self, key: &str) -> Identity {
        if self.descriptor().identifies_by_email() {
            Identity::Email(key.into())
        } else {
            Identity::ExternalId(key.into())
        }
    }

    /// Returns what the vendor says of attempts, if it documents that and the operator has asked for it.
    pub(super) fn report_source(&self) -> Option<&dyn ReportSource> {
        self.vendor().report_source()
    }

    /// Returns the tenant that owns what is matched with no tenant's candidate: the one that the operator names, else the
    /// only one there is.
    pub(super) fn reports_owner(&self) -> Option<&str> {
        self.report_source().and_then(|source| source.owner()).or(self.only_tenant.as_deref())
    }

    /// Returns the tenants with a client that may use the connection.
    pub(super) const fn tenants(&self) -> &BTreeSet<String> {
        &self.tenants
    }

    /// Returns the state of the connection as events report it, with the time of the last call that shows it; `None` if no
    /// call has shown one yet.
    pub(super) fn observed_state(&self) -> Option<(ConnectionState, Timestamp)> {
        let LastCheck { status, since, .. } = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_open = matches!(self.stats().circuit, transport::CircuitState::Open { .. });
        let state = match status {
            ConnectionStatus::Unchecked => return None,
            ConnectionStatus::CredentialsInvalid => ConnectionState::CredentialsInvalid,
            _ if is_open => ConnectionState::Degraded,
            ConnectionStatus::Degraded | ConnectionStatus::CircuitOpen | ConnectionStatus::ClockSkew => {
                ConnectionState::Degraded
            }
            ConnectionStatus::Ok if !lock_unpoisoned(&self.feed_faults).is_empty() => ConnectionState::FeedStale,
            ConnectionStatus::Ok => ConnectionState::Ok,
        };
        Some((state, since?))
    }

    /// Records whether the feed of this centre could be read, and why not.
    pub(super) fn set_feed_fault(&self, center: &str, fault: Option<String>) {
        let mut faults = lock_unpoisoned(&self.feed_faults);
        match fault {
            Some(fault) => drop(faults.insert(center.to_owned(), fault)),
            None => drop(faults.remove(center)),
        }
    }

    /// Records whether reports could not be fetched, in a sentence.
    pub(super) fn set_fetch_fault(&self, fault: Option<String>) {
        *lock_unpoisoned(&self.fetch_fault) = fault;
    }

    /// Adds the connection to the error.
    pub(super) fn tag_connection(&self, error: Error) -> Error {
        let name = ConnectionRef { connection: self.name.clone(), vendor: self.descriptor().kind.to_owned() };
        Error { connection: Some(name), ..error }
    }

    /// Updates the connection's status from the result of a call.
    pub(super) fn note(&self, end: Result<(), &Error>, now: Timestamp) {
        if let Some(seen) = LastCheck::of_call(end, now) {
            self.set(seen);
        }
    }

    /// Sets the status; logs a problem that an operator must solve, once until another status follows.
    fn set(&self, seen: LastCheck) {
        let code = seen.lasting_problem();
        let earlier = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), seen);
        if let Some(code) = code.filter(|_| earlier.lasting_problem() != code) {
            let (connection, vendor) = (self.name.as_str(), self.descriptor().kind);
            tracing::warn!(
                connection,
                vendor,
                code = code.as_str(),
                action = code.action(),
                "calls fail until an operator acts"
            );
        }
    }
}

impl Gateway {
    /// Returns the connection of a stored record.
    ///
    /// # Errors
    /// `connection_not_found` if it was removed from the configuration.
    pub(super) fn connection_of(&self, name: &str) -> Result<Arc<Connection>, Error> {
        self.configured().connection_of(name)
    }

    /// Returns whether the connection is still configured and unchanged since it was loaded.
    pub(super) fn is_current(&self, connection: &Connection) -> bool {
        let configured = self.configured();
        configured.connections.get(&connection.name).is_some_and(|now| std::ptr::eq(Arc::as_ptr(now), connection))
    }

    /// Returns the connection that has replaced this one, if it has the same destination.
    pub(super) fn successor(&self, connection: &Connection) -> Option<Arc<Connection>> {
        let now = self.connection_of(&connection.name).ok()?;
        let other = !std::ptr::eq(now.as_ref(), connection);
        (other && now.destination == connection.destination).then_some(now)
    }
}

pub(super) fn short(text: &str) -> String {
    crate::domain::validation::sanitize_for_display(text, 100)
}
