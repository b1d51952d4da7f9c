//! The control endpoints on every vendor's port: `/_faults`, `/_effects`, `/_reset`, and those specific to one vendor.
//!
//! They belong to the sandbox, need no vendor credentials and are never struck by a fault. A misspelt name is rejected
//! with the list of valid ones.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::sandbox::effects::EffectLog;
use crate::sandbox::faults::Fault;
use crate::sandbox::http_types::{Answer, Body, Call};
use crate::sandbox::parameters::Parameter;
use crate::sandbox::vendor::{Order, Profile, Reaction, State};
use crate::sandbox::webhooks::Batch;

/// Returns whether a path is a control endpoint.
pub(super) fn is_control(path: &str) -> bool {
    path.starts_with("/_")
}

/// What a control call comes to.
pub(super) enum Handled {
    Answer(Answer),
    /// Webhooks to send before the response; see [`delivered`].
    Deliveries(Batch),
}

/// Handles a control call.
pub(super) fn handle(state: &mut State, profile: &Profile, call: &Call, now: SystemTime) -> Handled {
    match vendors_own(state, call, now) {
        Some(Ok(Reaction::Deliveries(batch))) => Handled::Deliveries(batch),
        Some(Ok(Reaction::Answer(value))) => Handled::Answer(write(200, &value)),
        Some(Err(why)) => Handled::Answer(refusal(400, &why)),
        None => Handled::Answer(common(state, profile, call)),
    }
}

/// Handles the control calls of every port.
fn common(state: &mut State, profile: &Profile, call: &Call) -> Answer {
    let result = match (call.method.as_str(), call.path.as_str()) {
        ("GET", "/_faults") => Ok(faults(state, profile)),
        ("POST", "/_faults") => set_faults(state, &call.body).map(|()| in_force(state, profile)),
        ("GET", "/_effects") => effects(state, profile, call),
        ("POST", "/_reset") => {
            reset(state);
            Ok(json!({ "reset": profile.name }))
        }
        (_, "/_faults") => return refusal(405, "/_faults supports GET and POST"),
        (_, "/_effects") => return refusal(405, "/_effects supports GET"),
        (_, "/_reset") => return refusal(405, "/_reset supports POST"),
        _ => {
            return refusal(
                404,
                "the control endpoints are /_faults, /_effects, /_reset, and POST to /_sessions at StartExam, POST to /_webhooks at ThinkExam, GET of /_ledger at the LMS",
            );
        }
    };
    match result {
        Ok(value) => write(200, &value),
        Err(why) => refusal(400, &why),
    }
}

/// Builds the response to a request for deliveries, once each was delivered or given up.
pub(super) fn delivered(told: Result<Vec<Value>, String>) -> Answer {
    match told {
        Ok(told) => write(200, &json!({ "deliveries": told })),
        Err(why) => refusal(400, &why),
    }
}

fn vendors_own(state: &mut State, call: &Call, now: SystemTime) -> Option<Result<Reaction, String>> {
    let State { vendor, switches, .. } = state;
    let body = serde_json::from_slice(&call.body).unwrap_or_default();
    vendor.control(&Order { call, body, now, switches })
}

fn set_faults(state: &mut State, body: &[u8]) -> Result<(), String> {
    let order: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not valid JSON: {error}"))?;
    let Value::Object(order) = order else {
        return Err("the body must be an object with faults, add or switches".to_owned());
    };
    if let Some(name) = order.keys().find(|name| !["faults", "add", "switches"].contains(&name.as_str())) {
        return Err(format!("unknown field \"{name}\"; expected faults, add, switches"));
    }
    // Parse everything before changing anything, so that a rejected request changes nothing.
    let replaced = order.get("faults").map(|list| read_list(state, "faults", list)).transpose()?;
    let added = order.get("add").map(|list| read_list(state, "add", list)).transpose()?;
    if let Some(switches) = order.get("switches") {
        let Value::Object(switches) = switches else {
            return Err("switches must be an object of names and values".to_owned());
        };
        state.switches.set_all(switches).map_err(|why| format!("switches: {why}"))?;
    }
    if let Some(faults) = replaced {
        state.plan.replace(faults);
    }
    if let Some(faults) = added {
        state.plan.add(faults);
    }
    Ok(())
}

fn read_list(state: &State, name: &str, list: &Value) -> Result<Vec<Fault>, String> {
    let orders = list.as_array().ok_or_else(|| format!("{name} must be a list of faults"))?;
    state.plan.read(orders)
}

fn in_force(state: &State, profile: &Profile) -> Value {
    json!({ "vendor": profile.name, "faults": state.plan.active(), "switches": state.switches.to_json() })
}

fn faults(state: &State, profile: &Profile) -> Value {
    json!({
        "vendor": profile.name,
        "faults": state.plan.active(),
        "switches": state.switches.to_json(),
        "operations": state.plan.operations(),
        "known": state.plan.known(),
        "knownSwitches": profile.switches.iter().map(Parameter::describe).collect::<Vec<_>>(),
    })
}

fn effects(state: &State, profile: &Profile, call: &Call) -> Result<Value, String> {
    let mut since = 0;
    let mut with_calls = true;
    let mut with_state = true;
    for (name, value) in call.query_pairs() {
        match (name.as_str(), value.as_str()) {
            ("since", number) => {
                since = number.parse().map_err(|_| format!("since must be a number, not \"{number}\""))?;
            }
            ("calls", "true") => with_calls = true,
            ("calls", "false") => with_calls = false,
            ("state", "true") => with_state = true,
            ("state", "false") => with_state = false,
            _ => {
                return Err(format!(
                    "unknown parameter {name}={value}; expected since=NUMBER, calls=true|false, state=true|false"
                ));
            }
        }
    }
    let mut out: Map<String, Value> = state.log.to_json(since, with_calls);
    out.insert("vendor".to_owned(), json!(profile.name));
    if with_state {
        out.insert("state".to_owned(), state.vendor.state());
    }
    Ok(out.into())
}

fn reset(state: &mut State) {
    state.vendor.reset();
    state.plan.replace(Vec::new());
    state.switches.reset();
    state.log = EffectLog::default();
}

fn refusal(status: u16, message: &str) -> Answer {
    write(status, &json!({ "error": message }))
}

fn write(status: u16, value: &Value) -> Answer {
    Answer::new(status, "application/json", Body::Text(format!("{value:#}\n")))
}
