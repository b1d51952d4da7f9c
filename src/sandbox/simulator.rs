//! One vendor's simulator: state, faults and log behind one lock, and the path of a call through them.
//!
//! Decisions and effects happen under the lock, waiting never does. A call ends with a [`Reply`]; the server applies it
//! to the connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::sandbox::effects::EffectLog;
use crate::sandbox::faults::{Behaviour, Fault, FaultKind, FaultSchedule};
use crate::sandbox::http_types::{Answer, Call, End, Reply};
use crate::sandbox::parameters::{Parameter, Parameters};
use crate::sandbox::webhooks::Delivery;
use crate::sandbox::{control, fault_kinds, webhooks};

/// The vendor-specific part of a simulator.
pub(super) trait Vendor: Send {
    /// Returns the operation of a call; [`UNKNOWN`] if the vendor has no such call.
    fn operation(&self, call: &Call) -> &'static str;
    /// Checks the call, changes the state and returns the response.
    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer;
    /// Builds an error in the vendor's own format.
    fn error(&self, status: u16, message: &str) -> Answer;
    /// Handles a vendor-specific control call; `None` if the path is not one.
    fn control(&mut self, path: &str, body: &Value, now: SystemTime) -> Option<Result<Value, String>>;
    /// Returns the deliveries that a control call requests; `None` if the path is not such a call.
    fn deliveries(&self, _path: &str, _body: &Value, _now: SystemTime) -> Option<Result<Vec<Delivery>, String>> {
        None
    }
    /// Renders the state for `GET /_effects`.
    fn state(&self) -> Value;
    /// Resets the state to the seed.
    fn reset(&mut self);
}

/// The operation of a call to a path that the vendor does not have.
pub(super) const UNKNOWN: &str = "unknown";

/// The static description of a vendor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    pub name: &'static str,
    pub operations: &'static [&'static str],
    /// Operations that a fault strikes only when it names them.
    pub apart: &'static [&'static str],
    pub faults: &'static [FaultKind],
    /// General faults that have no effect at this vendor.
    pub without: &'static [&'static str],
    pub switches: &'static [Parameter],
}

impl Profile {
    /// Lists every fault of this vendor, the general ones first.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static FaultKind> + use<> {
        let without = self.without;
        fault_kinds::GENERAL.iter().filter(move |kind| !without.contains(&kind.name)).chain(self.faults)
    }
}

/// The context of one call.
pub(super) struct Context<'a> {
    /// The time of the call on the sandbox's clock.
    pub now: SystemTime,
    pub switches: &'a Parameters,
    fault: Option<&'a Fault>,
    log: &'a mut EffectLog,
    operation: &'static str,
    sequence: u64,
}

impl Context<'_> {
    /// Returns whether the vendor's own fault of this name strikes this call.
    pub(super) fn struck_by(&self, name: &str) -> bool {
        self.fault.is_some_and(|fault| fault.is(name))
    }

    /// Returns a numeric parameter of the fault that strikes this call.
    pub(super) fn fault_number(&self, name: &str) -> i64 {
        self.fault.and_then(|fault| fault.knobs.number(name)).unwrap_or(0)
    }

    /// Returns a text parameter of the fault that strikes this call.
    pub(super) fn fault_text(&self, name: &str) -> String {
        self.fault.map(|fault| fault.knobs.text(name)).unwrap_or_default()
    }

    /// Records an effect: the change, its subject, and the keys to count it by.
    pub(super) fn effect(&mut self, change: &'static str, subject: String, keys: Vec<(&'static str, String)>) {
        self.log.effect((self.now, self.sequence, self.operation), change, subject, keys);
    }
}

/// One vendor's simulator.
pub(super) struct Simulator {
    pub(super) profile: Profile,
    now: fn() -> SystemTime,
    inner: Mutex<Inner>,
}

/// The state behind the lock.
pub(super) struct Inner {
    pub vendor: Box<dyn Vendor>,
    pub plan: FaultSchedule,
    pub switches: Parameters,
    pub log: EffectLog,
}

