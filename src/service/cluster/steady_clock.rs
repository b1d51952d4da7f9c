//! A time of day that steps of the wall clock do not move. Retention, expiry and back-off use this clock.
//!
//! It starts at the wall clock and then advances with the monotonic clock. A wall clock that differs is trusted only
//! after it has run evenly for [`TRUST_AFTER`]: an irreversible decision (giving up, expiring, purging) never depends on a
//! single reading. At start-up the latest time recorded in the store takes the place of the steady time: if the wall
//! clock is far from it, the clock may be wrong or the process may have been down for days, and the two cannot be told
//! apart at first.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::system::System;
use crate::service::mutex::lock_unpoisoned;

/// Maximum difference at which the wall clock is followed at once: it is being slewed, or was corrected slightly.
const MAX_DRIFT: SignedDuration = SignedDuration::from_secs(5);
/// Maximum time the store may have been unused and the wall clock still be trusted at once.
const MAX_TRUSTED_ABSENCE: SignedDuration = SignedDuration::from_mins(10);
/// How long a stepped wall clock must run evenly before it is trusted.
const TRUST_AFTER: Duration = Duration::from_hours(1);

/// Steady clock; see the module documentation.
pub(in crate::service) struct SteadyClock {
    environment: System,
    state: Mutex<State>,
}

struct State {
    /// Steady time at `at`.
    anchor: Timestamp,
    at: Instant,
    /// Step of the wall clock that is not trusted yet.
    watched: Option<WatchedStep>,
}

struct WatchedStep {
    difference: SignedDuration,
    since: Instant,
}

impl SteadyClock {
    /// Starts the clock. `seen` is the latest time of use recorded in the store.
    pub(in crate::service) fn start(environment: &System, seen: Option<Timestamp>) -> Self {
        let (wall, at) = (environment.now(), Instant::now());
        let anchor = match seen {
            Some(seen) if !is_plausible(wall.duration_since(seen)) => seen,
            Some(_) | None => wall,
        };
        Self { environment: environment.clone(), state: Mutex::new(State { anchor, at, watched: None }) }
    }

    /// Returns the current steady time.
    pub(in crate::service) fn now(&self) -> Timestamp {
        let (wall, at) = (self.environment.now(), Instant::now());
        let mut state = lock_unpoisoned(&self.state);
        let steady = advanced(state.anchor, at.duration_since(state.at));
        let difference = wall.duration_since(steady);
        let trusted = match &state.watched {
            _ if difference.abs() <= MAX_DRIFT => true,
            Some(watched) if (difference - watched.difference).abs() <= MAX_DRIFT => {
                at.duration_since(watched.since) >= TRUST_AFTER
            }
            Some(_) | None => {
                tracing::warn!(
                    seconds = difference.as_secs(),
                    "the wall clock stepped; it is ignored until it has run evenly for an hour"
                );
                state.watched = Some(WatchedStep { difference, since: at });
                false
            }
        };
        if trusted {
            *state = State { anchor: wall, at, watched: None };
            return wall;
        }
        steady
    }
}

/// Returns whether the store may plausibly have been unused for this long.
fn is_plausible(absence: SignedDuration) -> bool {
    -MAX_DRIFT <= absence && absence <= MAX_TRUSTED_ABSENCE
}

fn advanced(anchor: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| anchor.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::domain::system::Clock;

    /// Wall clock that follows Tokio's clock, plus an offset that tests step.
    struct Wall {
        began: Instant,
        offset: AtomicI64,
    }

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            let passed = i64::try_from(self.began.elapsed().as_secs()).unwrap();
            Timestamp::from_second(1_790_000_000 + passed + self.offset.load(Ordering::Relaxed)).unwrap()
        }
    }

    fn wall() -> (Arc<Wall>, System) {
        let wall = Arc::new(Wall { began: Instant::now(), offset: AtomicI64::new(0) });
        let clock: Arc<dyn Clock> = Arc::<Wall>::clone(&wall);
        (wall, System { clock, ..crate::store::conformance::environment() })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_followed_only_after_an_hour() {
        for step in [25 * 3600, -25 * 3600, 40 * 86_400] {
            let (wall, environment) = wall();
            let clock = SteadyClock::start(&environment, None);
            tokio::time::advance(Duration::from_secs(10)).await;
            wall.offset.store(step, Ordering::Relaxed);
            assert_eq!(clock.now(), at(10), "{step}");
            tokio::time::advance(Duration::from_mins(1)).await;
            wall.offset.store(0, Ordering::Relaxed);
            assert_eq!(clock.now(), at(70), "{step}");
            wall.offset.store(step, Ordering::Relaxed);
            assert_eq!(clock.now(), at(70), "{step}");
            tokio::time::advance(Duration::from_mins(59)).await;
            assert_eq!(clock.now(), at(70 + 59 * 60), "{step}");
            tokio::time::advance(Duration::from_mins(2)).await;
            assert_eq!(clock.now(), at(70 + 61 * 60 + step), "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_far_from_the_recorded_time_is_not_trusted_at_start_up() {
        let (_, environment) = wall();
        assert_eq!(SteadyClock::start(&environment, Some(at(-300))).now(), at(0), "a short absence");
        for seen in [-25 * 3600, 25 * 3600] {
            let clock = SteadyClock::start(&environment, Some(at(seen)));
            assert_eq!(clock.now(), at(seen));
        }
        let clock = SteadyClock::start(&environment, Some(at(-25 * 3600)));
        clock.now();
        tokio::time::advance(Duration::from_mins(61)).await;
        assert_eq!(clock.now(), at(61 * 60), "it was a weekend");
    }
}
