//! Circuit breaker: after a number of consecutive failures it stops calls for a while, then admits one probe.
//!
//! A failure is a vendor that is unreachable, does not respond, or responds with a 5xx. A rejection (any 4xx, including
//! 429) is a response and closes the circuit. Calls that the gateway ends itself (a signer's error, a full queue, a
//! dropped call) do not count, because they say nothing about the vendor.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::settings::BreakerSettings;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls are sent.
    Closed,
    /// No call is sent before `until`.
    Open {
        /// The time from which one call may probe.
        until: Timestamp,
    },
    /// One call is probing.
    HalfOpen,
}

/// The result of a finished call, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallResult {
    /// The vendor responds.
    Alive,
    /// The vendor fails.
    Failing,
}

/// The circuit breaker of one connection.
pub(super) struct Breaker {
    machine: Mutex<StateMachine>,
}

/// Permission to send one call. Dropping it without a result records nothing and frees the half-open slot.
pub(super) struct BreakerToken<'a> {
    breaker: &'a Breaker,
    epoch: u64,
}

impl Breaker {
    pub(super) fn new(settings: &BreakerSettings) -> Self {
        Self { machine: Mutex::new(StateMachine::new(settings.failures, settings.cooldown.0)) }
    }

    /// Admits a call, or returns how long the circuit stays open.
    pub(super) fn admit(&self, now: Timestamp) -> Result<BreakerToken<'_>, Duration> {
        let epoch = self.machine().admit(now)?;
        Ok(BreakerToken { breaker: self, epoch })
    }

    pub(super) fn state_now(&self) -> CircuitState {
        self.machine().circuit()
    }

    /// Applies new settings; the circuit keeps its state, unless the breaker is turned off.
    pub(super) fn set(&self, settings: &BreakerSettings) {
        let mut machine = self.machine();
        (machine.failures, machine.cooldown) = (settings.failures, settings.cooldown.0);
        if settings.failures == 0 {
            machine.enter(State::Closed { failures: 0 });
        }
    }

    fn machine(&self) -> MutexGuard<'_, StateMachine> {
        // Every change is one assignment, so a panic elsewhere cannot leave the machine half changed.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BreakerToken<'_> {
    /// Checks again after a wait, because the circuit may have opened meanwhile.
    pub(super) fn renew(&mut self, now: Timestamp) -> Result<(), Duration> {
        let mut machine = self.breaker.machine();
        if machine.epoch != self.epoch {
            self.epoch = machine.admit(now)?;
        }
        Ok(())
    }

    /// Records the result of the call.
    pub(super) fn record(self, verdict: CallResult, now: Timestamp) {
        self.breaker.machine().record(self.epoch, verdict, now);
    }
}

impl Drop for BreakerToken<'_> {
    fn drop(&mut self) {
        self.breaker.machine().release(self.epoch);
    }
}

/// The breaker without its lock; the time is always passed in.
#[derive(Debug)]
struct StateMachine {
    failures: u32,
    cooldown: Duration,
    state: State,
    /// Counts state changes, so that a call sent before a change does not affect the new state.
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp },
    Probing { until: Timestamp },
}

