//! Seat limit: a vendor without free seats rejects every registration, so the first such rejection pauses
//! registrations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;

/// Pause of a connection's registrations, if one is active.
#[derive(Default)]
pub(super) struct SeatLimit(Mutex<Option<Pause>>);

struct Pause {
    until: Instant,
    /// Error of the rejection that started the pause.
    error: Error,
}

impl SeatLimit {
    /// Starts a pause if one of the errors reports the seat limit. An active pause is not extended.
    pub(super) fn note<'a>(&self, mut errors: impl Iterator<Item = &'a Error>, pause: Duration) {
        let Some(error) = errors.find(|error| error.code == Code::VendorSeatLimitReached) else { return };
        let Some(until) = Instant::now().checked_add(pause).filter(|_| !pause.is_zero()) else { return };
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.as_ref().is_none_or(|paused| paused.until <= Instant::now()) {
            tracing::warn!(seconds = pause.as_secs(), "the vendor has no seats left; pausing registrations");
            *paused = Some(Pause { until, error: error.clone() });
        }
    }

    /// Returns the error of a registration that is not sent because of the pause.
    pub(super) fn refusal(&self) -> Option<Error> {
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = paused.as_ref()?.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *paused = None;
            return None;
        }
        let error = paused.as_ref()?.error.clone();
        let detail = format!(
            "{} Nothing was sent: registrations at this connection are paused for {} s, or until it is checked.",
            error.detail,
            left.as_secs().max(1)
        );
        // The error that began the pause may be that of a resend, whose outcome was unknown; this one was not sent.
        Some(Error { detail, outcome: Outcome::NotApplied, ..error }.with_retry_after(Some(left)))
    }

    /// Ends the pause.
    pub(super) fn resume(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn full() -> Error {
        Error::new(Code::VendorSeatLimitReached, "The vendor's plan allows no more students.")
    }

    #[tokio::test(start_paused = true)]
    async fn registrations_pause_for_the_configured_time_or_until_resumed() {
        let seats = SeatLimit::default();
        assert!(seats.refusal().is_none());
        seats.note([Error::new(Code::GroupNotFound, "x")].iter(), MINUTE);
        seats.note([full()].iter(), Duration::ZERO);
        assert!(seats.refusal().is_none(), "another fault, and no pause set");
        seats.note([full()].iter(), MINUTE);
        tokio::time::advance(Duration::from_secs(20)).await;
        seats.note([full()].iter(), MINUTE);
        let refusal = seats.refusal().unwrap();
        assert_eq!((refusal.code, refusal.retry_after), (Code::VendorSeatLimitReached, Some(Duration::from_secs(40))));
        assert_eq!(refusal.outcome, Outcome::NotApplied);
        tokio::time::advance(Duration::from_secs(41)).await;
        assert!(seats.refusal().is_none());
        seats.note([full().with_unknown_outcome()].iter(), MINUTE);
        assert_eq!(seats.refusal().map(|refusal| refusal.outcome), Some(Outcome::NotApplied));
        seats.resume();
        assert!(seats.refusal().is_none());
    }
}
