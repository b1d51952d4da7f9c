//! The fold: from the readings of one series to its attempts.
//!
//! A pure function of the readings, their order and the settings, so that order of arrival, duplicates, portions and
//! restarts change nothing, and reading again under other settings is the same as having read so from the start. Of
//! contradicting readings the one with the later as-of wins, and at the same as-of the one that arrived later. A reading of an
//! earlier stage never undoes a later one, unless the vendor was asked and confirmed it, or the operator accepts it.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reading::{AttemptTimes, ClosedBy, Part, Reading, TimeName};
use super::report::{ReportDigest, ReportKind};
use super::scoring::{Score, ScoreVerdict, ScoringRules};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::words::words;

words! {
    /// How far an attempt has got.
    pub enum Activity {
        /// It was started and is not finished.
        InProgress "in_progress",
        /// It is finished.
        Completed "completed",
    }
}

words! {
    /// What is known of the score of an attempt.
    pub enum Grading {
        /// The attempt is not finished.
        NotReady "not_ready",
        /// The attempt is finished and a score is expected.
        Pending "pending",
        /// The score is known.
        FullyGraded "fully_graded",
        /// The vendor reports figures that cannot be, so there is no score.
        Failed "failed",
        /// The assessment has no score.
        NotGraded "not_graded",
    }
}

words! {
    /// What a repetition is: a second start under one registration, or a second result of one candidate at one test.
    #[derive(Default)]
    pub enum Repetition {
        /// Another attempt.
        #[default]
        Attempt "attempt",
        /// A correction of the same attempt.
        Correction "correction",
    }
}

words! {
    /// What a finished attempt without a score is.
    #[derive(Default)]
    pub enum Unscored {
        /// An attempt whose score will come.
        #[default]
        Pending "pending",
        /// An attempt that has none.
        Final "final",
    }
}

words! {
    /// What to do if the vendor reports an earlier stage than before.
    #[derive(Default)]
    pub enum Regression {
        /// Ask the vendor for the attempt, and believe its answer.
        #[default]
        Verify "verify",
        /// Keep the later stage.
        Ignore "ignore",
        /// Believe it.
        Accept "accept",
    }
}

/// What makes an attempt of the readings of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptRule {
    /// Each start is an attempt, or, as [`Repetition::Correction`], all are one.
    ByStart(Repetition),
    /// The vendor reports no start: each finished report is an attempt, or, as [`Repetition::Correction`], all are one.
    /// Unfinished ones show that the first attempt has begun and nothing else, because they may arrive late.
    ByReport(Repetition),
}

/// How readings are folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldSettings {
    /// What makes an attempt.
    pub attempts: AttemptRule,
    /// What a finished attempt without a score is.
    pub unscored: Unscored,
    /// What to do if the vendor reports an earlier stage than before.
    pub regression: Regression,
    /// Whether an attempt that the vendor closed is finished, though the vendor does not say so.
    pub auto_closed_ends: bool,
    /// How the assessment's attempts are judged.
    pub scoring: ScoringRules,
}

/// A report of the series as the fold sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// How the report reached the gateway.
    pub kind: ReportKind,
    /// Its digest: the same report again is the same one.
    pub digest: ReportDigest,
    /// Until when the vendor's state is known by it; see [`super::report::Report::as_of`].
    pub as_of: Timestamp,
    /// Its place in the order in which the connection's reports became durable.
    pub arrival: u64,
    /// What it says.
    pub reading: Reading,
}

/// An attempt within its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKey {
    /// The only one.
    Series,
    /// The one that started then.
    Start(Timestamp),
    /// The one at this position, from 0.
    Position(u32),
}

/// What the readings say of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptState {
    /// When it took place.
    pub times: AttemptTimes,
    /// Who ended it, if the vendor says so.
    pub closed_by: Option<ClosedBy>,
    /// How far it has got.
    pub activity: Activity,
    /// What is known of its score.
    pub grading: Grading,
    /// The score; only of a finished attempt.
    pub score: Option<Score>,
    /// The vendor's word for the score; only of a finished attempt.
    pub level: Option<String>,
    /// Whether it passed, if the rules say what passes.
    pub passed: Option<bool>,
    /// Its parts; only of a finished attempt.
    pub parts: Vec<Part>,
    /// Warnings for the caller.
    pub warnings: Vec<Warning>,
}

/// A step back that only an answer of the vendor can confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBack {
    /// The as-of of the report that tells of it.
    pub as_of: Timestamp,
}

