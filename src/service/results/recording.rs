//! Recording: the last step of ingestion. Folds the series that the reports of a chunk belong to, and records each report
//! with the result that is made from it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::error::Error;
use crate::domain::ids::CandidateId;
use crate::domain::results::{
    AttemptKey, FetchRule, Reading, Report, ReportChannel, ReportDigest, ReportKind, ReportSource, ReportState,
    ScoreVerdict, SeriesKey, Sighting,
};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::results::admission::{MatchedReport, add_owner_hints};
use crate::service::results::chunk::{Draft, IngestPlan, Kept, Move};
use crate::service::results::matching::Owner;
use crate::service::results::revision::{FoldRules, HeldAttempt, SeriesWork};
use crate::store::{Mutation, NewFetch, NewReport, ReportChange, ReportHint, Series};

/// Places in the order of arrival of reports that are not recorded yet: after all recorded ones.
const UNRECORDED: u64 = 1 << 62;

impl Gateway {
    /// Folds the series of matched reports and of those whose time has moved, and records reports and results.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn revise_chunk(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        mut matched: Vec<MatchedReport>,
        mut series: HashMap<SeriesKey, Series>,
        moves: &[Move],
        plan: &mut IngestPlan,
    ) -> Result<(), Error> {
        let configured = self.configured();
        let rules = FoldRules::new(source, &connection.name, &configured.catalogue);
        let mut works: BTreeMap<SeriesKey, SeriesWork> = BTreeMap::new();
        let mut touched: HashSet<ReportDigest> = HashSet::new();
        for (position, report) in (0..).zip(&mut matched) {
            if !works.contains_key(&report.series) {
                let known = series.remove(&report.series);
                works.insert(report.series.clone(), work(report, known));
            }
            let Some(work) = works.get_mut(&report.series) else { continue };
            recheck_reports(report, work, plan);
            touched.insert(report.draft.report.digest);
            add_sighting(work, &report.draft, position);
        }
        for moved in moves {
            if !works.contains_key(&moved.series)
                && let Some(work) = series.remove(&moved.series).and_then(SeriesWork::of_recorded)
            {
                works.insert(moved.series.clone(), work);
            }
            let Some(work) = works.get_mut(&moved.series) else { continue };
            touched.insert(moved.digest);
            for sighting in work.sightings.iter_mut().filter(|sighting| sighting.digest == moved.digest) {
                sighting.as_of = sighting.as_of.max(moved.as_of);
            }
        }
        let fetch = match source.channel() {
            ReportChannel::Feed(plan) => plan.fetch,
            ReportChannel::Receiver(_) => FetchRule::Never,
        };
        let wanted: BTreeMap<SeriesKey, (bool, CandidateId, Option<String>)> = works
            .values()
            .filter(|_| fetch != FetchRule::Never)
            .map(|work| {
                let scored = rules.of(&work.owner.assessment_ref).scoring.scored;
                let incomplete = is_incomplete(work, &touched, fetch, scored);
                (work.key.clone(), (incomplete, work.owner.candidate.clone(), center_of(work)))
            })
            .collect();
        let revision = self.revise_results(connection, &rules, works.into_values().collect()).await?;
        for (key, (incomplete, candidate, center)) in wanted {
            let unconfirmed =
                || revision.attempts.get(&key).is_some_and(|held| held.iter().any(|it| it.is_unconfirmed));
            if let SeriesKey::Participant(participant) = &key
                && (incomplete || unconfirmed())
            {
                let (connection, participant) = (connection.name.clone(), participant.clone());
                plan.fetches.push(NewFetch { connection, candidate, participant, center, due: self.now() });
            }
        }
        for report in matched {
            let held = revision.attempts.get(&report.series).map_or(&[][..], Vec::as_slice);
            plan.changes.push(record(report, held));
        }
        plan.changes.extend(revision.changes);
        Ok(())
    }
}

fn work(report: &MatchedReport, known: Option<Series>) -> SeriesWork {
    let (sightings, results) = known.map_or_else(Default::default, |series| (series.sightings, series.results));
    let (key, owner) = (report.series.clone(), report.owner.clone());
    SeriesWork { key, sightings, results, owner, claims_again: report.owner.by_hand }
}

