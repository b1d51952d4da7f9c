//! The faults and lasting switches specific to `StartExam`.

use super::super::faults::{Behaviour, FaultKind};
use super::account;
use super::sign::{DATE_TOO_OLD, SIGNATURE_WRONG};
use crate::sandbox::fault_kinds::BODY_LIMIT;
use crate::sandbox::http_types::{Answer, Body};
use crate::sandbox::ordered_json::Json;
use crate::sandbox::parameters::{Parameter, choice, count, flag, optional_count, signed, status, text, within};
use crate::sandbox::vendor::CLOCK_OFFSET;

const VENDOR_FORM: Parameter =
    choice("format", &["vendor", "html", "json", "text", "empty"], "the body, normally the vendor's {\"message\"}");
const EFFECT: Parameter = flag("effect", false, "true: the call takes effect before this response");

/// The operations whose responses hold participant ids.
const REGISTRATIONS: &[&str] = &["employees_participants", "participants"];

/// The operations whose successful response is documented. `v1/employees` is not among them: its success is only a 200
/// with any body, so an error body with that status would be indistinguishable from success.
const SHAPED: &[&str] =
    &["employees_participants", "participants", "program_employees", "tests", "create_test", "sessions", "session"];

/// The vendor's own faults.
pub(super) const FAULTS: &[FaultKind] = &[
    FaultKind {
        name: "date_refused",
        only: &[],
        meaning: "responds with 403 and the published message about an old Date",
        parameters: &[status(403), VENDOR_FORM, text("message", DATE_TOO_OLD, "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "forbidden",
        only: &[],
        meaning: "responds with 403 about the signature, with a message of our own",
        parameters: &[status(403), VENDOR_FORM, text("message", SIGNATURE_WRONG, "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "unauthorized",
        only: &[],
        meaning: "responds with 401, which the vendor does not document",
        parameters: &[status(401), VENDOR_FORM, text("message", "Unauthorized", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "not_found",
        only: &[],
        meaning: "responds with 404, whatever the reference",
        parameters: &[status(404), VENDOR_FORM, text("message", "The resource is not found", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "bad_request",
        only: &[],
        meaning: "responds with 400, whatever the request",
        parameters: &[status(400), VENDOR_FORM, text("message", "The request is invalid", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "message_with_200",
        only: SHAPED,
        meaning: "responds with 200 and an error body, where a success has a documented shape",
        parameters: &[status(200), VENDOR_FORM, text("message", "Internal error", "the message"), EFFECT],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "wrong_id_count",
        only: REGISTRATIONS,
        meaning: "returns too few or too many participantIds; every registration takes effect",
        parameters: &[signed("difference", -1, "number of ids added (made up) or omitted at the end")],
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
        meaning: "returns null for every id; every registration takes effect",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| with_ids(answer, |ids| ids.fill(Json::Null))),
    },
    FaultKind {
        name: "duplicated_ids",
        only: REGISTRATIONS,
        meaning: "returns the first id in every position; every registration takes effect",
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
        meaning: "returns an object without participantIds; every registration takes effect",
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
        meaning: "v2/sessions never ends: every page has a continuationToken, and the last page repeats for ever",
        parameters: &[],
        behaviour: Behaviour::Vendor,
    },
];

/// The vendor's lasting switches.
pub(super) const SWITCHES: &[Parameter] = &[
    choice(
        "existing_registration",
        &["repeated", "left_out", "null"],
        "the result of a row skipped by doNotCreateIfExist (undocumented): the old id, no entry, or null",
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
    within("session_page_size", 500, (1, 500), "sessions per page of v2/sessions; 500 is the published maximum"),
    choice(
        "used_token",
        &["same_page", "loop", "refused"],
        "the response to a continuationToken used again (undocumented but for a warning of loops): the same response, the same page with the same token for ever, or 400",
    ),
    optional_count(
        "token_ttl_seconds",
        None,
        "how long a continuationToken is valid (undocumented; clients are to use it at once); for ever if not set",
    ),
    choice(
        "fresh_token",
        &["next_page", "loop", "refused"],
        "the response to a continuationToken used for the first time: the next page, the next page with the same token for ever, or 400",
    ),
    count("feed_lag_seconds", 0, "how long after its modification a session appears in v2/sessions (undocumented)"),
    choice(
        "modified_until",
        &["now", "complete", "backwards", "absent"],
        "modifiedUntil of the last page (undocumented): the vendor's present time, although sessions modified before may appear later; the time until which none is missing; a day before modifiedSince; or none",
    ),
    text("session_list_name", "sessions", "the name of the list in v2/sessions (undocumented)"),
    flag("second_list", false, "v2/sessions has another list, an empty one, before that of the sessions"),
    choice(
        "test_id_name",
        &["testId", "testID"],
        "the name of the test's id in a session; the legacy v1 calls have testID",
    ),
    choice(
        "data_name",
        &["name", "key"],
        "the name of a field's name in participantData; the legacy v1 calls have key",
    ),
    choice(
        "section_maximum",
        &["max", "maxScore"],
        "the name of the maximum in a section (undocumented); the legacy v1 calls have max",
    ),
    text(
        "employee_id_field",
        "",
        "a field of participantData that holds the employee's id (undocumented); none if empty",
    ),
    choice(
        "restarted_session",
        &["kept", "replaced"],
        "whether a participant's earlier session stays when the test is started again (undocumented)",
    ),
    choice(
        "unfinished_figures",
        &["null", "absent"],
        "the figures of an unfinished session: null as published, or absent as in the legacy v1 calls",
    ),
    choice("hidden_employee", &["refused", "accepted"], "whether a hidden employee can be registered (undocumented)"),
    choice("wrong_verb", &["404", "405"], "status for a known path with another verb (undocumented)"),
    choice(
        "employees_answer",
        &["object", "empty"],
        "body of a successful v1/employees response (undocumented): {} or nothing",
    ),
    choice(
        "program_answer",
        &["object", "id", "empty"],
        "body of a successful v1/program response (undocumented): {}, the program's id, or nothing",
    ),
    choice(
        "program_attempts",
        &["per_test", "max_attempts"],
        "attempts a module test counts for in v1/program/employees (undocumented): one, or its moduleTestMaxAttempts",
    ),
    choice(
        "inactive_program",
        &["refused", "accepted"],
        "whether employees can be added to or removed from an archived or deleted program (undocumented)",
    ),
    flag("proctoring_allowed", false, "whether the account has proctoring; without it, proctoring: true gets 400"),
    signed(
        CLOCK_OFFSET,
        0,
        "how far the vendor's clock is ahead: when it checks Date, in its own Date, and in sessions; 960 rejects every call from a correct clock",
    ),
    optional_count(
        "future_date_limit_seconds",
        None,
        "how far ahead Date may be before the call is rejected (undocumented); any if not set",
    ),
    choice("secret_encoding", &["utf8", "base64"], "how the secret becomes the key (undocumented)"),
    text(
        "secret",
        account::SECRET,
        "the account's secret; another value simulates a secret rotated without the caller's knowledge",
    ),
    BODY_LIMIT,
];

fn with_ids(answer: &mut Answer, change: impl FnOnce(&mut Vec<Json>)) {
    if let Body::Json(json, _) = &mut answer.body
        && let Some(Json::List(ids)) = json.member_mut("participantIds")
    {
        change(ids);
    }
}
