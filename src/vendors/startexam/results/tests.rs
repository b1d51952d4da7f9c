//! Reports, entries and pages of the feed, and the settings of reading them.

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::domain::deserialize::read;
use crate::domain::results::{
    AttemptRule, ChangesPage, ClosedBy, Continuation, Figure, PartKind, Points, Reading, Regression, Rejection,
    RejectionReason, Repetition, ScoringRules, SeriesKey, TimeName, Unscored,
};
use crate::vendors::SettingError;

const PARTICIPANT: &str = "1f0e8b3a-5a0c-4c39-9b1e-0a4f7a1c2d01";
const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";

fn reader() -> ReaderSettings {
    ReaderSettings {
        candidate_field: "Employee".to_owned(),
        email_field: "Email".to_owned(),
        ..ReaderSettings::default()
    }
}

/// A finished session, shaped like the published report.
fn session() -> Value {
    json!({
        "participantId": PARTICIPANT, "testId": TEST, "started": "2016-07-09T20:08:19Z", "isFinished": true,
        "autoClosed": false, "elapsedTime": "00:12:31", "score": 4.0, "maxScore": 7.0, "percent": 57.14,
        "scaleLevel": "Medium",
        "outcomes": [{ "id": 914, "score": 1.0, "max": 1.0, "name": "Custom Scale", "level": "high" }],
        "participantData": [
            { "key": "LastName", "value": "Planted" }, { "name": "employee", "value": "emp-2001" },
            { "name": "Email", "value": "Jane@Example.com" },
        ],
        "sections": [{ "title": "Section #1 Title", "score": 2.0, "max": 2.0, "level": "passed" }],
        "questions": [{ "number": 1, "type": "Planted", "score": 3, "maxScore": 9 }],
        "proctoring": { "report": "Planted" },
    })
}

/// The session with these fields; `null` removes one.
fn changed(changes: &Value) -> Value {
    let mut session = session();
    let fields = session.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    session
}

