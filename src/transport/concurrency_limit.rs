//! Concurrency and rate limits: how many calls may be at the vendor at once, how many may queue, and when the next call
//! may leave.
//!
//! Both queues have two priorities: single requests, whose callers wait, go before the calls of operations; but after
//! [`MAX_INTERACTIVE_STREAK`] of them one call of an operation goes, so that single requests cannot starve operations.
//! Within a priority the order is FIFO. Both waits are bounded, because a caller that would wait longer than an attempt
//! may take should retry later instead. Cancel-safe: a call dropped while waiting consumes no permit.
//!
//! Operations leave the last permit to single requests, unless there was none for [`RESERVE_PERIOD`] and the calls of
//! operations are known to be short: one that was sent has ended, and none in flight or ended within that period is longer than
//! [`MAX_LENT_CALL`]. Then the first single request waits for the end of one short call, and the permit is kept for
//! those after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::pacer::Pacer;
use crate::domain::vendor::Priority;

/// Longest pause of a connection after a vendor's `Retry-After`: after it calls go out again, whatever the vendor
/// asked for.
pub(super) const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// Consecutive single requests that may overtake a waiting call of an operation.
const MAX_INTERACTIVE_STREAK: u32 = 8;
/// How long the last permit is kept for single requests after one of them came or ended, or after a long call of an
/// operation ended.
const RESERVE_PERIOD: Duration = Duration::from_secs(10);
/// Longest call of an operation that may occupy the last permit.
const MAX_LENT_CALL: Duration = Duration::from_secs(1);

/// The reason why a call may not leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitError {
    /// Too many calls are waiting, or this call waited too long.
    Saturated,
    /// The vendor asked for a pause; the remaining time.
    Paused(Duration),
}

/// The limits of one connection.
pub(super) struct Limiter {
    state: Mutex<State>,
    /// Held by the first waiter of each priority; a tokio mutex is FIFO.
    heads: [AsyncMutex<()>; 2],
    /// Wakes waiters to check again when a call left or gave up, or the limits changed.
    changed: Notify,
}

struct State {
    /// Maximum calls at the vendor at once.
    size: usize,
    /// Permits in use, by priority.
    in_flight: [usize; 2],
    /// When a single request last came or ended.
    last_single: Option<Instant>,
    /// When each call of an operation in flight got its permit, oldest first.
    bulk_since: VecDeque<Instant>,
    /// When a call of an operation longer than [`MAX_LENT_CALL`] last ended.
    last_long_bulk: Option<Instant>,
    /// Whether a short call of an operation that was sent has ended.
    has_measured: bool,
    /// Waiters for an in-flight permit, by priority; abandoned ones are removed when encountered.
    places: [VecDeque<oneshot::Sender<ConcurrencyPermit>>; 2],
    places_order: FairQueue,
    /// Number of waiters for a send slot, by priority.
    turns: [usize; 2],
    turns_order: FairQueue,
    slots: Pacer,
    paused_until: Option<Instant>,
}

/// An in-flight permit, released on drop.
pub(super) struct ConcurrencyPermit {
    /// `None` once the permit was taken back.
    limiter: Option<Arc<Limiter>>,
    lane: Priority,
    since: Instant,
    /// Whether its call was sent. One that was not says nothing about how long the vendor's calls take.
    was_sent: bool,
}

impl Limiter {
    pub(super) fn new(max_in_flight: usize, requests_per_second: u32) -> Self {
        let state = State {
            size: max_in_flight.max(1),
            in_flight: [0; 2],
            last_single: None,
            bulk_since: VecDeque::new(),
            last_long_bulk: None,
            has_measured: false,
            places: [VecDeque::new(), VecDeque::new()],
            places_order: FairQueue::default(),
            turns: [0; 2],
            turns_order: FairQueue::default(),
            slots: Pacer::new(requests_per_second),
            paused_until: None,
        };
        Self { state: Mutex::new(state), heads: [AsyncMutex::new(()), AsyncMutex::new(())], changed: Notify::new() }
    }

    /// Applies new limits. Calls at the vendor continue and count.
    pub(super) fn set(self: &Arc<Self>, max_in_flight: usize, requests_per_second: u32) {
        {
            let mut state = self.state();
            state.size = max_in_flight.max(1);
            state.slots.set_rate(requests_per_second);
        }
        self.wake_waiters();
        self.changed.notify_waiters();
    }

