//! The schedule of injected faults: which fault strikes which call, and how often.
//!
//! The faults common to all vendors are in [`crate::sandbox::fault_kinds`], those of one vendor in its folder. This
//! file parses requests, keeps the list and picks a fault; it never changes a response.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::sandbox::http_types::{Answer, Reply};
use crate::sandbox::parameters::{Parameter, Parameters, count};

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct FaultKind {
    pub name: &'static str,
    /// The only operations it applies to, since it would have no effect on others; empty for all.
    pub only: &'static [&'static str],
    pub meaning: &'static str,
    /// Parameters in addition to those of every fault (`delayMs`).
    pub parameters: &'static [Parameter],
    pub behaviour: Behaviour,
}

/// What a fault does, and when.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    /// Waits, then lets the call run as usual.
    DelayBefore,
    /// Lets the call run, then waits before responding.
    DelayAfter,
    /// Ends the connection without sending a byte.
    Cut { after_effect: bool, reset: bool },
    /// Replaces the vendor's response; the parameter `effect` decides whether the call runs first.
    Replace,
    /// Sends another response at once; the call runs later.
    AnswerFirst,
    /// Changes the vendor's own response before it is written.
    Distort(fn(&Parameters, &mut Answer)),
    /// Sends the vendor's own response in an unusual way.
    Send(fn(&Parameters, &Answer) -> Reply),
    /// Implemented by the vendor's simulator itself.
    Vendor,
}

/// The parameters of every fault.
const COMMON: [Parameter; 1] = [count(
    "delayMs",
    0,
    "milliseconds to wait: before the effect if the fault strikes before it, else between effect and response",
)];

/// An active fault.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub kind: &'static FaultKind,
    pub knobs: Parameters,
    operation: Option<&'static str>,
    times: Option<u64>,
    after: u64,
    probability: f64,
    struck: u64,
}

impl Fault {
    /// Returns whether the fault has this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.kind.name == name
    }

    /// Returns how long the fault waits.
    pub(super) fn delay(&self) -> Duration {
        let millis = self.knobs.number("delayMs").and_then(|millis| u64::try_from(millis).ok());
        Duration::from_millis(millis.unwrap_or(0))
    }

    fn to_json(&self) -> Value {
        let mut out = json!({
            "name": self.kind.name,
            "operation": self.operation,
            "times": self.times,
            "after": self.after,
            "probability": self.probability,
            "struck": self.struck,
        });
        if let (Some(members), Value::Object(knobs)) = (out.as_object_mut(), self.knobs.to_json()) {
            members.extend(knobs);
        }
        out
    }
}

/// The active faults of one vendor.
#[derive(Debug)]
pub(super) struct FaultSchedule {
    kinds: Vec<&'static FaultKind>,
    operations: &'static [&'static str],
    /// Operations struck only when named; `null` does not include them.
    apart: &'static [&'static str],
    active: Vec<Fault>,
    dice: u64,
}

