//! What figures are worth, and what passes.

use rstest::rstest;

use super::*;

fn score(given: f64, maximum: Option<f64>, percent: Option<f64>) -> Score {
    let points = |value| Points::new(value).unwrap();
    Score { given: points(given), maximum: maximum.map(points), percent: percent.map(points) }
}

#[rstest]
#[case::plain(reported(4.0, 7.0), true)]
#[case::more_than_the_maximum(reported(9.0, 7.0), true)]
#[case::negative_marks(reported(-2.0, 7.0), true)]
#[case::nothing_of_nothing(reported(0.0, 0.0), true)]
#[case::no_maximum(ReportedScore { given: figure(4.0), ..ReportedScore::default() }, true)]
#[case::lowest_percent(ReportedScore { percent: figure(-100.0), ..reported(4.0, 7.0) }, true)]
#[case::highest_percent(ReportedScore { percent: figure(1000.0), ..reported(4.0, 7.0) }, true)]
#[case::negative_maximum(reported(4.0, -7.0), false)]
#[case::points_of_nothing(reported(4.0, 0.0), false)]
#[case::minus_points_of_nothing(reported(-4.0, 0.0), false)]
#[case::percent_too_low(ReportedScore { percent: figure(-100.01), ..reported(4.0, 7.0) }, false)]
#[case::percent_too_high(ReportedScore { percent: figure(1000.01), ..reported(4.0, 7.0) }, false)]
#[case::no_number(ReportedScore { given: Some(Figure::Unreadable), ..reported(4.0, 7.0) }, false)]
#[case::percent_no_number(ReportedScore { percent: Some(Figure::Unreadable), ..reported(4.0, 7.0) }, false)]
fn figures_make_a_score_or_cannot_be(#[case] reported: ReportedScore, #[case] plausible: bool) {
    let ReportedScore { given, maximum, percent } = reported;
    let [given, maximum, percent] = [given, maximum, percent].map(|figure| figure.and_then(Figure::points));
    match reported.verdict() {
        ScoreVerdict::Plausible(score) => {
            assert!(plausible);
            assert_eq!(
                (Some(score.given), score.maximum, score.percent),
                (given, maximum, percent),
                "nothing is computed"
            );
        }
        verdict => assert_eq!((verdict, plausible), (ScoreVerdict::Implausible, false)),
    }
}

#[test]
fn absent_points_are_no_score() {
    let without = ReportedScore { given: None, ..reported(0.0, 7.0) };
    assert_eq!(without.verdict(), ScoreVerdict::Absent);
    assert_eq!(ReportedScore::default().verdict(), ScoreVerdict::Absent);
}

#[rstest]
#[case::rounded(4.0, 7.0, 57.14, false)]
#[case::cut(2.0, 3.0, 66.66, false)]
#[case::just_within(1.0, 2.0, 50.01, false)]
#[case::just_outside(1.0, 2.0, 50.011, true)]
#[case::below(1.0, 2.0, 49.98, true)]
#[case::no_maximum_to_speak_of(0.0, 0.0, 50.0, false)]
fn percentage_may_differ_by_a_hundredth(
    #[case] given: f64,
    #[case] maximum: f64,
    #[case] percent: f64,
    #[case] differs: bool,
) {
    assert_eq!(score(given, Some(maximum), Some(percent)).percent_differs(), differs);
}

#[test]
fn differing_percentage_is_shown_as_reported_with_a_warning() {
    let odd = ReportedScore { percent: figure(90.0), ..reported(4.0, 7.0) };
    let state = fold(&[feed(1, Reading { score: odd, ..finished(4.0, 7.0) })], &by_start()).remove(0).state;
    assert_eq!(state.score.unwrap().percent, Points::new(90.0));
    assert_eq!(state.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["percent_differs"]);
    let state = fold(&[feed(1, finished(4.0, 0.0))], &by_start()).remove(0).state;
    assert_eq!((state.grading, state.score), (Grading::Failed, None));
    assert_eq!(state.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["score_implausible"]);
}