    /// Acquires an in-flight permit, held until it is dropped.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        lane: Priority,
        deadline: Instant,
    ) -> Result<ConcurrencyPermit, LimitError> {
        let granted = {
            let mut state = self.state();
            state.paused_beyond(deadline)?;
            if lane == Priority::Interactive {
                state.last_single = Some(Instant::now());
            }
            if state.places[lane as usize].is_empty() && state.may_start(lane) {
                let since = state.begin(lane);
                return Ok(self.permit(lane, since));
            }
            let most = state.size.saturating_mul(16).max(64);
            let queue = &mut state.places[lane as usize];
            if queue.len() >= most {
                queue.retain(|waiting| !waiting.is_closed());
            }
            if queue.len() >= most {
                return Err(LimitError::Saturated);
            }
            let (sender, granted) = oneshot::channel();
            queue.push_back(sender);
            granted
        };
        // Those before this one may all have given up, or the last permit may no longer be reserved.
        self.wake_waiters();
        match timeout_at(deadline, granted).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(LimitError::Saturated),
        }
    }

    /// Waits until the next call may leave; to be called just before sending.
    pub(super) async fn acquire_slot(&self, lane: Priority, deadline: Instant) -> Result<(), LimitError> {
        let _counted = WaitGuard::new(self, lane);
        let _first = timeout_at(deadline, self.heads[lane as usize].lock()).await.map_err(|_| LimitError::Saturated)?;
        loop {
            // Register before checking, so that no later change is missed.
            let changed = self.changed.notified();
            let at = {
                let mut state = self.state();
                state.paused_beyond(deadline)?;
                let now = Instant::now();
                // Computed again each time: another call's response may have brought a longer pause.
                let at = state.slots.next(now).max(state.paused_until.unwrap_or(now));
                if at <= now && state.is_next(lane) {
                    state.slots.take(now);
                    let other = state.turns[lane.other_priority() as usize] > 0;
                    state.turns_order.went(lane, other);
                    return Ok(());
                }
                // A call of the other priority goes first; its departure triggers a notification.
                if at <= now { None } else { Some(at) }
            };
            if at.is_some_and(|at| at > deadline) {
                return Err(LimitError::Saturated);
            }
            tokio::select! {
                () = sleep_until(at.unwrap_or(deadline)) => {}
                () = changed => {}
            }
            if Instant::now() > deadline {
                return Err(LimitError::Saturated);
            }
        }
    }

    /// Pauses sending for this long (the vendor's `Retry-After`), at most [`MAX_BACKOFF`]. Never shortens a pause.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(MAX_BACKOFF);
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// Returns the number of calls at the vendor or about to leave for it.
    pub(super) fn in_flight(&self) -> usize {
        self.state().in_flight.iter().sum()
    }

    /// Returns the number of calls of this priority waiting for a permit or a send slot.
    pub(super) fn waiting(&self, lane: Priority) -> usize {
        let state = self.state();
        let places = state.places[lane as usize].iter().filter(|waiting| !waiting.is_closed()).count();
        places + state.turns[lane as usize]
    }

    /// Hands free permits to waiters, in order.
    fn wake_waiters(self: &Arc<Self>) {
        loop {
            let (lane, since, waiter) = {
                let mut state = self.state();
                let Some((lane, waiter)) = state.next_waiting() else { return };
                (lane, state.begin(lane), waiter)
            };
            // Outside the lock: a permit that its waiter has abandoned comes straight back.
            if let Err(mut refused) = waiter.send(self.permit(lane, since)) {
                refused.limiter = None;
                self.state().end(lane, since);
            }
        }
    }

    fn permit(self: &Arc<Self>, lane: Priority, since: Instant) -> ConcurrencyPermit {
        ConcurrencyPermit { limiter: Some(Arc::clone(self)), lane, since, was_sent: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConcurrencyPermit {
    /// Records that the call reached the vendor, as far as is known.
    pub(super) fn mark_sent(&mut self) {
        self.was_sent = true;
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        let Some(limit) = self.limiter.take() else { return };
        {
            let (now, mut state) = (Instant::now(), limit.state());
            state.end(self.lane, self.since);
            let held = now.duration_since(self.since);
            match self.lane {
                Priority::Interactive => state.last_single = Some(now),
                Priority::Bulk if held > MAX_LENT_CALL => state.last_long_bulk = Some(now),
                Priority::Bulk => state.has_measured |= self.was_sent,
            }
        }
        limit.wake_waiters();
    }
}

impl State {
    fn paused_beyond(&self, deadline: Instant) -> Result<(), LimitError> {
        match self.paused_until {
            Some(until) if until > deadline => Err(LimitError::Paused(until.saturating_duration_since(Instant::now()))),
            _ => Ok(()),
        }
    }

    /// Counts a call that gets a permit now, and returns the time.
    fn begin(&mut self, lane: Priority) -> Instant {
        let now = Instant::now();
        self.in_flight[lane as usize] += 1;
        if lane == Priority::Bulk {
            self.bulk_since.push_back(now);
        }
        now
    }

    /// Removes a call that got its permit at this time.
    fn end(&mut self, lane: Priority, since: Instant) {
        self.in_flight[lane as usize] -= 1;
        if lane == Priority::Bulk
            && let Ok(at) = self.bulk_since.binary_search(&since)
        {
            self.bulk_since.remove(at);
        }
    }

    /// Returns whether a call of this priority may get a permit now.
    fn may_start(&self, lane: Priority) -> bool {
        let [single, bulk] = self.in_flight;
        let takes_last = lane == Priority::Bulk && bulk + 1 >= self.size && self.size > 1;
        single + bulk < self.size && (!takes_last || self.may_lend())
    }

    /// Returns whether a call of an operation may occupy the last permit. No timer is needed for those that wait until
    /// it may: the other calls of operations are in flight meanwhile, and the end of each looks here again.
    fn may_lend(&self) -> bool {
        let is_past = |last: Option<Instant>| last.is_none_or(|last| last.elapsed() >= RESERVE_PERIOD);
        let is_long = self.bulk_since.front().is_some_and(|since| since.elapsed() > MAX_LENT_CALL);
        self.has_measured && !is_long && is_past(self.last_long_bulk) && is_past(self.last_single)
    }

    /// Removes the waiter that gets the next permit, and returns it with its priority.
    fn next_waiting(&mut self) -> Option<(Priority, oneshot::Sender<ConcurrencyPermit>)> {
        for queue in &mut self.places {
            while queue.front().is_some_and(oneshot::Sender::is_closed) {
                queue.pop_front();
            }
        }
        let is_next = |lane: Priority| !self.places[lane as usize].is_empty() && self.may_start(lane);
        let lane = self.places_order.next(is_next(Priority::Interactive), is_next(Priority::Bulk))?;
        let other = !self.places[lane.other_priority() as usize].is_empty();
        self.places_order.went(lane, other);
        Some((lane, self.places[lane as usize].pop_front()?))
    }

    fn is_next(&self, lane: Priority) -> bool {
        self.turns_order.next(self.turns[0] > 0, self.turns[1] > 0) == Some(lane)
    }
}

/// The choice between the two priorities.
#[derive(Debug, Default)]
struct FairQueue {
    /// Consecutive single requests that went while a call of an operation waited.
    overtaken: u32,
}

impl FairQueue {
    fn next(&self, single: bool, bulk: bool) -> Option<Priority> {
        match (single, bulk) {
            (true, true) if self.overtaken < MAX_INTERACTIVE_STREAK => Some(Priority::Interactive),
            (true, false) => Some(Priority::Interactive),
            (_, true) => Some(Priority::Bulk),
            (false, false) => None,
        }
    }

    fn went(&mut self, lane: Priority, other_waits: bool) {
        self.overtaken = if lane == Priority::Interactive && other_waits { self.overtaken + 1 } else { 0 };
    }
}

/// A waiter for a send slot; notifies the others when it stops waiting, for whatever reason.
struct WaitGuard<'a>(&'a Limiter, Priority);

impl<'a> WaitGuard<'a> {
    fn new(limit: &'a Limiter, lane: Priority) -> Self {
        limit.state().turns[lane as usize] += 1;
        Self(limit, lane)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.state().turns[self.1 as usize] -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
