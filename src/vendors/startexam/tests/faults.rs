//! Error responses, missing responses, and the credential check.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::server::Reply;
use super::{SECRET, booking, call, connected, fixture, registration};
use crate::domain::assignment::IfAssignmentExists::CreateNew;
use crate::domain::capability::WriteKind;
use crate::domain::error::Code;
use crate::domain::outcome::Outcome::{self, NotApplied, Unknown};
use crate::domain::vendor::{CallPurpose, CredentialCheck};
use crate::domain::vendor_error::{RejectionScope, VendorError};
use crate::vendors::startexam::DESCRIPTOR;

async fn refused(replies: Vec<Reply>, rows: usize) -> (VendorError, usize) {
    let (vendor, server) = connected(json!({}), replies).await;
    let rows: Vec<_> = (0..rows).map(|row| booking(&row.to_string(), CreateNew)).collect();
    let fault = vendor.assign(&rows, &call(CallPurpose::Initial)).await.remove(0).unwrap_err();
    assert_eq!(fault.connection.as_ref().unwrap().connection, "startexam-main");
    let said = fault.vendor.as_ref().unwrap();
    assert_eq!((said.operation.as_str(), said.code.as_deref()), ("assignments.create", None));
    (fault, server.seen().len())
}

fn date_refused() -> Reply {
    let fixture = fixture(include_str!("../../../../tests/fixtures/startexam/date_refused.json"));
    Reply::json(u16::try_from(fixture["status"].as_u64().unwrap()).unwrap(), &fixture["response"])
}

const NO: &str = r#"{"message":"no"}"#;

#[rstest]
#[case::bad_request(400, NO, Code::VendorRejectedRequest, NotApplied, false)]
#[case::unauthorized(401, NO, Code::ConnectionCredentialsInvalid, NotApplied, false)]
#[case::authorization(
    403,
    r#"{"message":"Authorization is incorrect"}"#,
    Code::ConnectionCredentialsInvalid,
    NotApplied,
    false
)]
#[case::forbidden(403, "", Code::ConnectionCredentialsInvalid, NotApplied, false)]
#[case::not_found(404, NO, Code::InvalidReference, NotApplied, true)]
#[case::conflict(409, NO, Code::VendorErrorUnmapped, Unknown, false)]
#[case::too_many_requests(429, NO, Code::VendorRateLimited, NotApplied, false)]
#[case::internal_server_error(500, "<html>", Code::VendorInternalError, Unknown, false)]
#[case::bad_gateway(502, "", Code::VendorInternalError, Unknown, false)]
#[case::service_unavailable(503, "", Code::VendorUnavailable, Unknown, false)]
#[case::moved_permanently(301, "", Code::VendorBadResponse, Unknown, false)]
#[case::found(302, "", Code::VendorBadResponse, Unknown, false)]
#[case::temporary_redirect(307, "", Code::VendorBadResponse, NotApplied, false)]
#[tokio::test]
async fn every_status_maps_to_its_error(
    #[case] status: u16,
    #[case] body: &str,
    #[case] code: Code,
    #[case] outcome: Outcome,
    #[case] proof: bool,
) {
    let (error, calls) = refused(vec![Reply::new(status, body)], 1).await;
    assert_eq!((error.code, error.outcome, error.proves_no_effect), (code, outcome, proof));
    assert_eq!((error.scope, calls), (RejectionScope::Row, 1));
    assert_eq!(error.vendor.clone().unwrap().http_status, Some(status));
}

#[rstest]
#[case::bad_request(400, RejectionScope::Batch)]
#[case::not_found(404, RejectionScope::Batch)]
#[case::unauthorized(401, RejectionScope::Row)]
#[case::forbidden(403, RejectionScope::Row)]
#[case::too_many_requests(429, RejectionScope::Row)]
#[tokio::test]
async fn an_error_that_one_row_may_cause_rejects_the_batch(#[case] status: u16, #[case] reach: RejectionScope) {
    let (error, _) = refused(vec![Reply::new(status, "{}")], 2).await;
    assert_eq!(error.scope, reach);
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let reply = Reply::new(503, "").with("Retry-After: 7");
    assert_eq!(refused(vec![reply], 1).await.0.retry_after, Some(Duration::from_secs(7)));
}

