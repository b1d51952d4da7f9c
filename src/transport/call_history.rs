//! What became of a connection's calls in each minute of the last hour, for operators. It is kept in memory only, from the
//! first call on, and must never delay a call: each record is one short lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// The number of minutes that are shown.
const MINUTES: i64 = 60;
/// Number of the durations' buckets: from 1 ms to 262 s, four for each doubling.
const BUCKETS: usize = 68;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallEnd {
    /// A response with a status below 400.
    Answered,
    /// A response with a status of 400 or above.
    HttpError,
    /// No complete response in time.
    Timeout,
    /// No connection could be made.
    Unreachable,
    /// The circuit breaker was open, so nothing was sent.
    CircuitOpen,
    /// Any other failure, such as an unreadable response or a queue that was full.
    Other,
}

/// The calls of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// The calls that ended.
    pub calls: u64,
    /// Those with a response whose status was 400 or above.
    pub http_errors: u64,
    /// Those without a complete response in time.
    pub timeouts: u64,
    /// Those for which no connection could be made.
    pub unreachable: u64,
    /// Those that the circuit breaker refused.
    pub circuit_open: u64,
    /// Those that failed in another way.
    pub other_failures: u64,
    /// Median time at the vendor, within an eighth; `None` if no attempt reached it.
    pub p50: Option<Duration>,
    /// The time at the vendor that 95 of 100 attempts did not exceed, within an eighth.
    pub p95: Option<Duration>,
}

/// The calls of a connection in the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallHistory {
    /// The beginning of the first minute.
    pub from: Timestamp,
    /// When the history was read.
    pub to: Timestamp,
    /// The whole hour.
    pub hour: CallCounts,
    /// The minutes with a call, oldest first, each with its beginning.
    pub minutes: Vec<(Timestamp, CallCounts)>,
}

/// The record of a connection's calls.
#[derive(Default)]
pub(super) struct CallRecorder(Mutex<BTreeMap<i64, Minute>>);

#[derive(Clone)]
struct Minute {
    ends: [u64; 6],
    durations: [u32; BUCKETS],
}

impl Default for Minute {
    fn default() -> Self {
        Self { ends: [0; 6], durations: [0; BUCKETS] }
    }
}

impl CallRecorder {
    /// Counts a call that ended at this time.
    pub(super) fn record_end(&self, now: Timestamp, end: CallEnd) {
        self.at(now, |minute| minute.ends[end as usize] += 1);
    }

    /// Counts how long an attempt that reached the vendor took.
    pub(super) fn record_duration(&self, now: Timestamp, took: Duration) {
        self.at(now, |minute| {
            let count = &mut minute.durations[bucket_of(took)];
            *count = count.saturating_add(1);
        });
    }

    fn at(&self, now: Timestamp, change: impl FnOnce(&mut Minute)) {
        let number = minute_of(now);
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !minutes.contains_key(&number) {
            // Also removes later minutes after the clock was set back; one, because calls may record out of order.
            minutes.retain(|other, _| (number - MINUTES + 1..=number + 1).contains(other));
        }
        change(minutes.entry(number).or_default());
    }

    /// Returns the calls of the hour before this time.
    pub(super) fn read(&self, now: Timestamp) -> CallHistory {
        let last = minute_of(now);
        let first = last - MINUTES + 1;
        let kept: Vec<(i64, Minute)> = {
            let minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            minutes.range(first..=last).map(|(number, minute)| (*number, minute.clone())).collect()
        };
        let mut hour = Minute::default();
        for (_, minute) in &kept {
            hour.add(minute);
        }
        let minutes = kept.iter().map(|(number, minute)| (beginning_of(*number), minute.counts())).collect();
        CallHistory { from: beginning_of(first), to: now, hour: hour.counts(), minutes }
    }
}

impl Minute {
    fn add(&mut self, other: &Self) {
        for (sum, count) in self.ends.iter_mut().zip(&other.ends) {
            *sum += count;
        }
        for (sum, count) in self.durations.iter_mut().zip(&other.durations) {
            *sum = sum.saturating_add(*count);
        }
    }

    fn counts(&self) -> CallCounts {
        let of = |end: CallEnd| self.ends[end as usize];
        CallCounts {
            calls: self.ends.iter().sum(),
            http_errors: of(CallEnd::HttpError),
            timeouts: of(CallEnd::Timeout),
            unreachable: of(CallEnd::Unreachable),
            circuit_open: of(CallEnd::CircuitOpen),
            other_failures: of(CallEnd::Other),
            p50: self.percentile(50),
            p95: self.percentile(95),
        }
    }

