//! Properties of the fold over random histories of a series.

use proptest::prelude::*;
use proptest::sample::select;

use super::versions::Recorded;
use super::*;

const RULES: [AttemptRule; 4] = [
    AttemptRule::ByStart(Repetition::Attempt),
    AttemptRule::ByStart(Repetition::Correction),
    AttemptRule::ByReport(Repetition::Attempt),
    AttemptRule::ByReport(Repetition::Correction),
];

fn any_reading() -> impl Strategy<Value = Reading> {
    let times = select(vec![None, Some(at(0)), Some(at(10))]);
    let figures =
        (0_u8..4, select(vec![None, Some(0.0), Some(3.0), Some(-1.0)]), select(vec![None, Some(50.0), Some(5000.0)]));
    let closed = select(vec![None, Some(ClosedBy::Timeout), Some(ClosedBy::Candidate)]);
    (times, any::<bool>(), figures, closed, 0_usize..3).prop_map(
        |(started, finished, (given, maximum, percent), closed_by, parts)| {
            let number = |value: Option<f64>| value.and_then(figure);
            let score = ReportedScore {
                given: if given == 0 { None } else { figure(f64::from(given)) },
                maximum: number(maximum),
                percent: number(percent),
            };
            let level = (parts == 2).then(|| "Medium".to_owned());
            let parts = (0..parts).map(|number| part(&number.to_string())).collect();
            let times = AttemptTimes { started, ..AttemptTimes::default() };
            Reading { times, finished, closed_by, score, level, parts, ..reading() }
        },
    )
}

/// Reports of one series at seconds 1, 2, 3, …
fn any_history() -> impl Strategy<Value = Vec<Sighting>> {
    let kinds = select(vec![ReportKind::FeedItem, ReportKind::FeedItem, ReportKind::FetchedReport]);
    prop::collection::vec((kinds, any_reading()), 1..10).prop_map(|reports| {
        (1..).zip(reports).map(|(second, (kind, reading))| sighting(kind, second, reading)).collect()
    })
}

fn any_settings() -> impl Strategy<Value = FoldSettings> {
    let regressions = Regression::ALL.to_vec();
    (select(RULES.to_vec()), select(Unscored::ALL.to_vec()), select(regressions), any::<bool>(), any::<bool>())
        .prop_map(|(attempts, unscored, regression, auto_closed_ends, scored)| FoldSettings {
            attempts,
            unscored,
            regression,
            auto_closed_ends,
            scoring: ScoringRules { scored, ..ScoringRules::default() },
        })
}

/// A history and the same with duplicates, in another order.
fn any_repetition() -> impl Strategy<Value = (Vec<Sighting>, Vec<Sighting>)> {
    any_history().prop_flat_map(|history| {
        let repeated = prop::collection::vec(select(history.clone()), 0..8);
        let all = repeated.prop_map({
            let history = history.clone();
            move |repeated| [history.clone(), repeated].concat()
        });
        (Just(history), all.prop_shuffle())
    })
}

fn completes(reading: &Reading, settings: &FoldSettings) -> bool {
    reading.finished || settings.auto_closed_ends && reading.closed_by == Some(ClosedBy::Timeout)
}

/// The stage of a reading, said another way than the fold does.
fn stage(reading: &Reading, settings: &FoldSettings) -> u8 {
    let scored = settings.scoring.scored && matches!(reading.score.verdict(), ScoreVerdict::Plausible(_));
    if completes(reading, settings) { 1 + u8::from(scored) } else { 0 }
}

