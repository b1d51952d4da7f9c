use rstest::rstest;

use super::*;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::results::exam_result::{NumberedAttempt, Provenance, ResultOwner};
use crate::domain::results::{AttemptKey, AttemptTimes, Grading, ReportKind, SeriesKey};

fn state(activity: Activity, grading: Grading, level: &str) -> ResultState {
    ResultState {
        assessment_ref: "t1".to_owned(),
        candidate: CandidateId::parse("cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").unwrap(),
        assignment: Some(AssignmentId::parse("asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70").unwrap()),
        attempt: NumberedAttempt { number: 1, times: AttemptTimes::default(), closed_by: None },
        activity,
        grading,
        score: None,
        level: Some(level.to_owned()),
        passed: None,
        parts: Vec::new(),
        superseded: false,
        warnings: Vec::new(),
        vendor_ref: serde_json::Map::new(),
    }
}

/// Returns the words of the events that the last of these states makes.
fn events_of_last(states: &[ResultState]) -> Vec<&'static str> {
    let owner = ResultOwner {
        id: ResultId::parse("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73").unwrap(),
        tenant: "lms".to_owned(),
        connection: "main".to_owned(),
        series: SeriesKey::Participant("p1".to_owned()),
    };
    let provenance = Provenance { as_of: Timestamp::UNIX_EPOCH, source: ReportKind::FeedItem };
    let (mut result, mut version) =
        ExamResult::create(owner, AttemptKey::Series, states[0].clone(), provenance, Timestamp::UNIX_EPOCH);
    let mut before = None;
    for state in &states[1..] {
        before = Some(EarlierVersion::from(&result));
        version = result.revise(result.key, state.clone(), provenance, Timestamp::UNIX_EPOCH).unwrap();
    }
    result_event_types(before, &result, &version).into_iter().map(EventType::as_str).collect()
}

const BEGUN: (Activity, Grading, &str) = (Activity::InProgress, Grading::NotReady, "");
const ENDED: (Activity, Grading, &str) = (Activity::Completed, Grading::Pending, "");
const GRADED: (Activity, Grading, &str) = (Activity::Completed, Grading::FullyGraded, "A");
const REGRADED: (Activity, Grading, &str) = (Activity::Completed, Grading::FullyGraded, "B");
const UNSCORED: (Activity, Grading, &str) = (Activity::Completed, Grading::NotGraded, "");
const IMPOSSIBLE: (Activity, Grading, &str) = (Activity::Completed, Grading::Failed, "");

#[rstest]
#[case::begun(&[BEGUN], &["attempt.started"])]
#[case::ended(&[BEGUN, ENDED], &["attempt.completed"])]
#[case::first_seen_at_its_end(&[ENDED], &["attempt.completed"])]
#[case::first_seen_with_its_score(&[GRADED], &["attempt.completed", "result.published"])]
#[case::graded_later(&[BEGUN, ENDED, GRADED], &["result.published"])]
#[case::without_a_score(&[BEGUN, UNSCORED], &["attempt.completed", "result.published"])]
#[case::corrected(&[GRADED, REGRADED], &["result.corrected"])]
#[case::reopened(&[GRADED, BEGUN], &["attempt.reopened", "result.corrected"])]
#[case::reopened_before_it_was_graded(&[ENDED, BEGUN], &["attempt.reopened"])]
#[case::graded_again(&[GRADED, BEGUN, GRADED], &["attempt.completed", "result.corrected"])]
#[case::impossible_figures(&[ENDED, IMPOSSIBLE], &[])]
#[case::impossible_figures_of_a_published_one(&[GRADED, IMPOSSIBLE], &["result.corrected"])]
fn a_version_has_its_events(#[case] states: &[(Activity, Grading, &str)], #[case] expected: &[&str]) {
    let states: Vec<ResultState> =
        states.iter().map(|(activity, grading, level)| state(*activity, *grading, level)).collect();
    assert_eq!(events_of_last(&states), expected);
}

#[test]
fn what_only_explains_a_published_result_corrects_nothing() {
    let graded = state(GRADED.0, GRADED.1, GRADED.2);
    let vendor_ref = serde_json::Map::from_iter([("participantId".to_owned(), "p1".into())]);
    let explained = ResultState { vendor_ref, ..graded.clone() };
    assert!(events_of_last(&[graded, explained]).is_empty());
}

#[test]
fn a_superseded_result_is_corrected_even_if_it_was_not_published() {
    for earlier in [BEGUN, GRADED] {
        let earlier = state(earlier.0, earlier.1, earlier.2);
        let superseded = ResultState { superseded: true, ..earlier.clone() };
        assert_eq!(events_of_last(&[earlier, superseded]), ["result.corrected"]);
    }
}
