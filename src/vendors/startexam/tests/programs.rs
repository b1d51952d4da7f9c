//! Programs: both forms of a program reference, both scopes, counts.

use rstest::rstest;
use serde_json::json;

use super::server::Reply;
use super::{TEST, call, connected, fixture, unconnected};
use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::domain::program::{AssessmentScope, Enrolment, EnrolmentCounts, ProgramRef};
use crate::domain::vendor::{CallPurpose, EnrolmentBatch};

const PROGRAM: &str = "918ae938-8ea5-4298-b5ac-f8ffd873ceb6";

fn enrolment(program: ProgramRef, scope: AssessmentScope, register: &[&str], unregister: &[&str]) -> EnrolmentBatch {
    let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    EnrolmentBatch { program, enrolment: Enrolment { scope, register: list(register), unregister: list(unregister) } }
}

#[tokio::test]
async fn an_enrolment_is_sent_as_documented_and_its_counts_are_read() {
    let fixture = fixture(include_str!("../../../../tests/fixtures/startexam/program_employees.json"));
    let reply = Reply::json(200, &fixture["response"]);
    let (vendor, server) = connected(json!({}), vec![reply.clone(), reply]).await;
    let scope = AssessmentScope::Selected(vec![TEST.to_owned()]);
    let selected = enrolment(ProgramRef::Id(PROGRAM.to_owned()), scope, &["830507", "830508"], &[]);
    let applied = vendor.enrol(&selected, &call(CallPurpose::Initial)).await.unwrap();
    let expected = EnrolmentCounts {
        employees_registered: 4,
        attempts_registered: 16,
        employees_unregistered: 4,
        attempts_unregistered: 12,
        total_employees_in_program: 96,
    };
    assert_eq!(applied.value, expected);
    assert!(applied.warnings.is_empty());
    assert_eq!(server.only().line, "POST /v1/program/employees HTTP/1.1");
    assert_eq!(server.only().json(), fixture["request"]);

    let all = enrolment(ProgramRef::External("our-own".to_owned()), AssessmentScope::All, &[], &["830507"]);
    let applied = vendor.enrol(&all, &call(CallPurpose::Reconcile)).await.unwrap();
    assert_eq!(applied.value, expected);
    assert_eq!(applied.warnings[0].code.as_str(), "counts_lower_bound");
    let sent = json!({
        "programId": null, "programExternalId": "our-own", "moduleTestsScope": "all", "moduleTests": null,
        "registerEmployees": [], "unregisterEmployees": ["830507"],
    });
    assert_eq!(server.seen()[1].json(), sent);
}

#[tokio::test]
async fn a_response_without_counts_leaves_the_write_unknown() {
    let replies = vec![
        Reply::json(200, &json!({ "message": "done" })),
        Reply::new(200, ""),
        Reply::new(200, "<html>Sign in</html>"),
        Reply::json(200, &json!({ "employeesRegistered": 1 })),
    ];
    let count = replies.len();
    let (vendor, _server) = connected(json!({}), replies).await;
    let call_of = enrolment(ProgramRef::Id(PROGRAM.to_owned()), AssessmentScope::All, &["1"], &[]);
    for _ in 0..count {
        let fault = vendor.enrol(&call_of, &call(CallPurpose::Initial)).await.unwrap_err();
        assert_eq!((fault.code, fault.outcome), (Code::VendorBadResponse, Outcome::Unknown));
    }
}

#[tokio::test]
async fn more_employees_than_documented_are_never_sent() {
    let (vendor, server) = connected(json!({}), Vec::new()).await;
    let mut call_of = enrolment(ProgramRef::Id(PROGRAM.to_owned()), AssessmentScope::All, &[], &[]);
    call_of.enrolment.unregister = (0..501).map(|n| n.to_string()).collect();
    let fault = vendor.enrol(&call_of, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::Internal, Outcome::NotApplied));
    assert!(server.seen().is_empty());
}

#[test]
fn a_program_is_a_guid_or_an_external_id() {
    let vendor = unconnected(&json!({}));
    let id = |text: &str| Some(ProgramRef::Id(text.to_owned()));
    let external = |text: &str| Some(ProgramRef::External(text.to_owned()));
    assert_eq!(vendor.program_ref(&PROGRAM.to_uppercase()), id(PROGRAM));
    assert_eq!(vendor.program_ref("ext:onboarding 2026"), external("onboarding 2026"));
    assert_eq!(vendor.program_ref(&format!("ext:{PROGRAM}")), external(PROGRAM));
    assert_eq!(vendor.program_ref(&format!("ext:{}", "ü".repeat(250))), external(&"ü".repeat(250)));
}

#[rstest]
#[case::empty("")]
#[case::a_word("onboarding")]
#[case::no_external_id("ext:")]
#[case::a_space("ext: ")]
#[case::dots_and_slash("ext:../a")]
#[case::slash("ext:a/b")]
#[case::backslash("ext:a\\b")]
#[case::line_break("ext:a\nb")]
#[case::dots("ext:..")]
#[case::too_long(&format!("ext:{}", "x".repeat(251)))]
fn any_other_text_is_no_program(#[case] text: &str) {
    assert_eq!(unconnected(&json!({})).program_ref(text), None);
}
