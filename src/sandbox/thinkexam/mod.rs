//! The `ThinkExam` simulator: routing, the order of checks, state and responses in the vendor's layout.
//!
//! It implements `bulkCandidateRegister`, `unifiedAuth`, `assignTest`, `assignTestMultiCandidates`, `deassignTest`,
//! `changeStudentPassword` (a GET with a body, as published), `newUser`, `checkLogin`, and a signature endpoint of our
//! own at `POST /sim/signature`, since the real one is not published. `POST /_webhooks` sends the webhook.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Map, Value, json};

use super::accounts::thinkexam as account;
use super::ids::Ids;
use crate::sandbox::http_types::{Answer, Body, Call};
use crate::sandbox::ordered_json::{Json, Layout, object};
use crate::sandbox::parameters::Parameters;
use crate::sandbox::vendor::{Context, Order, Profile, Reaction, UNKNOWN, Vendor};

mod assignments;
mod candidates;
mod misbehaviour;
mod portal;
mod sign;
mod webhook;
mod webhook_body;

/// The static description of this vendor.
pub(super) const PROFILE: Profile = Profile {
    name: "thinkexam",
    operations: &[
        "bulkCandidateRegister",
        "unifiedAuth",
        "assignTest",
        "assignTestMultiCandidates",
        "deassignTest",
        "changeStudentPassword",
        "newUser",
        "checkLogin",
        SIGNATURE,
        UNKNOWN,
    ],
    apart: &[SIGNATURE],
    faults: misbehaviour::FAULTS,
    without: &[],
    switches: misbehaviour::SWITCHES,
};

/// The operation of the signature endpoint.
const SIGNATURE: &str = "signature";
const PREFIX: &str = "/api/v1/";
/// The code of undocumented rejections; only its message is published, for a failed password change.
const GENERIC_CODE: &str = "3100";
const GENERIC_MESSAGE: &str = "Something went wrong";
const HTML_NOT_FOUND: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Not Found</title></head><body><div class=\"code\">404</div><div class=\"message\">Not Found</div></body></html>\n";

/// The state of the account.
pub(super) struct ThinkExam {
    start: SystemTime,
    ids: Ids,
    next_student: i64,
    issued: sign::Issued,
    /// Candidates by e-mail in lower case.
    candidates: BTreeMap<String, Candidate>,
    /// How often a test was assigned, by e-mail and test id, as long as it is assigned.
    assignments: BTreeMap<(String, String), u32>,
    /// Number of mails sent, by e-mail and test id.
    mails: BTreeMap<(String, String), u32>,
}

struct Candidate {
    student_id: i64,
    enrollment_no: String,
    name: String,
    email: String,
    password: String,
    courses: Vec<String>,
    fields: Map<String, Value>,
}

/// An error with the vendor's code and message.
#[derive(Debug, Clone, PartialEq)]
struct Refusal {
    code: String,
    message: String,
    status: u16,
}

impl Refusal {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Refusal { code: code.to_owned(), message: message.into(), status: 200 }
    }

    /// Creates an error with code and message as published.
    fn blank(field: &str) -> Self {
        Refusal::new("3023", format!("{field} should not be blank"))
    }

    /// Creates an error with code and message as published.
    fn not_exist(field: &str) -> Self {
        Refusal::new("3084", format!("{field} not exist."))
    }

    /// Creates an error with code and message as published.
    fn required(field: &str) -> Self {
        Refusal::new("3095", format!("{field} is required."))
    }

    /// Creates an error for cases without a published message; using the published code 3100 is an assumption.
    fn generic() -> Self {
        Refusal::new(GENERIC_CODE, GENERIC_MESSAGE)
    }

    fn to_json(&self) -> Json {
        let error = object([("code", self.code.as_str().into()), ("msg", self.message.as_str().into())]);
        object([("result", "error".into()), ("error", error)])
    }
}

impl ThinkExam {
    /// Creates the account in its seed state.
    pub(super) fn new(start: SystemTime) -> Self {
        ThinkExam {
            start,
            ids: Ids::new(start),
            next_student: 85_638_919,
            issued: sign::Issued::default(),
            candidates: BTreeMap::new(),
            assignments: BTreeMap::new(),
            mails: BTreeMap::new(),
        }
    }