impl FaultSchedule {
    /// Creates an empty schedule for these kinds and operations.
    pub(super) fn new(
        kinds: Vec<&'static FaultKind>,
        operations: &'static [&'static str],
        apart: &'static [&'static str],
        dice: u64,
    ) -> Self {
        FaultSchedule { kinds, operations, apart, active: Vec::new(), dice }
    }

    /// Parses a list of fault requests; fails if any is invalid.
    pub(super) fn read(&self, orders: &[Value]) -> Result<Vec<Fault>, String> {
        orders.iter().map(|order| self.read_one(order)).collect()
    }

    /// Replaces all active faults.
    pub(super) fn replace(&mut self, faults: Vec<Fault>) {
        self.active = faults;
    }

    /// Appends faults to the active ones.
    pub(super) fn add(&mut self, faults: Vec<Fault>) {
        self.active.extend(faults);
    }

    /// Returns the first fault in the list that strikes this call, and removes it once it has struck `times` times.
    pub(super) fn pick(&mut self, operation: &'static str) -> Option<Fault> {
        for index in 0..self.active.len() {
            let fault = &mut self.active[index];
            let matches = match fault.operation {
                Some(wanted) => wanted == operation,
                None if fault.kind.only.is_empty() => !self.apart.contains(&operation),
                None => fault.kind.only.contains(&operation),
            };
            if !matches {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            if fault.probability < 1.0 && fault.probability <= roll(&mut self.dice) {
                continue;
            }
            fault.struck += 1;
            let picked = fault.clone();
            if let Some(times) = &mut fault.times {
                *times -= 1;
                if *times == 0 {
                    self.active.remove(index);
                }
            }
            return Some(picked);
        }
        None
    }

    /// Lists the active faults.
    pub(super) fn active(&self) -> Value {
        self.active.iter().map(Fault::to_json).collect()
    }

    /// Lists every kind of fault.
    pub(super) fn known(&self) -> Value {
        let known = self.kinds.iter().map(|kind| {
            let parameters: Vec<_> = knobs_of(kind).iter().map(Parameter::describe).collect();
            json!({ "name": kind.name, "meaning": kind.meaning, "only": kind.only, "parameters": parameters })
        });
        known.collect()
    }

    /// Returns the operations a fault can name.
    pub(super) fn operations(&self) -> &'static [&'static str] {
        self.operations
    }

    fn read_one(&self, order: &Value) -> Result<Fault, String> {
        let Value::Object(order) = order else {
            return Err(format!("a fault must be an object with a name, not {order}"));
        };
        let mut order = order.clone();
        let name = order.remove("name").and_then(|name| name.as_str().map(str::to_owned));
        let kind =
            name.as_deref().and_then(|name| self.kinds.iter().find(|kind| kind.name == name)).ok_or_else(|| {
                let known: Vec<_> = self.kinds.iter().map(|kind| kind.name).collect();
                format!(
                    "unknown fault {}; known faults: {}",
                    name.map_or("without a name".to_owned(), |n| format!("\"{n}\"")),
                    known.join(", ")
                )
            })?;
        let operation = self.read_operation(order.remove("operation"))?;
        if let Some(operation) = operation
            && !kind.only.is_empty()
            && !kind.only.contains(&operation)
        {
            return Err(format!("fault {} applies to {} only, not {operation}", kind.name, kind.only.join(", ")));
        }
        let times = read_count(&mut order, "times")?;
        if times == Some(0) {
            return Err("times must be at least 1, or null (until reset)".to_owned());
        }
        let after = read_count(&mut order, "after")?.unwrap_or(0);
        let probability = match order.remove("probability") {
            None | Some(Value::Null) => 1.0,
            Some(value) => value
                .as_f64()
                .filter(|share| (0.0..=1.0).contains(share))
                .ok_or_else(|| format!("probability must be a number from 0 to 1, not {value}"))?,
        };
        let mut knobs = Parameters::new(knobs_of(kind));
        knobs.set_all(&order).map_err(|why| {
            format!("fault {}: {why} (every fault also takes name, operation, times, after, probability)", kind.name)
        })?;
        Ok(Fault { kind, knobs, operation, times, after, probability, struck: 0 })
    }

    fn read_operation(&self, value: Option<Value>) -> Result<Option<&'static str>, String> {
        let value = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        let known = value.as_str().and_then(|wanted| self.operations.iter().find(|operation| **operation == wanted));
        match known {
            Some(operation) => Ok(Some(operation)),
            None => Err(format!("unknown operation {value}; known operations: {}", self.operations.join(", "))),
        }
    }
}

/// Returns the parameters of a fault: its own, and the common ones it does not override.
pub(super) fn knobs_of(kind: &FaultKind) -> Vec<Parameter> {
    let own = kind.parameters.iter();
    let common = COMMON.iter().filter(|knob| kind.parameters.iter().all(|own| own.name != knob.name));
    own.chain(common).copied().collect()
}

fn read_count(order: &mut Map<String, Value>, name: &'static str) -> Result<Option<u64>, String> {
    match order.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!("{name} must be a whole number from 0, or null, not {value}")),
        },
    }
}

/// Returns a pseudo-random number from 0 to 1 (`SplitMix64`); a test bench needs no better source.
fn roll(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    let upper = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::fault_kinds;

    fn plan(orders: &Value) -> FaultSchedule {
        let mut plan =
            FaultSchedule::new(fault_kinds::GENERAL.iter().collect(), &["add", "update", "apart"], &["apart"], 7);
        let faults = plan.read(orders.as_array().expect("a list")).expect("known faults");
        plan.replace(faults);
        plan
    }

    #[test]
    fn a_fault_skips_after_calls_then_strikes_times_calls() {
        let mut plan = plan(&json!([{ "name": "bom", "operation": "add", "times": 2, "after": 1 }]));
        let struck: Vec<_> = ["update", "add", "add", "update", "add", "add"].map(|op| plan.pick(op).is_some()).into();
        assert_eq!(struck, [false, false, true, false, true, false]);
    }

    #[test]
    fn a_fault_for_any_operation_skips_operations_apart() {
        let mut plan = plan(&json!([{ "name": "bom" }]));
        assert!(plan.pick("apart").is_none());
        assert!(plan.pick("add").is_some());
    }

    #[test]
    fn probability_is_a_share_of_the_calls() {
        let mut plan = plan(&json!([{ "name": "bom", "probability": 0.25 }]));
        let struck = (0..4000).filter(|_| plan.pick("add").is_some()).count();
        assert!((800..1200).contains(&struck), "{struck}");
    }

    #[test]
    fn unknown_names_and_parameters_are_rejected_with_the_known_ones() {
        let plan = plan(&json!([]));
        for (order, hint) in [
            (json!({ "name": "bomb" }), "known faults: delay_before_effect"),
            (json!({ "name": "bom", "delay": 1 }), "delayMs"),
            (json!({ "name": "bom", "operation": "delete" }), "add, update, apart"),
            (json!({ "name": "bom", "times": 0 }), "at least 1"),
            (json!({ "name": "bom", "probability": 2 }), "from 0 to 1"),
            (json!({ "name": "drip", "bytes": "many" }), "whole number"),
        ] {
            let refused = plan.read(&[order]).expect_err("must be rejected");
            assert!(refused.contains(hint), "{refused}");
        }
    }
}
