//! Every row of the problem table: what the vendor responds, and what the caller is told.

use examgate::sandbox::accounts;
use http::Method;
use http::header::RETRY_AFTER;
use serde_json::{Value, json};

use crate::support::connections::{examtesting, startexam, thinkexam};
use crate::support::gateway::{Gateway, sandbox, set_faults};
use crate::support::vendor::{Stub, build_response, json_response};

/// A vendor's response: status, body, and a header.
struct VendorResponse {
    status: u16,
    body: String,
    header: Option<(&'static str, &'static str)>,
}

/// The expected problem: status, code, origin, retryable, outcome, and a pointer among `errors`.
type ExpectedProblem = (u16, &'static str, &'static str, bool, &'static str, Option<&'static str>);

fn vendor_response(status: u16, body: impl Into<String>) -> VendorResponse {
    VendorResponse { status, body: body.into(), header: None }
}

fn with_header(status: u16, name: &'static str, value: &'static str) -> VendorResponse {
    VendorResponse { status, body: "<html>oops</html>".to_owned(), header: Some((name, value)) }
}

/// Returns the rows that are the same for every vendor.
fn general_rows() -> Vec<(VendorResponse, ExpectedProblem)> {
    vec![
        (with_header(429, "retry-after", "7"), (503, "vendor_rate_limited", "vendor", true, "not_applied", None)),
        (with_header(503, "retry-after", "9"), (503, "vendor_unavailable", "vendor", true, "unknown", None)),
        (vendor_response(503, ""), (503, "vendor_unavailable", "vendor", true, "unknown", None)),
        (
            vendor_response(500, "<html>Server Error</html>"),
            (502, "vendor_internal_error", "vendor", true, "unknown", None),
        ),
        (vendor_response(502, ""), (502, "vendor_internal_error", "vendor", true, "unknown", None)),
        (vendor_response(418, "teapot"), (502, "vendor_error_unmapped", "vendor", false, "unknown", None)),
        (vendor_response(413, "<html>"), (422, "vendor_rejected_request", "request", false, "not_applied", None)),
        (vendor_response(504, ""), (502, "vendor_internal_error", "vendor", true, "unknown", None)),
        (vendor_response(409, "odd"), (502, "vendor_error_unmapped", "vendor", false, "unknown", None)),
        (
            with_header(301, "location", "http://127.0.0.1:1/"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
        (
            with_header(302, "location", "http://127.0.0.1:1/"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
        (
            with_header(303, "location", "http://127.0.0.1:1/"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
        (
            with_header(307, "location", "http://127.0.0.1:1/"),
            (502, "vendor_bad_response", "vendor", false, "not_applied", None),
        ),
        (
            with_header(308, "location", "http://127.0.0.1:1/"),
            (502, "vendor_bad_response", "vendor", false, "not_applied", None),
        ),
    ]
}

fn build_vendor_response(vendor_response: &VendorResponse) -> axum::response::Response {
    let mut response = build_response(vendor_response.status, "text/html; charset=utf-8", vendor_response.body.clone());
    if let Some((name, value)) = vendor_response.header {
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

/// Sends a fresh request for every row and compares the problem.
async fn check_rows(
    configuration: impl Fn(&str) -> String,
    path: &str,
    rows: Vec<(VendorResponse, ExpectedProblem)>,
    body: impl Fn(usize) -> Value,
    signature: bool,
) {
    for (number, (vendor_response, expected)) in rows.into_iter().enumerate() {
        // One gateway per row: pauses and open circuits must not affect the next row.
        let status = vendor_response.status;
        let vendor_body = vendor_response.body.clone();
        let retry_after =
            vendor_response.header.filter(|(name, _)| *name == RETRY_AFTER.as_str()).map(|(_, value)| value);
        let stub = Stub::start(move |seen| {
            if signature && seen.uri.path() == "/sim/signature" {
                return json_response(200, &json!({ "ak": "ak", "sgn": "sgn", "ts": "1" }));
            }
            build_vendor_response(&vendor_response)
        })
        .await;
        let gateway = Gateway::start(&configuration(&stub.url())).await;
        let (http, code, origin, retryable, outcome, pointer) = expected;
        let response = gateway.post(path, &body(number)).await;
        let row = format!("vendor: {status} {vendor_body:?}, caller: {response:?}");
        assert_eq!(response.problem(), (http, code, outcome), "{row}");
        assert_eq!(response.text("/origin"), origin, "{row}");
        assert_eq!(response.body["retryable"], retryable, "{row}");
        assert_eq!(response.text("/type"), format!("/problems/{code}"), "{row}");
        assert_eq!(response.text("/requestId"), response.header("x-request-id").unwrap_or_default(), "{row}");
        assert!(response.text("/instance").starts_with("/exchanges/exc_"), "{row}");
        assert_eq!(response.body["vendor"]["httpStatus"], status, "{row}");
        assert_eq!(response.body["resource"].is_string(), outcome == "unknown", "{row}");
        if let Some(pointer) = pointer {
            assert_eq!(response.text("/errors/0/pointer"), pointer, "{row}");
        }
        if let Some(seconds) = retry_after {
            assert_eq!(response.header("retry-after"), Some(seconds), "{row}");
        }
        if code == "vendor_rate_limited" {
            assert!(response.header("retry-after").is_some(), "{row}");
        }
        if outcome == "unknown" {
            let record = gateway.get(response.text("/resource")).await;
            assert_eq!(
                (record.status, record.text("/state"), record.text("/outcome")),
                (200, "unknown", "unknown"),
                "{row}"
            );
        }
    }
}

fn startexam_candidate(number: usize) -> Value {
    json!({ "externalId": format!("e{number}"), "name": { "givenName": "Ada", "familyName": "Lovelace" }, "email": "ada@example.com" })
}

#[tokio::test]
async fn startexam_statuses_map_to_the_right_problems() {
    let message = |text: &str| json!({ "message": text }).to_string();
    let mut rows = general_rows();
    rows.extend([
        (
            vendor_response(400, message("no such field")),
            (422, "vendor_rejected_request", "request", false, "not_applied", None),
        ),
        (
            vendor_response(403, message("HTTP header 'Date' is incorrect: it's older than 15 minutes")),
            (503, "vendor_clock_skew", "gateway", true, "not_applied", None),
        ),
        (
            vendor_response(403, message("wrong")),
            (424, "connection_credentials_invalid", "connection", false, "not_applied", None),
        ),
        (vendor_response(401, ""), (424, "connection_credentials_invalid", "connection", false, "not_applied", None)),
        (
            vendor_response(404, message("employee not found")),
            (422, "invalid_reference", "request", false, "not_applied", None),
        ),
    ]);
    check_rows(|url| startexam(url, ""), "/candidates", rows, startexam_candidate, false).await;
}

#[tokio::test]
async fn startexam_bookings_need_one_id_per_row() {
    let order = |number: usize| json!({ "candidate": { "externalId": format!("e{number}") }, "assessment": accounts::startexam::TESTS[0].0, "ifExists": "create_new" });
    let bad = (502, "vendor_bad_response", "vendor", false, "unknown", None);
    let rows = [
        "",
        "<html>login</html>",
        "{\"participantIds\": [",
        "{}",
        "{\"participantIds\": []}",
        "{\"participantIds\": [\"not-a-guid\"]}",
        "{\"participantIds\": [\"fa19e351-36d0-49c0-be92-66d640b17878\", \"3c9d2f7e-58b1-4f6a-8d0c-2b7e91a4c6d5\"]}",
    ];
    let rows = rows.into_iter().map(|body| (vendor_response(200, body), bad)).collect();
    check_rows(|url| startexam(url, ""), "/assignments", rows, order, false).await;
}

#[tokio::test]
async fn examtesting_codes_map_to_the_right_problems() {
    let error = |code: u16, text: &str| vendor_response(200, format!("status=ERROR&Reason={code}&error={text}"));
    let mut rows = general_rows();
    rows.extend([
        (error(1001, "Action is invalid"), (502, "vendor_contract_error", "vendor", false, "not_applied", None)),
        (
            error(1002, "Institution Id is invalid"),
            (424, "connection_misconfigured", "connection", false, "not_applied", None),
        ),
        (
            error(1003, "Invalid Api Credentials"),
            (424, "connection_credentials_invalid", "connection", false, "not_applied", None),
        ),
        (
            error(1004, "Student ID is invalid"),
            (422, "invalid_field", "request", false, "not_applied", Some("/externalId")),
        ),
        (
            error(1005, "Group Name is invalid"),
            (422, "group_not_found", "request", false, "not_applied", Some("/group")),
        ),
        (error(1006, "Status is invalid"), (422, "invalid_field", "request", false, "not_applied", Some("/active"))),
        (
            error(1007, "Username already exist"),
            (409, "candidate_already_exists", "request", false, "not_applied", None),
        ),
        (
            error(1008, "Maximum Student count is reached. You cannot add more students"),
            (409, "vendor_seat_limit_reached", "connection", false, "not_applied", None),
        ),
        (
            vendor_response(200, "status: ERROR, Reason: email is required, username is required"),
            (422, "vendor_rejected_request", "request", false, "not_applied", None),
        ),
        (
            vendor_response(
                200,
                "status=ERROR&error=Student 17 was added, but the sender of the mail must not be empty",
            ),
            (502, "vendor_error_unmapped", "vendor", false, "unknown", None),
        ),
        (error(1099, "Something new"), (502, "vendor_error_unmapped", "vendor", false, "unknown", None)),
        (vendor_response(200, ""), (502, "vendor_bad_response", "vendor", false, "unknown", None)),
        (
            vendor_response(200, "<!DOCTYPE html><html>Welcome</html>"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
        (vendor_response(401, ""), (424, "connection_credentials_invalid", "connection", false, "not_applied", None)),
    ]);
    let body = |number: usize| json!({ "externalId": format!("e{number}"), "email": format!("e{number}@example.com") });
    check_rows(|url| examtesting(url, ""), "/candidates", rows, body, false).await;
}

#[tokio::test]
async fn thinkexam_codes_map_to_the_right_problems() {
    let error = |code: Value, text: &str| {
        vendor_response(200, json!({ "result": "error", "error": { "code": code, "msg": text } }).to_string())
    };
    let mut rows = general_rows();
    rows.extend([
        (
            error(json!("3023"), "email should not be blank"),
            (422, "missing_field", "request", false, "not_applied", None),
        ),
        (error(json!(3095), "Email is required."), (422, "missing_field", "request", false, "not_applied", None)),
        (
            error(json!("3084"), "courseName not exist."),
            (422, "invalid_reference", "request", false, "not_applied", None),
        ),
        (
            error(json!("3100"), "Something went wrong"),
            (502, "vendor_error_unmapped", "vendor", false, "unknown", None),
        ),
        (
            error(json!("3001"), "Invalid signature"),
            (424, "connection_credentials_invalid", "connection", false, "not_applied", None),
        ),
        (vendor_response(401, ""), (424, "connection_credentials_invalid", "connection", false, "not_applied", None)),
        (vendor_response(200, ""), (502, "vendor_bad_response", "vendor", false, "unknown", None)),
        (
            vendor_response(200, "{\"responseArray\":[],\"result\":\"Success\"}"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
        (
            vendor_response(200, "{\"responseArray\":[{\"result\":\"success\",\"data\":{}}],\"result\":\"Success\"}"),
            (502, "vendor_bad_response", "vendor", false, "unknown", None),
        ),
    ]);
    let done = json!({ "responseArray": [{ "result": "success", "data": { "studentId": 1 } }], "result": "Success" });
    rows.extend([300, 302, 307, 401, 403, 404, 413, 429, 500, 502, 503].map(|status| {
        (vendor_response(status, done.to_string()), (502, "vendor_bad_response", "vendor", false, "unknown", None))
    }));
    let body = |number: usize| json!({ "externalId": format!("e{number}"), "name": { "formatted": "Ada Lovelace" }, "email": format!("e{number}@example.com") });
    check_rows(|url| thinkexam(url, ""), "/candidates", rows, body, true).await;
}

#[tokio::test]
async fn a_booking_is_judged_by_both_status_and_body() {
    for status in [302, 401, 404, 429, 500, 503] {
        for (operation, call) in [("assignTest", Method::POST), ("deassignTest", Method::DELETE)] {
            // Each on its own: the reconciliation of an earlier one would meet the fault.
            let sandbox = sandbox().await;
            let gateway = Gateway::start(&thinkexam(&format!("http://{}", sandbox.thinkexam()), "")).await;
            let id = format!("e{status}");
            let body =
                json!({ "externalId": id, "name": { "formatted": "Ada King" }, "email": format!("{id}@example.com") });
            assert_eq!(gateway.post("/candidates", &body).await.status, 201);
            let order = json!({ "candidate": { "externalId": id }, "assessment": accounts::thinkexam::TESTS[0].0 });
            let booked = gateway.post("/assignments", &order).await;
            assert!(booked.status < 300, "{booked:?}");
            let (path, order) = match operation {
                "assignTest" => {
                    let other = accounts::thinkexam::TESTS[1].0;
                    ("/assignments".to_owned(), json!({ "candidate": { "externalId": id }, "assessment": other }))
                }
                _ => (format!("/assignments/{}", booked.text("/id")), Value::Null),
            };
            let fault = json!({ "name": "other_status", "operation": operation, "status": status, "times": 1 });
            set_faults(sandbox.thinkexam(), json!({ "faults": [fault] })).await;
            let response = gateway.request(call, &path).json(&order).send().await;
            assert_eq!(
                response.problem(),
                (502, "vendor_bad_response", "unknown"),
                "{operation} {status}: {response:?}"
            );
            assert_eq!(response.body["vendor"]["httpStatus"], status, "{response:?}");
        }
    }
}

#[tokio::test]
async fn an_html_content_type_does_not_make_a_response_an_html_page() {
    let order = |id: &str| json!({ "candidate": { "externalId": id }, "assessment": accounts::startexam::TESTS[0].0 });
    for empty in [true, false] {
        let sandbox = sandbox().await;
        let port = sandbox.startexam();
        let body_style = if empty { "empty" } else { "object" };
        let label = json!({ "name": "content_type", "value": "text/html; charset=utf-8" });
        set_faults(port, json!({ "switches": { "employees_answer": body_style }, "faults": [label] })).await;
        let gateway = Gateway::start(&startexam(&format!("http://{port}"), "")).await;
        let created = gateway.post("/candidates", &startexam_candidate(1)).await;
        assert_eq!((created.status, created.text("/outcome")), (201, "applied"), "{created:?}");
        let booked = gateway.post("/assignments", &order("e1")).await;
        assert_eq!((booked.status, booked.text("/outcome")), (201, "applied"), "{booked:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_vendor_unreachable_and_not_applied() {
    // Nothing listens there; a free port could be taken by another test.
    let gateway = Gateway::start(&startexam("http://127.0.0.1:1", "")).await;
    let response = gateway.post("/candidates", &startexam_candidate(1)).await;
    assert_eq!(response.problem(), (503, "vendor_unreachable", "not_applied"));
    assert_eq!((response.text("/origin"), &response.body["retryable"]), ("vendor", &json!(true)));
    // Nothing was sent, so the person may be registered again immediately.
    let again = gateway.post("/candidates", &startexam_candidate(1)).await;
    assert_eq!(again.problem(), (503, "vendor_unreachable", "not_applied"));
}

#[tokio::test]
async fn a_vendor_that_does_not_respond_leaves_the_outcome_unknown() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    // Accepts connections and never responds.
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let gateway = Gateway::start(&startexam(&format!("http://{address}"), "timeout = \"2s\"")).await;
    let response = gateway.post("/candidates", &startexam_candidate(1)).await;
    assert_eq!(response.problem(), (504, "vendor_timeout", "unknown"));
    assert_eq!(gateway.get(response.text("/resource")).await.text("/state"), "unknown");
    silent.abort();
}

#[tokio::test]
async fn a_failing_vendor_opens_the_circuit_and_the_connection_reports_it() {
    let stub = Stub::start(|_| build_response(500, "text/plain", "")).await;
    let breaker = "breaker = { failures = 2, cooldown = \"1h\" }";
    // No call of the reconciliation comes first.
    let connection = startexam(&stub.url(), breaker).replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connection).await;
    for number in 0..2 {
        let response = gateway.post("/candidates", &startexam_candidate(number)).await;
        assert_eq!(response.problem(), (502, "vendor_internal_error", "unknown"));
    }
    let sent = stub.seen().len();
    let response = gateway.post("/candidates", &startexam_candidate(7)).await;
    assert_eq!(response.problem(), (503, "vendor_circuit_open", "not_applied"));
    assert_eq!((response.text("/origin"), &response.body["retryable"]), ("gateway", &json!(true)));
    assert!(response.header("retry-after").is_some());
    assert_eq!(stub.seen().len(), sent, "nothing is sent while the circuit is open");
    let shown = gateway.get("/connections/startexam-main").await;
    assert_eq!(shown.text("/status"), "circuit_open");
}

#[tokio::test]
async fn caller_errors_never_open_the_circuit() {
    let stub = Stub::start(|_| json_response(400, &json!({ "message": "no" }))).await;
    let gateway = Gateway::start(&startexam(&stub.url(), "breaker = { failures = 1, cooldown = \"1h\" }")).await;
    for number in 0..3 {
        let response = gateway.post("/candidates", &startexam_candidate(number)).await;
        assert_eq!(response.problem(), (422, "vendor_rejected_request", "not_applied"));
    }
}