impl Simulator {
    /// Creates a simulator in its seed state.
    pub(super) fn new(profile: Profile, vendor: Box<dyn Vendor>, now: fn() -> SystemTime) -> Self {
        let dice = now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos().into());
        let plan = FaultSchedule::new(profile.kinds().collect(), profile.operations, profile.apart, dice);
        let switches = Parameters::new(profile.switches.to_vec());
        Simulator { profile, now, inner: Mutex::new(Inner { vendor, plan, switches, log: EffectLog::default() }) }
    }

    /// Handles a call completely, waiting included. It must run to its end even if the caller has hung up: a real
    /// vendor does not notice that either.
    pub(super) async fn handle(self: Arc<Self>, call: Call) -> Reply {
        if control::is_control(&call.path) {
            let ordered = control::deliveries(&self.lock(), &call, (self.now)());
            if let Some(ordered) = ordered {
                return finished(&control::delivered(self.deliver(ordered).await));
            }
            return finished(&control::answer(&mut self.lock(), &self.profile, &call, (self.now)()));
        }
        let (operation, sequence, fault) = self.begin(&call);
        if self.is_too_large(&call) {
            return self.close(sequence, finished(&fault_kinds::too_large()));
        }
        let Some(fault) = fault else {
            let answer = self.run(&call, operation, sequence, None);
            return self.close(sequence, finished(&answer));
        };
        if matches!(fault.kind.behaviour, Behaviour::AnswerFirst) {
            return self.answer_first(call, operation, sequence, fault).await;
        }
        let reply = self.misbehave(&call, operation, sequence, &fault).await;
        self.close(sequence, reply)
    }

    fn is_too_large(&self, call: &Call) -> bool {
        let limit = self.lock().switches.number(fault_kinds::BODY_LIMIT.name);
        limit.and_then(|limit| usize::try_from(limit).ok()).is_some_and(|limit| call.body.len() > limit)
    }

    /// Responds like a proxy that timed out, while the vendor behind it continues.
    async fn answer_first(self: Arc<Self>, call: Call, operation: &'static str, sequence: u64, fault: Fault) -> Reply {
        tokio::time::sleep(fault.delay()).await;
        let reply = self.close(sequence, self.shape(&fault, None));
        let later = fault.knobs.number("effectDelayMs").and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(later)).await;
            self.run(&call, operation, sequence, Some(&fault));
        });
        reply
    }

    /// Sends the requested deliveries one after the other and returns the result of every attempt.
    async fn deliver(&self, ordered: Result<Vec<Delivery>, String>) -> Result<Vec<Value>, String> {
        let (deliveries, client) = (ordered?, webhooks::client()?);
        let mut told = Vec::new();
        for delivery in deliveries {
            tokio::time::sleep(delivery.delay).await;
            for attempt in 1..=delivery.attempts {
                if attempt > 1 {
                    tokio::time::sleep(delivery.retry_delay).await;
                }
                let outcome = webhooks::send(&client, &delivery).await;
                told.push(outcome.to_json(&delivery.subject, attempt));
                let mut keys = delivery.keys.clone();
                keys.push(("attempt", attempt.to_string()));
                // Not caused by a call to the vendor; calls are numbered from 1.
                let cause = ((self.now)(), 0, "webhook");
                self.lock().log.effect(cause, outcome.word(), delivery.subject.clone(), keys);
                if outcome == webhooks::Outcome::Delivered {
                    break;
                }
            }
        }
        Ok(told)
    }

    fn begin(&self, call: &Call) -> (&'static str, u64, Option<Fault>) {
        let mut inner = self.lock();
        let operation = inner.vendor.operation(call);
        let fault = inner.plan.pick(operation);
        let name = fault.as_ref().map(|fault| fault.kind.name);
        let sequence = inner.log.begin((self.now)(), operation, call.clone(), name);
        (operation, sequence, fault)
    }

    async fn misbehave(&self, call: &Call, operation: &'static str, sequence: u64, fault: &Fault) -> Reply {
        let effect = match fault.kind.behaviour {
            Behaviour::Cut { after_effect, .. } => after_effect,
            Behaviour::Replace => fault.knobs.flag("effect"),
            _ => true,
        };
        let wait_first = matches!(fault.kind.behaviour, Behaviour::DelayBefore) || !effect;
        if wait_first {
            tokio::time::sleep(fault.delay()).await;
        }
        let answer = if effect { Some(self.run(call, operation, sequence, Some(fault))) } else { None };
        if !wait_first {
            tokio::time::sleep(fault.delay()).await;
        }
        self.shape(fault, answer)
    }

    fn shape(&self, fault: &Fault, answer: Option<Answer>) -> Reply {
        let mut answer = match (fault.kind.behaviour, answer) {
            (Behaviour::Cut { reset, .. }, _) => {
                let end = if reset { End::Reset } else { End::Close };
                return Reply::Raw { bytes: Vec::new(), pace: None, end };
            }
            (Behaviour::Replace | Behaviour::AnswerFirst, _) | (_, None) => {
                let inner = self.lock();
                fault_kinds::replacement(&fault.knobs, |status, message| inner.vendor.error(status, message))
            }
            (_, Some(answer)) => answer,
        };
        match fault.kind.behaviour {
            Behaviour::Send(send) => return send(&fault.knobs, &answer),
            Behaviour::Distort(distort) => distort(&fault.knobs, &mut answer),
            _ => {}
        }
        finished(&answer)
    }

    fn run(&self, call: &Call, operation: &'static str, sequence: u64, fault: Option<&Fault>) -> Answer {
        let now = (self.now)();
        let mut inner = self.lock();
        let Inner { vendor, switches, log, .. } = &mut *inner;
        vendor.answer(call, &mut Context { now, switches, fault, log, operation, sequence })
    }

    fn close(&self, sequence: u64, reply: Reply) -> Reply {
        let status = match &reply {
            Reply::Answer { status, .. } => Some(*status),
            Reply::Raw { bytes, .. } => raw_status(bytes),
        };
        self.lock().log.finish(sequence, status);
        reply
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in one call must not end the whole sandbox; at worst the state is that of the failed call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finished(answer: &Answer) -> Reply {
    Reply::Answer { status: answer.status, headers: answer.headers.clone(), body: answer.body.to_bytes() }
}

fn raw_status(bytes: &[u8]) -> Option<u16> {
    let text = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}
