//! When a delivery is attempted again. Pure: time and randomness are given.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The longest wait that a receiver's `Retry-After` may ask for; longer ones are cut.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The pauses before the attempts of a delivery, each counted from the end of the attempt before. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    first: Duration,
    later: Vec<Duration>,
}

impl RetrySchedule {
    /// Creates a schedule; `None` without a step.
    #[must_use]
    pub fn new(steps: &[Duration]) -> Option<Self> {
        let (first, later) = steps.split_first()?;
        Some(Self { first: *first, later: later.to_vec() })
    }

    /// Returns the pause before the attempt of a step, from 0, ±10 % by a random number; `None` after the last step.
    #[must_use]
    pub fn pause(&self, step: u32, random: u64) -> Option<Duration> {
        let step = usize::try_from(step).ok()?;
        let pause = match step.checked_sub(1) {
            None => Some(&self.first),
            Some(later) => self.later.get(later),
        };
        pause.map(|pause| with_jitter(*pause, random))
    }

    /// As [`Self::pause`]; after the last step, the last pause again.
    #[must_use]
    pub fn pause_or_last(&self, step: u32, random: u64) -> Duration {
        let last = u32::try_from(self.later.len()).unwrap_or(u32::MAX);
        self.pause(step.min(last), random).unwrap_or(self.first)
    }
}

impl Default for RetrySchedule {
    /// Returns the schedule that the specification of Standard Webhooks recommends.
    fn default() -> Self {
        let hours = [2, 5, 10, 14, 20, 24].into_iter().map(Duration::from_hours);
        let short = [Duration::from_secs(5), Duration::from_mins(5), Duration::from_mins(30)];
        Self { first: Duration::ZERO, later: short.into_iter().chain(hours).collect() }
    }
}

/// Returns a duration of 90 % to 110 %.
fn with_jitter(pause: Duration, random: u64) -> Duration {
    let permille = u32::try_from(900 + random % 201).unwrap_or(1_000);
    pause.saturating_mul(permille) / 1_000
}

/// Parses the value of `Retry-After` (RFC 9110 §10.2.3: seconds or an HTTP date), at most [`MAX_RETRY_AFTER`]; zero for a
/// past date, `None` for anything else.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        // A number too large to parse is a long wait.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date: SystemTime = httpdate::parse_http_date(value).ok()?;
        // A date beyond the range of timestamps is a long wait.
        Timestamp::try_from(date)
            .map_or(MAX_RETRY_AFTER, |date| Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_pause_within_ten_percent() {
        let schedule = RetrySchedule::new(&[Duration::ZERO, Duration::from_secs(5), Duration::from_mins(5)]);
        let schedule = schedule.expect("a schedule");
        for random in [0, 100, 200, 201, 12_345, u64::MAX] {
            assert_eq!(schedule.pause(0, random), Some(Duration::ZERO));
            for (step, seconds) in [(1, 5.0), (2, 300.0)] {
                let pause = schedule.pause(step, random).expect("a step").as_secs_f64();
                assert!((0.9 * seconds..=1.1 * seconds).contains(&pause), "{pause}");
            }
            assert_eq!(schedule.pause(3, random), None);
            assert_eq!(schedule.pause_or_last(9, random), schedule.pause(2, random).expect("a step"));
        }
        assert_eq!(schedule.pause(1, 0), Some(Duration::from_millis(4_500)));
        assert_eq!(schedule.pause(1, 100), Some(Duration::from_secs(5)));
        assert_eq!(schedule.pause(1, 200), Some(Duration::from_millis(5_500)));
    }

    #[test]
    fn a_schedule_has_a_step() {
        assert_eq!(RetrySchedule::new(&[]), None);
        let only = RetrySchedule::new(&[Duration::from_secs(1)]).expect("a schedule");
        assert_eq!((only.pause(0, 100), only.pause(1, 100)), (Some(Duration::from_secs(1)), None));
        assert_eq!(only.pause_or_last(7, 100), Duration::from_secs(1));
        let default = RetrySchedule::default();
        assert_eq!(default.pause(9, 100), Some(Duration::from_hours(24)));
        assert_eq!(default.pause(10, 100), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(784_111_777).expect("a time");
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(86_400)),
            ("86401", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
