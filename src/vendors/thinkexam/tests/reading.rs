//! Results of every response the vendor may send.

use serde_json::{Value, json};

use super::stub::{Canned, Stub, ok};
use super::*;
use crate::domain::error::Code;
use crate::domain::outcome::Outcome;
use crate::domain::vendor::{Registered, RowResult};
use crate::domain::vendor_error::{RejectionScope, VendorError};

async fn registered(canned: Canned, rows: &[Registration]) -> Vec<RowResult<Registered>> {
    let stub = Stub::answering(canned).await;
    connected(&stub.url).vendor.register(rows, &first()).await
}

async fn refused_booking(canned: Canned) -> VendorError {
    let stub = Stub::answering(canned).await;
    connected(&stub.url).vendor.assign(&[booking()], &first()).await.remove(0).unwrap_err()
}

fn told(row: &RowResult<Registered>) -> Result<&str, (Code, Outcome, bool)> {
    match row {
        Ok(applied) => Ok(applied.value.vendor_ref["id"].as_str().unwrap()),
        Err(fault) => Err((fault.code, fault.outcome, fault.proves_no_effect)),
    }
}

const AMBIGUOUS: Result<&str, (Code, Outcome, bool)> = Err((Code::VendorBadResponse, Outcome::Unknown, false));

#[tokio::test]
async fn shuffled_and_missing_items_are_matched_by_enrolment_number() {
    let rows = numbered(&["E-1", "E-2", "E-3"]);
    let results = registered(ok(&fixture!("register_shuffled")), &rows).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [Ok("1"), AMBIGUOUS, Ok("3")]);
}

#[tokio::test]
async fn enrolment_numbers_may_be_numbers_or_text() {
    let mut body = fixture!("register_success");
    body["responseArray"][0]["data"]["enrollmentNo"] = json!(7);
    body["responseArray"][0]["data"]["studentId"] = json!("70");
    let results = registered(ok(&body), &numbered(&["E-2", "7"])).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [Ok("85638920"), Ok("70")]);
}

#[tokio::test]
async fn an_item_error_fails_only_its_own_row() {
    let results = registered(ok(&fixture!("register_item_error")), &numbered(&["E-1", "E-2", "E-3"])).await;
    let expected = [
        Ok("1"),
        Err((Code::InvalidReference, Outcome::NotApplied, true)),
        Err((Code::VendorErrorUnmapped, Outcome::Unknown, false)),
    ];
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), expected);
    let vendor = results[2].as_ref().unwrap_err().vendor.clone().unwrap();
    assert_eq!((vendor.code.as_deref(), vendor.message.as_deref()), (Some("9999"), Some("Quota full")));
}

#[tokio::test]
async fn item_errors_without_a_number_match_no_row_if_the_order_is_in_doubt() {
    let body = fixture!("register_item_error");
    // The only number belongs to the second row, so positions are unreliable.
    let results = registered(ok(&body), &numbered(&["E-0", "E-1", "E-2"])).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [AMBIGUOUS, Ok("1"), AMBIGUOUS]);
    let fewer = registered(ok(&body), &numbered(&["E-1", "E-2", "E-3", "E-4"])).await;
    assert_eq!(fewer.iter().map(told).collect::<Vec<_>>(), [Ok("1"), AMBIGUOUS, AMBIGUOUS, AMBIGUOUS]);
}

#[tokio::test]
async fn a_number_from_the_vendor_is_used_only_if_none_was_sent() {
    let body = fixture!("register_generated_number");
    let results = registered(ok(&body), &[registration(None, "ada@example.com")]).await;
    assert_eq!(told(&results[0]), Ok("85638919"));
    let results = registered(ok(&body), &numbered(&["E-1"])).await;
    assert_eq!(told(&results[0]), AMBIGUOUS);
}

#[tokio::test]
async fn a_matching_number_takes_precedence_over_position() {
    let body = json!({ "result": "success", "responseArray": [
        { "result": "success", "data": { "studentId": "2" } },
        { "result": "success", "data": { "studentId": "1", "enrollmentNo": "E-1" } },
    ] });
    let rows = [numbered(&["E-1"]).remove(0), registration(None, "ada@example.com")];
    let results = registered(ok(&body), &rows).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [Ok("1"), AMBIGUOUS]);
}

#[tokio::test]
async fn a_duplicate_number_is_ambiguous() {
    let mut body = fixture!("register_success");
    body["responseArray"][1]["data"]["enrollmentNo"] = json!("E-1");
    let results = registered(ok(&body), &numbered(&["E-1", "E-2"])).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [AMBIGUOUS, AMBIGUOUS]);
}