    fn perform(&mut self, operation: &'static str, call: &Call, context: &mut Context<'_>) -> Result<Json, Refusal> {
        let is_portal = matches!(operation, "newUser" | "checkLogin");
        if is_portal {
            portal::check_header(call)?;
        } else {
            self.issued.check(call, context)?;
        }
        // The response to a body that is not JSON is undocumented.
        let body: Value = serde_json::from_slice(&call.body).map_err(|_| Refusal::generic())?;
        if operation == "bulkCandidateRegister" {
            return self.register_many(&body, context);
        }
        let body = body.as_object().ok_or_else(Refusal::generic)?;
        if context.struck_by("vendor_error") {
            return Err(Refusal::new(&context.fault_text("code"), context.fault_text("message")));
        }
        match operation {
            "unifiedAuth" => self.register_one(body, context),
            "assignTest" => self.assign_one(body, context),
            "assignTestMultiCandidates" => self.assign_many(body, context),
            "deassignTest" => self.withdraw(body, context),
            "changeStudentPassword" => self.change_password(body, context),
            "newUser" => self.new_user(body, context),
            _ => Ok(self.check_login(body)),
        }
    }
}

impl Vendor for ThinkExam {
    fn operation(&self, call: &Call) -> &'static str {
        if call.path == "/sim/signature" {
            return SIGNATURE;
        }
        let name = call.path.strip_prefix(PREFIX).unwrap_or_default();
        let known = PROFILE.operations.iter().find(|operation| **operation == name);
        known.copied().filter(|operation| ![SIGNATURE, UNKNOWN].contains(operation)).unwrap_or(UNKNOWN)
    }

    fn answer(&mut self, call: &Call, context: &mut Context<'_>) -> Answer {
        let operation = self.operation(call);
        if operation == UNKNOWN {
            return not_found(context.switches);
        }
        let verb = if operation == "changeStudentPassword" { "GET" } else { "POST" };
        if call.method != verb {
            let message =
                format!("The {} method is not supported for this route. Supported methods: {verb}.", call.method);
            return write(405, object([("message", message.into())]), context.switches);
        }
        if operation == SIGNATURE {
            return self.issued.issue(call, context);
        }
        match self.perform(operation, call, context) {
            Ok(json) => write(200, json, context.switches),
            Err(refusal) => write(refusal.status, refusal.to_json(), context.switches),
        }
    }

    fn error(&self, status: u16, message: &str) -> Answer {
        let json = Refusal::new(GENERIC_CODE, message).to_json();
        Answer::new(status, "application/json", Body::Json(json, Layout::Php { escape_slashes: true }))
    }

    fn arrive(&mut self, _: &Call, _: &Context<'_>) {
        // The log of calls is enough here.
    }

    fn control(&mut self, order: &Order<'_>) -> Option<Result<Reaction, String>> {
        let is_webhook = order.is("POST", "/_webhooks");
        is_webhook.then(|| self.read_deliveries(&order.body, order.now).map(Reaction::Deliveries))
    }

    fn state(&self) -> Value {
        let candidates = self.candidates.values().map(|candidate| {
            json!({
                "studentId": candidate.student_id,
                "enrollmentNo": candidate.enrollment_no,
                "name": candidate.name,
                "email": candidate.email,
                "password": candidate.password,
                "courses": candidate.courses,
                "fields": candidate.fields,
            })
        });
        let counted = |map: &BTreeMap<(String, String), u32>| -> Vec<Value> {
            map.iter().map(|((email, test), count)| json!({ "email": email, "testId": test, "count": count })).collect()
        };
        json!({
            "candidates": candidates.collect::<Vec<_>>(),
            "assignments": counted(&self.assignments),
            "mails": counted(&self.mails),
        })
    }

    fn reset(&mut self) {
        let mut seed = ThinkExam::new(self.start);
        // Keep counting ids, so that an id issued before a reset never refers to someone else after it.
        seed.ids = self.ids.clone();
        seed.next_student = self.next_student;
        *self = seed;
    }
}

/// Returns the text of a field: strings as they are, numbers in digits; empty if absent, null or of another type.
fn text(body: &Map<String, Value>, name: &str) -> String {
    match body.get(name) {
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Normalises an e-mail address to its key: case-insensitive.
fn email_key(email: &str) -> String {
    email.to_lowercase()
}

fn success(code: &str, message: &str) -> Json {
    object([("result", "success".into()), ("success", object([("code", code.into()), ("msg", message.into())]))])
}

fn write(status: u16, json: Json, switches: &Parameters) -> Answer {
    let layout = Layout::Php { escape_slashes: switches.flag("escape_slashes") };
    Answer::new(status, "application/json", Body::Json(json, layout))
}

fn not_found(switches: &Parameters) -> Answer {
    if switches.is("not_found_page", "html") {
        return Answer::html(404, HTML_NOT_FOUND);
    }
    write(404, object([("message", "Not Found".into())]), switches)
}