/// An attempt made from the readings of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedAttempt {
    /// The attempt within its series.
    pub key: AttemptKey,
    /// What the readings say of it.
    pub state: AttemptState,
    /// The as-of of the first report of it, for the order of attempts of several series.
    pub first_seen: Timestamp,
    /// The as-of of the latest report that agrees with the state.
    pub as_of: Timestamp,
    /// How that report reached the gateway.
    pub source: ReportKind,
    /// A step back to ask the vendor about.
    pub unconfirmed: Option<StepBack>,
}

/// Makes the attempts of a series from its readings, in the order in which they took place. The order of `sightings` has no
/// meaning.
#[must_use]
pub fn fold(sightings: &[Sighting], settings: &FoldSettings) -> Vec<FoldedAttempt> {
    let mut ordered: Vec<&Sighting> = sightings.iter().collect();
    ordered.sort_by_key(|sighting| (sighting.as_of, sighting.arrival, sighting.digest));
    let groups = match settings.attempts {
        AttemptRule::ByStart(Repetition::Attempt) => by_start(&ordered),
        AttemptRule::ByStart(Repetition::Correction) => vec![(AttemptKey::Series, ordered)],
        AttemptRule::ByReport(Repetition::Attempt) => by_report(first_arrivals(ordered)),
        AttemptRule::ByReport(Repetition::Correction) => vec![(AttemptKey::Series, first_arrivals(ordered))],
    };
    let attempts = groups.into_iter().map(|(key, group)| fold_attempt(key, &group, settings));
    attempts.flatten().collect()
}

/// Leaves out reports that came before: a webhook that comes again may be an old request.
fn first_arrivals(ordered: Vec<&Sighting>) -> Vec<&Sighting> {
    let mut seen = HashSet::new();
    ordered.into_iter().filter(|sighting| seen.insert(sighting.digest)).collect()
}

/// Groups readings by start. One without a start belongs to the start before it in the order, else to the first.
fn by_start<'a>(ordered: &[&'a Sighting]) -> Vec<(AttemptKey, Vec<&'a Sighting>)> {
    let first = ordered.iter().find_map(|sighting| sighting.reading.times.started);
    let mut groups: BTreeMap<AttemptKey, Vec<&Sighting>> = BTreeMap::new();
    let mut latest = first.map_or(AttemptKey::Series, AttemptKey::Start);
    for sighting in ordered {
        latest = sighting.reading.times.started.map_or(latest, AttemptKey::Start);
        groups.entry(latest).or_default().push(sighting);
    }
    groups.into_iter().collect()
}

fn by_report(ordered: Vec<&Sighting>) -> Vec<(AttemptKey, Vec<&Sighting>)> {
    if !ordered.iter().any(|sighting| sighting.reading.finished) {
        return vec![(AttemptKey::Position(0), ordered)];
    }
    let finished = ordered.into_iter().filter(|sighting| sighting.reading.finished);
    (0..).zip(finished).map(|(position, sighting)| (AttemptKey::Position(position), vec![sighting])).collect()
}

/// The stages of an attempt. A step back is a step to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    InProgress,
    Unscored,
    Scored,
}

impl Stage {
    fn of(reading: &Reading, settings: &FoldSettings) -> Self {
        let closed = settings.auto_closed_ends && reading.closed_by == Some(ClosedBy::Timeout);
        match reading.score.verdict() {
            _ if !reading.finished && !closed => Self::InProgress,
            ScoreVerdict::Plausible(_) if settings.scoring.scored => Self::Scored,
            _ => Self::Unscored,
        }
    }
}

/// What the readings so far say of an attempt.
struct Progress<'a> {
    stage: Stage,
    reading: Reading,
    /// The latest sighting that was taken over.
    latest: &'a Sighting,
    /// The first sighting of this stage, whose arrival is taken for the end where the vendor says none.
    reached: &'a Sighting,
    unconfirmed: Option<StepBack>,
}

fn fold_attempt(key: AttemptKey, group: &[&Sighting], settings: &FoldSettings) -> Option<FoldedAttempt> {
    let (first, later) = group.split_first()?;
    let start = Progress {
        stage: Stage::of(&first.reading, settings),
        reading: first.reading.clone(),
        latest: first,
        reached: first,
        unconfirmed: None,
    };
    let progress = later.iter().fold(start, |progress, sighting| progress.after(sighting, settings));
    Some(FoldedAttempt {
        key,
        first_seen: first.as_of,
        as_of: progress.latest.as_of,
        source: progress.latest.kind,
        unconfirmed: progress.unconfirmed,
        state: progress.into_state(settings),
    })
}

