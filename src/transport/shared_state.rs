//! State shared by all calls of one connection: circuit, permits, rate, retry budget. It outlives the settings: after a
//! reload the new client continues with what the vendor has already seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tower::retry::budget::TpsBudget;

use super::call_history::CallRecorder;
use super::circuit_breaker::{Breaker, CircuitState};
use super::concurrency_limit::Limiter;
use super::settings::ConnectionSettings;
use crate::domain::vendor::Priority;
use crate::transport::response::Response;

/// Connect retries may be at most this fraction of the calls…
const RETRY_RATIO: f32 = 0.2;
/// …plus this many per second, so that a connection with little traffic may retry at all.
const MIN_RETRIES_PER_SECOND: u32 = 1;
/// The period for which a call counts towards the retry budget.
const RETRY_BUDGET_TTL: Duration = Duration::from_secs(10);
/// The value of `skew` before the first response with a `Date`.
const NO_SKEW: i64 = i64::MIN;

/// The state shared by a connection's clients, old and new.
pub(super) struct SharedState {
    pub(super) breaker: Breaker,
    pub(super) limit: Arc<Limiter>,
    /// Retries burden a vendor that is recovering, so all calls of a connection share one budget.
    pub(super) budget: TpsBudget,
    /// What became of the calls of the last hour.
    pub(super) history: CallRecorder,
    /// The vendor clock's lead over ours in milliseconds, from its last response.
    skew: AtomicI64,
}

/// The current load and state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStats {
    /// The state of the circuit breaker.
    pub circuit: CircuitState,
    /// Calls at the vendor, or about to leave for it.
    pub in_flight: usize,
    /// Calls of single requests waiting for the limits.
    pub single_waiting: usize,
    /// Calls of operations waiting for the limits.
    pub bulk_waiting: usize,
    /// The vendor clock's lead over ours, from the `Date` of its last response; negative if it is behind. Accurate to
    /// one second, like the header.
    pub skew: Option<SignedDuration>,
}

impl SharedState {
    pub(super) fn new(settings: &ConnectionSettings) -> Self {
        Self {
            breaker: Breaker::new(&settings.breaker),
            limit: Arc::new(Limiter::new(settings.max_in_flight, settings.requests_per_second)),
            budget: TpsBudget::new(RETRY_BUDGET_TTL, MIN_RETRIES_PER_SECOND, RETRY_RATIO),
            history: CallRecorder::default(),
            skew: AtomicI64::new(NO_SKEW),
        }
    }

    /// Applies new limits.
    pub(super) fn set(&self, settings: &ConnectionSettings) {
        self.breaker.set(&settings.breaker);
        self.limit.set(settings.max_in_flight, settings.requests_per_second);
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        let skew = self.skew.load(Ordering::Relaxed);
        ConnectionStats {
            circuit: self.breaker.state_now(),
            in_flight: self.limit.in_flight(),
            single_waiting: self.limit.waiting(Priority::Interactive),
            bulk_waiting: self.limit.waiting(Priority::Bulk),
            skew: (skew != NO_SKEW).then(|| SignedDuration::from_millis(skew)),
        }
    }

    /// Records the vendor's clock from a response.
    pub(super) fn record_clock_skew(&self, response: &Response, now: Timestamp) {
        let Some(ahead) = response.clock_skew(now) else { return };
        let millis = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX).max(NO_SKEW + 1);
        self.skew.store(millis, Ordering::Relaxed);
    }
}
