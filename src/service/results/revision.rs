//! Revision: folds series and makes their attempts the results that are recorded, with a version for each change.
//!
//! Attempts are numbered within their booking, else within candidate and assessment, whatever series they are of. So the
//! other series of the same booking or person are folded as well: their attempts may get other numbers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::error::Error;
use crate::domain::ids::{AssignmentId, CandidateId, ResultId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::results::exam_result::ResultState;
use crate::domain::results::{
    AttemptKey, AttemptPairs, ExamResult, FoldSettings, FoldedAttempt, Match, Provenance, ReportSource, ResultOwner,
    ResultVersion, ScoringRules, SeriesKey, Sighting, fold, number_attempts, pair_attempts,
};
use crate::service::Gateway;
use crate::service::catalogue::Catalogue;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::events::emit::{EarlierVersion, Emitter};
use crate::service::results::matching::{Owner, is_outside_window};
use crate::service::streams::complete_all;
use crate::store::{Mutation, Series};

/// Maximum number of look-ups of people's results at once.
const MAX_CONCURRENT_LOOKUPS: usize = 16;

/// A series to be folded, with whose it is.
pub(super) struct SeriesWork {
    pub(super) key: SeriesKey,
    pub(super) sightings: Vec<Sighting>,
    /// Its recorded results, the oldest first.
    pub(super) results: Vec<ExamResult>,
    pub(super) owner: Owner,
    /// Whether attempts are claimed again, although it was decided before which booking they belong to.
    pub(super) claims_again: bool,
}

/// An attempt and the result that holds it.
#[derive(Debug, Clone)]
pub(super) struct HeldAttempt {
    pub(super) key: AttemptKey,
    pub(super) first_seen: Timestamp,
    pub(super) result: ResultId,
    pub(super) assignment: Option<AssignmentId>,
    /// Whether the vendor reported a step back that only its report can confirm.
    pub(super) is_unconfirmed: bool,
}

/// What a revision changes.
#[derive(Default)]
pub(super) struct Revision {
    pub(super) changes: Vec<Mutation>,
    pub(super) attempts: HashMap<SeriesKey, Vec<HeldAttempt>>,
}

/// What attempts are numbered within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    Booking(AssignmentId),
    Person(CandidateId, String),
}

/// The booking that an attempt belongs to.
#[derive(Clone)]
struct Claim {
    id: AssignmentId,
    /// Its record; absent if it was decided before and its record is not at hand.
    booking: Option<Arc<Assignment>>,
}

struct FoldedSeries {
    work: SeriesWork,
    /// Recorded results of another tenant, as the series was matched before: they hold no attempt any more.
    foreign: Vec<ExamResult>,
    attempts: Vec<FoldedAttempt>,
    pairs: AttemptPairs,
    claims: Vec<Option<Claim>>,
}

/// The settings by which the series of each assessment are folded.
pub(super) struct FoldRules<'a> {
    source: &'a dyn ReportSource,
    scoring: HashMap<&'a str, &'a ScoringRules>,
    unlisted: FoldSettings,
}

impl<'a> FoldRules<'a> {
    pub(super) fn new(source: &'a dyn ReportSource, connection: &str, catalogue: &'a Catalogue) -> Self {
        let entries = catalogue.assessments.values().filter(|entry| entry.connection == connection);
        let scoring = entries.rev().map(|entry| (entry.reference.as_str(), &entry.scoring)).collect();
        Self { source, scoring, unlisted: source.fold_settings(ScoringRules::default()) }
    }

    /// Returns the settings of the assessment with this id of the vendor's.
    pub(super) fn of(&self, assessment_ref: &str) -> FoldSettings {
        match self.scoring.get(assessment_ref) {
            Some(scoring) => self.source.fold_settings((*scoring).clone()),
            None => self.unlisted.clone(),
        }
    }
}

impl SeriesWork {
    /// Creates the work of a series that no new report concerns; `None` if nothing is recorded of it.
    pub(super) fn of_recorded(series: Series) -> Option<Self> {
        let owner = Owner::of_result(latest(&series.results)?);
        let Series { key, sightings, results } = series;
        Some(Self { key, sightings, results, owner, claims_again: false })
    }
}

