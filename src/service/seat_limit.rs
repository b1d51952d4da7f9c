//! Seats: a vendor that has none left refuses every registration, so after the first such refusal none is sent for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::error::{Code, Error};

/// A pause of a connection's registrations, while it lasts.
#[derive(Default)]
pub(super) struct SeatLimit(Mutex<Option<Pause>>);

struct Pause {
    until: Instant,
    /// What the vendor said.
    fault: Error,
}

impl SeatLimit {
    /// Learns from how registrations ended. A pause that lasts is not made longer.
    pub(super) fn note<'a>(&self, mut faults: impl Iterator<Item = &'a Error>, pause: Duration) {
        let Some(fault) = faults.find(|fault| fault.code == Code::VendorSeatLimitReached) else { return };
        let Some(until) = Instant::now().checked_add(pause).filter(|_| !pause.is_zero()) else { return };
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.as_ref().is_none_or(|paused| paused.until <= Instant::now()) {
            tracing::warn!(seconds = pause.as_secs(), "the vendor has no seats left: registrations pause");
            *paused = Some(Pause { until, fault: fault.clone() });
        }
    }

    /// Returns the fault of a registration that is not sent, while they pause.
    pub(super) fn refusal(&self) -> Option<Error> {
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = paused.as_ref()?.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *paused = None;
            return None;
        }
        let fault = paused.as_ref()?.fault.clone();
        let detail = format!(
            "{} Nothing was sent: registrations at this connection pause for {} s, or until it is checked.",
            fault.detail,
            left.as_secs().max(1)
        );
        Some(Error { detail, ..fault }.with_retry_after(Some(left)))
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
    async fn registrations_pause_for_as_long_as_is_set_or_until_they_are_resumed() {
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
        tokio::time::advance(Duration::from_secs(41)).await;
        assert!(seats.refusal().is_none());
        seats.note([full()].iter(), MINUTE);
        assert!(seats.refusal().is_some());
        seats.resume();
        assert!(seats.refusal().is_none());
    }
}
