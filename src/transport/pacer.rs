//! The rate limit of a connection: computes when the next call may leave.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A pacer that spaces calls evenly and never allows more than `rate` of them within any [`Pacer::WINDOW`].
///
/// Not `governor`, which the HTTP server uses: its cell-rate algorithm spaces planned times, so one late timer lets one
/// call too many into the following second, and an abandoned call keeps its slot.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: usize,
    planned: Option<Instant>,
    /// Actual send times of the calls within the last window, oldest first.
    left: VecDeque<Instant>,
}

impl Pacer {
    /// One second plus one per cent: the vendor counts arrivals, and a later call may travel faster than an earlier
    /// one.
    const WINDOW: Duration = Duration::from_millis(1010);
    /// Usual timer lateness. The next slot is planned from the previous plan if that is at most this long ago, so that
    /// lateness does not accumulate.
    const TIMER_TOLERANCE: Duration = Duration::from_millis(2);

    pub(super) fn new(rate: u32) -> Self {
        Self { rate: usize::try_from(rate).unwrap_or(usize::MAX), planned: None, left: VecDeque::new() }
    }

    /// Changes the rate; calls of the last second still count.
    pub(super) fn set_rate(&mut self, rate: u32) {
        self.rate = usize::try_from(rate).unwrap_or(usize::MAX);
        self.planned = None;
    }

    /// Returns the earliest time at which a call may leave; not after `now` if it may leave at once.
    pub(super) fn next(&self, now: Instant) -> Instant {
        if self.rate == 0 {
            return now;
        }
        let full = self.left.len().checked_sub(self.rate).and_then(|first| self.left.get(first));
        let window = full.map_or(now, |first| *first + Self::WINDOW);
        self.planned.unwrap_or(now).max(window)
    }

    /// Records a call that leaves now.
    pub(super) fn take(&mut self, now: Instant) {
        if self.rate == 0 {
            return;
        }
        while self.left.front().is_some_and(|first| *first + Self::WINDOW <= now) {
            self.left.pop_front();
        }
        self.left.push_back(now);
        let from = self.planned.filter(|planned| *planned + Self::TIMER_TOLERANCE >= now).unwrap_or(now);
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
            let mut slots = Pacer::new(rate);
            let mut now = Instant::now();
            let mut left: Vec<Instant> = Vec::new();
            for (idle, late) in waits {
                now += Duration::from_millis(if idle < 300 { 0 } else { idle });
                let at = slots.next(now);
                if at > now {
                    // A timer never fires early, only late.
                    now = at + Duration::from_millis(late);
                    prop_assert!(slots.next(now) <= now);
                }
                slots.take(now);
                left.push(now);
                prop_assert!(slots.left.len() <= rate as usize + 1);
            }
            for (first, after) in left.iter().zip(left.iter().skip(rate as usize)) {
                prop_assert!(*after - *first >= Pacer::WINDOW);
            }
        }
    }

    #[test]
    fn calls_are_evenly_spaced_and_lateness_does_not_accumulate() {
        let mut slots = Pacer::new(4);
        let start = Instant::now();
        let mut now = start;
        for turn in 0..4 {
            let moment = start + Pacer::WINDOW / 4 * turn;
            assert_eq!(slots.next(now).max(now), moment);
            now = moment + Duration::from_millis(1);
            if turn == 0 {
                now = start;
            }
            slots.take(now);
        }
    }

    #[test]
    fn a_faster_call_keeps_the_rate_at_arrival() {
        let mut slots = Pacer::new(50);
        let first = Instant::now();
        let mut now = first;
        for _ in 0..50 {
            now = slots.next(now).max(now);
            slots.take(now);
        }
        // The first took ten milliseconds to arrive, the one after the fiftieth none.
        let arrived = first + Duration::from_millis(10);
        assert!(slots.next(now) >= arrived + Duration::from_secs(1));
    }

    #[test]
    fn a_rate_of_zero_is_unlimited() {
        let mut slots = Pacer::new(0);
        let now = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(slots.next(now), now);
            slots.take(now);
        }
        assert!(slots.left.is_empty());
    }
}
