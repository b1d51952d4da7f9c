//! One vendor's simulator: state, faults and log behind one lock, and the path of a call through them.
//!
//! Decisions and effects happen under the lock, waiting never does. A call ends with a [`Reply`]; the server applies it
//! to the connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use serde_json::Value;

use crate::sandbox::effects::EffectLog;
use crate::sandbox::faults::{Behaviour, Fault, FaultSchedule};
use crate::sandbox::http_types::{Answer, Call, End, Reply};
use crate::sandbox::parameters::Parameters;
use crate::sandbox::vendor::{Context, Profile, State, Vendor, vendor_clock};
use crate::sandbox::webhooks::{Batch, Delivery, Outcome};
use crate::sandbox::{control, fault_kinds, webhooks};

/// One vendor's simulator.
pub(super) struct Simulator {
    pub(super) profile: Profile,
    now: fn() -> SystemTime,
    state: Mutex<State>,
}

impl Simulator {
    /// Creates a simulator in its seed state.
    pub(super) fn new(profile: Profile, vendor: Box<dyn Vendor>, now: fn() -> SystemTime) -> Self {
        let dice = now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos().into());
        let plan = FaultSchedule::new(profile.kinds().collect(), profile.operations, profile.apart, dice);
        let switches = Parameters::new(profile.switches.to_vec());
        Simulator { profile, now, state: Mutex::new(State { vendor, plan, switches, log: EffectLog::default() }) }
    }

    /// Handles a call completely, waiting included. It must run to its end even if the caller has hung up: a real
    /// vendor does not notice that either.
    pub(super) async fn handle(self: Arc<Self>, call: Call) -> Reply {
        if control::is_control(&call.path) {
            let handled = control::handle(&mut self.lock(), &self.profile, &call, (self.now)());
            return match handled {
                control::Handled::Answer(answer) => finished(&answer),
                control::Handled::Deliveries(batch) => finished(&control::delivered(self.deliver(batch).await)),
            };
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

    /// Sends the requested deliveries, as many at a time as requested, and returns the result of every attempt.
    async fn deliver(&self, batch: Batch) -> Result<Vec<Value>, String> {
        let client = webhooks::client(batch.concurrency)?;
        let deliveries = futures_util::stream::iter(batch.deliveries);
        let told: Vec<_> =
            deliveries.map(|delivery| self.deliver_one(&client, delivery)).buffered(batch.concurrency).collect().await;
        Ok(told.into_iter().flatten().collect())
    }

    async fn deliver_one(&self, client: &reqwest::Client, delivery: Delivery) -> Vec<Value> {
        let mut told = Vec::new();
        tokio::time::sleep(delivery.delay).await;
        for attempt in 1..=delivery.attempts {
            if attempt > 1 {
                tokio::time::sleep(delivery.retry_delay).await;
            }
            let outcome = webhooks::send(client, &delivery).await;
            told.push(outcome.to_json(&delivery.subject, attempt));
            let mut keys = delivery.keys.clone();
            keys.push(("attempt", attempt.to_string()));
            // Not caused by a call to the vendor; calls are numbered from 1.
            let cause = ((self.now)(), 0, "webhook");
            self.lock().log.effect(cause, outcome.word(), delivery.subject.clone(), keys);
            if outcome == Outcome::Delivered {
                break;
            }
        }
        told
    }

    fn begin(&self, call: &Call) -> (&'static str, u64, Option<Fault>) {
        let now = (self.now)();
        let mut inner = self.lock();
        let State { vendor, plan, switches, log } = &mut *inner;
        let operation = vendor.operation(call);
        let fault = plan.pick(operation);
        let name = fault.as_ref().map(|fault| fault.kind.name);
        let sequence = log.begin(now, operation, call.clone(), name);
        vendor.arrive(call, &Context { now, switches, fault: fault.as_ref(), log, operation, sequence });
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
        let State { vendor, switches, log, .. } = &mut *inner;
        vendor.answer(call, &mut Context { now, switches, fault, log, operation, sequence })
    }

    /// Records the status of a response and dates it by the vendor's clock.
    fn close(&self, sequence: u64, mut reply: Reply) -> Reply {
        let mut inner = self.lock();
        let status = match &mut reply {
            Reply::Answer { status, headers, .. } => {
                headers.push(("Date", httpdate::fmt_http_date(vendor_clock((self.now)(), &inner.switches))));
                Some(*status)
            }
            Reply::Raw { bytes, .. } => raw_status(bytes),
        };
        inner.log.finish(sequence, status);
        reply
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one call must not end the whole sandbox; at worst the state is that of the failed call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn finished(answer: &Answer) -> Reply {
    Reply::Answer { status: answer.status, headers: answer.headers.clone(), body: answer.body.to_bytes() }
}

fn raw_status(bytes: &[u8]) -> Option<u16> {
    let text = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}
