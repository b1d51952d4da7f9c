//! What the simulators share and what each vendor adds: a [`Profile`], a [`Vendor`], and the state of both.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::sandbox::effects::EffectLog;
use crate::sandbox::fault_kinds;
use crate::sandbox::faults::{Fault, FaultKind, FaultSchedule};
use crate::sandbox::http_types::{Answer, Call};
use crate::sandbox::parameters::{Parameter, Parameters};
use crate::sandbox::webhooks::Batch;

/// The vendor-specific part of a simulator.
pub(super) trait Vendor: Send {
    /// Returns the operation of a call; [`UNKNOWN`] if the vendor has no such call.
    fn operation(&self, call: &Call) -> &'static str;
    /// Notes a call on arrival, whatever fault strikes it afterwards.
    fn arrive(&mut self, call: &Call, context: &Context<'_>);
    /// Checks the call, changes the state and returns the response.
    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer;
    /// Builds an error in the vendor's own format.
    fn error(&self, status: u16, message: &str) -> Answer;
    /// Handles a vendor-specific control call; `None` if it is not one.
    fn control(&mut self, order: &Order<'_>) -> Option<Result<Reaction, String>>;
    /// Renders the state for `GET /_effects`.
    fn state(&self) -> Value;
    /// Resets the state to the seed.
    fn reset(&mut self);
}

/// A control call that the common part does not know.
pub(super) struct Order<'a> {
    pub call: &'a Call,
    /// The body; null if it is not JSON.
    pub body: Value,
    /// The time on the sandbox's clock.
    pub now: SystemTime,
    pub switches: &'a Parameters,
}

impl Order<'_> {
    /// Returns whether the call has this method and path.
    pub(super) fn is(&self, method: &str, path: &str) -> bool {
        self.call.method == method && self.call.path == path
    }
}

/// The result of a vendor-specific control call.
pub(super) enum Reaction {
    /// The response.
    Answer(Value),
    /// Webhooks to send; the response lists what became of them.
    Deliveries(Batch),
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

/// The switch that moves a vendor's clock.
pub(super) const CLOCK_OFFSET: &str = "clock_offset_seconds";

/// Returns the time on the vendor's clock, which is the sandbox's unless the switch moves it to one that the header
/// `Date` can show.
pub(super) fn vendor_clock(now: SystemTime, switches: &Parameters) -> SystemTime {
    let seconds = switches.number(CLOCK_OFFSET).unwrap_or(0);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
    let is_showable = |at: &SystemTime| *at >= SystemTime::UNIX_EPOCH && jiff::Timestamp::try_from(*at).is_ok();
    moved.filter(is_showable).unwrap_or(now)
}