    /// Returns the duration that this percentage of the attempts did not exceed (nearest rank).
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.durations.iter().map(|count| u64::from(*count)).sum();
        let rank = (total * percent).div_ceil(100);
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.durations.iter().position(reached).filter(|_| total > 0).map(middle_of)
    }
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

fn beginning_of(minute: i64) -> Timestamp {
    Timestamp::from_second(minute.saturating_mul(60)).unwrap_or(Timestamp::MIN)
}

/// Returns the bucket of a duration: below 8 ms one for each millisecond, above four for each doubling.
fn bucket_of(took: Duration) -> usize {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let Some(octave) = millis.checked_ilog2().filter(|octave| *octave >= 2) else {
        return usize::try_from(millis).unwrap_or_default();
    };
    let quarter = (millis >> (octave - 2)) & 3;
    let index = u64::from(octave - 1) * 4 + quarter;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// Returns the middle of a bucket.
fn middle_of(bucket: usize) -> Duration {
    let index = u64::try_from(bucket).unwrap_or_default();
    if index < 8 {
        return Duration::from_millis(index);
    }
    let width = 1_u64 << (index / 4 - 1);
    Duration::from_millis((4 + index % 4) * width + width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn calls(history: &CallHistory) -> Vec<(i64, u64)> {
        history.minutes.iter().map(|(at, counts)| (at.as_second() - 1_800_000_000, counts.calls)).collect()
    }

    #[test]
    fn each_end_is_counted_in_its_minute_and_in_the_hour() {
        let recorder = CallRecorder::default();
        for (second, end) in [
            (0, CallEnd::Answered),
            (59, CallEnd::HttpError),
            (60, CallEnd::Timeout),
            (61, CallEnd::Unreachable),
            (62, CallEnd::CircuitOpen),
            (63, CallEnd::Other),
        ] {
            recorder.record_end(at(second), end);
        }
        let history = recorder.read(at(120));
        assert_eq!(calls(&history), [(0, 2), (60, 4)]);
        let hour = CallCounts {
            calls: 6,
            http_errors: 1,
            timeouts: 1,
            unreachable: 1,
            circuit_open: 1,
            other_failures: 1,
            p50: None,
            p95: None,
        };
        assert_eq!(history.hour, hour);
        assert_eq!((history.from, history.to), (at(120 - 59 * 60), at(120)));
    }

    #[test]
    fn a_minute_leaves_after_an_hour() {
        let recorder = CallRecorder::default();
        recorder.record_end(at(30), CallEnd::Answered);
        assert_eq!(calls(&recorder.read(at(59 * 60 + 59))), [(0, 1)]);
        assert_eq!(calls(&recorder.read(at(60 * 60))), []);
        for minute in 0..1_000 {
            recorder.record_end(at(minute * 60), CallEnd::Answered);
        }
        assert_eq!(recorder.read(at(999 * 60)).hour.calls, 60);
        assert!(recorder.0.lock().unwrap().len() <= 61, "the memory is bounded");
    }

    #[test]
    fn calls_may_be_recorded_out_of_order_and_after_the_clock_was_set_back() {
        let recorder = CallRecorder::default();
        recorder.record_end(at(60), CallEnd::Answered);
        recorder.record_end(at(59), CallEnd::Answered);
        assert_eq!(calls(&recorder.read(at(61))), [(0, 1), (60, 1)]);
        recorder.record_end(at(-7_200), CallEnd::Answered);
        assert_eq!(calls(&recorder.read(at(-7_200))), [(-7_200, 1)]);
        assert_eq!(recorder.0.lock().unwrap().len(), 1, "what was recorded under the later time is gone");
    }

    #[test]
    fn percentiles_are_within_an_eighth_of_the_true_ones() {
        for scale in [1, 7, 40, 900] {
            let recorder = CallRecorder::default();
            for step in 1..=100 {
                recorder.record_duration(at(0), Duration::from_millis(step * scale));
            }
            let hour = recorder.read(at(0)).hour;
            for (found, rank) in [(hour.p50, 50), (hour.p95, 95)] {
                let (found, wanted) = (found.unwrap().as_millis(), u128::from(rank * scale));
                assert!(found.abs_diff(wanted) * 8 <= wanted, "{found} instead of {wanted}");
            }
        }
    }

    #[test]
    fn the_longest_durations_share_a_bucket() {
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(middle_of(bucket)), bucket);
        }
    }
}
