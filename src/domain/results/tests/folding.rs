//! What the fold makes of contradicting, repeated and incomplete readings.

use rstest::rstest;

use super::*;

fn only(sightings: &[Sighting], settings: &FoldSettings) -> FoldedAttempt {
    let mut attempts = fold(sightings, settings);
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    attempts.remove(0)
}

#[test]
fn an_unfinished_attempt_has_no_score_level_or_parts() {
    let early =
        Reading { level: Some("low".to_owned()), parts: vec![part("a")], score: reported(1.0, 7.0), ..reading() };
    let state = only(&[feed(1, early)], &by_start()).state;
    assert_eq!((state.activity, state.grading), (Activity::InProgress, Grading::NotReady));
    assert_eq!((state.score, state.level, state.parts.len(), state.times.completed), (None, None, 0, None));
}

#[test]
fn the_later_of_two_scores_counts() {
    let attempt = only(&[feed(5, finished(5.0, 7.0)), feed(3, finished(4.0, 7.0))], &by_start());
    assert_eq!((given(&attempt), attempt.as_of), (Some(5.0), at(5)));
}

#[test]
fn a_score_that_returns_to_a_former_one_is_the_former_one() {
    let attempt =
        only(&[feed(1, finished(4.0, 7.0)), feed(2, finished(5.0, 7.0)), feed(3, finished(4.0, 7.0))], &by_start());
    assert_eq!(given(&attempt), Some(4.0));
}

#[rstest]
#[case::verify(Regression::Verify, Activity::Completed, Some(StepBack { as_of: at(2) }))]
#[case::ignore(Regression::Ignore, Activity::Completed, None)]
#[case::accept(Regression::Accept, Activity::InProgress, None)]
fn step_back_of_the_feed(
    #[case] regression: Regression,
    #[case] activity: Activity,
    #[case] unconfirmed: Option<StepBack>,
) {
    let settings = FoldSettings { regression, ..by_start() };
    let attempt = only(&[feed(1, finished(4.0, 7.0)), feed(2, reading())], &settings);
    assert_eq!((attempt.state.activity, attempt.unconfirmed), (activity, unconfirmed));
}

#[test]
fn a_score_that_disappears_is_a_step_back() {
    let unscored = Reading { score: ReportedScore::default(), ..finished(0.0, 0.0) };
    let attempt = only(&[feed(1, finished(4.0, 7.0)), feed(2, unscored)], &by_start());
    assert_eq!((given(&attempt), attempt.unconfirmed), (Some(4.0), Some(StepBack { as_of: at(2) })));
    assert_eq!(attempt.as_of, at(1), "the state is known until the report that agrees with it");
}

#[test]
fn figures_that_cannot_be_replace_no_score() {
    let attempt = only(&[feed(1, finished(4.0, 7.0)), feed(2, finished(4.0, -7.0))], &by_start());
    assert_eq!((given(&attempt), attempt.unconfirmed), (Some(4.0), Some(StepBack { as_of: at(2) })));
}

#[test]
fn a_fetched_report_confirms_a_step_back_or_refutes_it() {
    let doubtful = [feed(1, finished(4.0, 7.0)), feed(2, reading())];
    let with = |report| [doubtful.to_vec(), vec![report]].concat();
    let confirmed = only(&with(fetched(3, reading())), &by_start());
    assert_eq!((confirmed.state.activity, confirmed.unconfirmed), (Activity::InProgress, None));
    assert_eq!(confirmed.source, ReportKind::FetchedReport);
    let refuted = only(&with(fetched(3, finished(4.0, 7.0))), &by_start());
    assert_eq!((refuted.state.activity, refuted.unconfirmed), (Activity::Completed, None));
}

#[test]
fn an_entry_that_holds_less_than_the_report_takes_nothing_away() {
    let whole = Reading {
        level: Some("Medium".to_owned()),
        parts: vec![part("a")],
        score: ReportedScore { percent: figure(57.14), ..reported(4.0, 7.0) },
        ..finished(4.0, 7.0)
    };
    let state = only(&[fetched(1, whole.clone()), feed(2, finished(4.0, 7.0))], &by_start()).state;
    assert_eq!((state.level.as_deref(), state.parts.len()), (Some("Medium"), 1));
    assert_eq!(state.score.unwrap().percent, Points::new(57.14));
    let corrected = only(&[fetched(1, whole), feed(2, finished(5.0, 7.0))], &by_start()).state;
    assert_eq!((corrected.level, corrected.parts.len()), (None, 0), "they belong to the former score");
    assert_eq!(corrected.score.unwrap().percent, None);
}

#[test]
fn a_second_start_is_an_attempt_or_a_correction() {
    let again = Reading { times: AttemptTimes { started: Some(at(100)), ..AttemptTimes::default() }, ..reading() };
    let sightings =
        [feed(200, Reading { finished: true, score: reported(6.0, 7.0), ..again }), feed(50, finished(4.0, 7.0))];
    let attempts = fold(&sightings, &by_start());
    assert_eq!(attempts.iter().map(given).collect::<Vec<_>>(), [Some(4.0), Some(6.0)]);
    assert_eq!(
        attempts.iter().map(|it| it.key).collect::<Vec<_>>(),
        [AttemptKey::Start(at(0)), AttemptKey::Start(at(100))]
    );
    let corrections = settings(AttemptRule::ByStart(Repetition::Correction), Regression::Verify);
    let attempt = only(&sightings, &corrections);
    assert_eq!((given(&attempt), attempt.state.times.started), (Some(6.0), Some(at(100))));
}

