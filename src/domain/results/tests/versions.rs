//! Results, their versions, which of them counts, and the progress of an assignment.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::Map;

use super::*;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::outcome::{Warning, WarningCode};

fn candidate() -> CandidateId {
    CandidateId::parse("cand_00000000000000000000000000000001").unwrap()
}

fn result_id(number: usize) -> ResultId {
    ResultId::parse(&format!("res_{number:032}")).unwrap()
}

/// The state of a result made from an attempt.
fn state(number: u32, attempt: &AttemptState) -> ResultState {
    let matched = Match {
        assessment_ref: "test".to_owned(),
        candidate: candidate(),
        assignment: None,
        vendor_ref: Map::new(),
        warnings: Vec::new(),
    };
    ResultState::of(attempt.clone(), number, matched)
}

fn attempt(activity: Activity, given: Option<f64>) -> AttemptState {
    AttemptState {
        times: AttemptTimes::default(),
        closed_by: None,
        activity,
        grading: if given.is_some() { Grading::FullyGraded } else { Grading::Pending },
        score: given.map(|given| Score {
            given: Points::new(given).unwrap(),
            maximum: Points::new(10.0),
            percent: None,
        }),
        level: None,
        passed: None,
        parts: Vec::new(),
        warnings: Vec::new(),
    }
}

/// A store of the results of one series.
#[derive(Default)]
pub(super) struct Recorded {
    results: Vec<(ExamResult, Vec<ResultVersion>)>,
}

impl Recorded {
    /// Takes over the attempts of the series.
    pub(super) fn take(&mut self, attempts: &[FoldedAttempt]) {
        let now = at(0);
        let recorded: Vec<AttemptKey> = self.results.iter().map(|(result, _)| result.key).collect();
        let keys: Vec<AttemptKey> = attempts.iter().map(|attempt| attempt.key).collect();
        let AttemptPairs { results, superseded } = pair_attempts(&recorded, &keys);
        let numbers = number_attempts(&attempts.iter().collect::<Vec<_>>());
        for (number, (attempt, position)) in numbers.into_iter().zip(attempts.iter().zip(results)) {
            let provenance = Provenance { as_of: attempt.as_of, source: attempt.source };
            let state = state(number, &attempt.state);
            if let Some((result, versions)) = position.map(|position| &mut self.results[position]) {
                versions.extend(result.revise(attempt.key, state, provenance, now));
                continue;
            }
            let owner = ResultOwner {
                id: result_id(self.results.len()),
                tenant: "t".to_owned(),
                connection: "c".to_owned(),
                series: SeriesKey::Participant("p".to_owned()),
            };
            let (result, first) = ExamResult::create(owner, attempt.key, state, provenance, now);
            self.results.push((result, vec![first]));
        }
        for position in superseded {
            let (result, versions) = &mut self.results[position];
            let state = ResultState { superseded: true, ..result.state.clone() };
            let provenance = Provenance { as_of: result.as_of, source: result.source };
            versions.extend(result.revise(result.key, state, provenance, now));
        }
    }

    /// Returns what the results say that hold an attempt, by number.
    pub(super) fn live_states(&self) -> Vec<ResultState> {
        let live = self.results.iter().map(|(result, _)| result.state.clone()).filter(|state| !state.superseded);
        let mut states: Vec<ResultState> = live.collect();
        states.sort_by_key(|state| state.attempt.number);
        states
    }

    /// Checks that versions have no gaps, that each changes what it says it changes, and that the last is the result.
    pub(super) fn check_versions(&self) {
        for (result, versions) in &self.results {
            let numbers: Vec<u32> = versions.iter().map(|version| version.version).collect();
            assert_eq!(numbers, (1..=result.version).collect::<Vec<_>>());
            assert_eq!(versions.last().unwrap().state, result.state);
            for pair in versions.windows(2) {
                assert!(!pair[1].changed.is_empty());
                assert_eq!(pair[1].changed, pair[1].state.changed_since(Some(&pair[0].state)));
            }
        }
    }
}

#[test]
fn a_first_version_changes_what_it_has() {
    let first = state(1, &attempt(Activity::InProgress, None));
    let members = first.changed_since(None);
    let words: Vec<&str> = members.into_iter().map(ResultMember::as_str).collect();
    assert_eq!(words, ["assessment", "candidate", "attempt", "activity", "grading"]);
}

