//! Error responses, missing responses, and the credential check.

use std::time::Duration;

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

#[tokio::test]
async fn every_status_maps_to_its_error() {
    let message = |text: &str| json!({ "message": text }).to_string();
    let cases: [(u16, String, Code, Outcome, bool); 13] = [
        (400, message("no"), Code::VendorRejectedRequest, NotApplied, false),
        (401, message("no"), Code::ConnectionCredentialsInvalid, NotApplied, false),
        (403, message("Authorization is incorrect"), Code::ConnectionCredentialsInvalid, NotApplied, false),
        (403, String::new(), Code::ConnectionCredentialsInvalid, NotApplied, false),
        (404, message("no"), Code::InvalidReference, NotApplied, true),
        (409, message("no"), Code::VendorErrorUnmapped, Unknown, false),
        (429, message("no"), Code::VendorRateLimited, NotApplied, false),
        (500, "<html>".to_owned(), Code::VendorInternalError, Unknown, false),
        (502, String::new(), Code::VendorInternalError, Unknown, false),
        (503, String::new(), Code::VendorUnavailable, Unknown, false),
        (301, String::new(), Code::VendorBadResponse, Unknown, false),
        (302, String::new(), Code::VendorBadResponse, Unknown, false),
        (307, String::new(), Code::VendorBadResponse, NotApplied, false),
    ];
    for (status, body, code, outcome, proof) in cases {
        let (fault, calls) = refused(vec![Reply::new(status, body)], 1).await;
        assert_eq!((fault.code, fault.outcome, fault.proves_no_effect), (code, outcome, proof), "{status}");
        assert_eq!((fault.scope, calls), (RejectionScope::Row, 1), "{status}");
        assert_eq!(fault.vendor.clone().unwrap().http_status, Some(status));
    }
}

#[tokio::test]
async fn an_error_that_one_row_may_cause_rejects_the_batch() {
    for (status, reach) in [
        (400, RejectionScope::Batch),
        (404, RejectionScope::Batch),
        (401, RejectionScope::Row),
        (403, RejectionScope::Row),
        (429, RejectionScope::Row),
    ] {
        let (fault, _) = refused(vec![Reply::new(status, "{}")], 2).await;
        assert_eq!(fault.scope, reach, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let reply = Reply::new(503, "").with("Retry-After: 7");
    assert_eq!(refused(vec![reply], 1).await.0.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn the_vendors_message_is_cleaned_redacted_and_truncated() {
    let cases: [(Vec<u8>, Option<&str>); 9] = [
        (json!({ "message": "Test\r\nis not\u{7} found" }).to_string().into(), Some("Test is not found")),
        (json!({ "Message": "Upper" }).to_string().into(), Some("Upper")),
        (b"\xef\xbb\xbf{\"message\":\"marked\"}".to_vec(), Some("marked")),
        (json!({ "message": format!("key {SECRET} is wrong") }).to_string().into(), Some("key *** is wrong")),
        (b"plain words".to_vec(), Some("plain words")),
        (b"{\"error\":1}".to_vec(), Some("{\"error\":1}")),
        (b" <html>a page</html>".to_vec(), None),
        (b"".to_vec(), None),
        (b"{\"message\":7".to_vec(), Some("{\"message\":7")),
    ];
    for (body, expected) in cases {
        let (fault, _) = refused(vec![Reply::new(400, body.clone())], 1).await;
        assert_eq!(fault.vendor.clone().unwrap().message.as_deref(), expected, "{body:?}");
    }
    let (fault, _) = refused(vec![Reply::json(404, &json!({ "message": "x".repeat(999) }))], 1).await;
    assert_eq!(fault.vendor.clone().unwrap().message.unwrap().len(), 300);
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
    assert_eq!(unsupported, ["assignments.cancel"]);
    assert!(DESCRIPTOR.capabilities.iter().all(|capability| !capability.note.is_empty()));
    assert_eq!(Value::from(DESCRIPTOR.documentation), "https://api.startexam.com");
}