#[test]
fn a_second_start_as_a_correction_is_a_step_back_until_it_is_confirmed() {
    let again = Reading { times: AttemptTimes { started: Some(at(100)), ..AttemptTimes::default() }, ..reading() };
    let corrections = settings(AttemptRule::ByStart(Repetition::Correction), Regression::Verify);
    let attempt = only(&[feed(50, finished(4.0, 7.0)), feed(200, again)], &corrections);
    assert_eq!((given(&attempt), attempt.unconfirmed), (Some(4.0), Some(StepBack { as_of: at(200) })));
}

#[test]
fn a_report_without_a_start_belongs_to_the_start_before_it() {
    let without = Reading { times: AttemptTimes::default(), ..finished(4.0, 7.0) };
    let attempt = only(&[feed(1, reading()), feed(2, without.clone())], &by_start());
    assert_eq!(
        (attempt.key, given(&attempt), attempt.state.times.started),
        (AttemptKey::Start(at(0)), Some(4.0), Some(at(0)))
    );
    assert_eq!(
        only(&[feed(1, without.clone()), feed(2, finished(4.0, 7.0))], &by_start()).key,
        AttemptKey::Start(at(0))
    );
    assert_eq!(only(&[feed(1, without)], &by_start()).key, AttemptKey::Series);
}

#[test]
fn a_closed_attempt_is_finished_if_the_settings_say_so() {
    let closed = Reading { closed_by: Some(ClosedBy::Timeout), score: reported(4.0, 7.0), ..reading() };
    let open = only(&[feed(1, closed.clone())], &by_start()).state;
    assert_eq!((open.activity, open.closed_by), (Activity::InProgress, None));
    let ends = FoldSettings { auto_closed_ends: true, ..by_start() };
    let state = only(&[feed(1, closed)], &ends).state;
    assert_eq!(
        (state.activity, state.grading, state.closed_by),
        (Activity::Completed, Grading::FullyGraded, Some(ClosedBy::Timeout))
    );
}

#[rstest]
#[case::pending(Unscored::Pending, true, Grading::Pending)]
#[case::without(Unscored::Final, true, Grading::NotGraded)]
#[case::not_scored(Unscored::Pending, false, Grading::NotGraded)]
fn finished_without_a_score(#[case] unscored: Unscored, #[case] scored: bool, #[case] grading: Grading) {
    let scoring = ScoringRules { scored, ..ScoringRules::default() };
    let settings = FoldSettings { unscored, scoring, ..by_start() };
    let state = only(&[feed(1, Reading { score: ReportedScore::default(), ..finished(0.0, 0.0) })], &settings).state;
    assert_eq!((state.grading, state.score, state.passed), (grading, None, None));
}

#[test]
fn an_assessment_without_scores_shows_none() {
    let scoring = ScoringRules { scored: false, ..ScoringRules::default() };
    let state = only(&[feed(1, finished(4.0, 7.0))], &FoldSettings { scoring, ..by_start() }).state;
    assert_eq!((state.grading, state.score), (Grading::NotGraded, None));
}

#[test]
fn each_finished_webhook_is_an_attempt_or_a_correction() {
    let sightings = [webhook(1, finished(4.0, 7.0)), webhook(9, finished(6.0, 7.0))];
    let attempts = fold(&sightings, &by_report(Repetition::Attempt));
    assert_eq!(attempts.iter().map(given).collect::<Vec<_>>(), [Some(4.0), Some(6.0)]);
    let times = &attempts[1].state.times;
    assert_eq!((times.completed, &*times.approximate), (Some(at(9)), &[TimeName::CompletedAt][..]));
    assert_eq!(given(&only(&sightings, &by_report(Repetition::Correction))), Some(6.0));
}

#[test]
fn a_webhook_that_comes_again_late_undoes_no_correction() {
    let mut sightings = vec![webhook(1, finished(4.0, 7.0)), webhook(2, finished(6.0, 7.0))];
    sightings.push(Sighting { as_of: at(3), arrival: 3, ..sightings[0].clone() });
    assert_eq!(given(&only(&sightings, &by_report(Repetition::Correction))), Some(6.0));
    assert_eq!(fold(&sightings, &by_report(Repetition::Attempt)).len(), 2);
}

#[test]
fn an_unfinished_webhook_makes_no_further_attempt() {
    let late = [webhook(1, finished(4.0, 7.0)), webhook(2, reading())];
    for repetition in [Repetition::Attempt, Repetition::Correction] {
        assert_eq!(only(&late, &by_report(repetition)).state.activity, Activity::Completed);
    }
    let early = only(&[webhook(2, reading())], &by_report(Repetition::Attempt));
    assert_eq!((early.state.activity, early.state.times.completed), (Activity::InProgress, None));
}
