//! Admission: finds out whose the reports of a chunk are, and what they prove about bookings. What is not known is parked,
//! and what is about an erased person is dismissed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::candidate::Identity;
use crate::domain::error::Error;
use crate::domain::ids::{AssignmentId, ReportId};
use crate::domain::results::{ExamResult, ParkReason, Report, ReportChannel, ReportSource, ReportState, SeriesKey};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::{Draft, IngestPlan, Kept};
use crate::service::results::directory::Wanted;
use crate::service::results::evidence::{Evidence, Proof};
use crate::service::results::hints;
use crate::service::results::matching::{MatchRules, Owner, Verdict, match_reading};
use crate::service::results::revision::latest;
use crate::store::{Mutation, NewReport, ReportChange, ReportHint, Series};

/// A report with its owner.
pub(super) struct MatchedReport {
    pub(super) draft: Draft,
    pub(super) series: SeriesKey,
    pub(super) owner: Owner,
}

/// Returns the rules by which the connection's reports are matched.
pub(super) fn match_rules(connection: &Connection, source: &dyn ReportSource) -> MatchRules {
    let only_open = matches!(source.channel(), ReportChannel::Receiver(plan) if plan.only_open);
    MatchRules { by_email: connection.descriptor().identifies_by_email(), only_open }
}

impl Gateway {
    /// Matches reports; records those whose owner is not known.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn match_drafts(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        drafts: Vec<Draft>,
        series: &HashMap<SeriesKey, Series>,
        plan: &mut IngestPlan,
    ) -> Result<Vec<MatchedReport>, Error> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let decided = self.decided_results(&drafts).await?;
        let recorded: Vec<Option<&ExamResult>> =
            drafts.iter().map(|draft| recorded_result(draft, series, &decided)).collect();
        let wanted: Vec<Wanted<'_>> = drafts
            .iter()
            .zip(&recorded)
            .filter(|(draft, _)| draft.said.is_none())
            .map(|(draft, recorded)| Wanted {
                hints: &draft.reading.hints,
                known: recorded.map(|result| &result.state.candidate),
            })
            .collect();
        let directory = self.look_up_reports(connection, &wanted).await?;
        let rules = match_rules(connection, source);
        let verdicts: Vec<Verdict> = drafts
            .iter()
            .zip(&recorded)
            .map(|(draft, recorded)| match &draft.said {
                Some(owner) => Verdict::Matched(Box::new(owner.clone())),
                None => match_reading(&draft.reading, *recorded, &directory, rules),
            })
            .collect();
        // One report of a registration may tell whose it is, and another one not.
        let mut owners: HashMap<SeriesKey, Owner> = HashMap::new();
        for (draft, verdict) in drafts.iter().zip(&verdicts) {
            let Verdict::Matched(owner) = verdict else { continue };
            let key = series_of(draft, owner);
            let better = owners.get(&key).is_none_or(|known| is_better(owner, known));
            if better {
                owners.insert(key, owner.as_ref().clone());
            }
        }
        let mut matched = Vec::with_capacity(drafts.len());
        for (draft, verdict) in drafts.into_iter().zip(verdicts) {
            let series = match &verdict {
                Verdict::Matched(owner) => series_of(&draft, owner),
                _ => draft.reading.series.clone(),
            };
            match (verdict, owners.get(&series)) {
                (Verdict::Matched(_) | Verdict::Parked(..), Some(owner)) => {
                    matched.push(MatchedReport { draft, series, owner: owner.clone() });
                }
                (verdict, _) => self.record_unmatched(connection, draft, verdict, plan),
            }
        }
        Ok(matched)
    }

    /// Returns the results of those reports that are applied and whose series is not known before they are matched.
    async fn decided_results(&self, drafts: &[Draft]) -> Result<HashMap<ReportId, ExamResult>, Error> {
        let mut decided = HashMap::new();
        for Draft { report, reading, .. } in drafts {
            if let (SeriesKey::CandidateAtTest { .. }, Some(tenant), Some(result)) =
                (&reading.series, &report.tenant, &report.result)
            {
                let found = self.0.store.result(tenant, result).await.or_not_applied()?;
                decided.extend(found.map(|found| (report.id.clone(), found)));
            }
        }
        Ok(decided)
    }

    /// Weighs what matched reports prove about bookings, and records the reports whose bookings are being written as parked.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn admit_evidence(
        &self,
        connection: &Connection,
        matched: Vec<MatchedReport>,
        plan: &mut IngestPlan,
    ) -> Result<Vec<MatchedReport>, Error> {
        let mut proofs: BTreeMap<AssignmentId, Proof> = BTreeMap::new();
        for report in &matched {
            let Some(booking) = report.owner.proved_booking() else { continue };
            let participant = match &report.series {
                SeriesKey::Participant(id) => Some(id.clone()),
                SeriesKey::CandidateAtTest { .. } => None,
            };
            let is_later = report.draft.report.received >= booking.created;
            let proof = Proof { booking: Arc::clone(booking), participant, is_later };
            if proof.is_needed() {
                proofs.insert(booking.id.clone(), proof);
            }
        }
        if proofs.is_empty() {
            return Ok(matched);
        }
        let Evidence { bookings, busy, changes, locks } = self.weigh_evidence(connection, proofs).await?;
        plan.changes.extend(changes);
        plan.booking_locks.extend(locks);
        let (mut admitted, mut held_up) = (Vec::with_capacity(matched.len()), Vec::new());
        for mut report in matched {
            if report.owner.proved_booking().is_some_and(|booking| busy.contains(&booking.id)) {
                held_up.push((report.draft, Verdict::Busy(report.owner.tenant)));
                continue;
            }
            for booking in bookings.values() {
                report.owner.replace(booking);
            }
            admitted.push(report);
        }
        for (draft, verdict) in held_up {
            self.record_unmatched(connection, draft, verdict, plan);
        }
        Ok(admitted)
    }

    /// Records a report whose owner is not known. An event tells of one that has just come, or that has waited for a booking
    /// that was being written: until then it may need no person.
    fn record_unmatched(&self, connection: &Connection, draft: Draft, verdict: Verdict, plan: &mut IngestPlan) {
        let waited = draft.report.parked_for == Some(ParkReason::BookingInProgress);
        let change = unmatched_mutation(connection, draft, verdict);
        let event = match &change {
            Some(Mutation::Report(new)) if new.report.parked_for != Some(ParkReason::BookingInProgress) => {
                self.emitter().report_event(&new.report)
            }
            Some(Mutation::UpdateReport(changed)) if waited => self.emitter().report_event(&changed.report),
            _ => None,
        };
        plan.changes.extend(change);
        plan.changes.extend(event.map(|event| Mutation::Event(Box::new(event))));
    }
}

