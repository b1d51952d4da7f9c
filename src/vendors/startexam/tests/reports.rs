//! The feed of sessions and the report of one, against a server: requests, pages, errors, and what is shown of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use super::server::{Reply, Server};
use super::{FIRST_ID, SECOND_ID, SECRET, TEST, adapter, call, connection, settings};
use crate::domain::error::Code;
use crate::domain::outcome::Outcome::NotApplied;
use crate::domain::results::{
    AttemptRule, ChangesQuery, Continuation, FeedPlan, FetchRule, RejectionReason, Repetition, ReportChannel,
    ReportContext, ReportKind, ScoringRules, SeriesKey,
};
use crate::domain::units::ByteSize;
use crate::domain::vendor::{CallPurpose, Vendor};
use crate::domain::vendor_error::VendorError;
use crate::transport::ConnectionSettings;

/// A name, an answer and figures of a person, which must be nowhere but in the report itself.
const PLANTED: [&str; 4] = ["Planted", "planted@example.com", "31337.25", "Plantlevel"];
const TOKEN: &str = "se02331582210410564987";
const DATE: &str = "Date: Fri, 03 May 2024 02:30:00 GMT";

fn session(participant: &str) -> Value {
    json!({
        "participantId": participant, "testId": TEST, "started": "2024-05-03T01:00:00Z", "isFinished": true,
        "elapsedTime": "00:12:31", "score": 31337.25, "maxScore": 40000, "scaleLevel": "Plantlevel",
        "participantData": [
            { "name": "Last Name", "value": "Planted" }, { "name": "Email", "value": "planted@example.com" },
        ],
        "questions": [{ "number": 1, "answer": "Planted" }],
    })
}

