//! Concurrency and rate limits: how many calls may be at the vendor at once, how many may queue, and when the next call
//! may leave.
//!
//! Both queues have two priorities: single requests, whose callers wait, go before the calls of operations; but after
//! [`MAX_INTERACTIVE_STREAK`] of them one call of an operation goes, so that single requests cannot starve operations. Within a
//! priority the order is FIFO. Both waits are bounded, because a caller that would wait longer than an attempt may take
//! should retry later instead. Cancel-safe: a call dropped while waiting consumes no permit.

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
    in_flight: usize,
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
pub(super) struct ConcurrencyPermit(Option<Arc<Limiter>>);

impl Limiter {
    pub(super) fn new(max_in_flight: usize, requests_per_second: u32) -> Self {
        let state = State {
            size: max_in_flight.max(1),
            in_flight: 0,
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
            // A released permit goes to the next waiter, so a free one means that no call waits.
            if state.in_flight < state.size {
                state.in_flight += 1;
                return Ok(ConcurrencyPermit(Some(Arc::clone(self))));
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
        self.state().in_flight
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
            let next = {
                let mut state = self.state();
                if state.in_flight >= state.size {
                    return;
                }
                let Some(next) = state.next_waiting() else { return };
                state.in_flight += 1;
                next
            };
            // Outside the lock: a permit that its waiter has abandoned comes straight back.
            if let Err(mut refused) = next.send(ConcurrencyPermit(Some(Arc::clone(self)))) {
                refused.0 = None;
                self.state().in_flight -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        if let Some(limit) = self.0.take() {
            limit.state().in_flight -= 1;
            limit.wake_waiters();
        }
    }
}

impl State {
    fn paused_beyond(&self, deadline: Instant) -> Result<(), LimitError> {
        match self.paused_until {
            Some(until) if until > deadline => Err(LimitError::Paused(until.saturating_duration_since(Instant::now()))),
            _ => Ok(()),
        }
    }

    /// Removes the waiter that gets the next permit.
    fn next_waiting(&mut self) -> Option<oneshot::Sender<ConcurrencyPermit>> {
        for queue in &mut self.places {
            while queue.front().is_some_and(oneshot::Sender::is_closed) {
                queue.pop_front();
            }
        }
        let [single, bulk] = &self.places;
        let lane = self.places_order.next(!single.is_empty(), !bulk.is_empty())?;
        let other = !self.places[lane.other_priority() as usize].is_empty();
        self.places_order.went(lane, other);
        self.places[lane as usize].pop_front()
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
mod tests {
    use futures_util::poll;

    use super::*;

    const SINGLE: Priority = Priority::Interactive;
    const BULK: Priority = Priority::Bulk;

    fn limit(max_in_flight: usize, rate: u32) -> Arc<Limiter> {
        Arc::new(Limiter::new(max_in_flight, rate))
    }

    fn hour() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    #[tokio::test]
    async fn a_full_queue_rejects_and_a_dropped_wait_frees_its_slot() {
        let limit = limit(1, 0);
        let permit = limit.acquire(SINGLE, hour()).await.unwrap();
        let mut waits: Vec<_> = (0..64).map(|_| Box::pin(limit.acquire(SINGLE, hour()))).collect();
        for wait in &mut waits {
            assert!(poll!(wait).is_pending());
        }
        assert_eq!(limit.acquire(SINGLE, hour()).await.err(), Some(LimitError::Saturated));
        assert!(poll!(Box::pin(limit.acquire(BULK, hour()))).is_pending(), "the other priority has its own queue");
        waits.pop();
        let mut last = Box::pin(limit.acquire(SINGLE, hour()));
        assert!(poll!(&mut last).is_pending());
        drop(permit);
        assert!(poll!(&mut last).is_pending(), "FIFO");
        let first = waits.remove(0).await;
        assert!(first.is_ok());
        assert_eq!((limit.in_flight(), limit.waiting(SINGLE)), (1, 63));
        drop((waits, last, first));
        assert_eq!((limit.in_flight(), limit.waiting(SINGLE), limit.waiting(BULK)), (0, 0, 0));
    }

    #[tokio::test]
    async fn single_requests_go_first_without_starving_operations() {
        let limit = limit(1, 0);
        let mut held = Some(limit.acquire(SINGLE, hour()).await.unwrap());
        let mut bulk = Box::pin(limit.acquire(BULK, hour()));
        assert!(poll!(&mut bulk).is_pending());
        let mut singles: VecDeque<_> = (0..20).map(|_| Box::pin(limit.acquire(SINGLE, hour()))).collect();
        for single in &mut singles {
            assert!(poll!(single).is_pending());
        }
        for _ in 0..MAX_INTERACTIVE_STREAK {
            drop(held.take());
            held = singles.pop_front().unwrap().await.ok();
            assert!(poll!(&mut bulk).is_pending());
        }
        drop(held.take());
        assert!(bulk.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_request_takes_the_next_send_slot() {
        let limit = limit(9, 1);
        limit.acquire_slot(BULK, hour()).await.unwrap();
        let mut bulk: Vec<_> = (0..3).map(|_| Box::pin(limit.acquire_slot(BULK, hour()))).collect();
        for turn in &mut bulk {
            assert!(poll!(turn).is_pending());
        }
        let began = Instant::now();
        limit.acquire_slot(SINGLE, hour()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1, "no earlier waiter went first");
        for turn in bulk {
            turn.await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), 4);
        assert_eq!((limit.waiting(SINGLE), limit.waiting(BULK)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_gets_a_send_slot_among_endless_single_requests() {
        let limit = limit(9, 10);
        let mut bulk = Box::pin(limit.acquire_slot(BULK, hour()));
        assert!(poll!(&mut bulk).is_ready(), "no other call is waiting");
        let mut bulk = std::pin::pin!(limit.acquire_slot(BULK, hour()));
        let mut singles = 0;
        loop {
            let single = limit.acquire_slot(SINGLE, hour());
            tokio::select! {
                biased;
                _ = &mut bulk => break,
                _ = single => singles += 1,
            }
            assert!(singles <= MAX_INTERACTIVE_STREAK, "the operation is starved");
        }
    }

    #[tokio::test]
    async fn new_limits_apply_at_once_and_count_calls_in_flight() {
        let limit = limit(1, 0);
        let first = limit.acquire(SINGLE, hour()).await.unwrap();
        let mut second = Box::pin(limit.acquire(SINGLE, hour()));
        let mut third = Box::pin(limit.acquire(SINGLE, hour()));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        limit.set(2, 0);
        let second = second.await.unwrap();
        assert!(poll!(&mut third).is_pending());
        limit.set(1, 0);
        drop(first);
        assert!(poll!(&mut third).is_pending(), "the limit is still exceeded");
        drop(second);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn a_pause_is_never_shortened_and_is_bounded() {
        let limit = limit(1, 0);
        limit.pause(Duration::from_hours(1));
        limit.pause(Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(1);
        for busy in [limit.acquire(SINGLE, soon).await.err(), limit.acquire_slot(SINGLE, soon).await.err()] {
            let Some(LimitError::Paused(rest)) = busy else { panic!("{busy:?}") };
            assert!(rest > Duration::from_secs(1) && rest <= MAX_BACKOFF);
        }
        let patient = self::limit(1, 0);
        patient.pause(Duration::from_millis(20));
        assert_eq!(patient.acquire_slot(SINGLE, hour()).await, Ok(()));
    }
}
