//! What is counted across the calls of one connection: circuit, places, rate, repeats. It outlives the settings: after a
//! reload the new client goes on with what the vendor has already seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::{SignedDuration, Timestamp};
use tower::retry::budget::TpsBudget;

use super::circuit_breaker::{Breaker, CircuitState};
use super::concurrency_limit::Limiter;
use super::settings::ConnectionSettings;
use crate::domain::vendor::Priority;

/// Repeats of what never left may be this part of the calls…
const REPEATS: f32 = 0.2;
/// …and this many a second besides, so that a quiet connection may repeat at all.
const REPEATS_A_SECOND: u32 = 1;
/// How long a call counts for that.
const REMEMBERED: Duration = Duration::from_secs(10);
/// No clock was seen yet.
const UNSEEN: i64 = i64::MIN;

/// Shared by a connection's clients, old and new.
pub(super) struct SharedState {
    pub(super) breaker: Breaker,
    pub(super) limit: Arc<Limiter>,
    /// Repeats are a burden for a vendor that is about to come back: all of a connection's calls share one allowance.
    pub(super) budget: TpsBudget,
    /// How far the vendor's clock is ahead of ours, in milliseconds, by its last answer.
    skew: AtomicI64,
}

/// What is under way at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Whether calls go out.
    pub circuit: CircuitState,
    /// Calls at the vendor, or about to leave for it.
    pub in_flight: usize,
    /// Calls of single requests that wait for the limits.
    pub single_waiting: usize,
    /// Calls of operations that wait for the limits.
    pub bulk_waiting: usize,
    /// How far the vendor's clock is ahead of ours by its last answer's `Date`; negative when it is behind. To the second, as
    /// the header is.
    pub skew: Option<SignedDuration>,
}

impl SharedState {
    pub(super) fn new(settings: &ConnectionSettings) -> Self {
        Self {
            breaker: Breaker::new(&settings.breaker),
            limit: Arc::new(Limiter::new(settings.max_in_flight, settings.requests_per_second)),
            budget: TpsBudget::new(REMEMBERED, REPEATS_A_SECOND, REPEATS),
            skew: AtomicI64::new(UNSEEN),
        }
    }

    /// Other limits from now on.
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
            skew: (skew != UNSEEN).then(|| SignedDuration::from_millis(skew)),
        }
    }

    /// Learns the vendor's clock from an answer (RFC 9110 §6.6.1).
    pub(super) fn record_clock_skew(&self, headers: &HeaderMap, now: Timestamp) {
        let Some(ahead) = clock_skew(headers, now) else { return };
        let millis = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX).max(UNSEEN + 1);
        self.skew.store(millis, Ordering::Relaxed);
    }
}

/// How far the answer's clock is ahead of ours. The header has whole seconds: half of one is added, as what it left out.
pub(super) fn clock_skew(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
    let date = Timestamp::try_from(date).ok()?;
    Some(date.duration_since(now).saturating_add(SignedDuration::from_millis(500)))
}