#[rstest]
#[case::control_characters(json!({ "message": "Test\r\nis not\u{7} found" }).to_string(), Some("Test is not found"))]
#[case::capital(json!({ "Message": "Upper" }).to_string(), Some("Upper"))]
#[case::byte_order_mark("\u{feff}{\"message\":\"marked\"}", Some("marked"))]
#[case::secret(json!({ "message": format!("key {SECRET} is wrong") }).to_string(), Some("key *** is wrong"))]
#[case::plain_text("plain words", Some("plain words"))]
#[case::other_json("{\"error\":1}", Some("{\"error\":1}"))]
#[case::page(" <html>a page</html>", None)]
#[case::empty("", None)]
#[case::truncated_json("{\"message\":7", Some("{\"message\":7"))]
#[tokio::test]
async fn the_vendors_message_is_cleaned_and_redacted(#[case] body: String, #[case] expected: Option<&str>) {
    let (error, _) = refused(vec![Reply::new(400, body)], 1).await;
    assert_eq!(error.vendor.clone().unwrap().message.as_deref(), expected);
}

#[tokio::test]
async fn a_long_message_is_truncated() {
    let (error, _) = refused(vec![Reply::json(404, &json!({ "message": "x".repeat(999) }))], 1).await;
    assert_eq!(error.vendor.clone().unwrap().message.unwrap().len(), 300);
}

#[tokio::test]
async fn a_rejected_date_is_signed_anew_once() {
    let ids = Reply::json(200, &json!({ "participantIds": [super::FIRST_ID] }));
    let (vendor, server) = connected(json!({}), vec![date_refused(), ids]).await;
    vendor.assign(&[booking("1", CreateNew)], &call(CallPurpose::Initial)).await.remove(0).unwrap();
    let seen = server.seen();
    assert_eq!((seen.len(), &seen[0].body), (2, &seen[1].body));

    let (fault, calls) = refused(vec![date_refused(), date_refused()], 1).await;
    assert_eq!((fault.code, fault.outcome, calls), (Code::VendorClockSkew, NotApplied, 2));
    let message = fault.vendor.clone().unwrap().message.unwrap();
    assert_eq!(message, "HTTP header 'Date' is incorrect: it's older than 15 minutes");

    // The second attempt may have taken effect, although the first was rejected.
    let (fault, calls) = refused(vec![date_refused(), Reply::new(500, "")], 1).await;
    assert_eq!((fault.code, fault.outcome, calls), (Code::VendorInternalError, Unknown, 2));
}

#[tokio::test]
async fn a_lost_response_leaves_the_write_unknown_and_is_not_retried() {
    let (vendor, server) = connected(json!({}), Vec::new()).await;
    let fault = vendor.register(&[registration("1")], &call(CallPurpose::Initial)).await.remove(0).unwrap_err();
    assert_eq!((fault.code, fault.outcome), (Code::VendorTimeout, Unknown));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_check_reads_the_list_of_tests_and_changes_nothing() {
    let fixture = fixture(include_str!("../../../../tests/fixtures/startexam/tests.json"));
    let replies = vec![
        Reply::json(200, &fixture["response"]),
        Reply::new(200, "<html>Sign in</html>"),
        Reply::json(403, &json!({ "message": "no" })),
        date_refused(),
        date_refused(),
    ];
    let (vendor, server) = connected(json!({}), replies).await;
    assert!(matches!(vendor.check(&call(CallPurpose::Initial)).await, CredentialCheck::Ok { .. }));
    let seen = server.only();
    assert_eq!(seen.line, "GET /v1/tests?type=test&status=active HTTP/1.1");
    assert_eq!(seen.header("content-length"), Some("0"));
    assert_eq!(seen.header("content-type"), None);
    let date = seen.header("date").unwrap();
    let signed = crate::vendors::startexam::sign::authorization("GET", "/v1/tests", date, 0, 99, SECRET.as_bytes());
    assert_eq!(seen.header("authorization"), Some(signed.as_str()));

    for expected in [Code::VendorBadResponse, Code::ConnectionCredentialsInvalid, Code::VendorClockSkew] {
        let CredentialCheck::Faulty(fault) = vendor.check(&call(CallPurpose::Initial)).await else {
            panic!("{expected:?}")
        };
        assert_eq!(fault.code, expected);
    }
}

#[test]
fn every_write_kind_is_declared_in_order() {
    let declared = DESCRIPTOR.capabilities.map(|capability| capability.kind);
    assert_eq!(declared, WriteKind::ALL);
    let unsupported: Vec<_> =
        DESCRIPTOR.capabilities.iter().filter(|c| !c.supported).map(|c| c.kind.as_str()).collect();
    assert_eq!(unsupported, ["assignments.update", "assignments.cancel"]);
    assert!(DESCRIPTOR.capabilities.iter().all(|capability| !capability.note.is_empty()));
    assert_eq!(Value::from(DESCRIPTOR.documentation), "https://api.startexam.com");
}