/// Returns the latest result that holds an attempt, else the latest.
pub(super) fn latest(results: &[ExamResult]) -> Option<&ExamResult> {
    results.iter().rev().find(|result| !result.state.superseded).or_else(|| results.last())
}

impl FoldedSeries {
    fn new(mut work: SeriesWork, rules: &FoldRules<'_>) -> Self {
        let foreign = work.results.extract_if(.., |result| result.tenant != work.owner.tenant).collect();
        let attempts = fold(&work.sightings, &rules.of(&work.owner.assessment_ref));
        let recorded: Vec<AttemptKey> = work.results.iter().map(|result| result.key).collect();
        let keys: Vec<AttemptKey> = attempts.iter().map(|attempt| attempt.key).collect();
        let pairs = pair_attempts(&recorded, &keys);
        let recorded = pairs.results.iter().map(|position| position.and_then(|position| work.results.get(position)));
        let claims = attempts.iter().zip(recorded).map(|(attempt, recorded)| claim(&work, attempt, recorded)).collect();
        Self { work, foreign, attempts, pairs, claims }
    }

    fn group(&self, attempt: usize) -> Group {
        let Owner { candidate, assessment_ref, .. } = &self.work.owner;
        match self.claims.get(attempt).and_then(Option::as_ref) {
            Some(claim) => Group::Booking(claim.id.clone()),
            None => Group::Person(candidate.clone(), assessment_ref.clone()),
        }
    }

    /// Returns the groups in which attempts of the series are or were numbered.
    fn groups(&self) -> impl Iterator<Item = Group> {
        let recorded = self.work.results.iter().chain(&self.foreign);
        let recorded = recorded.filter(|result| !result.state.superseded).map(group_of);
        recorded.chain((0..self.attempts.len()).map(|attempt| self.group(attempt)))
    }
}

fn group_of(result: &ExamResult) -> Group {
    match &result.state.assignment {
        Some(id) => Group::Booking(id.clone()),
        None => Group::Person(result.state.candidate.clone(), result.state.assessment_ref.clone()),
    }
}

/// Returns the booking of an attempt: as decided before, else as the owner says.
fn claim(work: &SeriesWork, attempt: &FoldedAttempt, recorded: Option<&ExamResult>) -> Option<Claim> {
    let decided = recorded.filter(|result| result.state.candidate == work.owner.candidate && !work.claims_again);
    match decided.and_then(|result| result.state.assignment.clone()) {
        Some(id) => {
            let known = work.owner.booking.iter().chain(&work.owner.bookings).find(|booking| booking.id == id);
            Some(Claim { id, booking: known.cloned() })
        }
        None => work.owner.claim(attempt).map(|it| Claim { id: it.id.clone(), booking: Some(Arc::clone(it)) }),
    }
}

impl Gateway {
    /// Folds these series, and builds the mutations that make their attempts the recorded results.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn revise_results(
        &self,
        connection: &Connection,
        rules: &FoldRules<'_>,
        works: Vec<SeriesWork>,
    ) -> Result<Revision, Error> {
        let mut folded: Vec<FoldedSeries> = works.into_iter().map(|work| FoldedSeries::new(work, rules)).collect();
        let neighbours = self.neighbours(connection, &folded).await?;
        folded.extend(neighbours.into_iter().map(|work| FoldedSeries::new(work, rules)));
        let numbers = numbers(&folded);
        let emitter = self.emitter();
        let mut revision = Revision::default();
        for (index, series) in folded.into_iter().enumerate() {
            let key = series.work.key.clone();
            let held = revise_series(connection, series, &numbers[index], emitter, &mut revision.changes);
            revision.attempts.insert(key, held);
        }
        Ok(revision)
    }

    /// Reads the other series with attempts of the same bookings and people.
    async fn neighbours(&self, connection: &Connection, folded: &[FoldedSeries]) -> Result<Vec<SeriesWork>, Error> {
        let known: HashSet<&SeriesKey> = folded.iter().map(|series| &series.work.key).collect();
        let groups: HashSet<Group> = folded.iter().flat_map(FoldedSeries::groups).collect();
        let (mut bookings, mut people) = (Vec::new(), Vec::new());
        for group in groups {
            match group {
                Group::Booking(id) => bookings.push(id),
                Group::Person(candidate, assessment_ref) => people.push((candidate, assessment_ref)),
            }
        }
        let store = &self.0.store;
        let mut results = if bookings.is_empty() {
            Vec::new()
        } else {
            store.results_of_assignments(&bookings).await.or_not_applied()?
        };
        let of_people = stream::iter(people)
            .map(
                |(candidate, test)| async move { store.results_of_candidate(&candidate, &test).await.or_not_applied() },
            )
            .buffered(MAX_CONCURRENT_LOOKUPS);
        let of_people = complete_all(of_people).await?.into_iter().flatten();
        results.extend(of_people.filter(|result| result.state.assignment.is_none()));
        let others =
            results.into_iter().filter(|result| !result.state.superseded && result.connection == connection.name);
        let keys: BTreeSet<SeriesKey> =
            others.map(|result| result.series).filter(|series| !known.contains(series)).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<SeriesKey> = keys.into_iter().collect();
        let series = store.series(&connection.name, &keys).await.or_not_applied()?;
        Ok(series.into_iter().filter_map(SeriesWork::of_recorded).collect())
    }
}

