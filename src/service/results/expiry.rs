//! Expiry: reports once, by an event, each booking whose window is over by the vendor's clock and of which the vendor
//! knows no attempt.
//!
//! The end of a booking's window is in its sealed record, so the bookings whose windows end soon are kept in memory,
//! from the same walk over the bookings that finds their centres. All of it can be lost: the record says whether the
//! event was made.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::error::Error;
use crate::domain::ids::AssignmentId;
use crate::domain::results::{BookingWindow, FeedPlan};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::state::EndingWindow;
use crate::service::results::sweep::{FeedPositions, window};
use crate::store::Mutation;

/// How long before its end a window is kept in memory. The daily sweep has all bookings looked at again.
const HORIZON: SignedDuration = SignedDuration::from_hours(72);
/// Number of bookings whose events are committed together.
const PART: usize = 100;

/// Returns those of these bookings whose windows end soon and whose expiry is not reported.
pub(super) fn ending_windows(
    bookings: &[Assignment],
    plan: &FeedPlan,
    positions: &FeedPositions,
) -> BTreeSet<EndingWindow> {
    let ends_soon = |booking: &&Assignment| {
        let feed = positions.of(booking);
        let soon = feed.and_then(|feed| feed.checked_add(HORIZON).ok());
        // Before the feed is read for the first time, nothing is known of the vendor's time.
        !booking.expiry_reported && !booking.is_erased() && (feed.is_none() || window(booking, plan, soon).is_over())
    };
    let ending = bookings.iter().filter(ends_soon);
    let window = |booking: &Assignment| {
        let (id, tenant, center) = (booking.id.clone(), booking.tenant.clone(), booking.order.center.clone());
        Some(EndingWindow { valid_until: booking.order.valid_until?, id, tenant, center })
    };
    ending.filter_map(window).collect()
}

impl Gateway {
    /// Commits an event for each booking that has expired by now.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn report_expired(&self, connection: &Connection, plan: &FeedPlan) -> Result<(), Error> {
        let name = &connection.name;
        let positions = self.feed_positions(name).await?;
        let is_over = |ending: &EndingWindow| {
            let feed_as_of = positions.of_center(ending.center.as_deref());
            let valid_until = Some(ending.valid_until);
            BookingWindow { valid_until, expire_after: plan.expire_after, feed_as_of }.is_over()
        };
        let over: Vec<EndingWindow> = self.0.results.ending_windows(name).into_iter().filter(is_over).collect();
        for part in over.chunks(PART) {
            if self.is_stopping() || !self.0.lease.holds() {
                return Ok(());
            }
            let done = self.report_expired_part(connection, plan, &positions, part).await?;
            self.0.results.forget_ending_windows(name, &done);
        }
        Ok(())
    }

    /// Commits the events of some bookings; returns those that need not be looked at again.
    async fn report_expired_part(
        &self,
        connection: &Connection,
        plan: &FeedPlan,
        positions: &FeedPositions,
        part: &[EndingWindow],
    ) -> Result<Vec<EndingWindow>, Error> {
        // No result is recorded meanwhile.
        let _lock = self.lock_reports(&connection.name).await?;
        let ids: Vec<AssignmentId> = part.iter().map(|ending| ending.id.clone()).collect();
        let seen = self.0.store.results_of_assignments(&ids).await.or_not_applied()?;
        let live = seen.into_iter().filter(|result| !result.state.superseded);
        let seen: HashSet<AssignmentId> = live.filter_map(|result| result.state.assignment).collect();
        let (mut done, mut changes, mut locks) = (Vec::with_capacity(part.len()), Vec::new(), Vec::new());
        for ending in part {
            if seen.contains(&ending.id) {
                done.push(ending.clone());
                continue;
            }
            let Some(booking) = self.0.store.assignment(&ending.tenant, &ending.id).await.or_not_applied()? else {
                done.push(ending.clone());
                continue;
            };
            let Some(lock) = self.0.subject_locks.try_lock(&booking.subject_key()).await.or_not_applied()? else {
                continue;
            };
            locks.push(lock);
            let now = self.0.store.assignment(&ending.tenant, &ending.id).await.or_not_applied()?;
            if let Some(booking) = now.filter(|booking| is_expired(booking, plan, positions.of(booking))) {
                let event = self.emitter().assignment_expired(&booking);
                changes.push(Mutation::Assignment(Assignment { expiry_reported: true, ..booking }));
                changes.push(Mutation::Event(Box::new(event)));
            }
            done.push(ending.clone());
        }
        if !changes.is_empty() {
            self.0.store.commit(changes).await.or_not_applied()?;
        }
        drop(locks);
        Ok(done)
    }
}

/// Returns whether the booking has expired and that is not reported.
fn is_expired(booking: &Assignment, plan: &FeedPlan, feed: Option<Timestamp>) -> bool {
    booking.state == AssignmentState::Assigned
        && !booking.expiry_reported
        && !booking.is_erased()
        && window(booking, plan, feed).is_over()
}
