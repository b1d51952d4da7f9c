//! Rate and concurrency: how many calls may be at the vendor at once, how many may wait for that, and when the next one may
//! leave.
//!
//! Both waits are bounded, since a caller who waits longer than an attempt may take is better told to come back. Waiting
//! counts for nothing: a call dropped while it waits takes nothing with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Longest time a vendor's `Retry-After` stops a connection: beyond it one call tries again, whatever the vendor said.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why a call may not leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// Too many calls wait already, or this one waited long enough.
    Saturated,
    /// The vendor asked for a pause, and this much of it is left.
    Paused(Duration),
}

/// The limits of one connection.
pub(super) struct Limit {
    size: usize,
    at_vendor: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
    // Held while waiting for the slot, which makes the turnstile fair: a tokio mutex is first come, first served.
    turnstile: Mutex<Slots>,
    paused_until: StdMutex<Option<Instant>>,
}

impl Limit {
    /// `patience` bounds each wait.
    pub(super) fn new(max_in_flight: usize, requests_per_second: u32, patience: Duration) -> Self {
        let size = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            size,
            at_vendor: Semaphore::new(size),
            waiting: AtomicUsize::new(0),
            queue: size.saturating_mul(16).max(64),
            patience,
            turnstile: Mutex::new(Slots::new(requests_per_second)),
            paused_until: StdMutex::new(None),
        }
    }

    /// A place at the vendor, kept until the permit is dropped.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, Busy> {
        self.paused_beyond(Instant::now() + self.patience)?;
        if let Ok(permit) = self.at_vendor.try_acquire() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.queue).ok_or(Busy::Saturated)?;
        match timeout(self.patience, self.at_vendor.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Busy::Saturated),
        }
    }

    /// Waits until the next call may leave: to be asked right before sending.
    pub(super) async fn turn(&self) -> Result<(), Busy> {
        let deadline = Instant::now() + self.patience;
        let mut slots = timeout_at(deadline, self.turnstile.lock()).await.map_err(|_| Busy::Saturated)?;
        loop {
            self.paused_beyond(deadline)?;
            let now = Instant::now();
            // Looked up anew after every sleep: another call's answer may have brought a longer pause.
            let at = slots.next(now).max(self.paused_until().unwrap_or(now));
            if at <= now {
                slots.take(now);
                return Ok(());
            }
            if at > deadline {
                return Err(Busy::Saturated);
            }
            sleep_until(at).await;
        }
    }

    /// Sends nothing for this long (the vendor's `Retry-After`), at most [`LONGEST_PAUSE`]. Never shortens a pause.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_PAUSE);
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = (*paused).max(Some(until));
    }

    /// Calls at the vendor now.
    pub(super) fn in_flight(&self) -> usize {
        self.size - self.at_vendor.available_permits()
    }

    fn paused_until(&self) -> Option<Instant> {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused_beyond(&self, deadline: Instant) -> Result<(), Busy> {
        match self.paused_until() {
            Some(until) if until > deadline => Err(Busy::Paused(until.saturating_duration_since(Instant::now()))),
            _ => Ok(()),
        }
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then_some(taken + 1))
            .ok()
            .map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Evenly spaced moments of sending, and never more than `rate` of them within any second.
///
/// Not `governor`, which serves the public face: its cell-rate algorithm spaces the moments as planned, so that a timer
/// firing late once lets one call too many into the second after it, and a call that gives up keeps its moment.
#[derive(Debug)]
struct Slots {
    rate: usize,
    planned: Option<Instant>,
    /// When calls of the last second really left, oldest first.
    left: VecDeque<Instant>,
}

impl Slots {
    const WINDOW: Duration = Duration::from_secs(1);
    /// How late a timer usually fires; a slot is planned from the one before it when that is no longer ago than this, so
    /// that lateness does not add up.
    const GRAIN: Duration = Duration::from_millis(2);

    fn new(rate: u32) -> Self {
        Self { rate: usize::try_from(rate).unwrap_or(usize::MAX), planned: None, left: VecDeque::new() }
    }

    /// The first moment at which a call may leave; not after `now` if it may at once.
    fn next(&self, now: Instant) -> Instant {
        if self.rate == 0 {
            return now;
        }
        let full = self.left.len().checked_sub(self.rate).and_then(|first| self.left.get(first));
        let window = full.map_or(now, |first| *first + Self::WINDOW);
        self.planned.unwrap_or(now).max(window)
    }

    /// Counts a call that leaves now.
    fn take(&mut self, now: Instant) {
        if self.rate == 0 {
            return;
        }
        while self.left.front().is_some_and(|first| *first + Self::WINDOW <= now) {
            self.left.pop_front();
        }
        self.left.push_back(now);
        let from = self.planned.filter(|planned| *planned + Self::GRAIN >= now).unwrap_or(now);
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        self.planned = Some(from + Self::WINDOW / rate);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_within_a_second(
            rate in 1..50_u32,
            waits in prop::collection::vec((0..400_u64, 0..30_u64), 1..300),
        ) {
            let mut slots = Slots::new(rate);
            let mut now = Instant::now();
            let mut left: Vec<Instant> = Vec::new();
            for (idle, late) in waits {
                now += Duration::from_millis(if idle < 300 { 0 } else { idle });
                let at = slots.next(now);
                if at > now {
                    // A timer never fires early, but late.
                    now = at + Duration::from_millis(late);
                    prop_assert!(slots.next(now) <= now);
                }
                slots.take(now);
                left.push(now);
                prop_assert!(slots.left.len() <= rate as usize + 1);
            }
            for (first, after) in left.iter().zip(left.iter().skip(rate as usize)) {
                prop_assert!(*after - *first >= Slots::WINDOW);
            }
        }
    }

    #[test]
    fn calls_are_evenly_spaced_and_lateness_does_not_add_up() {
        let mut slots = Slots::new(4);
        let start = Instant::now();
        let mut now = start;
        for turn in 0..4_u32 {
            assert_eq!(slots.next(now).max(now), start + Duration::from_millis(250) * turn);
            now = start + Duration::from_millis(250) * turn + Duration::from_millis(1);
            if turn == 0 {
                now = start;
            }
            slots.take(now);
        }
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        let mut slots = Slots::new(0);
        let now = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(slots.next(now), now);
            slots.take(now);
        }
        assert!(slots.left.is_empty());
    }

    #[tokio::test]
    async fn a_full_queue_turns_the_next_away_at_once_and_a_dropped_wait_frees_its_place() {
        let limit = Limit::new(1, 0, Duration::from_hours(1));
        let permit = limit.enter().await.unwrap();
        let mut waits: Vec<_> = (0..64).map(|_| Box::pin(limit.enter())).collect();
        for wait in &mut waits {
            assert!(futures_util::poll!(wait).is_pending());
        }
        assert_eq!(limit.enter().await.err(), Some(Busy::Saturated));
        waits.pop();
        let mut last = Box::pin(limit.enter());
        assert!(futures_util::poll!(&mut last).is_pending());
        drop(permit);
        assert!(futures_util::poll!(&mut last).is_pending(), "first come, first served");
        assert!(waits.remove(0).await.is_ok());
        assert_eq!(limit.in_flight(), 1);
        drop((waits, last));
        assert_eq!((limit.in_flight(), limit.waiting.load(Ordering::Acquire)), (0, 0));
    }

    #[tokio::test]
    async fn a_pause_is_never_shortened_and_has_an_end() {
        let limit = Limit::new(1, 0, Duration::from_secs(1));
        limit.pause(Duration::from_hours(1));
        limit.pause(Duration::ZERO);
        for busy in [limit.enter().await.err(), limit.turn().await.err()] {
            let Some(Busy::Paused(rest)) = busy else { panic!("{busy:?}") };
            assert!(rest > Duration::from_secs(1) && rest <= LONGEST_PAUSE);
        }
        let patient = Limit::new(1, 0, Duration::from_hours(1));
        patient.pause(Duration::from_millis(20));
        assert_eq!(patient.turn().await, Ok(()));
    }
}