/// Returns a result that tells whose a report is.
fn recorded_result<'a>(
    draft: &Draft,
    series: &'a HashMap<SeriesKey, Series>,
    decided: &'a HashMap<ReportId, ExamResult>,
) -> Option<&'a ExamResult> {
    match &draft.reading.series {
        SeriesKey::CandidateAtTest { .. } => decided.get(&draft.report.id),
        named @ SeriesKey::Participant(_) => series.get(named).and_then(|series| latest(&series.results)),
    }
}

fn series_of(draft: &Draft, owner: &Owner) -> SeriesKey {
    draft.reading.series.clone().matched(&owner.candidate, &owner.assessment_ref)
}

fn is_better(owner: &Owner, known: &Owner) -> bool {
    let rank = |owner: &Owner| (owner.by_hand, owner.booking.is_some(), owner.warning.is_none());
    rank(owner) > rank(known)
}

/// Builds the mutation that records a report whose owner is not known; `None` if it stays as it is, and due.
fn unmatched_mutation(connection: &Connection, draft: Draft, verdict: Verdict) -> Option<Mutation> {
    let Draft { report, mut reading, kept, said: _ } = draft;
    let owner = connection.reports_owner().map(str::to_owned);
    let mut series = None;
    let (report, reading, body_kept) = match verdict {
        Verdict::Erased => {
            let report = Report {
                tenant: owner,
                state: ReportState::Dismissed,
                parked_for: None,
                candidate: None,
                assignment: None,
                result: None,
                ..report
            };
            (report, None, false)
        }
        // It belongs to a result; what it may belong to besides is not clear.
        Verdict::Parked(..) if report.state == ReportState::Applied => {
            series = Some(reading.series.clone());
            (report, Some(reading), true)
        }
        Verdict::Parked(reason, booking) => {
            match booking.as_ref().and_then(|booking| booking.identity.clone()) {
                Some(Identity::ExternalId(id)) => drop(reading.hints.external_id.get_or_insert(id)),
                Some(Identity::Email(email)) => drop(reading.hints.email.get_or_insert(email)),
                Some(Identity::UserName(_)) | None => {}
            }
            // The booking's tenant owns it, whoever owns what fits no tenant.
            let tenant = booking.map(|booking| booking.tenant.clone()).or(owner);
            let report = Report { tenant, state: ReportState::Parked, parked_for: Some(reason), ..report };
            (report, Some(reading), true)
        }
        Verdict::Matched(owner) => {
            let draft = Draft { report, reading, kept, said: None };
            return unmatched_mutation(connection, draft, Verdict::Busy(owner.tenant));
        }
        Verdict::Busy(tenant) => match kept {
            Kept::Recorded { .. } => return None,
            Kept::New(_) => {
                let (tenant, parked_for) = (Some(tenant), Some(ParkReason::BookingInProgress));
                (Report { tenant, state: ReportState::Parked, parked_for, ..report }, Some(reading), true)
            }
        },
    };
    Some(match kept {
        Kept::New(body) => {
            let body = Some(body).filter(|_| body_kept);
            Mutation::Report(Box::new(NewReport { report, body, reading, series }))
        }
        Kept::Recorded { rechecks, .. } => {
            Mutation::UpdateReport(Box::new(ReportChange { report, reading, series, rechecks }))
        }
    })
}

/// Returns the hints by which other reports of the same registration, and later bookings of the same person, find each other.
pub(super) fn add_owner_hints(matched: &mut MatchedReport) -> Vec<ReportHint> {
    let hints = &mut matched.draft.reading.hints;
    if hints.external_id.is_none() {
        hints.external_id.clone_from(&matched.owner.external_id);
    }
    hints::of_report(hints)
}
