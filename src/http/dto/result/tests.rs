//! Results as callers see them.

use jiff::Timestamp;

use super::*;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::outcome::WarningCode;
use crate::domain::results::{AttemptKey, AttemptTimes, NumberedAttempt, Points, ResultState, SeriesKey};

/// Returns the number as a figure.
fn points(value: f64) -> Points {
    Points::new(value).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns the view of a finished attempt with everything that a result can have.
pub(in crate::http) fn full_view() -> ResultView {
    let state = ResultState {
        assessment_ref: "fa19e351".to_owned(),
        candidate: CandidateId::parse("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").unwrap(),
        assignment: Some(AssignmentId::parse("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70").unwrap()),
        attempt: NumberedAttempt {
            number: 1,
            times: AttemptTimes {
                started: Some(time("2035-03-02T09:00:00Z")),
                completed: Some(time("2035-03-02T09:12:34Z")),
                elapsed_seconds: Some(754),
                approximate: vec![TimeName::CompletedAt],
            },
            closed_by: Some(ClosedBy::Candidate),
        },
        activity: Activity::Completed,
        grading: Grading::FullyGraded,
        score: Some(domain::Score { given: points(4.0), maximum: Some(points(7.0)), percent: Some(points(57.14)) }),
        level: Some("Medium".to_owned()),
        passed: Some(true),
        parts: vec![domain::Part {
            kind: PartKind::Section,
            label: "Section #1".to_owned(),
            score: Some(domain::PartScore { given: points(2.0), maximum: Some(points(2.0)) }),
            level: Some("passed".to_owned()),
        }],
        superseded: false,
        warnings: Vec::new(),
        vendor_ref: Map::from_iter([("participantId".to_owned(), json!("7f0c7a52-8a36-4b6c-9d3c-1a2b3c4d5e6f"))]),
    };
    let result = domain::ExamResult {
        id: ResultId::parse("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73").unwrap(),
        tenant: "lms".to_owned(),
        connection: "startexam-main".to_owned(),
        series: SeriesKey::Participant("planted-series".to_owned()),
        key: AttemptKey::Series,
        version: 2,
        state,
        published: false,
        as_of: time("2035-03-02T09:20:00Z"),
        source: ReportKind::FetchedReport,
        created: time("2035-03-02T09:10:02.114Z"),
        last_modified: time("2035-03-02T09:20:03.871Z"),
    };
    ResultView {
        result,
        assessment: "rust-101".to_owned(),
        external_id: Some("emp-1001".into()),
        reference: Some("order-7781".to_owned()),
        counts: true,
    }
}

fn without_values() -> ResultView {
    let mut view = full_view();
    let state = &mut view.result.state;
    (state.assignment, state.score, state.level, state.passed) = (None, None, None, None);
    (state.parts, state.vendor_ref) = (Vec::new(), Map::new());
    state.attempt = NumberedAttempt { number: 2, times: AttemptTimes::default(), closed_by: None };
    (state.activity, state.grading) = (Activity::InProgress, Grading::NotReady);
    state.warnings = vec![Warning::new(WarningCode::ClaimedLater, "x")];
    (view.external_id, view.counts) = (None, false);
    view
}

#[test]
fn a_result_is_shown_as_its_example() {
    let shown = serde_json::to_value(ExamResult::from(full_view())).unwrap();
    assert_eq!(shown, result_example());
}

#[test]
fn what_is_unknown_is_absent() {
    let shown = serde_json::to_value(ExamResult::from(without_values())).unwrap();
    for member in ["assignment", "score", "level", "passed", "superseded", "vendorRef"] {
        assert!(shown.get(member).is_none(), "{member}: {shown}");
    }
    assert_eq!(shown["attempt"], json!({ "number": 2 }));
    assert_eq!(shown["candidate"], json!({ "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" }));
    assert_eq!((&shown["parts"], &shown["counts"]), (&json!([]), &json!(false)));
    assert_eq!(shown["warnings"], json!([{ "code": "claimed_later", "detail": "x" }]));
    assert!(!shown.to_string().contains("null"), "{shown}");
}

#[test]
fn figures_keep_their_digits() {
    let mut view = full_view();
    view.result.state.score =
        Some(domain::Score { given: points(-0.5), maximum: Some(points(100.0)), percent: Some(points(0.1)) });
    let text = serde_json::to_string(&ExamResult::from(view)).unwrap();
    assert!(text.contains(r#""score":{"given":-0.5,"maximum":100.0,"percent":0.1}"#), "{text}");
}

#[test]
fn a_superseded_result_says_so() {
    let mut view = full_view();
    view.result.state.superseded = true;
    assert_eq!(serde_json::to_value(ExamResult::from(view)).unwrap()["superseded"], true);
}

#[test]
fn a_version_names_only_what_it_is_about() {
    let view = full_view();
    let version = |number, change: fn(&mut ResultState)| {
        let mut state = view.result.state.clone();
        change(&mut state);
        let recorded = time("2035-03-02T09:20:03.871Z");
        domain::ResultVersion { version: number, state, changed: vec![ResultMember::Score], recorded }
    };
    let versions = vec![
        version(1, |state| {
            state.assessment_ref = "other".to_owned();
            state.candidate = CandidateId::parse("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5eff").unwrap();
            state.assignment = Some(AssignmentId::parse("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5eff").unwrap());
        }),
        version(2, |_| {}),
    ];
    let shown = serde_json::to_value(ResultVersion::all(&view, versions)).unwrap();
    assert_eq!(shown[0]["assessment"], "other");
    assert_eq!(shown[0]["candidate"], json!({ "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5eff" }));
    assert_eq!(shown[0]["assignment"], json!({ "id": "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5eff" }));
    assert_eq!((&shown[0]["version"], &shown[0]["changed"]), (&json!(1), &json!(["score"])));
    assert_eq!(shown[1]["assessment"], "rust-101");
    assert_eq!(shown[1]["assignment"]["reference"], "order-7781");
    assert_eq!(shown[1]["recordedAt"], "2035-03-02T09:20:03.871Z");
    assert!(shown[1].get("counts").is_none() && shown[1].get("asOf").is_none(), "{shown}");
}