/// Returns the numbers of the attempts of each series.
fn numbers(folded: &[FoldedSeries]) -> Vec<Vec<u32>> {
    let mut groups: HashMap<Group, Vec<(usize, usize)>> = HashMap::new();
    for (index, series) in folded.iter().enumerate() {
        for attempt in 0..series.attempts.len() {
            groups.entry(series.group(attempt)).or_default().push((index, attempt));
        }
    }
    let mut numbers: Vec<Vec<u32>> = folded.iter().map(|series| vec![1; series.attempts.len()]).collect();
    for mut members in groups.into_values() {
        // Of attempts at the same time, the order must not depend on which series has a new report.
        members.sort_by_key(|(index, attempt)| (&folded[*index].work.key, *attempt));
        let attempts: Vec<&FoldedAttempt> =
            members.iter().map(|(index, attempt)| &folded[*index].attempts[*attempt]).collect();
        for ((index, attempt), number) in members.into_iter().zip(number_attempts(&attempts)) {
            numbers[index][attempt] = number;
        }
    }
    numbers
}

/// Makes the attempts of a series its results.
fn revise_series(
    connection: &Connection,
    series: FoldedSeries,
    numbers: &[u32],
    emitter: Emitter<'_>,
    changes: &mut Vec<Mutation>,
) -> Vec<HeldAttempt> {
    let now = emitter.system.now();
    let FoldedSeries { work, foreign, attempts, pairs, claims } = series;
    let SeriesWork { key: series, sightings: _, results, owner, claims_again } = work;
    let mut results: Vec<Option<ExamResult>> = results.into_iter().map(Some).collect();
    let mut held = Vec::with_capacity(attempts.len());
    for (((attempt, position), claim), number) in attempts.into_iter().zip(pairs.results).zip(claims).zip(numbers) {
        let recorded = position.and_then(|position| results.get_mut(position)?.take());
        let matched = Match {
            assessment_ref: owner.assessment_ref.clone(),
            candidate: owner.candidate.clone(),
            assignment: claim.as_ref().map(|claim| claim.id.clone()),
            vendor_ref: vendor_ref(&series),
            warnings: match_warnings(&attempt, recorded.as_ref(), claim.as_ref(), &owner, claims_again),
        };
        let FoldedAttempt { key, state, first_seen, as_of, source, unconfirmed } = attempt;
        let (state, provenance) = (ResultState::of(state, *number, matched), Provenance { as_of, source });
        let assignment = state.assignment.clone();
        let before = recorded.as_ref().map(EarlierVersion::from);
        let (result, version) = if let Some(mut result) = recorded {
            let same = result.key == key && result.as_of == as_of && result.source == source;
            let version = result.revise(key, state, provenance, now);
            if same && version.is_none() {
                held.push(HeldAttempt {
                    key,
                    first_seen,
                    result: result.id,
                    assignment,
                    is_unconfirmed: unconfirmed.is_some(),
                });
                continue;
            }
            (result, version)
        } else {
            let owner = ResultOwner {
                id: ResultId::generate(emitter.system),
                tenant: owner.tenant.clone(),
                connection: connection.name.clone(),
                series: series.clone(),
            };
            let (result, first) = ExamResult::create(owner, key, state, provenance, now);
            (result, Some(first))
        };
        let is_unconfirmed = unconfirmed.is_some();
        held.push(HeldAttempt { key, first_seen, result: result.id.clone(), assignment, is_unconfirmed });
        changes.extend(record_result(result, version, before, emitter));
    }
    let left = results.into_iter().flatten().chain(foreign);
    for mut result in left.filter(|result| !result.state.superseded) {
        let (key, provenance) = (result.key, Provenance { as_of: result.as_of, source: result.source });
        let state = ResultState { superseded: true, ..result.state.clone() };
        let before = Some(EarlierVersion::from(&result));
        let version = result.revise(key, state, provenance, now);
        changes.extend(record_result(result, version, before, emitter));
    }
    held
}