type Change = Box<dyn Fn(&mut ResultState)>;

#[test]
fn changed_names_each_member_that_differs() {
    let first = state(1, &attempt(Activity::Completed, None));
    let warning = Warning::new(WarningCode::ClaimedLater, "x");
    let assignment = AssignmentId::parse("asg_00000000000000000000000000000001").unwrap();
    let vendor_ref = Map::from_iter([("participantId".to_owned(), "p".into())]);
    let score = attempt(Activity::Completed, Some(4.0)).score;
    let changes: Vec<(ResultMember, Change)> = vec![
        (ResultMember::Assessment, Box::new(|it| it.assessment_ref.push('x'))),
        (
            ResultMember::Candidate,
            Box::new(|it| it.candidate = CandidateId::parse(&format!("cand_{}", "2".repeat(32))).unwrap()),
        ),
        (ResultMember::Assignment, Box::new(move |it| it.assignment = Some(assignment.clone()))),
        (ResultMember::Attempt, Box::new(|it| it.attempt.times.elapsed_seconds = Some(1))),
        (ResultMember::Activity, Box::new(|it| it.activity = Activity::InProgress)),
        (ResultMember::Grading, Box::new(|it| it.grading = Grading::Failed)),
        (ResultMember::Score, Box::new(move |it| it.score = score)),
        (ResultMember::Level, Box::new(|it| it.level = Some("x".to_owned()))),
        (ResultMember::Passed, Box::new(|it| it.passed = Some(false))),
        (ResultMember::Parts, Box::new(|it| it.parts.push(part("x")))),
        (ResultMember::Superseded, Box::new(|it| it.superseded = true)),
        (ResultMember::Warnings, Box::new(move |it| it.warnings.push(warning.clone()))),
        (ResultMember::VendorRef, Box::new(move |it| it.vendor_ref = vendor_ref.clone())),
    ];
    assert_eq!(changes.iter().map(|(member, _)| *member).collect::<Vec<_>>(), ResultMember::ALL);
    for (member, change) in changes {
        let mut second = first.clone();
        change(&mut second);
        assert_eq!(second.changed_since(Some(&first)), [member]);
        assert_eq!(first.changed_since(Some(&second)), [member], "also when it goes");
        let stored: ResultState = serde_json::from_str(&serde_json::to_string(&second).unwrap()).unwrap();
        assert_eq!(stored, second, "survives the store");
    }
    assert!(first.changed_since(Some(&first)).is_empty());
}

#[test]
fn a_report_that_only_moves_the_as_of_makes_no_version() {
    let mut recorded = Recorded::default();
    recorded.take(&fold(&[feed(1, finished(4.0, 7.0))], &by_start()));
    recorded.take(&fold(&[feed(1, finished(4.0, 7.0)), fetched(5, finished(4.0, 7.0))], &by_start()));
    let (result, versions) = &recorded.results[0];
    assert_eq!((result.as_of, result.source, versions.len()), (at(5), ReportKind::FetchedReport, 1));
}