fn result(session: &Value) -> Result<Reading, Rejection> {
    read_item(&session.to_string(), Some("mycenter"), &reader()).reading
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn points(value: f64) -> Option<Figure> {
    Points::new(value).map(Figure::Points)
}

#[test]
fn the_published_report_is_read_whole() {
    let reading = result(&session()).unwrap();
    assert_eq!(reading.series, SeriesKey::Participant(PARTICIPANT.to_owned()));
    assert_eq!((reading.hints.test.as_deref(), reading.hints.center.as_deref()), (Some(TEST), Some("mycenter")));
    assert_eq!(reading.hints.external_id.as_deref(), Some("emp-2001"));
    assert_eq!(reading.hints.email.as_deref(), Some("Jane@Example.com"));
    assert_eq!(
        (reading.times.started, reading.times.completed),
        (time("2016-07-09T20:08:19Z"), time("2016-07-09T20:20:50Z"))
    );
    assert_eq!((reading.times.elapsed_seconds, &*reading.times.approximate), (Some(751), &[TimeName::CompletedAt][..]));
    assert_eq!((reading.finished, reading.closed_by), (true, Some(ClosedBy::Candidate)));
    let score = reading.score;
    assert_eq!((score.given, score.maximum, score.percent), (points(4.0), points(7.0), points(57.14)));
    assert_eq!(reading.level.as_deref(), Some("Medium"));
    let parts: Vec<_> = reading
        .parts
        .iter()
        .map(|it| (it.kind, &*it.label, it.score.unwrap().given.get(), it.level.as_deref()))
        .collect();
    assert_eq!(
        parts,
        [
            (PartKind::Section, "Section #1 Title", 2.0, Some("passed")),
            (PartKind::Scale, "Custom Scale", 1.0, Some("high"))
        ]
    );
    assert!(reading.warnings.is_empty());
}

#[test]
fn questions_personal_data_and_proctoring_are_not_kept() {
    let report = read_item(&session().to_string(), None, &reader());
    let kept = format!("{:?}", report.reading);
    assert!(!kept.contains("Planted"), "{kept}");
    let unread = read_item(&session().to_string(), None, &ReaderSettings::default()).reading.unwrap();
    assert_eq!((unread.hints.external_id, unread.hints.email), (None, None), "only what the settings name");
    assert_eq!(report.body, session().to_string().into_bytes(), "the report itself is kept as it came");
}

#[test]
fn an_unfinished_session_has_nulls_or_nothing() {
    let empty = ["elapsedTime", "score", "maxScore", "percent", "scaleLevel", "outcomes", "sections"];
    let nulls = empty.iter().map(|name| ((*name).to_owned(), Value::Null));
    let absent = changed(&Value::Object(nulls.clone().collect()));
    let absent = {
        let mut it = absent;
        it["isFinished"] = json!(false);
        it
    };
    let mut null = absent.clone();
    null.as_object_mut().unwrap().extend(nulls);
    let reading = result(&absent).unwrap();
    assert_eq!(result(&null).unwrap(), reading);
    assert!(!reading.finished && reading.closed_by.is_none() && reading.parts.is_empty());
    assert_eq!((reading.score.given, reading.times.completed), (None, None));
    assert_eq!(reading.times.started, time("2016-07-09T20:08:19Z"));
}

#[test]
fn names_in_another_case_and_numbers_in_text_are_the_same() {
    let text = session().to_string();
    let spelt = text
        .replace("\"participantId\"", "\"ParticipantID\"")
        .replace("\"testId\"", "\"testID\"")
        .replace("\"score\"", "\"Score\"")
        .replace("\"maxScore\"", "\"Max\"")
        .replace("4.0", "\"4.0\"")
        .replace("57.14", "\"57.14\"")
        .replace(PARTICIPANT, &format!("{{{}}}", PARTICIPANT.to_uppercase()))
        .replace("2016-07-09T20:08:19Z", "2016-07-09T20:08:19.4");
    assert_ne!(spelt, text);
    assert_eq!(read_item(&spelt, Some("mycenter"), &reader()).reading, result(&session()));
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    assert_eq!(read_report(&marked, Some(PARTICIPANT), Some("mycenter"), &reader()).reading, result(&session()));
}

#[rstest]
#[case::no_participant(json!({ "participantId": null }), RejectionReason::MissingField, "participantId")]
#[case::participant_no_guid(json!({ "participantId": "17" }), RejectionReason::InvalidField, "participantId")]
#[case::nil_participant(json!({ "participantId": "00000000-0000-0000-0000-000000000000" }), RejectionReason::InvalidField, "participantId")]
#[case::test_no_guid(json!({ "testId": ["x"] }), RejectionReason::InvalidField, "testId")]
#[case::no_flag(json!({ "isFinished": null }), RejectionReason::MissingField, "isFinished")]
#[case::odd_flag(json!({ "isFinished": 1 }), RejectionReason::InvalidField, "isFinished")]
#[case::no_time(json!({ "started": "yesterday" }), RejectionReason::InvalidField, "started")]
#[case::time_of_no_value(json!({ "started": "0001-01-01T00:00:00Z" }), RejectionReason::InvalidField, "started")]
#[case::no_duration(json!({ "elapsedTime": "12:31" }), RejectionReason::InvalidField, "elapsedTime")]
#[case::parts_no_list(json!({ "sections": "none" }), RejectionReason::InvalidField, "sections")]
#[case::two_maxima(json!({ "max": 8.0 }), RejectionReason::RepeatedField, "maxScore")]
fn what_the_vendor_does_not_document_is_rejected(
    #[case] changes: Value,
    #[case] reason: RejectionReason,
    #[case] field: &'static str,
) {
    assert_eq!(result(&changed(&changes)).unwrap_err(), Rejection::field(reason, field));
}

#[test]
fn a_score_that_stands_there_twice_is_rejected() {
    for more in ["\"score\":4.0", "\"score\":5", "\"SCORE\":4.0", "\"sc\\u006fre\":4.0"] {
        let text = session().to_string().replacen('{', &format!("{{{more},"), 1);
        let report = read_item(&text, None, &reader());
        assert_eq!(report.reading.unwrap_err().reason, RejectionReason::RepeatedField, "{more}");
        assert_eq!(report.body, text.into_bytes());
    }
    let section = session().to_string().replace("\"level\":\"passed\"", "\"score\":1");
    assert_eq!(read_item(&section, None, &reader()).reading.unwrap_err().reason, RejectionReason::RepeatedField);
    // The vendor may repeat itself where the gateway does not look.
    let question = session().to_string().replace("\"number\":1", "\"score\":1");
    assert_eq!(read_item(&question, Some("mycenter"), &reader()).reading, result(&session()));
}

#[test]
fn a_figure_that_is_no_number_is_kept_as_such() {
    let reading = result(&changed(&json!({ "score": "four", "percent": true }))).unwrap();
    assert_eq!((reading.score.given, reading.score.percent), (Some(Figure::Unreadable), Some(Figure::Unreadable)));
    assert!(!format!("{reading:?}").contains("four"));
}

#[test]
fn two_values_of_a_person_match_no_person() {
    let data = json!([{ "name": "Employee", "value": "a" }, { "name": "Employee", "value": "b" }, { "name": "Email", "value": "no address" }, 7]);
    let reading = result(&changed(&json!({ "participantData": data }))).unwrap();
    assert_eq!((reading.hints.external_id, reading.hints.email), (None, None));
}

#[test]
fn only_so_many_parts_are_kept() {
    let sections: Vec<Value> = (0..300).map(|number| json!({ "title": "x".repeat(300), "score": number })).collect();
    let reading = result(&changed(&json!({ "sections": sections }))).unwrap();
    assert_eq!((reading.parts.len(), reading.parts[199].label.chars().count()), (200, 200));
    assert_eq!(reading.warnings[0].code.as_str(), "parts_incomplete");
    let odd = result(&changed(&json!({ "sections": [{ "title": "x", "score": 3, "maxScore": 0 }] }))).unwrap();
    assert_eq!((odd.parts[0].score, odd.warnings[0].code.as_str()), (None, "parts_incomplete"));
}

#[test]
fn a_closed_session_says_who_closed_it() {
    let closed = |finished: bool| {
        let reading = result(&changed(&json!({ "isFinished": finished, "autoClosed": true }))).unwrap();
        (reading.finished, reading.closed_by, reading.times.completed.is_some())
    };
    assert_eq!(closed(true), (true, Some(ClosedBy::Timeout), true));
    assert_eq!(closed(false), (false, Some(ClosedBy::Timeout), true));
}

#[test]
fn the_report_of_another_participant_is_rejected() {
    let report = read_report(session().to_string().as_bytes(), Some(TEST), None, &reader());
    assert_eq!(report.reading.unwrap_err(), Rejection::field(RejectionReason::Mismatch, "participantId"));
}

#[test]
fn a_report_that_is_no_object_is_rejected_whole() {
    for text in ["", "<html>Planted</html>", "[]", "null", "{\"participantId\":", "{} {}"] {
        let report = read_item(text, None, &reader());
        assert_eq!(report.reading.unwrap_err(), Rejection::whole(RejectionReason::NotJson), "{text}");
    }
}

#[rstest]
#[case("00:00:00", Some(0))]
#[case("00:12:31", Some(751))]
#[case("23:59:59", Some(86_399))]
#[case("1.02:03:04", Some(93_784))]
#[case("00:12:31.5000000", Some(751))]
#[case("1.02:03:04.999", Some(93_784))]
#[case("24:00:00", None)]
#[case("00:60:00", None)]
#[case("00:00:60", None)]
#[case("-00:00:01", None)]
#[case("12:31", None)]
#[case("0:12:31", None)]
#[case("00:12:31.", None)]
#[case(".00:12:31", None)]
#[case("9999.00:00:00", None)]
#[case("00:12:31 ", None)]
#[case("٠٠:12:31", None)]
#[case("751", None)]
fn elapsed_time(#[case] text: &str, #[case] seconds: Option<u64>) {
    assert_eq!(parse_elapsed_time(text), seconds);
}

fn page(body: &Value, list_member: &str) -> Result<ChangesPage, Rejection> {
    let settings = ReaderSettings { list_member: list_member.to_owned(), ..reader() };
    read_page(body.to_string().as_bytes(), Some("mycenter"), &settings)
}

#[rstest]
#[case::by_name(json!({ "sessions": [session()], "other": [], "modifiedUntil": "2026-11-01T00:00:00Z" }), "")]
#[case::in_another_case(json!({ "Sessions": [session()], "other": [1], "ModifiedUntil": "2026-11-01T00:00:00" }), "")]
#[case::the_only_list(json!({ "items": [session()], "modifiedUntil": "2026-11-01T00:00:00Z", "continuationToken": null }), "")]
#[case::configured(json!({ "sessions": [], "items": [session()], "modifiedUntil": "2026-11-01T00:00:00Z" }), "Items")]
fn the_list_of_a_page_is_found(#[case] body: Value, #[case] list_member: &str) {
    let page = page(&body, list_member).unwrap();
    assert_eq!(page.next, Continuation::Until("2026-11-01T00:00:00Z".parse().unwrap()));
    assert_eq!(page.items, [read_item(&session().to_string(), Some("mycenter"), &reader())]);
}

#[test]
fn a_page_that_is_not_the_last_has_a_token() {
    let page = page(&json!({ "sessions": [], "continuationToken": "se02331582210410564987" }), "").unwrap();
    assert_eq!(page.next, Continuation::Token("se02331582210410564987".to_owned()));
}

#[rstest]
#[case::neither_end_nor_token(json!({ "sessions": [] }), RejectionReason::MissingField)]
#[case::both(json!({ "sessions": [], "modifiedUntil": "2026-11-01T00:00:00Z", "continuationToken": "x" }), RejectionReason::InvalidField)]
#[case::blank_end(json!({ "sessions": [], "modifiedUntil": " " }), RejectionReason::MissingField)]
#[case::odd_end(json!({ "sessions": [], "modifiedUntil": "later" }), RejectionReason::InvalidField)]
#[case::end_no_text(json!({ "sessions": [], "modifiedUntil": 17 }), RejectionReason::InvalidField)]
#[case::token_too_long(json!({ "sessions": [], "continuationToken": "x".repeat(1001) }), RejectionReason::InvalidField)]
#[case::two_lists(json!({ "a": [], "b": [], "modifiedUntil": "2026-11-01T00:00:00Z" }), RejectionReason::MissingField)]
#[case::no_list(json!({ "sessions": {}, "modifiedUntil": "2026-11-01T00:00:00Z" }), RejectionReason::InvalidField)]
#[case::message(json!({ "message": "no" }), RejectionReason::MissingField)]
fn an_unclear_page_is_faulty_as_a_whole(#[case] body: Value, #[case] reason: RejectionReason) {
    assert_eq!(page(&body, "").unwrap_err().reason, reason);
}

#[test]
fn a_page_with_two_ends_or_no_json_is_faulty() {
    let until = "\"modifiedUntil\":\"2026-11-01T00:00:00Z\"";
    for (text, reason) in [
        (
            format!("{{\"sessions\":[],{until},\"ModifiedUntil\":\"2026-11-02T00:00:00Z\"}}"),
            RejectionReason::RepeatedField,
        ),
        (format!("{{\"sessions\":[],\"sessions\":[],{until}}}"), RejectionReason::RepeatedField),
        ("<html></html>".to_owned(), RejectionReason::NotJson),
        (format!("{{\"sessions\":[],{until}"), RejectionReason::NotJson),
    ] {
        assert_eq!(read_page(text.as_bytes(), None, &reader()).unwrap_err().reason, reason, "{text}");
    }
    assert!(read_page(b"{\"sessions\":[\"\xff\"]}", None, &reader()).is_err());
    let named = page(&json!({ "sessions": [], "modifiedUntil": "2026-11-01T00:00:00Z" }), "items");
    assert_eq!(named.unwrap_err().reason, RejectionReason::MissingField, "a configured list is not guessed");
}

#[test]
fn an_unreadable_entry_spoils_no_other() {
    let body =
        json!({ "sessions": [{ "isFinished": "Planted" }, session(), 7], "modifiedUntil": "2026-11-01T00:00:00Z" });
    let items = page(&body, "").unwrap().items;
    let read: Vec<bool> = items.iter().map(|item| item.reading.is_ok()).collect();
    assert_eq!(read, [false, true, false]);
    assert_eq!(items[0].body, b"{\"isFinished\":\"Planted\"}");
    assert!(!format!("{:?}", items[0].reading).contains("Planted"));
}

#[test]
fn a_repeated_entry_has_the_same_content_whatever_its_order() {
    let one = read_item("{ \"b\": 1, \"a\": 2.50 }", None, &reader());
    let two = read_item("{\"a\":2.5,\"b\":1}", None, &reader());
    assert_eq!(one.canonical, two.canonical);
    assert_ne!(one.canonical, read_item("{\"a\":2.5,\"b\":2}", None, &reader()).canonical);
}

fn settings(changes: &Value) -> ResultsSettings {
    read(changes.clone()).unwrap()
}

fn keys(changes: &Value) -> Vec<String> {
    let result = settings(changes).checked("Email");
    result.err().into_iter().flatten().map(|SettingError { key, .. }| key).collect()
}

#[test]
fn the_defaults_are_valid_and_read_nothing() {
    assert_eq!(settings(&json!({})).checked("Email").unwrap(), None);
}

#[test]
fn settings_decide_how_reports_are_read_and_folded() {
    let written = json!({ "mode": "feed", "since": "2026-01-01T00:00:00Z", "restart": "correction", "unscored": "final",
        "regression": "accept", "auto_closed_ends": true, "candidate_field": "Employee", "list_member": "items" });
    let checked = settings(&written).checked("Email").unwrap().unwrap();
    assert_eq!(checked.since, time("2026-01-01T00:00:00Z"));
    assert_eq!(checked.reader, ReaderSettings { list_member: "items".to_owned(), ..reader() });
    let fold = checked.fold(ScoringRules::default());
    assert_eq!(fold.attempts, AttemptRule::ByStart(Repetition::Correction));
    assert_eq!((fold.unscored, fold.regression, fold.auto_closed_ends), (Unscored::Final, Regression::Accept, true));
}

#[rstest]
#[case::too_often(json!({ "every": "59s" }), "every")]
#[case::overlap(json!({ "overlap": "25h" }), "overlap")]
#[case::since(json!({ "since": "yesterday" }), "since")]
#[case::center(json!({ "centers": ["a", " "] }), "centers.1")]
#[case::list(json!({ "list_member": "a\nb" }), "list_member")]
#[case::field(json!({ "candidate_field": " " }), "candidate_field")]
#[case::no_page(json!({ "max_pages": 0 }), "max_pages")]
#[case::cannot_verify(json!({ "session_report": "never" }), "regression")]
fn each_wrong_setting_is_named(#[case] changes: Value, #[case] key: &str) {
    assert_eq!(keys(&changes), [key]);
}

#[test]
fn unknown_words_and_keys_are_refused() {
    for wrong in
        [json!({ "mode": "webhook" }), json!({ "restart": "x" }), json!({ "regression": "x" }), json!({ "evry": "1m" })]
    {
        assert!(read::<ResultsSettings>(wrong.clone()).is_err(), "{wrong}");
    }
    assert_eq!(keys(&json!({ "session_report": "never", "regression": "ignore" })), [""; 0]);
}
