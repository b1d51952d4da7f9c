//! A learning management system that receives webhooks: it verifies their signatures, keeps a ledger, and misbehaves like
//! the vendors' simulators.
//!
//! It is the other end of what a gateway delivers, so it is written from the specification of Standard Webhooks alone.

use std::time::Duration;

use serde_json::{Value, json};

use super::accounts::lms as account;
use crate::sandbox::fault_kinds::BODY_LIMIT;
use crate::sandbox::faults::{Behaviour, FaultKind};
use crate::sandbox::http_types::{Answer, Body, Call};
use crate::sandbox::ordered_json::{Json, Layout, object};
use crate::sandbox::parameters::{Parameter, choice, count, optional_count, signed, status, text, within};
use crate::sandbox::vendor::{CLOCK_OFFSET, Context, Order, Profile, Reaction, UNKNOWN, Vendor, vendor_clock};
use ledger::{Acceptance, Arrival, Ledger};

mod ledger;
mod signature;

/// The static description of the LMS.
pub(super) const PROFILE: Profile = Profile {
    name: "lms",
    operations: &[HOOK, UNKNOWN],
    apart: &[],
    faults: FAULTS,
    // Its responses hold neither numbers nor strings of digits.
    without: &["numbers_as_strings", "strings_as_numbers"],
    switches: SWITCHES,
};

/// The operation of every webhook, whatever its path.
const HOOK: &str = "hook";

const MESSAGE: Parameter = text("message", "Gone", "the message");
const FORMAT: Parameter = choice("format", &["vendor", "html", "json", "text", "empty"], "the body");

const FAULTS: &[FaultKind] = &[FaultKind {
    name: "gone",
    only: &[HOOK],
    meaning: "responds with 410, by which a receiver asks for no more webhooks",
    parameters: &[
        status(410),
        FORMAT,
        MESSAGE,
        optional_count("retryAfter", None, "seconds for the Retry-After header"),
    ],
    behaviour: Behaviour::Replace,
}];

const SWITCHES: &[Parameter] = &[
    text("secrets", account::SECRET, "the secrets that are valid, between commas; several while one is replaced"),
    count("tolerance_seconds", 300, "how far webhook-timestamp may be from the LMS's clock, either way"),
    within("success_status", 200, (200, 299), "status for a webhook that is accepted"),
    within("unverified_status", 401, (200, 599), "status for a webhook whose signature is not valid"),
    signed(CLOCK_OFFSET, 0, "how far the LMS's clock is ahead, for webhook-timestamp and in its Date"),
    BODY_LIMIT,
];

/// The LMS.
#[derive(Default)]
pub(super) struct Lms {
    ledger: Ledger,
}

impl Lms {
    /// Creates an LMS that has received nothing.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Handles `GET /_ledger`.
    fn show_ledger(&self, call: &Call) -> Result<Value, String> {
        let (mut since, mut with_bodies) = (0, true);
        for (name, value) in call.query_pairs() {
            match (name.as_str(), value.as_str()) {
                ("since", number) => {
                    since = number.parse().map_err(|_| format!("since must be a number, not \"{number}\""))?;
                }
                ("bodies", "true") => with_bodies = true,
                ("bodies", "false") => with_bodies = false,
                _ => {
                    return Err(format!("unknown parameter {name}={value}; expected since=NUMBER, bodies=true|false"));
                }
            }
        }
        let mut out = self.ledger.totals();
        out.insert("webhooks".to_owned(), self.ledger.webhooks(since, with_bodies));
        Ok(out.into())
    }
}

impl Vendor for Lms {
    fn operation(&self, call: &Call) -> &'static str {
        let is_hook = call.path == account::PATH || call.path.starts_with("/hook/");
        if is_hook && call.method == "POST" { HOOK } else { UNKNOWN }
    }

    fn arrive(&mut self, call: &Call, context: &Context<'_>) {
        if context.operation != HOOK {
            return;
        }
        let switches = context.switches;
        let tolerance = switches.number("tolerance_seconds").and_then(|seconds| u64::try_from(seconds).ok());
        let (secrets, now) = (switches.words("secrets"), vendor_clock(context.now, switches));
        let header = |name| call.header(name).unwrap_or_default().to_owned();
        self.ledger.note(Arrival {
            sequence: context.sequence,
            at: context.now,
            path: call.path.clone(),
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            body: call.body.clone(),
            verdict: signature::verify(call, &secrets, now, Duration::from_secs(tolerance.unwrap_or(0))),
        });
    }

    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer {
        if context.operation != HOOK {
            let is_path = call.path == account::PATH || call.path.starts_with("/hook/");
            return if is_path { self.error(405, "webhooks come by POST") } else { self.error(404, "not found") };
        }
        let (id, acceptance) = self.ledger.accept(context.sequence);
        let change = match acceptance {
            Acceptance::First => "accepted",
            Acceptance::Duplicate => "repeated",
            Acceptance::Refused(_) => "refused",
        };
        context.effect(change, id.clone(), vec![("webhookId", id), ("path", call.path.clone())]);
        let status = |name| context.switches.number(name).and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
        match acceptance {
            Acceptance::Refused(why) => self.error(status("unverified_status"), why),
            _ => write(status("success_status"), object([("received", true.into())])),
        }
    }

    fn error(&self, status: u16, message: &str) -> Answer {
        write(status, object([("error", message.into())]))
    }

    fn control(&mut self, order: &Order<'_>) -> Option<Result<Reaction, String>> {
        order.is("GET", "/_ledger").then(|| self.show_ledger(order.call).map(Reaction::Answer))
    }

    fn state(&self) -> Value {
        json!(self.ledger.totals())
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

fn write(status: u16, json: Json) -> Answer {
    Answer::new(status, "application/json", Body::Json(json, Layout::Php { escape_slashes: false }))
}
