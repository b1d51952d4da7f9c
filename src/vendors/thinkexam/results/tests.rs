//! Webhooks in both forms, and the settings of receiving them.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::domain::deserialize::read;
use crate::domain::results::{
    AttemptRule, Figure, PartKind, Points, Reading, Regression, Rejection, RejectionReason, Repetition, ScoringRules,
    SeriesKey, TimeName,
};
use crate::domain::system::{Clock, SecureRandom, System};
use crate::secret::{Secret, SecretSource};
use crate::transport::ConnectionSettings;
use crate::vendors::{AdapterContext, SettingError};

fn reader() -> ReaderSettings {
    ReaderSettings {
        form: BodyForm::Auto,
        test_from: vec![MatchStep::Path, MatchStep::TestId, MatchStep::OnlyOpen],
        completes: vec!["COMPLETED".to_owned()],
        older_score_member: "CORRECT_MARKS".to_owned(),
        exam_date: None,
    }
}

/// The published body of the current form.
fn current(changes: &Value) -> Value {
    let mut result = json!({
        "marks_scored": 8, "enrollment_no": null, "name": "Planted", "email": "Jane@Example.com", "mobile": "Planted",
        "city": "NA", "gender": null, "age": "0", "status": "COMPLETED", "percentage": 40, "total_marks": "20",
        "test_duration": "60", "subject_name": ["Maths", "Physics"], "subject_marks": ["5", "3"],
        "details": [{ "RESPONSE": ["Planted", "x"], "IS_ATTEMPT": ["Y", "N"] }],
    });
    result.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({ "result": result })
}