#[rstest]
#[case::no_rule(None, &[], Some(100.0), Some("A"), None)]
#[case::reached(Some(70.0), &[], Some(70.0), None, Some(true))]
#[case::missed(Some(70.0), &[], Some(69.99), None, Some(false))]
#[case::no_score(Some(70.0), &[], None, Some("A"), None)]
#[case::level(None, &["A", "B"], None, Some("B"), Some(true))]
#[case::other_level(None, &["A", "B"], Some(100.0), Some("b"), Some(false))]
#[case::no_level(None, &["A"], Some(100.0), None, None)]
#[case::both(Some(70.0), &["A"], Some(80.0), Some("A"), Some(true))]
#[case::one_of_both(Some(70.0), &["A"], Some(80.0), Some("C"), Some(false))]
#[case::one_failed_and_one_unknown(Some(70.0), &["A"], Some(60.0), None, Some(false))]
#[case::one_held_and_one_unknown(Some(70.0), &["A"], Some(80.0), None, None)]
fn passing(
    #[case] least: Option<f64>,
    #[case] levels: &[&str],
    #[case] percent: Option<f64>,
    #[case] level: Option<&str>,
    #[case] passed: Option<bool>,
) {
    let rule = PassRule::checked(least, levels.iter().map(|level| (*level).to_owned()).collect()).unwrap();
    let score = percent.map(|percent| score(1.0, Some(1.0), Some(percent)));
    assert_eq!(rule.passed(score.as_ref(), level), passed);
}

#[test]
fn without_a_percentage_the_points_pass() {
    let rule = PassRule::checked(Some(70.0), Vec::new()).unwrap();
    for (given, maximum, passed) in [(7.0, 10.0, true), (0.7, 1.0, true), (6.9, 10.0, false)] {
        assert_eq!(rule.passed(Some(&score(given, Some(maximum), None)), None), Some(passed));
    }
    assert_eq!(rule.passed(Some(&score(7.0, None, None)), None), None);
    // 57 of 100 in a double is 56.99999999999999 if it is divided first.
    let rule = PassRule::checked(Some(57.0), Vec::new()).unwrap();
    assert_eq!(rule.passed(Some(&score(0.57, Some(1.0), None)), None), Some(true));
}

#[test]
fn nothing_passes_before_it_is_graded() {
    let pass = PassRule::checked(None, vec!["A".to_owned()]).unwrap();
    let settings = FoldSettings { scoring: ScoringRules { pass, ..ScoringRules::default() }, ..by_start() };
    let passed = |reading: Reading, settings: &FoldSettings| fold(&[feed(1, reading)], settings).remove(0).state.passed;
    let with = |score| Reading { level: Some("A".to_owned()), score, ..finished(0.0, 0.0) };
    assert_eq!(passed(with(reported(4.0, 7.0)), &settings), Some(true));
    assert_eq!(passed(with(reported(4.0, -7.0)), &settings), None, "implausible");
    assert_eq!(passed(with(ReportedScore::default()), &settings), None, "pending");
    assert_eq!(passed(Reading { finished: false, ..with(reported(4.0, 7.0)) }, &settings), None, "unfinished");
    let without = FoldSettings { unscored: Unscored::Final, ..settings };
    assert_eq!(passed(with(ReportedScore::default()), &without), Some(true));
}

#[test]
fn rules_that_cannot_be_name_their_key() {
    for percent in [-0.1, 100.1, f64::NAN] {
        assert_eq!(PassRule::checked(Some(percent), Vec::new()).unwrap_err().0, "pass_percent");
    }
    assert_eq!(PassRule::checked(None, vec![" ".to_owned()]).unwrap_err().0, "pass_levels");
    let pass = PassRule::checked(Some(70.0), Vec::new()).unwrap();
    let rules = |scored, pass, counts| ScoringRules { scored, pass, counts }.checked();
    assert_eq!(rules(false, pass.clone(), Counts::Latest).unwrap_err().0, "scored");
    assert_eq!(rules(false, PassRule::default(), Counts::Best).unwrap_err().0, "counts");
    assert!(rules(true, pass, Counts::Best).is_ok());
}