/// Builds the mutations that record a result, with the events of its new version.
fn record_result(
    result: ExamResult,
    version: Option<ResultVersion>,
    before: Option<EarlierVersion>,
    emitter: Emitter<'_>,
) -> impl Iterator<Item = Mutation> + use<> {
    let events = version.as_ref().map_or_else(Vec::new, |version| emitter.result_events(before, &result, version));
    let candidate = result.state.candidate.clone();
    let result = Mutation::Result(Box::new(result), version.map(Box::new));
    let events = events.into_iter().map(move |event| Mutation::EventAbout(candidate.clone(), Box::new(event)));
    std::iter::once(result).chain(events)
}

fn vendor_ref(series: &SeriesKey) -> Map<String, Value> {
    match series {
        SeriesKey::Participant(id) => Map::from_iter([("participantId".to_owned(), id.as_str().into())]),
        SeriesKey::CandidateAtTest { .. } => Map::new(),
    }
}

/// Returns how weak the match of an attempt is, and what is odd about it. What was said when it was decided stays.
fn match_warnings(
    attempt: &FoldedAttempt,
    recorded: Option<&ExamResult>,
    claim: Option<&Claim>,
    owner: &Owner,
    decided_again: bool,
) -> Vec<Warning> {
    let assignment = claim.map(|claim| &claim.id);
    let same = |result: &&ExamResult| {
        result.state.candidate == owner.candidate && result.state.assignment.as_ref() == assignment
    };
    let decided = recorded.filter(same);
    let was = |code| decided.is_some_and(|result| result.state.warnings.iter().any(|warning| warning.code == code));
    let booking = claim.and_then(|claim| claim.booking.as_deref());
    let is_new = recorded.is_none();
    let said = |code| match code {
        WarningCode::MatchedByEmail | WarningCode::MatchedByOnlyOpen => {
            owner.warning == Some(code) || (!decided_again && owner.warning.is_none() && was(code))
        }
        WarningCode::ClaimedLater => {
            let claims = recorded.is_some_and(|result| result.state.assignment.is_none()) && claim.is_some();
            claims && !owner.by_hand && !decided_again || was(code)
        }
        WarningCode::AfterCancellation => {
            was(code) || is_new && booking.is_some_and(|booking| booking.state == AssignmentState::Cancelled)
        }
        WarningCode::OutsideWindow => booking.map_or_else(|| was(code), |booking| is_outside_window(booking, attempt)),
        _ => false,
    };
    let sentences = [
        (WarningCode::MatchedByEmail, "The report was matched by e-mail address only."),
        (WarningCode::MatchedByOnlyOpen, "The report names no test; it was matched with the only open booking."),
        (WarningCode::ClaimedLater, "The attempt was known before the booking that claims it."),
        (WarningCode::AfterCancellation, "The attempt was reported after the booking had been cancelled."),
        (WarningCode::OutsideWindow, "The attempt took place outside the booking's window."),
    ];
    sentences.into_iter().filter(|(code, _)| said(*code)).map(|(code, detail)| Warning::new(code, detail)).collect()
}