fn last_page(sessions: &[Value]) -> Value {
    json!({ "sessions": sessions, "modifiedUntil": "2024-05-03T02:25:00Z" })
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn query(token: Option<&str>) -> ChangesQuery {
    let (center, token) = (Some("mycenter".to_owned()), token.map(str::to_owned));
    ChangesQuery { since: time("2024-05-03T00:00:00.9Z"), center, token }
}

async fn reading(replies: Vec<Reply>) -> (Arc<dyn Vendor>, Server) {
    reading_with(json!({}), &connection(), replies).await
}

async fn reading_with(
    mut results: Value,
    connection: &ConnectionSettings,
    replies: Vec<Reply>,
) -> (Arc<dyn Vendor>, Server) {
    let server = Server::start(replies).await;
    results["mode"] = json!("feed");
    let mut settings = settings(&json!({ "results": results }));
    settings.base_url = server.address();
    (adapter(settings, connection).unwrap(), server)
}

/// Asserts that neither the error nor the exchange shows anything of a person or what opens an exam or continues a feed.
fn assert_hidden(shown: &str) {
    for text in PLANTED.into_iter().chain([FIRST_ID, SECOND_ID, TOKEN, SECRET]) {
        assert!(!shown.contains(text), "{text}: {shown}");
    }
}

#[tokio::test]
async fn a_page_is_asked_for_and_read() {
    let page = json!({ "sessions": [session(FIRST_ID), { "isFinished": true }], "continuationToken": TOKEN });
    let (vendor, server) = reading(vec![Reply::json(200, &page), Reply::json(200, &last_page(&[]))]).await;
    let source = vendor.report_source().unwrap();
    let first = source.read_changes(&query(None), &call(CallPurpose::Initial)).await.unwrap();
    assert_eq!(first.next, Continuation::Token(TOKEN.to_owned()));
    let reading = first.items[0].reading.as_ref().unwrap();
    assert_eq!((&reading.series, first.items.len()), (&SeriesKey::Participant(FIRST_ID.to_owned()), 2));
    assert_eq!(reading.hints.center.as_deref(), Some("mycenter"));
    assert_eq!(reading.hints.email.as_deref(), Some("planted@example.com"), "the profile's field of the address");
    assert_eq!(first.items[1].reading.as_ref().unwrap_err().reason, RejectionReason::MissingField);

    let odd = ChangesQuery { center: Some("my center&x=1".to_owned()), ..query(Some("a+b/c=")) };
    let last = source.read_changes(&odd, &call(CallPurpose::Initial)).await.unwrap();
    assert_eq!((last.next, last.items.len()), (Continuation::Until(time("2024-05-03T02:25:00Z")), 0));
    let seen = server.seen();
    // Whole seconds, rounded down.
    assert_eq!(seen[0].line, "GET /v2/sessions?center=mycenter&modifiedSince=2024-05-03T00%3A00%3A00Z HTTP/1.1");
    assert_eq!(
        seen[1].line,
        "GET /v2/sessions?center=my%20center%26x%3D1&modifiedSince=2024-05-03T00%3A00%3A00Z&continuationToken=a%2Bb%2Fc%3D HTTP/1.1"
    );
    let date = seen[0].header("date").unwrap();
    let signed = crate::vendors::startexam::sign::authorization("GET", "/v2/sessions", date, 0, 99, SECRET.as_bytes());
    assert_eq!((seen[0].header("authorization"), seen[0].header("content-length")), (Some(&*signed), Some("0")));
}

#[tokio::test]
async fn the_accounts_own_center_is_asked_for_by_its_name() {
    let (vendor, server) = reading(vec![Reply::json(200, &last_page(&[session(FIRST_ID)]))]).await;
    let source = vendor.report_source().unwrap();
    let query = ChangesQuery { center: None, ..query(None) };
    let page = source.read_changes(&query, &call(CallPurpose::Initial)).await.unwrap();
    assert!(server.only().line.contains("center=mycenter&"), "{}", server.only().line);
    // Read again, it is the same.
    let again = source.read_report(ReportKind::FeedItem, &page.items[0].body, &ReportContext::default());
    assert_eq!(again, page.items[0]);
    assert_eq!(again.reading.unwrap().hints.center.as_deref(), Some("mycenter"));
}

#[tokio::test]
async fn a_page_may_be_longer_than_other_responses() {
    let small = ConnectionSettings { max_response_bytes: ByteSize(2_000), ..connection() };
    let sessions: Vec<Value> = (0..500).map(|_| session(FIRST_ID)).collect();
    let replies = vec![Reply::json(200, &last_page(&sessions)), Reply::json(200, &json!([sessions])).with(DATE)];
    let (vendor, _server) = reading_with(json!({}), &small, replies).await;
    let source = vendor.report_source().unwrap();
    let page = source.read_changes(&query(None), &call(CallPurpose::Initial)).await.unwrap();
    assert_eq!(page.items.len(), 500);
    let error = source.fetch_report(FIRST_ID, None, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!(error.code, Code::VendorBadResponse, "a report is as limited as other responses");
}

fn session_text() -> String {
    session(FIRST_ID).to_string()
}

#[rstest]
#[case::refused_token(Reply::json(400, &json!({ "message": format!("token {TOKEN} was used") })), Code::VendorRejectedRequest)]
#[case::unknown_center(Reply::json(404, &json!({ "message": "no such center" })), Code::InvalidReference)]
#[case::another_server(Reply::new(404, "<html>Planted</html>"), Code::VendorBadResponse)]
#[case::credentials(Reply::json(403, &json!({ "message": "no" })), Code::ConnectionCredentialsInvalid)]
#[case::error_with_a_session(Reply::new(500, session_text()), Code::VendorInternalError)]
#[case::error_in_plain_text(Reply::new(400, "Planted"), Code::VendorRejectedRequest)]
#[case::redirection(Reply::new(302, "").with("Location: https://elsewhere.example"), Code::VendorBadResponse)]
#[case::web_page(Reply::new(200, "<html>Planted</html>"), Code::VendorBadResponse)]
#[case::empty(Reply::new(200, ""), Code::VendorBadResponse)]
#[case::cut_json(Reply::new(200, format!("{{\"sessions\":[{}", session_text())), Code::VendorBadResponse)]
#[case::cut_body(Reply::new(200, format!("{{\"sessions\":[{}", session_text())).cut(), Code::VendorTimeout)]
#[case::no_end(Reply::json(200, &json!({ "sessions": [session(FIRST_ID)], "message": "Planted" })), Code::VendorBadResponse)]
#[case::no_list(Reply::json(200, &json!({ "modifiedUntil": "2024-05-03T02:25:00Z", "a": [], "b": [session(FIRST_ID)] })), Code::VendorBadResponse)]
#[tokio::test]
async fn a_page_that_cannot_be_used_is_an_error_that_shows_nothing_of_it(#[case] reply: Reply, #[case] code: Code) {
    let (vendor, server) = reading(vec![reply]).await;
    let call = call(CallPurpose::Initial);
    let error = vendor.report_source().unwrap().read_changes(&query(Some(TOKEN)), &call).await.unwrap_err();
    assert_eq!((error.code, error.outcome, server.seen().len()), (code, NotApplied, 1), "{error:?}");
    assert!(!error.may_still_complete && !error.proves_no_effect, "nothing was written");
    let origin = (error.connection.as_ref().unwrap().connection.as_str(), error.vendor.as_ref().unwrap());
    assert_eq!((origin.0, origin.1.operation.as_str()), ("startexam-main", "results.feed"));
    assert_hidden(&format!("{error:?} {:?}", call.exchange.view().calls));
}

#[tokio::test]
async fn a_limit_of_the_vendors_says_when_to_ask_again() {
    let (vendor, _server) = reading(vec![Reply::new(429, "").with("Retry-After: 7")]).await;
    let call = call(CallPurpose::Initial);
    let error = vendor.report_source().unwrap().read_changes(&query(None), &call).await.unwrap_err();
    assert_eq!((error.code, error.retry_after), (Code::VendorRateLimited, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn a_message_of_the_vendors_is_passed_on_without_what_it_echoes() {
    let message = format!("participant {FIRST_ID} and token {TOKEN} are unknown");
    let replies = [400, 400].map(|status| Reply::json(status, &json!({ "message": message }))).to_vec();
    let (vendor, _server) = reading(replies).await;
    let (source, call) = (vendor.report_source().unwrap(), call(CallPurpose::Initial));
    let said = |error: VendorError| error.vendor.clone().unwrap().message.unwrap();
    let of_page = said(source.read_changes(&query(Some(TOKEN)), &call).await.unwrap_err());
    assert_eq!(of_page, format!("participant {FIRST_ID} and token *** are unknown"));
    let of_report = said(source.fetch_report(FIRST_ID, None, &call).await.unwrap_err());
    assert_eq!(of_report, format!("participant *** and token {TOKEN} are unknown"));
}

#[tokio::test]
async fn an_exchange_shows_where_a_feed_continues_and_nothing_of_a_person() {
    let replies = vec![
        Reply::json(200, &json!({ "sessions": [session(FIRST_ID)], "continuationToken": TOKEN })),
        Reply::json(200, &last_page(&[session(SECOND_ID)])),
        Reply::json(200, &session(FIRST_ID)).with(DATE),
    ];
    let (vendor, _server) = reading(replies).await;
    let (source, call) = (vendor.report_source().unwrap(), call(CallPurpose::Initial));
    source.read_changes(&query(None), &call).await.unwrap();
    source.read_changes(&query(Some(TOKEN)), &call).await.unwrap();
    source.fetch_report(FIRST_ID, Some("mycenter"), &call).await.unwrap();
    let calls = call.exchange.view().calls;
    assert_hidden(&format!("{calls:?}"));
    let operations: Vec<&str> = calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, ["results.feed", "results.feed", "results.report"]);
    let shown = |text: &Option<String>| serde_json::from_str::<Value>(text.as_deref().unwrap()).unwrap();
    let asked = shown(&calls[1].request);
    assert_eq!((&asked["center"], &asked["modifiedSince"]), (&json!("mycenter"), &json!("2024-05-03T00:00:00Z")));
    assert_eq!(shown(&calls[0].answer)["hasMore"], json!(true));
    assert_eq!(shown(&calls[1].answer)["modifiedUntil"], json!("2024-05-03T02:25:00Z"));
    assert!(shown(&calls[2].answer)["bytes"].as_u64() > Some(100));
}

#[tokio::test]
async fn a_report_is_as_of_the_vendors_date() {
    let replies = vec![
        Reply::json(200, &session(FIRST_ID)).with(DATE),
        Reply::json(200, &session(SECOND_ID)).with(DATE),
        Reply::json(200, &json!({ "participantId": FIRST_ID })).with(DATE),
    ];
    let (vendor, server) = reading(replies).await;
    let (source, call) = (vendor.report_source().unwrap(), call(CallPurpose::Initial));
    let fetched = source.fetch_report(FIRST_ID, Some("mycenter"), &call).await.unwrap();
    assert_eq!((fetched.as_of, fetched.report.reading.is_ok()), (time("2024-05-03T02:30:00Z"), true));
    assert_eq!(server.only().line, format!("GET /v2/session?participantId={FIRST_ID} HTTP/1.1"));
    let context = ReportContext {
        center: Some("mycenter".to_owned()),
        participant: Some(FIRST_ID.to_owned()),
        ..ReportContext::default()
    };
    let again = source.read_report(ReportKind::FetchedReport, &fetched.report.body, &context);
    assert_eq!(again, fetched.report, "read again, it is the same");

    for reason in [RejectionReason::Mismatch, RejectionReason::MissingField] {
        let fetched = source.fetch_report(FIRST_ID, None, &call).await.unwrap();
        assert_eq!(fetched.report.reading.unwrap_err().reason, reason, "a report to be kept, and rejected");
    }
}

#[rstest]
#[case::not_found(Reply::json(404, &json!({ "message": "Planted is not known" })), Code::InvalidReference)]
#[case::bad_request(Reply::json(400, &json!({ "message": "no" })), Code::InvalidReference)]
#[case::not_found_without_a_body(Reply::new(404, ""), Code::InvalidReference)]
#[case::another_server(Reply::new(404, "<html>no</html>"), Code::VendorBadResponse)]
#[case::credentials(Reply::new(403, ""), Code::ConnectionCredentialsInvalid)]
#[case::unavailable(Reply::new(503, ""), Code::VendorUnavailable)]
#[case::web_page(Reply::new(200, "<html>Planted</html>").with(DATE), Code::VendorBadResponse)]
#[case::cut_json(Reply::new(200, "{\"participantId\":").with(DATE), Code::VendorBadResponse)]
#[case::no_date(Reply::json(200, &session(FIRST_ID)), Code::VendorBadResponse)]
#[tokio::test]
async fn a_report_that_cannot_be_fetched_is_an_error(#[case] reply: Reply, #[case] code: Code) {
    let (vendor, _server) = reading(vec![reply]).await;
    let source = vendor.report_source().unwrap();
    let error = source.fetch_report(FIRST_ID, None, &call(CallPurpose::Initial)).await.unwrap_err();
    assert_eq!((error.code, error.outcome, error.may_still_complete), (code, NotApplied, false), "{error:?}");
    assert_eq!(error.detail.contains("not begun"), code == Code::InvalidReference, "{}", error.detail);
    assert!(!error.detail.contains("Planted") && !error.detail.contains(FIRST_ID));
}

#[tokio::test]
async fn the_vendors_time_is_that_of_its_list_of_tests() {
    let tests = json!({ "tests": [{ "testId": TEST, "title": "A test" }] });
    let replies = vec![
        Reply::json(200, &tests).with(DATE),
        Reply::json(200, &tests),
        Reply::new(200, "<html></html>").with(DATE),
        Reply::new(502, "").with(DATE),
    ];
    let (vendor, server) = reading(replies).await;
    let (source, call) = (vendor.report_source().unwrap(), call(CallPurpose::Initial));
    assert_eq!(source.vendor_time(&call).await.unwrap(), time("2024-05-03T02:30:00Z"));
    assert!(server.only().line.starts_with("GET /v1/tests?"));
    for code in [Code::VendorBadResponse, Code::VendorBadResponse, Code::VendorInternalError] {
        assert_eq!(source.vendor_time(&call).await.unwrap_err().code, code, "no date but StartExam's own");
    }
}

#[tokio::test]
async fn a_question_rejected_for_its_date_is_signed_anew() {
    let refused = Reply::json(403, &json!({ "message": "HTTP header 'Date' is incorrect" }));
    let (vendor, server) = reading(vec![refused, Reply::json(200, &last_page(&[]))]).await;
    let call = call(CallPurpose::Initial);
    vendor.report_source().unwrap().read_changes(&query(Some(TOKEN)), &call).await.unwrap();
    let seen = server.seen();
    assert_eq!((seen.len(), &seen[0].line), (2, &seen[1].line));
}

#[test]
fn the_plan_is_that_of_the_settings() {
    assert!(super::unconnected(&json!({})).report_source().is_none(), "off by default");
    let minutes = SignedDuration::from_mins;
    let plan = |results: Value| {
        let vendor = super::unconnected(&json!({ "results": results }));
        let source = vendor.report_source().unwrap();
        let ReportChannel::Feed(plan) = source.channel() else { panic!("a feed") };
        (plan.clone(), source.owner().map(str::to_owned), source.fold_settings(ScoringRules::default()))
    };
    let own = Some("mycenter".to_owned());
    let defaults = FeedPlan {
        every: minutes(10),
        overlap: minutes(5),
        since: None,
        centers: vec![own.clone()],
        fetch: FetchRule::Auto,
        expire_after: minutes(24 * 60),
        max_pages: 1_000,
    };
    let (default_plan, owner, fold) = plan(json!({ "mode": "feed" }));
    assert_eq!((default_plan, owner), (defaults.clone(), None));
    assert_eq!(fold.attempts, AttemptRule::ByStart(Repetition::Attempt));
    let (other, owner, fold) = plan(json!({
        "mode": "feed", "every": "1m", "since": "2024-01-01T00:00:00Z", "centers": ["second", "mycenter", "second"],
        "session_report": "always", "max_pages": 3, "owner": "hr", "restart": "correction",
    }));
    let expected = FeedPlan {
        every: minutes(1),
        since: Some(time("2024-01-01T00:00:00Z")),
        centers: vec![own, Some("second".to_owned())],
        fetch: FetchRule::Always,
        max_pages: 3,
        ..defaults
    };
    assert_eq!((other, owner.as_deref()), (expected, Some("hr")), "no centre is read twice");
    assert_eq!(fold.attempts, AttemptRule::ByStart(Repetition::Correction));
}

#[test]
fn a_wrong_setting_is_named_below_results() {
    let changes = json!({ "results": { "mode": "feed", "every": "1s", "centers": ["a", ""] } });
    let errors = adapter(settings(&changes), &connection()).err().unwrap();
    assert_eq!(errors.iter().map(|error| &*error.key).collect::<Vec<_>>(), ["results.every", "results.centers.1"]);
}
