//! Pausing while the vendor fails: after so many failures in a row nothing is sent for a while, then one call may probe.
//!
//! A failure is a vendor that cannot be reached, does not answer, or answers 5xx. A refusal (any 4xx, 429 among them) is an
//! answer and closes the circuit. What ends for a reason of our own (a signer's fault, a full queue, a dropped call) says
//! nothing about the vendor and counts for nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::settings::BreakerSettings;

/// Whether calls go out at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Yes.
    Closed,
    /// Not before this moment.
    Open {
        /// When one call may probe.
        until: Timestamp,
    },
    /// One call is probing.
    HalfOpen,
}

/// What a finished call says about the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers.
    Alive,
    /// It fails.
    Failing,
}

/// The breaker of one connection.
pub(super) struct Breaker {
    machine: Mutex<Machine>,
}

/// A call's leave to be sent; dropped without a verdict it counts for nothing and frees the probe's place.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    epoch: u64,
}

impl Breaker {
    pub(super) fn new(settings: &BreakerSettings) -> Self {
        Self { machine: Mutex::new(Machine::new(settings.failures, settings.cooldown.0)) }
    }

    /// Leave to send, or how long nothing will be sent.
    pub(super) fn admit(&self, now: Timestamp) -> Result<Pass<'_>, Duration> {
        let epoch = self.machine().admit(now)?;
        Ok(Pass { breaker: self, epoch })
    }

    pub(super) fn circuit(&self) -> Circuit {
        self.machine().circuit()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // Every change is one assignment, so a panic elsewhere cannot leave the machine half changed.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Asks again after a wait: the circuit may have opened meanwhile.
    pub(super) fn renew(&mut self, now: Timestamp) -> Result<(), Duration> {
        let mut machine = self.breaker.machine();
        if machine.epoch != self.epoch {
            self.epoch = machine.admit(now)?;
        }
        Ok(())
    }

    /// Says how the call ended.
    pub(super) fn record(self, verdict: Verdict, now: Timestamp) {
        self.breaker.machine().record(self.epoch, verdict, now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.breaker.machine().release(self.epoch);
    }
}

/// The breaker without its lock: the time is always passed in.
#[derive(Debug)]
struct Machine {
    failures: u32,
    cooldown: Duration,
    state: State,
    /// Counts changes of state, so that a call sent before one cannot decide about what came after it.
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp },
    Probing { until: Timestamp },
}

impl Machine {
    const fn new(failures: u32, cooldown: Duration) -> Self {
        Self { failures, cooldown, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    fn admit(&mut self, now: Timestamp) -> Result<u64, Duration> {
        match self.state {
            State::Closed { .. } => Ok(self.epoch),
            State::Probing { .. } => Err(Duration::ZERO),
            State::Open { until } => {
                // A clock set back must not keep the circuit open for longer than one cool-down.
                let until = until.min(after(now, self.cooldown));
                if now < until {
                    self.state = State::Open { until };
                    return Err(Duration::try_from(until.duration_since(now)).unwrap_or_default());
                }
                self.enter(State::Probing { until });
                Ok(self.epoch)
            }
        }
    }

    fn record(&mut self, epoch: u64, verdict: Verdict, now: Timestamp) {
        if epoch != self.epoch || self.failures == 0 {
            return;
        }
        let open = State::Open { until: after(now, self.cooldown) };
        match (self.state, verdict) {
            (State::Closed { .. }, Verdict::Alive) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Failing) if failures + 1 < self.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Probing { .. }, Verdict::Alive) => self.enter(State::Closed { failures: 0 }),
            (State::Closed { .. } | State::Probing { .. }, Verdict::Failing) => self.enter(open),
            // Opening and probing both begin an epoch, so no pass of this one exists.
            (State::Open { .. }, _) => {}
        }
    }

    fn release(&mut self, epoch: u64) {
        if let State::Probing { until } = self.state
            && epoch == self.epoch
        {
            self.enter(State::Open { until });
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    const fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { until } => Circuit::Open { until },
            State::Probing { .. } => Circuit::HalfOpen,
        }
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
