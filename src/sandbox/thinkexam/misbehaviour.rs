//! The faults and lasting switches specific to `ThinkExam`.

use super::super::faults::{Behaviour, FaultKind};
use crate::sandbox::fault_kinds::BODY_LIMIT;
use crate::sandbox::http_types::Body;
use crate::sandbox::ordered_json::Json;
use crate::sandbox::parameters::{Parameter, choice, count, flag, optional_count, signed, status, text};
use crate::sandbox::vendor::CLOCK_OFFSET;

const CODE: Parameter = text("code", "3100", "the error's code");
const MESSAGE: Parameter = text("message", "Something went wrong", "the error's message");

const BULK: &[&str] = &["bulkCandidateRegister"];
const SIGNED: &[&str] = &[
    "bulkCandidateRegister",
    "unifiedAuth",
    "assignTest",
    "assignTestMultiCandidates",
    "deassignTest",
    "changeStudentPassword",
];
const CALLS: &[&str] = &[
    "bulkCandidateRegister",
    "unifiedAuth",
    "assignTest",
    "assignTestMultiCandidates",
    "deassignTest",
    "changeStudentPassword",
    "newUser",
    "checkLogin",
];

/// The vendor's own faults.
pub(super) const FAULTS: &[FaultKind] = &[
    FaultKind {
        name: "signature_refused",
        only: SIGNED,
        meaning: "rejects a valid triple, as when it expires between two calls (after: n)",
        parameters: &[],
        behaviour: Behaviour::Vendor,
    },
    FaultKind {
        name: "vendor_error",
        only: CALLS,
        meaning: "responds with 200 and an error body of any code; the call has no effect",
        parameters: &[CODE, MESSAGE],
        behaviour: Behaviour::Vendor,
    },
    FaultKind {
        name: "error_after_effect",
        only: &[],
        meaning: "responds with an error body although the call took effect",
        parameters: &[
            status(200),
            choice("format", &["vendor"], "the body"),
            MESSAGE,
            flag("effect", true, "false: the call takes no effect"),
        ],
        behaviour: Behaviour::Replace,
    },
    FaultKind {
        name: "json_in_member",
        only: CALLS,
        meaning: "writes every list and object in the response's outermost object as a JSON string",
        parameters: &[],
        behaviour: Behaviour::Distort(|_, answer| {
            if let Body::Json(Json::Object(members), layout) = &mut answer.body {
                for (_, value) in members {
                    if matches!(value, Json::Object(_) | Json::List(_)) {
                        *value = value.write(*layout).into();
                    }
                }
            }
        }),
    },
    FaultKind {
        name: "bulk_item_error",
        only: BULK,
        meaning: "fails one row of bulkCandidateRegister, as an item; the others are registered",
        parameters: &[count("row", 0, "which row, from 0"), CODE, MESSAGE],
        behaviour: Behaviour::Vendor,
    },
    FaultKind {
        name: "bulk_fewer_items",
        only: BULK,
        meaning: "bulkCandidateRegister returns fewer items than rows; all are registered",
        parameters: &[count("items", 1, "number of items omitted at the end")],
        behaviour: Behaviour::Vendor,
    },
    FaultKind {
        name: "bulk_shuffled",
        only: BULK,
        meaning: "bulkCandidateRegister returns its items in reverse order",
        parameters: &[],
        behaviour: Behaviour::Vendor,
    },
];

/// The vendor's lasting switches.
pub(super) const SWITCHES: &[Parameter] = &[
    choice("signature_kinds", &["any", "issued", "hmac", "static"], "which triples are accepted"),
    count("signature_ttl_seconds", 300, "how long a triple is valid (undocumented)"),
    flag("signature_one_use", false, "whether an issued triple is valid for one call only (undocumented)"),
    choice("refusal_status", &["200", "401", "403"], "status for a rejected triple (undocumented)"),
    text("refusal_code", "3001", "code for a rejected triple (invented)"),
    signed(CLOCK_OFFSET, 0, "how far the vendor's clock is ahead, for ts issued and ts checked, and in its Date"),
    choice("not_found_page", &["json", "html"], "the response to an unknown path"),
    choice(
        "bulk_errors",
        &["top_level", "item", "top_level_after_earlier_rows"],
        "the effect of one bad row in bulkCandidateRegister (undocumented): the call is rejected, only the row fails, or the call is rejected after earlier rows were registered",
    ),
    choice("assign_again", &["success", "error"], "the response to assigning an assigned test (undocumented)"),
    choice(
        "withdraw_unassigned",
        &["error", "success"],
        "the response to withdrawing a test that is not assigned (undocumented)",
    ),
    choice(
        "flags",
        &["strict", "loose"],
        "values of isMailEnable and isPasswordSkip: \"0\" and \"1\" only, or numbers and booleans too (undocumented)",
    ),
    flag("mail_although_off", false, "send and report mails although isMailEnable is \"0\""),
    optional_count(
        "candidate_quota",
        None,
        "maximum number of candidates, beyond which a generic error is returned (undocumented)",
    ),
    flag("escape_slashes", true, "write / as \\/ in JSON, PHP's default"),
    BODY_LIMIT,
];