impl StateMachine {
    const fn new(failures: u32, cooldown: Duration) -> Self {
        Self { failures, cooldown, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    fn admit(&mut self, now: Timestamp) -> Result<u64, Duration> {
        match self.state {
            State::Closed { .. } => Ok(self.epoch),
            State::Probing { .. } => Err(Duration::ZERO),
            State::Open { until } => {
                // A clock that was set back must not keep the circuit open for longer than one cool-down.
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

    fn record(&mut self, epoch: u64, verdict: CallResult, now: Timestamp) {
        if epoch != self.epoch || self.failures == 0 {
            return;
        }
        let open = State::Open { until: after(now, self.cooldown) };
        match (self.state, verdict) {
            (State::Closed { .. }, CallResult::Alive) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, CallResult::Failing) if failures + 1 < self.failures => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Probing { .. }, CallResult::Alive) => self.enter(State::Closed { failures: 0 }),
            (State::Closed { .. } | State::Probing { .. }, CallResult::Failing) => self.enter(open),
            // Opening and probing both begin an epoch, so no token of this epoch exists.
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

    const fn circuit(&self) -> CircuitState {
        match self.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { until } => CircuitState::Open { until },
            State::Probing { .. } => CircuitState::HalfOpen,
        }
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COOLDOWN: i64 = 15;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn machine(failures: u32) -> StateMachine {
        StateMachine::new(failures, Duration::from_secs(COOLDOWN.unsigned_abs()))
    }

    #[test]
    fn a_clock_set_back_does_not_keep_the_circuit_open() {
        let mut machine = machine(1);
        machine.record(0, CallResult::Failing, at(1_000_000));
        assert_eq!(machine.admit(at(0)), Err(Duration::from_secs(15)));
        assert_eq!(machine.admit(at(COOLDOWN)), Ok(2));
    }

    #[test]
    fn zero_failures_turn_the_breaker_off() {
        let mut machine = machine(0);
        for second in 0..100 {
            machine.record(machine.epoch, CallResult::Failing, at(second));
        }
        assert_eq!((machine.circuit(), machine.admit(at(0))), (CircuitState::Closed, Ok(0)));
    }

    #[test]
    fn a_call_admitted_before_opening_does_not_affect_the_probe() {
        let mut machine = machine(1);
        let early = machine.admit(at(0)).unwrap();
        let failed = machine.admit(at(0)).unwrap();
        machine.record(failed, CallResult::Failing, at(0));
        let probe = machine.admit(at(COOLDOWN)).unwrap();
        machine.record(early, CallResult::Alive, at(COOLDOWN));
        machine.release(early);
        assert_eq!(machine.circuit(), CircuitState::HalfOpen);
        machine.record(probe, CallResult::Alive, at(COOLDOWN));
        assert_eq!(machine.circuit(), CircuitState::Closed);
    }

    #[test]
    fn a_call_that_waited_while_the_circuit_opened_is_rejected() {
        let settings =
            BreakerSettings { failures: 1, cooldown: crate::domain::units::ConfigDuration(Duration::from_secs(15)) };
        let breaker = Breaker::new(&settings);
        let mut waiting = breaker.admit(at(0)).ok().unwrap();
        breaker.admit(at(0)).ok().unwrap().record(CallResult::Failing, at(0));
        assert_eq!(waiting.renew(at(5)), Err(Duration::from_secs(10)));
        assert_eq!(waiting.renew(at(15)), Ok(()));
        assert_eq!(breaker.state_now(), CircuitState::HalfOpen);
        drop(waiting);
        assert_eq!(breaker.state_now(), CircuitState::Open { until: at(15) });
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        Alive(usize),
        Failing(usize),
        Drop(usize),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Admit),
            2 => (0..8_usize).prop_map(Step::Alive),
            4 => (0..8_usize).prop_map(Step::Failing),
            1 => (0..8_usize).prop_map(Step::Drop),
            2 => (0..20_i64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn opens_after_consecutive_failures_and_admits_one_probe(
            most in 1..4_u32,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut machine = machine(most);
            let mut now = 0;
            let mut out: Vec<u64> = Vec::new();
            for step in steps {
                let before = machine.state;
                match step {
                    Step::Wait(seconds) => now += seconds,
                    Step::Admit => match machine.admit(at(now)) {
                        Ok(epoch) => {
                            let due = match before {
                                State::Closed { .. } => true,
                                State::Open { until } => until <= at(now),
                                State::Probing { .. } => false,
                            };
                            prop_assert!(due, "admitted in {before:?}");
                            out.push(epoch);
                        }
                        Err(rest) => {
                            let closed = matches!(before, State::Closed { .. });
                            prop_assert!(!closed, "refused in {before:?}");
                            prop_assert!(rest <= machine.cooldown);
                        }
                    },
                    Step::Alive(_) | Step::Failing(_) | Step::Drop(_) if out.is_empty() => {}
                    Step::Alive(i) => {
                        let epoch = out.swap_remove(i % out.len());
                        let current = epoch == machine.epoch;
                        machine.record(epoch, CallResult::Alive, at(now));
                        if current {
                            prop_assert_eq!(machine.state, State::Closed { failures: 0 });
                        } else {
                            prop_assert_eq!(machine.state, before);
                        }
                        machine.release(epoch);
                    }
                    Step::Failing(i) => {
                        let epoch = out.swap_remove(i % out.len());
                        let current = epoch == machine.epoch;
                        machine.record(epoch, CallResult::Failing, at(now));
                        let open = State::Open { until: at(now + COOLDOWN) };
                        prop_assert_eq!(machine.state, match before {
                            _ if !current => before,
                            State::Closed { failures } if failures + 1 < most => State::Closed { failures: failures + 1 },
                            _ => open,
                        });
                        machine.release(epoch);
                    }
                    Step::Drop(i) => {
                        let epoch = out.swap_remove(i % out.len());
                        machine.release(epoch);
                        let freed = match (before, machine.state) {
                            (State::Probing { until }, State::Open { until: same }) => until == same,
                            (before, after) => before == after,
                        };
                        prop_assert!(freed, "{before:?} became {:?}", machine.state);
                    }
                }
                let probes = out.iter().filter(|epoch| **epoch == machine.epoch).count();
                match machine.state {
                    State::Closed { failures } => prop_assert!(failures < most),
                    State::Open { .. } => prop_assert_eq!(probes, 0),
                    // Never stuck: exactly one unfinished call holds the half-open slot.
                    State::Probing { .. } => prop_assert_eq!(probes, 1),
                }
            }
        }
    }
}