/// Has reports looked at again that this one explains: other reports of a registration whose owner has become known; and the
/// report itself, if no booking claims it, since one may have been made while it was looked at.
fn recheck_reports(report: &mut MatchedReport, work: &SeriesWork, plan: &mut IngestPlan) {
    if !work.results.is_empty() || !work.sightings.is_empty() || report.owner.booking.is_some() {
        return;
    }
    let mut hints: Vec<ReportHint> = add_owner_hints(report);
    if hints.iter().any(|hint| matches!(hint, ReportHint::Participant(_))) {
        hints.retain(|hint| matches!(hint, ReportHint::Participant(_)));
    }
    if report.owner.bookings.is_empty() {
        plan.rechecks.extend(hints);
    }
}

fn add_sighting(work: &mut SeriesWork, draft: &Draft, position: u64) {
    let Report { kind, digest, as_of, .. } = draft.report;
    if work.sightings.iter().any(|sighting| sighting.digest == digest) {
        return;
    }
    let arrival = match draft.kept {
        Kept::New(_) => UNRECORDED + position,
        Kept::Recorded { arrival, .. } => arrival,
    };
    work.sightings.push(Sighting { kind, digest, as_of, arrival, reading: draft.reading.clone() });
}

/// Returns whether an entry of the feed lacks what the vendor's report of it may hold, which was not fetched since.
fn is_incomplete(work: &SeriesWork, touched: &HashSet<ReportDigest>, rule: FetchRule, scored: bool) -> bool {
    let fetched = work.sightings.iter().filter(|sighting| sighting.kind == ReportKind::FetchedReport);
    let fetched = fetched.map(|sighting| sighting.arrival).max();
    work.sightings.iter().any(|sighting| {
        sighting.kind == ReportKind::FeedItem
            && touched.contains(&sighting.digest)
            && sighting.reading.finished
            && fetched.is_none_or(|fetched| fetched < sighting.arrival)
            && (rule == FetchRule::Always || scored && lacks_something(&sighting.reading))
    })
}

fn lacks_something(reading: &Reading) -> bool {
    reading.parts.is_empty() || reading.score.verdict() == ScoreVerdict::Absent
}

fn center_of(work: &SeriesWork) -> Option<String> {
    work.sightings.iter().rev().find_map(|sighting| sighting.reading.hints.center.clone())
}

/// Builds the mutation that records a report as applied.
pub(super) fn record(report: MatchedReport, held: &[HeldAttempt]) -> Mutation {
    let MatchedReport { draft, series, owner } = report;
    let Draft { report, reading, kept, said: _ } = draft;
    let attempt = attempt_of(&report, &reading, held);
    let Owner { tenant, candidate, by_hand, .. } = owner;
    let report = Report {
        tenant: Some(tenant),
        state: ReportState::Applied,
        parked_for: None,
        rejection: None,
        by_hand: report.by_hand || by_hand,
        candidate: Some(candidate),
        assignment: attempt.and_then(|attempt| attempt.assignment.clone()),
        result: attempt.map(|attempt| attempt.result.clone()),
        ..report
    };
    let (reading, series) = (Some(reading), Some(series));
    match kept {
        Kept::New(body) => Mutation::Report(Box::new(NewReport { report, body: Some(body), reading, series })),
        Kept::Recorded { rechecks, .. } => {
            Mutation::UpdateReport(Box::new(ReportChange { report, reading, series, rechecks }))
        }
    }
}

/// Returns the attempt that a report is about: the one with its start, else the one it was the first report of, else the
/// last.
fn attempt_of<'a>(report: &Report, reading: &Reading, held: &'a [HeldAttempt]) -> Option<&'a HeldAttempt> {
    let started = reading.times.started.map(AttemptKey::Start);
    held.iter()
        .find(|attempt| started == Some(attempt.key))
        .or_else(|| held.iter().find(|attempt| attempt.first_seen == report.as_of))
        .or_else(|| held.last())
}
