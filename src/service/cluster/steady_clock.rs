//! A clock of the day that no step of the wall clock moves: what is kept, given up or forgotten by time is so by this one.
//!
//! It starts at the wall clock and then advances with the monotonic clock. A wall clock that differs from it is believed only
//! after it has run evenly for [`TRUST`]: what cannot be undone (giving up, forgetting, removing) is never drawn from one
//! reading. The same holds at start-up, where the latest moment the store remembers takes the place of the steady time: a
//! wall clock that is far from it may be wrong, or the process may have been down for days, and both look the same at first.

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::system::System;
use crate::service::write::orphans::lock_unpoisoned;

/// How far the wall clock may be off and still be followed at once: it is being slewed, or was corrected a little.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// How long the store may have been out of use and its wall clock still be believed at once.
const SHORT_ABSENCE: SignedDuration = SignedDuration::from_mins(10);
/// How long a wall clock that stepped has to run evenly before it is believed.
const TRUST: Duration = Duration::from_hours(1);

/// The clock; see the module.
pub(in crate::service) struct SteadyClock {
    environment: System,
    state: Mutex<State>,
}

struct State {
    /// The steady time at `at`.
    anchor: Timestamp,
    at: Instant,
    /// A difference between the wall clock and this one that is being watched.
    watched: Option<WatchedStep>,
}

struct WatchedStep {
    difference: SignedDuration,
    since: Instant,
}

impl SteadyClock {
    /// Starts the clock. `seen` is the latest moment the store remembers to have been in use.
    pub(in crate::service) fn start(environment: &System, seen: Option<Timestamp>) -> Self {
        let (wall, at) = (environment.now(), Instant::now());
        let anchor = match seen {
            Some(seen) if !is_plausible(wall.duration_since(seen)) => seen,
            Some(_) | None => wall,
        };
        Self { environment: environment.clone(), state: Mutex::new(State { anchor, at, watched: None }) }
    }

    /// Returns the present moment.
    pub(in crate::service) fn now(&self) -> Timestamp {
        let (wall, at) = (self.environment.now(), Instant::now());
        let mut state = lock_unpoisoned(&self.state);
        let steady = advanced(state.anchor, at.duration_since(state.at));
        let difference = wall.duration_since(steady);
        let trusted = match &state.watched {
            _ if difference.abs() <= TOLERANCE => true,
            Some(watched) if (difference - watched.difference).abs() <= TOLERANCE => {
                at.duration_since(watched.since) >= TRUST
            }
            Some(_) | None => {
                tracing::warn!(
                    seconds = difference.as_secs(),
                    "the wall clock differs from the time that has passed; it is not followed until it has run evenly for an hour"
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

/// Whether a store that was last used so long ago may simply have been out of use.
fn is_plausible(absence: SignedDuration) -> bool {
    -TOLERANCE <= absence && absence <= SHORT_ABSENCE
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

    /// A wall clock that runs with tokio's clock, plus an offset that a test steps.
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
    async fn a_step_is_not_followed_until_it_has_stood_for_an_hour() {
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
    async fn at_start_up_a_day_that_is_far_from_what_the_store_remembers_is_not_believed_at_once() {
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