#[test]
fn attempts_are_numbered_in_the_order_in_which_they_took_place() {
    let started = |second: i64| Reading {
        times: AttemptTimes { started: Some(at(second)), ..AttemptTimes::default() },
        ..reading()
    };
    let later = fold(&[feed(60, started(50))], &by_start()).remove(0);
    let earlier = fold(&[feed(70, started(40))], &by_start()).remove(0);
    let webhooks = fold(&[webhook(45, finished(1.0, 7.0))], &by_report(Repetition::Attempt)).remove(0);
    assert_eq!(number_attempts(&[&later, &earlier, &webhooks]), [3, 1, 2]);
    let codes = |number| {
        let warnings = state(number, &later.state).warnings;
        warnings.iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    assert_eq!((codes(1), codes(2)), (vec![], vec![WarningCode::AttemptNumberAssumed]));
}

#[test]
fn merged_attempts_leave_the_later_result_superseded() {
    let (first, second) = (AttemptKey::Start(at(0)), AttemptKey::Start(at(9)));
    let merged = pair_attempts(&[first, second], &[AttemptKey::Series]);
    assert_eq!(merged, AttemptPairs { results: vec![Some(0)], superseded: vec![1] });
    let parted = pair_attempts(&[AttemptKey::Series, second], &[first, second]);
    assert_eq!(parted, AttemptPairs { results: vec![Some(0), Some(1)], superseded: vec![] });
    let earlier = AttemptKey::Start(at(-9));
    let inserted = pair_attempts(&[first, second], &[earlier, first, second]);
    assert_eq!(inserted, AttemptPairs { results: vec![None, Some(0), Some(1)], superseded: vec![] });
}

#[rstest]
#[case::latest(Counts::Latest, &[Some(9.0), Some(4.0)], Some(1))]
#[case::latest_without_a_score(Counts::Latest, &[Some(9.0), None], Some(1))]
#[case::first(Counts::First, &[Some(3.0), Some(4.0)], Some(0))]
#[case::best(Counts::Best, &[Some(3.0), Some(9.0), Some(4.0)], Some(1))]
#[case::first_of_equals(Counts::Best, &[Some(9.0), Some(9.0)], Some(0))]
#[case::a_score_before_none(Counts::Best, &[None, Some(-1.0), None], Some(1))]
#[case::latest_without_scores(Counts::Best, &[None, None], Some(1))]
#[case::nothing(Counts::Best, &[], None)]
fn attempt_that_counts(#[case] counts: Counts, #[case] scores: &[Option<f64>], #[case] expected: Option<usize>) {
    let states: Vec<ResultState> =
        (1..).zip(scores).map(|(number, given)| state(number, &attempt(Activity::Completed, *given))).collect();
    let mut all: Vec<&ResultState> = states.iter().collect();
    assert_eq!(counting_attempt(&all, counts), expected);
    all.reverse();
    let reversed = counting_attempt(&all, counts).map(|position| all.len() - 1 - position);
    assert_eq!(reversed, expected, "in any order");
}

#[test]
fn neither_an_unfinished_nor_a_superseded_attempt_counts() {
    let done = state(1, &attempt(Activity::Completed, Some(1.0)));
    let open = state(2, &attempt(Activity::InProgress, None));
    let gone = ResultState { superseded: true, ..state(3, &attempt(Activity::Completed, Some(9.0))) };
    for counts in Counts::ALL {
        assert_eq!(counting_attempt(&[&gone, &open, &done], *counts), Some(2));
    }
}

fn window(valid_until: i64, feed_as_of: Option<i64>) -> BookingWindow {
    BookingWindow {
        valid_until: Some(at(valid_until)),
        expire_after: SignedDuration::from_secs(10),
        feed_as_of: feed_as_of.map(at),
    }
}

#[rstest]
#[case::in_the_window(window(0, Some(-5)), ProgressActivity::NotStarted)]
#[case::late_reports_may_come(window(0, Some(10)), ProgressActivity::NotStarted)]
#[case::over(window(0, Some(11)), ProgressActivity::Expired)]
#[case::no_feed(window(0, None), ProgressActivity::NotStarted)]
#[case::no_window(BookingWindow { valid_until: None, ..window(0, Some(99)) }, ProgressActivity::NotStarted)]
fn assignment_without_an_attempt(#[case] window: BookingWindow, #[case] activity: ProgressActivity) {
    let progress = Progress::of(&[], Counts::Latest, &window);
    assert_eq!((progress.activity, progress.grading, progress.attempts), (activity, Grading::NotReady, 0));
    assert_eq!((progress.result, progress.as_of), (None, window.feed_as_of));
}

#[test]
fn assignment_is_as_far_as_the_attempt_that_counts() {
    let mut recorded = Recorded::default();
    let again = Reading { times: AttemptTimes { started: Some(at(20)), ..AttemptTimes::default() }, ..reading() };
    recorded.take(&fold(&[feed(1, reading())], &by_start()));
    let over = window(0, Some(50));
    let of = |recorded: &Recorded| {
        let results: Vec<&ExamResult> = recorded.results.iter().map(|(result, _)| result).collect();
        Progress::of(&results, Counts::Latest, &over)
    };
    let begun = of(&recorded);
    assert_eq!((begun.activity, begun.attempts, begun.result), (ProgressActivity::InProgress, 1, None));
    recorded.take(&fold(&[feed(1, reading()), feed(2, finished(4.0, 7.0)), feed(60, again)], &by_start()));
    let done = of(&recorded);
    assert_eq!((done.activity, done.grading), (ProgressActivity::Completed, Grading::FullyGraded));
    assert_eq!((done.attempts, done.result, done.as_of), (2, Some(result_id(0)), Some(at(60))));
}