proptest! {
    #[test]
    fn order_and_duplicates_change_nothing((history, repeated) in any_repetition(), settings in any_settings()) {
        prop_assert_eq!(fold(&repeated, &settings), fold(&history, &settings));
    }

    #[test]
    fn portions_and_restarts_change_nothing(
        history in any_history().prop_shuffle(),
        cuts in prop::collection::vec(1_usize..4, 0..6),
        settings in any_settings(),
    ) {
        let mut recorded = Recorded::default();
        let mut seen = 0;
        for cut in cuts {
            seen = history.len().min(seen + cut);
            recorded.take(&fold(&history[..seen], &settings));
        }
        recorded.take(&fold(&history, &settings));
        let mut at_once = Recorded::default();
        at_once.take(&fold(&history, &settings));
        prop_assert_eq!(recorded.live_states(), at_once.live_states());
        recorded.check_versions();
    }

    #[test]
    fn other_settings_are_as_if_they_had_been_there_from_the_start(
        history in any_history(),
        changes in prop::collection::vec((1_usize..10, any_settings()), 1..4),
    ) {
        let mut recorded = Recorded::default();
        for (seen, settings) in &changes {
            recorded.take(&fold(&history[..history.len().min(*seen)], settings));
        }
        let last = &changes[changes.len() - 1].1;
        recorded.take(&fold(&history, last));
        let mut from_the_start = Recorded::default();
        from_the_start.take(&fold(&history, last));
        prop_assert_eq!(recorded.live_states(), from_the_start.live_states());
        recorded.check_versions();
    }

    #[test]
    fn every_figure_stands_in_a_report(history in any_history(), settings in any_settings()) {
        for attempt in fold(&history, &settings) {
            let Some(score) = attempt.state.score else { continue };
            let figures = |sighting: &&Sighting| match sighting.reading.score.verdict() {
                ScoreVerdict::Plausible(said) => (said.given, said.maximum) == (score.given, score.maximum),
                _ => false,
            };
            let sources: Vec<&Sighting> = history.iter().filter(figures).collect();
            prop_assert!(sources.iter().any(|sighting| completes(&sighting.reading, &settings)), "an invented score");
            let percent = score.percent.map(Figure::Points);
            prop_assert!(percent.is_none() || sources.iter().any(|it| it.reading.score.percent == percent));
        }
    }

    /// An independent statement of what the fold of one attempt is: the best stage since the vendor was last asked, as said
    /// last.
    #[test]
    fn an_attempt_is_the_latest_reading_of_its_best_stage_since_the_vendor_was_asked(
        history in any_history(),
        regression in select(vec![Regression::Verify, Regression::Ignore]),
        scored in any::<bool>(),
    ) {
        let rule = AttemptRule::ByStart(Repetition::Correction);
        let scoring = ScoringRules { scored, ..ScoringRules::default() };
        let settings = FoldSettings { scoring, ..super::settings(rule, regression) };
        let asked = history.iter().rposition(|sighting| sighting.kind == ReportKind::FetchedReport);
        let from = asked.filter(|_| regression == Regression::Verify).unwrap_or(0);
        let latest = history[from..].iter().max_by_key(|it| (stage(&it.reading, &settings), it.as_of)).unwrap();
        let attempt = fold(&history, &settings).remove(0);
        prop_assert_eq!(attempt.as_of, latest.as_of);
        prop_assert_eq!(attempt.state.activity == Activity::Completed, completes(&latest.reading, &settings));
        let expected = match latest.reading.score.verdict() {
            ScoreVerdict::Plausible(score) if scored && completes(&latest.reading, &settings) => Some(score.given),
            _ => None,
        };
        prop_assert_eq!(attempt.state.score.map(|score| score.given), expected);
        let last_doubt = history.iter().rev().take_while(|it| it.as_of > latest.as_of).next();
        let doubt = last_doubt.filter(|_| regression == Regression::Verify).map(|it| StepBack { as_of: it.as_of });
        prop_assert_eq!(attempt.unconfirmed, doubt);
    }

    #[test]
    fn a_later_stage_is_undone_by_a_fetched_report_only(
        history in any_history(),
        rule in select(RULES.to_vec()),
        regression in select(vec![Regression::Verify, Regression::Ignore]),
    ) {
        let settings = super::settings(rule, regression);
        let mut before = Vec::new();
        for seen in 1..=history.len() {
            let now = fold(&history[..seen], &settings);
            let last = &history[seen - 1];
            let asked = regression == Regression::Verify && last.kind == ReportKind::FetchedReport;
            for then in &before {
                let FoldedAttempt { key, state, .. } = then;
                let same = now.iter().find(|attempt| attempt.key == *key);
                // Only what had no start so far can be another attempt now.
                let Some(same) = same else { prop_assert_eq!(*key, AttemptKey::Series); continue };
                let undone = state.activity == Activity::Completed && same.state.activity == Activity::InProgress
                    || state.score.is_some() && same.state.score.is_none();
                prop_assert!(!undone || asked, "undone by {:?}", last);
            }
            before = now;
        }
    }
}