#[tokio::test]
async fn an_error_of_the_whole_call_rejects_the_batch() {
    let results = registered(ok(&fixture!("error_3084")), &numbered(&["E-1", "E-2"])).await;
    for result in &results {
        let fault = result.as_ref().unwrap_err();
        assert_eq!((fault.code, fault.outcome), (Code::InvalidReference, Outcome::NotApplied));
        assert_eq!((fault.scope, fault.proves_no_effect), (RejectionScope::Batch, true));
    }
    let alone = registered(ok(&fixture!("error_3023")), &numbered(&["E-1"])).await;
    let fault = alone[0].as_ref().unwrap_err();
    assert_eq!((fault.code, fault.scope), (Code::MissingField, RejectionScope::Row));
}

#[rstest]
#[tokio::test]
async fn an_error_by_status_does_not_reject_the_batch(#[values(429, 503)] status: u16) {
    let results = registered((status, b"<html>".to_vec()), &numbered(&["E-1", "E-2"])).await;
    assert_eq!(results[1].as_ref().unwrap_err().scope, RejectionScope::Row);
}

#[tokio::test]
async fn parts_of_a_truncated_response_are_not_read() {
    let whole = fixture!("register_single").to_string();
    let inside = format!("{{\"result\":\"Success\",\"responseArray\":[ {whole}");
    for answer in [inside.clone(), format!("Warning: x in y.php on line 3\n{inside}")] {
        let results = registered((200, answer.into_bytes()), &numbered(&["E-1"])).await;
        assert_eq!(told(&results[0]), AMBIGUOUS);
    }
}

#[tokio::test]
async fn an_error_with_items_is_a_contradiction() {
    let mut body = fixture!("register_success");
    body["error"] = json!({ "code": "3084", "msg": "courseName not exist." });
    let results = registered(ok(&body), &numbered(&["E-1", "E-2"])).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [AMBIGUOUS, AMBIGUOUS]);
}

#[tokio::test]
async fn success_without_an_id_leaves_its_row_unknown() {
    let body = json!({ "RESPONSEARRAY": [{ "result": "SUCCESS" }], "result": "success" });
    let results = registered(ok(&body), &numbered(&["E-1"])).await;
    assert_eq!(told(&results[0]), AMBIGUOUS);
    let mut body = fixture!("register_success");
    for missing in [Value::Null, json!(""), json!({})] {
        body["responseArray"][0]["data"]["studentId"] = missing;
        let results = registered(ok(&body), &numbered(&["E-1", "E-2"])).await;
        assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [AMBIGUOUS, Ok("85638920")], "{body}");
    }
}

const PHP_WARNING: &str =
    "<br />\n<b>Warning</b>:  Undefined array key {\"x\"} in <b>/var/www/[a].php</b> on line <b>3</b>\n";

#[rstest]
#[case::byte_order_mark(|body: &Value| format!("\u{feff}{body}"))]
#[case::warning(|body: &Value| format!("{PHP_WARNING}{body}"))]
#[case::mark_and_warning(|body: &Value| format!("\u{feff}\r\n{PHP_WARNING}{body}\n"))]
#[case::rows_as_text(|body: &Value| {
    let mut nested = body.clone();
    nested["responseArray"] = json!(nested["responseArray"].to_string());
    nested.to_string()
})]
#[case::body_as_text(|body: &Value| Value::from(body.to_string()).to_string())]
#[tokio::test]
async fn known_errors_of_php_servers_are_tolerated(#[case] spoil: fn(&Value) -> String) {
    let body = spoil(&fixture!("register_success")).into_bytes();
    let results = registered((200, body), &numbered(&["E-1", "E-2"])).await;
    assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [Ok("85638919"), Ok("85638920")]);
}

#[rstest]
#[case::empty("")]
#[case::a_brace("{")]
#[case::null("null")]
#[case::a_list("[]")]
#[case::an_object("{}")]
#[case::page("<html>Bye</html>")]
#[case::success_without_result(r#"{"success":{"code":"200"}}"#)]
#[case::truncated(r#"{"result":"#)]
#[tokio::test]
async fn a_response_without_a_result_is_not_a_success(#[case] body: &str) {
    let error = refused_booking((200, body.into())).await;
    assert_eq!((error.code, error.outcome), (Code::VendorBadResponse, Outcome::Unknown));
}

#[tokio::test]
async fn a_success_without_rows_leaves_the_row_unknown() {
    let results = registered(ok(&json!({ "result": "Success" })), &numbered(&["E-1"])).await;
    assert_eq!(told(&results[0]), AMBIGUOUS);
}

