//! The daily sweep: fetches the reports of bookings whose window is over and for which the feed has reported no attempt. What it
//! finds are holes in the feed. It also asks again about attempts that are unfinished or without their score.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::Assignment;
use crate::domain::error::Error;
use crate::domain::ids::AssignmentId;
use crate::domain::results::{BookingWindow, ExamResult, FeedPlan, FetchRule, Grading, ReportChannel};
use crate::domain::subject::SubjectKey;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::FetchRequest;
use crate::service::results::hints::participant_of;
use crate::service::results::ingest::require_source;
use crate::store::Mutation;
use crate::telemetry::metrics;

/// Interval between sweeps of a connection, by whichever instance.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// Pause after a sweep that failed, was interrupted or is another task's.
pub(super) const SWEEP_RETRY: SignedDuration = SignedDuration::from_mins(10);
/// Number of bookings that are read at once.
const PAGE: usize = 500;
/// How long after its window a booking is asked about, day by day.
const ASKED_FOR: SignedDuration = SignedDuration::from_hours(72);

/// How far the feeds of a connection were read, by centre.
#[derive(Debug, Clone, Default)]
pub(super) struct FeedPositions(BTreeMap<String, Timestamp>);

impl FeedPositions {
    /// Returns until when the feed of the booking's centre is known. Where the vendor has one feed only, it is that one.
    pub(super) fn of(&self, booking: &Assignment) -> Option<Timestamp> {
        self.of_center(booking.order.center.as_deref())
    }

    /// As [`Self::of`], for a booking of this centre.
    pub(super) fn of_center(&self, center: Option<&str>) -> Option<Timestamp> {
        let own = self.0.get(center.unwrap_or_default());
        own.or_else(|| self.0.values().next().filter(|_| self.0.len() == 1 && center.is_none())).copied()
    }

    /// Returns until when all feeds are known; `None` if none was read.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }
}

/// Returns what decides whether a booking has expired.
pub(super) fn window(booking: &Assignment, plan: &FeedPlan, feed_as_of: Option<Timestamp>) -> BookingWindow {
    BookingWindow { valid_until: booking.order.valid_until, expire_after: plan.expire_after, feed_as_of }
}

