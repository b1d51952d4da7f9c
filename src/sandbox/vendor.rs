//! What the simulators share and what each vendor adds: a [`Profile`], a [`Vendor`], and the state of both.

use std::time::SystemTime;

use serde_json::Value;

use crate::sandbox::effects::EffectLog;
use crate::sandbox::fault_kinds;
use crate::sandbox::faults::{Fault, FaultKind, FaultSchedule};
use crate::sandbox::http_types::{Answer, Call};
use crate::sandbox::parameters::{Parameter, Parameters};
use crate::sandbox::webhooks::Delivery;

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
    pub fault: Option<&'a Fault>,
    pub log: &'a mut EffectLog,
    pub operation: &'static str,
    pub sequence: u64,
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

/// The changing state of a simulator.
pub(super) struct State {
    pub vendor: Box<dyn Vendor>,
    pub plan: FaultSchedule,
    pub switches: Parameters,
    pub log: EffectLog,
}