#[rstest]
#[case::text(json!({ "result": "error", "error": { "code": "3095", "msg": "testId is required." } }))]
#[case::number(json!({ "result": "ERROR", "error": { "code": 3095, "message": "token is required." } }))]
#[case::under_a_success(json!({ "result": "success", "error": { "code": "3095" } }))]
#[case::flat(json!({ "result": "error", "code": 3095, "msg": "testId is required." }))]
#[case::json_as_text(json!({ "result": "error", "error": "{\"code\":\"3095\"}" }))]
#[tokio::test]
async fn known_codes_decide_regardless_of_status_and_format(
    #[case] body: Value,
    #[values(200, 400, 401, 422, 500)] status: u16,
) {
    let error = refused_booking((status, body.to_string().into_bytes())).await;
    assert_eq!((error.code, error.outcome, error.proves_no_effect), (Code::MissingField, Outcome::NotApplied, true));
    assert_eq!(error.vendor.clone().unwrap().http_status, Some(status));
}

#[rstest]
#[case::already_assigned(fixture!("error_already_assigned"))]
#[case::no_record(json!({ "result": "no_record" }))]
#[case::error_as_text(json!({ "error": "Test expired" }))]
#[tokio::test]
async fn an_undocumented_error_leaves_the_write_unknown(#[case] body: Value) {
    let error = refused_booking(ok(&body)).await;
    assert_eq!((error.code, error.outcome), (Code::VendorErrorUnmapped, Outcome::Unknown));
    assert!(error.vendor.clone().unwrap().message.is_some());
}

#[rstest]
#[case::found(302, Code::VendorBadResponse, Outcome::Unknown)]
#[case::temporary_redirect(307, Code::VendorBadResponse, Outcome::NotApplied)]
#[case::too_many_requests(429, Code::VendorRateLimited, Outcome::NotApplied)]
#[case::internal_server_error(500, Code::VendorInternalError, Outcome::Unknown)]
#[case::service_unavailable(503, Code::VendorUnavailable, Outcome::Unknown)]
#[tokio::test]
async fn without_a_known_code_the_status_decides(
    #[case] status: u16,
    #[case] code: Code,
    #[case] outcome: Outcome,
    #[values(
        r#"{"result":"error","error":{"code":"1","msg":"Session token expired"}}"#,
        "<html><body>Whoops</body></html>"
    )]
    body: &str,
) {
    let error = refused_booking((status, body.into())).await;
    assert_eq!((error.code, error.outcome), (code, outcome));
}

#[tokio::test]
async fn a_page_under_404_leaves_the_write_unknown() {
    let error = refused_booking((404, b"<html>".to_vec())).await;
    assert_eq!((error.code, error.outcome), (Code::VendorErrorUnmapped, Outcome::Unknown));
}

#[tokio::test]
async fn a_success_under_404_says_so() {
    let booked = refused_booking((404, fixture!("assign_success").to_string().into_bytes())).await;
    assert_eq!(booked.detail, "ThinkExam's response reports success, but its status is 404.");
}

#[rstest]
#[tokio::test]
async fn a_success_counts_only_under_a_2xx(
    #[values(300, 302, 307, 401, 403, 404, 413, 429, 500, 503, 504)] status: u16,
) {
    let one_of_two =
        json!({ "responseArray": [{ "result": "error" }, { "result": "success", "data": { "studentId": 1 } }] });
    for body in [fixture!("register_success"), one_of_two] {
        let results = registered((status, body.to_string().into_bytes()), &numbered(&["E-1", "E-2"])).await;
        assert_eq!(results.iter().map(told).collect::<Vec<_>>(), [AMBIGUOUS, AMBIGUOUS], "{body}");
        let error = results[0].as_ref().unwrap_err();
        assert_eq!((error.may_still_complete, error.scope), (status >= 500, RejectionScope::Row), "{body}");
    }
    let error = refused_booking((status, fixture!("assign_success").to_string().into_bytes())).await;
    assert_eq!((error.code, error.outcome), (Code::VendorBadResponse, Outcome::Unknown));
}

#[tokio::test]
async fn secrets_quoted_by_the_vendor_are_redacted() {
    let message = "Bad password Tr1cky-pw for key-1 with sig-1\u{0}\n";
    let body = json!({ "result": "error", "error": { "code": "9", "msg": message } });
    let row = Registration { password: Some(Secret::new("Tr1cky-pw")), ..registration(Some("E-1"), "a@example.com") };
    let results = registered(ok(&body), &[row]).await;
    let vendor = results[0].as_ref().unwrap_err().vendor.clone().unwrap();
    assert_eq!(vendor.message.as_deref(), Some("Bad password *** for *** with ***"));
}
