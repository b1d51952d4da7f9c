//! Faults and lasting switches that only make sense at `StartExam`.

use super::super::faults::{Behaviour, FaultKind};
use super::account;
use super::sign::{DATE_TOO_OLD, SIGNATURE_WRONG};
use crate::sandbox::fault_kinds::BODY_LIMIT;
use crate::sandbox::http_types::{Answer, Body};
use crate::sandbox::ordered_json::Json;
use crate::sandbox::parameters::{Form, Parameter, choice, flag, optional_count, signed, status, text};

const VENDOR_FORM: Parameter =
    choice("format", &["vendor", "html", "json", "text", "empty"], "the body, normally the vendor's {\"message\"}");
const EFFECT: Parameter = flag("effect", false, "true: the call takes effect before this answer is given");

/// The operations whose answers hold participant ids.
const REGISTRATIONS: &[&str] = &["employees_participants", "participants"];

/// The operations whose successful answer is documented. `v1/employees` is not among them: there a 200 is all that is
/// known of success, whatever its body, so an error's body under it would be no fault anybody could tell.
const SHAPED: &[&str] =
    &["employees_participants", "participants", "program_employees", "tests", "create_test", "sessions", "session"];

/// This vendor's own faults.
pub(super) const FAULTS: &[FaultKind] = &[
    FaultKind {
        name: "date_refused",
        only: &[],
        meaning: "answers 403 with the published sentence about an old Date",
        parameters: &[status(403), VENDOR_FORM, text("message", DATE_TOO_OLD, "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "forbidden",
        only: &[],
        meaning: "answers 403 about the signature, in words of our own",
        parameters: &[status(403), VENDOR_FORM, text("message", SIGNATURE_WRONG, "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "unauthorized",
        only: &[],
        meaning: "answers 401, which the vendor does not list",
        parameters: &[status(401), VENDOR_FORM, text("message", "Unauthorized", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "not_found",
        only: &[],
        meaning: "answers 404 whatever was named",
        parameters: &[status(404), VENDOR_FORM, text("message", "The resource is not found", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "bad_request",
        only: &[],
        meaning: "answers 400 whatever was sent",
        parameters: &[status(400), VENDOR_FORM, text("message", "The request is invalid", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "message_with_200",
        only: SHAPED,
        meaning: "answers 200 with an error's body, where a success has a documented shape",
        parameters: &[status(200), VENDOR_FORM, text("message", "Internal error", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "wrong_id_count",
        only: REGISTRATIONS,
        meaning: "answers too few or too many participantIds; every registration happened",
        parameters: &[signed("difference", -1, "ids added (made up) or left out at the end")],
        behaviour: Behaviour::Distort(|knobs, answer| {
            let difference = isize::try_from(knobs.number("difference").unwrap_or(0)).unwrap_or(0);
            with_ids(answer, |ids| {
                let wanted = ids.len().saturating_add_signed(difference).min(100_000);
                ids.resize(wanted, "00000000-0000-4000-8000-000000000000".into());
            });
        }),
    },
    FaultKind {
        name: "null_ids",
        only: REGISTRATIONS,
        meaning: "answers null for every id; every registration happened",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| with_ids(answer, |ids| ids.fill(Json::Null))),
    },
    FaultKind {
        name: "duplicated_ids",
        only: REGISTRATIONS,
        meaning: "answers the first id in every place; every registration happened",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            with_ids(answer, |ids| {
                if let Some(first) = ids.first().cloned() {
                    ids.fill(first);
                }
            });
        }),
    },
    FaultKind {
        name: "missing_ids",
        only: REGISTRATIONS,
        meaning: "answers an object without participantIds; every registration happened",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            if let Body::Json(Json::Object(members), _) = &mut answer.body {
                members.retain(|(name, _)| name != "participantIds");
            }
        }),
    },
    FaultKind {
        name: "endless_feed",
        only: &["sessions"],
        meaning: "v2/sessions never comes to its end: every page has a continuationToken, the last one is told over and over",
        parameters: &[],
        behaviour: Behaviour::Vendor,
    },
];

/// This vendor's lasting switches.
pub(super) const SWITCHES: &[Parameter] = &[
    choice(
        "existing_registration",
        &["repeated", "left_out", "null"],
        "what a row skipped by doNotCreateIfExist answers (undocumented): the old id, no entry, or null",
    ),
    choice(
        "several_tests",
        &["per_employee", "employees_outer", "tests_outer"],
        "ids for more than one test (undocumented): one per employee, or one per employee and test in either order",
    ),
    choice(
        "unknown_reference",
        &["404", "400"],
        "status for an unknown center, test, employee, program or profile (undocumented)",
    ),
    Parameter {
        name: "session_page_size",
        form: Form::Number { default: 500, min: 1, max: 500 },
        meaning: "sessions on a page of v2/sessions; 500 is the published maximum",
    },
    choice(
        "used_token",
        &["same_page", "loop", "refused"],
        "what a continuationToken brings the second time (undocumented but for a warning of loops): the same answer, the same page under the same token for ever, or 400",
    ),
    optional_count(
        "token_ttl_seconds",
        None,
        "how long a continuationToken is good (undocumented; it is to be used at once); for ever when not set",
    ),
    text("session_list_name", "sessions", "the name of the list in v2/sessions (undocumented)"),
    choice(
        "unfinished_figures",
        &["null", "absent"],
        "the figures of an unfinished session: null as published, or absent as in the legacy v1 calls",
    ),
    choice("hidden_employee", &["refused", "accepted"], "whether a hidden employee can be registered (undocumented)"),
    choice("wrong_verb", &["404", "405"], "status for a known path with another verb (undocumented)"),
    choice("employees_answer", &["object", "empty"], "body of a successful v1/employees (undocumented): {} or nothing"),
    choice(
        "program_answer",
        &["object", "id", "empty"],
        "body of a successful v1/program (undocumented): {}, the program's id, or nothing",
    ),
    choice(
        "program_attempts",
        &["per_test", "max_attempts"],
        "attempts a module test counts for in v1/program/employees (undocumented): one, or its moduleTestMaxAttempts",
    ),
    choice(
        "inactive_program",
        &["refused", "accepted"],
        "whether employees can be put into an archived or deleted program or taken out (undocumented)",
    ),
    flag("proctoring_allowed", false, "whether the account has proctoring; without it proctoring: true is a 400"),
    signed(
        "clock_offset_seconds",
        0,
        "how far the vendor's clock is ahead when it looks at Date; 960 refuses every call of a good clock",
    ),
    optional_count(
        "future_date_limit_seconds",
        None,
        "Date further ahead than this is refused (undocumented); accepted when not set",
    ),
    choice("secret_encoding", &["utf8", "base64"], "how the secret becomes the key (undocumented)"),
    text("secret", account::SECRET, "the account's secret; another value is a secret rotated under the caller"),
    BODY_LIMIT,
];

fn with_ids(answer: &mut Answer, change: impl FnOnce(&mut Vec<Json>)) {
    if let Body::Json(json, _) = &mut answer.body
        && let Some(Json::List(ids)) = json.member_mut("participantIds")
    {
        change(ids);
    }
}