impl<'a> Progress<'a> {
    fn after(mut self, sighting: &'a Sighting, settings: &FoldSettings) -> Self {
        let stage = Stage::of(&sighting.reading, settings);
        if stage < self.stage {
            let confirmed = match settings.regression {
                Regression::Verify => sighting.kind == ReportKind::FetchedReport,
                Regression::Ignore => false,
                Regression::Accept => true,
            };
            if !confirmed {
                if settings.regression == Regression::Verify {
                    self.unconfirmed = Some(StepBack { as_of: sighting.as_of });
                }
                return self;
            }
        }
        let reached =
            if (stage == Stage::InProgress) == (self.stage == Stage::InProgress) { self.reached } else { sighting };
        let reading = completed_by(sighting.reading.clone(), &self.reading, stage == self.stage);
        Self { stage, reading, latest: sighting, reached, unconfirmed: None }
    }

    fn into_state(self, settings: &FoldSettings) -> AttemptState {
        let Self { stage, reading, reached, .. } = self;
        let Reading { series: _, hints: _, mut times, finished: _, closed_by, score, level, parts, mut warnings } =
            reading;
        if stage == Stage::InProgress {
            times.completed = None;
            times.approximate.retain(|time| *time != TimeName::CompletedAt);
            return AttemptState {
                times,
                closed_by: None,
                activity: Activity::InProgress,
                grading: Grading::NotReady,
                score: None,
                level: None,
                passed: None,
                parts: Vec::new(),
                warnings: Vec::new(),
            };
        }
        if times.completed.is_none() && matches!(settings.attempts, AttemptRule::ByReport(_)) {
            times.completed = Some(reached.as_of);
            times.approximate.push(TimeName::CompletedAt);
        }
        let (grading, score) = grade(score.verdict(), settings);
        warnings.extend(score_warning(grading, score.as_ref()));
        let judged = matches!(grading, Grading::FullyGraded | Grading::NotGraded) && settings.scoring.scored;
        let passed = settings.scoring.pass.passed(score.as_ref(), level.as_deref()).filter(|_| judged);
        let activity = Activity::Completed;
        AttemptState { times, closed_by, activity, grading, score, level, passed, parts, warnings }
    }
}

/// Completes a reading by what an earlier one of the same start and stage with the same score says beyond it: an entry of a
/// feed may hold less than a report. The figures come from one reading, but for a percentage that the later one leaves out.
fn completed_by(mut reading: Reading, earlier: &Reading, same_stage: bool) -> Reading {
    if reading.times.started.is_none() {
        reading.times.started = earlier.times.started;
    }
    let (now, then) = (&reading.score, &earlier.score);
    let same_percent = now.percent.is_none() || now.percent == then.percent;
    if !same_stage
        || reading.times.started != earlier.times.started
        || (now.given, now.maximum) != (then.given, then.maximum)
        || !same_percent
    {
        return reading;
    }
    reading.score = *then;
    reading.level = reading.level.or_else(|| earlier.level.clone());
    reading.closed_by = reading.closed_by.or(earlier.closed_by);
    if reading.parts.is_empty() {
        reading.parts.clone_from(&earlier.parts);
        reading.warnings.clone_from(&earlier.warnings);
    }
    if reading.times.completed.is_none() && reading.times.elapsed_seconds.is_none() {
        let started = reading.times.started;
        reading.times = AttemptTimes { started, ..earlier.times.clone() };
    }
    reading
}

/// Returns the grading of a finished attempt, and its score.
fn grade(verdict: ScoreVerdict, settings: &FoldSettings) -> (Grading, Option<Score>) {
    match verdict {
        _ if !settings.scoring.scored => (Grading::NotGraded, None),
        ScoreVerdict::Plausible(score) => (Grading::FullyGraded, Some(score)),
        ScoreVerdict::Implausible => (Grading::Failed, None),
        ScoreVerdict::Absent if settings.unscored == Unscored::Final => (Grading::NotGraded, None),
        ScoreVerdict::Absent => (Grading::Pending, None),
    }
}

fn score_warning(grading: Grading, score: Option<&Score>) -> Option<Warning> {
    if grading == Grading::Failed {
        let detail = "The vendor reports figures that cannot be a score, so there is none.";
        return Some(Warning::with_pointer(WarningCode::ScoreImplausible, "/score", detail));
    }
    score.filter(|score| score.percent_differs()).map(|_| {
        let detail = "The vendor's percentage differs from that of its points by more than 0.01.";
        Warning::with_pointer(WarningCode::PercentDiffers, "/score/percent", detail)
    })
}