impl Gateway {
    /// Reads how far the feeds of a connection were read.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn feed_positions(&self, connection: &str) -> Result<FeedPositions, Error> {
        let positions = self.0.store.feed_positions(connection).await.or_not_applied()?;
        Ok(FeedPositions(positions.into_iter().map(|position| (position.center, position.watermark)).collect()))
    }

    /// Sweeps a connection, unless another task does or any instance has done so within the interval. Returns how long it is
    /// until it may be due again.
    ///
    /// # Errors
    /// The vendor's, `store_unavailable`.
    pub(super) async fn sweep_if_due(&self, connection: &Connection) -> Result<SignedDuration, Error> {
        let sweep = SubjectKey::sweep(&connection.name);
        let Some(_lock) = self.0.subject_locks.try_lock(&sweep).await.or_not_applied()? else {
            return Ok(SWEEP_RETRY);
        };
        let (last, begun) = (self.0.store.last_sweep(&connection.name).await.or_not_applied()?, self.now());
        if let Some(wait) = last.and_then(|last| time_to_next(last, begun)) {
            return Ok(wait);
        }
        if !self.sweep_reports(connection).await? {
            return Ok(SWEEP_RETRY);
        }
        let swept = Mutation::RecordSweep(connection.name.clone(), begun);
        self.0.store.commit(vec![swept]).await.or_not_applied()?;
        Ok(SWEEP_INTERVAL)
    }

    /// Sweeps a connection: looks again at its parked reports, and fetches the reports of bookings past their window. Returns
    /// whether it has come to its end.
    ///
    /// # Errors
    /// The vendor's, `store_unavailable`.
    pub(super) async fn sweep_reports(&self, connection: &Connection) -> Result<bool, Error> {
        if !self.look_at_parked_reports(connection).await? {
            return Ok(false);
        }
        let ReportChannel::Feed(plan) = require_source(connection)?.channel() else { return Ok(true) };
        let positions = self.feed_positions(&connection.name).await?;
        let call = self.feed_context(connection);
        let mut after: Option<AssignmentId> = None;
        loop {
            if self.is_stopping() || !self.0.lease.holds() {
                return Ok(false);
            }
            let page =
                self.0.store.booked_assignments(&connection.name, after.as_ref(), PAGE).await.or_not_applied()?;
            let Some(last) = page.last() else { return Ok(true) };
            after = Some(last.id.clone());
            let ids: Vec<AssignmentId> = page
                .iter()
                .filter(|booking| is_asked_about(booking, plan, &positions))
                .map(|it| it.id.clone())
                .collect();
            if ids.is_empty() {
                continue;
            }
            let results = self.0.store.results_of_assignments(&ids).await.or_not_applied()?;
            // Whether something of the booking's attempts is missing.
            let mut seen: HashMap<AssignmentId, bool> = HashMap::new();
            for result in results {
                let is_incomplete = is_incomplete(&result);
                let Some(booking) = result.state.assignment else { continue };
                *seen.entry(booking).or_default() |= is_incomplete;
            }
            let asked: HashSet<&AssignmentId> = ids.iter().collect();
            let request = |booking: &Assignment| {
                let participant = participant_of(booking)?.to_owned();
                Some(FetchRequest { participant, center: booking.order.center.clone() })
            };
            let of_asked = || page.iter().filter(|booking| asked.contains(&booking.id));
            let unseen = of_asked().filter(|booking| !seen.contains_key(&booking.id)).filter_map(request).collect();
            let holes = self.fetch_reports(connection, unseen, &call).await?;
            if plan.fetch != FetchRule::Never {
                let incomplete = of_asked().filter(|booking| seen.get(&booking.id) == Some(&true));
                let incomplete = incomplete.filter_map(request).collect();
                self.fetch_reports(connection, incomplete, &call).await?;
            }
            if holes > 0 {
                tracing::warn!(connection = connection.name, holes, "the vendor's feed left out attempts");
                metrics::feed_holes(&connection.name, holes);
            }
        }
    }
}

/// Returns how long it is until the interval since a sweep is over; `None` if it is over. A sweep that began a little later than
/// now was another instance's, whose clock is ahead.
fn time_to_next(swept: Timestamp, now: Timestamp) -> Option<SignedDuration> {
    let since = now.duration_since(swept);
    (since.abs() < SWEEP_INTERVAL).then(|| SWEEP_INTERVAL - since.max(SignedDuration::ZERO))
}

/// Returns whether an attempt is unfinished, or its score is expected.
fn is_incomplete(result: &ExamResult) -> bool {
    !result.state.superseded && matches!(result.state.grading, Grading::NotReady | Grading::Pending)
}

/// Returns whether the booking's window has been over for a short while.
fn is_asked_about(booking: &Assignment, plan: &FeedPlan, positions: &FeedPositions) -> bool {
    let feed = positions.of(booking);
    let earlier = feed.map(|feed| feed.saturating_sub(ASKED_FOR).unwrap_or(Timestamp::MIN));
    !booking.is_erased() && window(booking, plan, feed).is_over() && !window(booking, plan, earlier).is_over()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_due_a_day_after_the_last_one_of_any_instance() {
        let swept = Timestamp::UNIX_EPOCH;
        for (seconds, wait) in [
            (0, Some(86_400)),
            (60, Some(86_340)),
            (86_399, Some(1)),
            (86_400, None),
            // Another instance's clock is ahead; the clock was set back by more than a day.
            (-5, Some(86_400)),
            (-86_400, None),
        ] {
            let left = time_to_next(swept, swept + SignedDuration::from_secs(seconds));
            assert_eq!(left.map(|left| left.as_secs()), wait, "{seconds} s after it");
        }
    }
}