/// The published body of the older form.
fn older(changes: &Value) -> Value {
    let mut body = json!({
        "ENROLLMENT_NO": "GW2901", "EMAIL": "jane@example.com", "TEST_ID": "1401", "RIGHT_QUE": "8", "WRONG": "2",
        "LEFT_QUE": "0", "TOTAL_MARKS": "20", "RANK": "3", "PERCENTILE": "70", "EXAM_DATE": "16-08-12",
        "CORRECT_MARKS": "8", "LEFT_MARKS": "0", "NEGATIVE_MARKS": "1", "PRO_TIME": "60", "NAME": "Planted",
    });
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

fn result_with(body: &Value, path_test: Option<&str>, settings: &ReaderSettings) -> Result<Reading, Rejection> {
    read_webhook(body.to_string().as_bytes(), path_test, settings).reading
}

fn result(body: &Value) -> Result<Reading, Rejection> {
    result_with(body, None, &reader())
}

fn points(value: f64) -> Option<Figure> {
    Points::new(value).map(Figure::Points)
}

#[test]
fn the_current_form_is_read() {
    let reading = result_with(&current(&json!({})), Some("1401"), &reader()).unwrap();
    let series =
        SeriesKey::CandidateAtTest { candidate: "email:jane@example.com".to_owned(), test: Some("1401".to_owned()) };
    assert_eq!((&reading.series, reading.hints.test.as_deref()), (&series, Some("1401")));
    assert_eq!((reading.hints.email.as_deref(), &reading.hints.external_id), (Some("Jane@Example.com"), &None));
    assert_eq!((reading.finished, reading.closed_by, reading.times.completed), (true, None, None));
    let score = reading.score;
    assert_eq!((score.given, score.maximum, score.percent), (points(8.0), points(20.0), points(40.0)));
    let parts: Vec<_> = reading.parts.iter().map(|it| (it.kind, &*it.label, it.score.unwrap().given.get())).collect();
    assert_eq!(parts, [(PartKind::Subject, "Maths", 5.0), (PartKind::Subject, "Physics", 3.0)]);
    assert!(reading.warnings.is_empty());
}

#[test]
fn the_older_form_is_read() {
    let reading = result(&older(&json!({}))).unwrap();
    assert_eq!((reading.hints.test.as_deref(), reading.hints.external_id.as_deref()), (Some("1401"), Some("GW2901")));
    assert_eq!((reading.finished, reading.times.completed), (true, None));
    let score = reading.score;
    assert_eq!((score.given, score.maximum, score.percent), (points(8.0), points(20.0), None));
    let unnamed = ReaderSettings { older_score_member: String::new(), ..reader() };
    assert_eq!(result_with(&older(&json!({})), None, &unnamed).unwrap().score.given, None, "no field is guessed");
}

#[test]
fn answers_and_personal_data_are_not_kept() {
    for body in [current(&json!({})), older(&json!({}))] {
        let report = read_webhook(body.to_string().as_bytes(), None, &reader());
        let kept = format!("{:?}", report.reading);
        assert!(!kept.contains("Planted"), "{kept}");
        assert_eq!(report.body, body.to_string().into_bytes());
    }
}

#[test]
fn both_forms_are_of_one_series() {
    let series = |body: &Value| result_with(body, Some("1401"), &reader()).unwrap().series;
    assert_eq!(series(&current(&json!({}))), series(&older(&json!({}))));
    let by_number = series(&current(&json!({ "email": null, "enrollment_no": "GW2901" })));
    assert_ne!(by_number, series(&older(&json!({}))));
    let id = crate::domain::ids::CandidateId::parse("cand_00000000000000000000000000000001").unwrap();
    assert_eq!(
        by_number.matched(&id, "1401"),
        series(&older(&json!({}))).matched(&id, "1401"),
        "once the person is known"
    );
}

#[test]
fn a_form_that_is_set_is_not_guessed() {
    let with = |form, body: &Value| result_with(body, None, &ReaderSettings { form, ..reader() });
    let missing = |field| Err(Rejection::field(RejectionReason::MissingField, field));
    assert_eq!(with(BodyForm::Current, &older(&json!({}))), missing("result"));
    assert_eq!(with(BodyForm::Older, &current(&json!({}))), missing("EMAIL"));
    assert_eq!(with(BodyForm::Current, &current(&json!({}))), result(&current(&json!({}))));
    assert_eq!(with(BodyForm::Older, &older(&json!({}))), result(&older(&json!({}))));
}

#[test]
fn json_in_text_and_a_byte_order_mark_are_read() {
    let inner = current(&json!({}))["result"].to_string();
    assert_eq!(result(&json!({ "result": inner })), result(&current(&json!({}))));
    let marked = format!("\u{feff}{}", current(&json!({})));
    assert_eq!(read_webhook(marked.as_bytes(), None, &reader()).reading, result(&current(&json!({}))));
}

#[test]
fn only_a_status_that_completes_finishes() {
    let finished = |status: &str| result(&current(&json!({ "status": status }))).unwrap().finished;
    assert!(finished("completed") && !finished("STARTED"));
}

#[rstest]
#[case::path_first(&[MatchStep::Path, MatchStep::TestId], Some("7"))]
#[case::body_first(&[MatchStep::TestId, MatchStep::Path], Some("1401"))]
#[case::only_the_body(&[MatchStep::TestId], Some("1401"))]
#[case::neither(&[MatchStep::OnlyOpen], None)]
fn the_test_is_found_in_the_order_of_the_settings(#[case] test_from: &[MatchStep], #[case] test: Option<&str>) {
    let settings = ReaderSettings { test_from: test_from.to_vec(), ..reader() };
    assert_eq!(result_with(&older(&json!({})), Some("7"), &settings).unwrap().hints.test.as_deref(), test);
}

#[test]
fn the_same_figures_at_two_tests_are_two_reports() {
    let body = current(&json!({})).to_string();
    let content = |test| read_webhook(body.as_bytes(), test, &reader()).canonical;
    assert_eq!(content(Some("7")), content(Some("7")));
    assert_ne!(content(Some("7")), content(Some("8")));
    assert_ne!(content(Some("7")), content(None));
}

#[rstest]
#[case::no_person(current(&json!({ "email": null })), RejectionReason::MissingField, "email")]
#[case::nothing_as_text(current(&json!({ "email": "NA", "enrollment_no": "na" })), RejectionReason::MissingField, "email")]
#[case::no_address(current(&json!({ "email": "Planted" })), RejectionReason::InvalidField, "email")]
#[case::no_status(current(&json!({ "status": null })), RejectionReason::MissingField, "status")]
#[case::test_no_id(current(&json!({ "test_id": ["x"] })), RejectionReason::InvalidField, "test_id")]
#[case::result_no_object(json!({ "result": "success" }), RejectionReason::InvalidField, "result")]
#[case::older_without_person(older(&json!({ "EMAIL": "", "ENROLLMENT_NO": "" })), RejectionReason::MissingField, "EMAIL")]
fn what_the_vendor_does_not_document_is_rejected(
    #[case] body: Value,
    #[case] reason: RejectionReason,
    #[case] field: &'static str,
) {
    let rejection = result(&body).unwrap_err();
    assert_eq!(rejection, Rejection::field(reason, field));
    assert!(!rejection.to_string().contains("Planted"));
}

#[test]
fn marks_that_stand_there_twice_are_rejected() {
    let text = current(&json!({})).to_string().replace("\"marks_scored\":8", "\"marks_scored\":8,\"MARKS_SCORED\":8");
    let rejection = read_webhook(text.as_bytes(), None, &reader()).reading.unwrap_err();
    assert_eq!(rejection.reason, RejectionReason::RepeatedField);
}

#[rstest]
#[case::too_few_marks(json!({ "subject_marks": ["5"] }), 0)]
#[case::no_marks(json!({ "subject_marks": null }), 0)]
#[case::no_list(json!({ "subject_marks": "5,3" }), 0)]
#[case::no_number(json!({ "subject_marks": ["5", "absent"] }), 2)]
#[case::too_many(json!({ "subject_name": vec!["x"; 201], "subject_marks": vec!["1"; 201] }), 200)]
fn subjects_that_do_not_fit_are_said_to_be_incomplete(#[case] changes: Value, #[case] parts: usize) {
    let reading = result(&current(&changes)).unwrap();
    assert_eq!((reading.parts.len(), reading.warnings[0].code.as_str()), (parts, "parts_incomplete"));
    let without = result(&current(&json!({ "subject_name": null, "subject_marks": null }))).unwrap();
    assert!(without.parts.is_empty() && without.warnings.is_empty());
}

#[test]
fn an_exam_date_is_read_as_the_operator_says() {
    let date = |format: &str, text: &str| {
        let exam_date = Some(DateFormat::parse(format).unwrap());
        result_with(&older(&json!({ "EXAM_DATE": text })), None, &ReaderSettings { exam_date, ..reader() })
    };
    let times = date("DD-MM-YY", "16-08-12").unwrap().times;
    assert_eq!(
        (times.completed.unwrap().to_string(), &*times.approximate),
        ("2012-08-16T00:00:00Z".to_owned(), &[TimeName::CompletedAt][..])
    );
    assert_eq!(date("YY-MM-DD", "16-08-12").unwrap().times.completed.unwrap().to_string(), "2016-08-12T00:00:00Z");
    assert_eq!(
        date("DD/MM/YYYY", "16-08-12").unwrap_err(),
        Rejection::field(RejectionReason::InvalidField, "EXAM_DATE")
    );
    assert_eq!(date("DD-MM-YYYY", "").unwrap().times.completed, None);
    for wrong in ["", "DD-MM", "YYYY-YY-MM-DD", "DD-DD-MM-YY", "%Y-%m-%d", "DD-MM-YY hh", "the DD-MM-YY"] {
        assert!(DateFormat::parse(wrong).is_err(), "{wrong}");
    }
}

struct Nothing;

impl Clock for Nothing {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
}

impl SecureRandom for Nothing {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl SecretSource for Nothing {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        Err(format!("{name} is not set"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        Err(format!("{path} cannot be read"))
    }
}

fn checked(changes: &Value) -> Result<Option<ReceiverSettings>, Vec<SettingError>> {
    let (clock, entropy) = (std::sync::Arc::new(Nothing), std::sync::Arc::new(Nothing));
    let environment = System { clock, entropy };
    let context =
        AdapterContext { name: "c", connection: &ConnectionSettings::default(), secrets: &Nothing, environment };
    read::<ResultsSettings>(changes.clone()).unwrap().checked(&context)
}

const TOKEN: &str = "plain:0123456789abcdef";

#[test]
fn the_defaults_are_valid_and_receive_nothing() {
    assert!(checked(&json!({})).unwrap().is_none());
}

#[test]
fn settings_decide_how_webhooks_are_read_and_folded() {
    let written = json!({ "mode": "webhook", "path_token": TOKEN, "keys": ["plain:one", "plain:two"], "match": ["path", "test_id"],
        "second_result": "correction", "older_score_member": "CORRECT_MARKS", "on_refusal": 200 });
    let checked = checked(&written).unwrap().unwrap();
    assert_eq!((checked.keys.len(), checked.only_open, checked.on_refusal), (2, false, OnRefusal::Ok));
    assert_eq!(checked.reader.test_from, [MatchStep::Path, MatchStep::TestId]);
    let fold = checked.fold(ScoringRules::default());
    assert_eq!((fold.attempts, fold.regression), (AttemptRule::ByReport(Repetition::Correction), Regression::Ignore));
    assert!(!format!("{checked:?}").contains("0123456789abcdef"));
}

#[rstest]
#[case::no_token(json!({ "mode": "webhook" }), "path_token")]
#[case::short_token(json!({ "mode": "webhook", "path_token": "plain:short" }), "path_token")]
#[case::odd_token(json!({ "mode": "webhook", "path_token": "plain:0123456789abc/ef" }), "path_token")]
#[case::unset_token(json!({ "mode": "webhook", "path_token": "env:NONE" }), "path_token")]
#[case::unset_key(json!({ "keys": ["plain:a", "env:NONE"] }), "keys.1")]
#[case::no_step(json!({ "match": [] }), "match")]
#[case::step_twice(json!({ "match": ["path", "path"] }), "match")]
#[case::guess_first(json!({ "match": ["only_open", "path"] }), "match")]
#[case::nothing_completes(json!({ "completes": [" "] }), "completes")]
#[case::date(json!({ "exam_date_format": "soon" }), "exam_date_format")]
#[case::no_effect(json!({ "form": "current", "older_score_member": "X" }), "older_score_member")]
fn each_wrong_setting_is_named(#[case] changes: Value, #[case] key: &str) {
    let errors = checked(&changes).unwrap_err();
    assert_eq!(errors.into_iter().map(|error| error.key).collect::<Vec<_>>(), [key]);
}

#[test]
fn unknown_words_are_refused() {
    for wrong in
        [json!({ "mode": "feed" }), json!({ "match": ["name"] }), json!({ "on_refusal": 500 }), json!({ "form": "x" })]
    {
        assert!(read::<ResultsSettings>(wrong.clone()).is_err(), "{wrong}");
    }
}
