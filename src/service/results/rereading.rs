//! The two passes of reading reports again: reports are matched, then the series that this concerns are folded.

use std::collections::{BTreeSet, HashMap};

use crate::domain::error::Error;
use crate::domain::ids::ReportId;
use crate::domain::results::{ParkReason, Report, ReportSource, ReportState, SeriesKey};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::admission::{MatchedReport, match_rules};
use crate::service::results::chunk::{Draft, IngestPlan, Kept, Look};
use crate::service::results::directory::{Directory, Wanted, named_series};
use crate::service::results::matching::{MatchRules, Owner, Verdict, match_reading};
use crate::service::results::recording::record;
use crate::service::results::revision::{FoldRules, SeriesWork, latest};
use crate::store::{Mutation, ReportChange, Series, StoredReport};

/// What the first pass has found.
#[derive(Default)]
pub(super) struct Rereading {
    /// The series that reports belong to, or belonged to before.
    pub(super) series: BTreeSet<SeriesKey>,
    /// Whose series are by a person's word: a report of the same registration that cannot say so follows it.
    pub(super) said: HashMap<SeriesKey, Owner>,
    /// Reports that belong to another series than before.
    pub(super) moved: HashMap<SeriesKey, Vec<ReportId>>,
}

/// A report that was read again.
pub(super) struct RereadReport {
    pub(super) stored: StoredReport,
    /// The series it belonged to.
    pub(super) series: Option<SeriesKey>,
}

impl Gateway {
    /// Returns the series that a report belongs to, if it is applied.
    pub(super) async fn series_of_report(&self, stored: &StoredReport) -> Result<Option<SeriesKey>, Error> {
        let StoredReport { report, reading, .. } = stored;
        let Report { state: ReportState::Applied, tenant: Some(tenant), result, .. } = report else { return Ok(None) };
        if let Some(series @ SeriesKey::Participant(_)) = reading.as_ref().map(|reading| &reading.series) {
            return Ok(Some(series.clone()));
        }
        let Some(result) = result else { return Ok(None) };
        let result = self.0.store.result(tenant, result).await.or_not_applied()?;
        Ok(result.map(|result| result.series))
    }

    /// Matches reports that were read again, and records whose they are. Their series are to be folded afterwards.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn match_again(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        reports: Vec<RereadReport>,
        rereading: &mut Rereading,
        plan: &mut IngestPlan,
    ) -> Result<(), Error> {
        let (mut drafts, mut before) = (Vec::with_capacity(reports.len()), HashMap::new());
        let begin = plan.changes.len();
        for RereadReport { stored, series } in reports {
            rereading.series.extend(series.clone());
            let named = stored.reading.as_ref().and_then(|reading| named_series(&reading.series));
            let said = match self.said_owner(connection, &stored).await? {
                None => named.and_then(|series| rereading.said.get(series)).cloned(),
                said => said,
            };
            let StoredReport { report, reading, rechecks, arrival } = stored;
            let unmatched = Report {
                state: ReportState::Parked,
                parked_for: None,
                candidate: None,
                assignment: None,
                result: None,
                ..report.clone()
            };
            before.insert(report.id.clone(), (report, series));
            if reading.is_some() {
                let stored = StoredReport { report: unmatched, reading, rechecks, arrival };
                drafts.extend(Draft::of_look(Look { stored, said }));
            } else {
                let report = Report { state: ReportState::Rejected, ..unmatched };
                let change = ReportChange { report, reading: None, series: None, rechecks };
                plan.changes.push(Mutation::UpdateReport(Box::new(change)));
            }
        }
        let matched = self.match_drafts(connection, source, drafts, &HashMap::new(), plan).await?;
        let matched = self.admit_evidence(connection, matched, plan).await?;
        let changed = plan.changes.get(begin..).unwrap_or_default().iter().filter_map(|change| match change {
            Mutation::UpdateReport(change) => Some(&change.report),
            _ => None,
        });
        // No event has told of one that waited for a booking.
        let waited = |then: &Report| then.parked_for == Some(ParkReason::BookingInProgress);
        let is_other = |then: &Report, now: &Report| then.state != now.state || waited(then);
        let other = changed.filter(|now| before.get(&now.id).is_some_and(|(then, _)| is_other(then, now)));
        let events: Vec<Mutation> = other
            .filter_map(|report| self.emitter().report_event(report))
            .map(|event| Mutation::Event(Box::new(event)))
            .collect();
        plan.changes.extend(events);
        for MatchedReport { draft, series, owner } in matched {
            let Draft { report, reading, kept, said } = draft;
            let Kept::Recorded { rechecks, .. } = kept else { continue };
            let id = report.id.clone();
            let same = before
                .remove(&id)
                .filter(|(then, of)| of.as_ref() == Some(&series) && then.candidate.as_ref() == Some(&owner.candidate));
            let (assignment, result) = same.map_or((None, None), |(then, _)| (then.assignment, then.result));
            if result.is_none() {
                rereading.moved.entry(series.clone()).or_default().push(id);
            }
            let report = Report {
                tenant: Some(owner.tenant.clone()),
                state: ReportState::Applied,
                parked_for: None,
                candidate: Some(owner.candidate.clone()),
                assignment,
                result,
                ..report
            };
            if said.is_some() {
                rereading.said.insert(series.clone(), owner);
            }
            rereading.series.insert(series.clone());
            let change = ReportChange { report, reading: Some(reading), series: Some(series), rechecks };
            plan.changes.push(Mutation::UpdateReport(Box::new(change)));
        }
        Ok(())
    }

    /// Returns the owner of a report by a person's word.
    pub(super) async fn said_owner(
        &self,
        connection: &Connection,
        stored: &StoredReport,
    ) -> Result<Option<Owner>, Error> {
        let Report { by_hand: true, tenant: Some(tenant), candidate: Some(candidate), assignment, result, .. } =
            &stored.report
        else {
            return Ok(None);
        };
        let store = &self.0.store;
        let Some(candidate) = store.candidate(tenant, candidate).await.or_not_applied()? else { return Ok(None) };
        let booking = match assignment {
            Some(id) => store.assignment(tenant, id).await.or_not_applied()?,
            None => None,
        };
        let of_result = match result {
            Some(id) => store.result(tenant, id).await.or_not_applied()?.map(|result| result.state.assessment_ref),
            None => None,
        };
        let of_report = || stored.reading.as_ref().and_then(|reading| reading.hints.test.clone());
        let assessment_ref = booking.as_ref().map(|booking| booking.assessment_ref.clone());
        let Some(assessment_ref) = assessment_ref.or(of_result).or_else(of_report) else { return Ok(None) };
        let booking = booking.filter(|booking| booking.connection == connection.name).map(std::sync::Arc::new);
        Ok(Some(Owner { assessment_ref, booking, by_hand: true, ..Owner::new(&candidate) }))
    }

    /// Folds series again, whose reports were read and matched again.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn fold_again(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        keys: BTreeSet<SeriesKey>,
        rereading: &Rereading,
        plan: &mut IngestPlan,
    ) -> Result<(), Error> {
        let series = self.read_series(connection, keys.clone()).await?;
        let readings = series.values().flat_map(|series| &series.sightings).map(|sighting| &sighting.reading);
        let wanted: Vec<Wanted<'_>> = readings.map(|reading| Wanted { hints: &reading.hints, known: None }).collect();
        let directory = self.look_up_reports(connection, &wanted).await?;
        let rules = match_rules(connection, source);
        let works: Vec<SeriesWork> = series
            .into_values()
            .filter_map(|series| {
                let said = rereading.said.get(&series.key).cloned();
                let found = said.or_else(|| owner_of(&series, &directory, rules));
                // Whose it is, and which booking's, stays as it was decided if no reading says it.
                let claims_again = found.is_some();
                let owner = found.or_else(|| latest(&series.results).map(Owner::of_result))?;
                let Series { key, sightings, results } = series;
                Some(SeriesWork { key, sightings, results, owner, claims_again })
            })
            .collect();
        let owners: HashMap<SeriesKey, Owner> =
            works.iter().map(|work| (work.key.clone(), work.owner.clone())).collect();
        let configured = self.configured();
        let fold_rules = FoldRules::new(source, &connection.name, &configured.catalogue);
        let revision = self.revise_results(connection, &fold_rules, works).await?;
        for (key, ids) in rereading.moved.iter().filter(|(key, _)| keys.contains(*key)) {
            let (Some(owner), Some(held)) = (owners.get(key), revision.attempts.get(key)) else { continue };
            for id in ids {
                let stored = self.0.store.report(id).await.or_not_applied()?;
                // It may have been erased meanwhile.
                let stored = stored.filter(|stored| stored.report.state == ReportState::Applied);
                let Some(stored) = stored else { continue };
                let Some(draft) = Draft::of_look(Look { stored, said: None }) else { continue };
                let report = MatchedReport { draft, series: key.clone(), owner: owner.clone() };
                plan.changes.push(record(report, held));
            }
        }
        plan.changes.extend(revision.changes);
        Ok(())
    }
}

/// Returns whose a series is by its readings.
fn owner_of(series: &Series, directory: &Directory, rules: MatchRules) -> Option<Owner> {
    let verdicts = series.sightings.iter().map(|sighting| match_reading(&sighting.reading, None, directory, rules));
    let owners = verdicts.filter_map(|verdict| match verdict {
        Verdict::Matched(owner) => Some(*owner),
        _ => None,
    });
    let key = &series.key;
    let of_series = |owner: &Owner| key.clone().matched(&owner.candidate, &owner.assessment_ref) == *key;
    owners.filter(of_series).max_by_key(|owner| (owner.booking.is_some(), owner.warning.is_none()))
}
