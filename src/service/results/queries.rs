//! Results and reports as their owner sees them.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::identity::ExternalId;
use crate::domain::ids::{AssignmentId, CandidateId, ReportId, ResultId};
use crate::domain::results::{Activity, ExamResult, Grading, Report, ReportState, ResultVersion};
use crate::service::catalogue::Catalogue;
use crate::service::errors::StoreResultExt as _;
use crate::service::snapshot::Snapshot;
use crate::service::{ConnectionAccess, Gateway, RequestContext};
use crate::store::{ListPart, Page, ReportFilter, ResultFilter};

/// Maximum number of reads for one part of a list: whether a result counts is known only once it was read.
const MAX_READS: usize = 8;

/// Filter for a list of results.
#[derive(Debug, Clone, Default)]
pub struct ResultQuery {
    /// Of this assignment.
    pub assignment: Option<AssignmentId>,
    /// Of this candidate.
    pub candidate: Option<CandidateId>,
    /// Of candidates with this id of the caller's.
    pub external_id: Option<ExternalId>,
    /// Of this assessment: the catalogue's id or the vendor's.
    pub assessment: Option<String>,
    /// At this connection.
    pub connection: Option<String>,
    /// With this activity.
    pub activity: Option<Activity>,
    /// With this grading.
    pub grading: Option<Grading>,
    /// That count, or that do not.
    pub counts: Option<bool>,
    /// Modified at or after this time.
    pub modified_since: Option<Timestamp>,
}

/// A result as shown to a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultView {
    /// The result.
    pub result: ExamResult,
    /// The assessment by the catalogue's id, else by the vendor's.
    pub assessment: String,
    /// The caller's id of the candidate.
    pub external_id: Option<ExternalId>,
    /// The caller's reference of the assignment.
    pub reference: Option<String>,
    /// Whether this attempt is the one that counts.
    pub counts: bool,
}

/// Filter for a list of reports.
#[derive(Debug, Clone, Default)]
pub struct ReportQuery {
    /// In this state.
    pub state: Option<ReportState>,
    /// At this connection.
    pub connection: Option<String>,
}

/// A report as shown to a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportView {
    /// The report.
    pub report: Report,
    /// Its body, if asked for and still kept.
    pub body: Option<Vec<u8>>,
}

impl Gateway {
    /// Returns a part of the caller's results, newest first.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `store_unavailable`; `validation_failed` for a cursor of another list.
    pub async fn results(
        &self,
        caller: &RequestContext,
        query: &ResultQuery,
        page: &Page,
    ) -> Result<ListPart<ResultView>, Error> {
        let mut after = page.after.clone();
        if let Some(cursor) = &after {
            ResultId::parse(cursor).map_err(|_| unknown_cursor())?;
        }
        let Some(filter) = self.result_filter(caller, query).await? else {
            return Ok(ListPart { items: Vec::new(), next: None });
        };
        let _permit = self.read_permit(caller).await;
        let mut items: Vec<ResultView> = Vec::new();
        for _ in 0..MAX_READS {
            let limit = page.limit.saturating_sub(items.len());
            // One extra entry shows whether there is a next page.
            let part = Page { limit: limit + 1, after: after.take() };
            let mut found = self.0.store.results(&caller.tenant, &filter, &part).await.or_not_applied()?;
            let more = found.len() > limit;
            found.truncate(limit);
            after = found.last().filter(|_| more).map(|last| last.id.to_string());
            let views = self.view_results(caller, found).await?;
            items.extend(views.into_iter().filter(|view| query.counts.is_none_or(|counts| view.counts == counts)));
            if after.is_none() || items.len() >= page.limit {
                break;
            }
        }
        Ok(ListPart { items, next: after })
    }

    /// Returns a result.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn result(&self, caller: &RequestContext, id: &ResultId) -> Result<ResultView, Error> {
        let found = self.0.store.result(&caller.tenant, id).await.or_not_applied()?;
        let usable = found.filter(|result| caller.connections.contains(&result.connection));
        let views = self.view_results(caller, usable.into_iter().collect()).await?;
        views.into_iter().next().ok_or_else(|| Error::new(Code::NotFound, format!("There is no result {id}.")))
    }

    /// Returns a result and its versions, oldest first.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn result_versions(
        &self,
        caller: &RequestContext,
        id: &ResultId,
    ) -> Result<(ResultView, Vec<ResultVersion>), Error> {
        let view = self.result(caller, id).await?;
        let versions = self.0.store.result_versions(&caller.tenant, id).await.or_not_applied()?;
        Ok((view, versions))
    }

    /// Returns a part of the caller's reports, newest first. Reports at a connection that fit no candidate belong to the
    /// connection's owner.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `store_unavailable`; `validation_failed` for a cursor of another list.
    pub async fn reports(
        &self,
        caller: &RequestContext,
        query: &ReportQuery,
        page: &Page,
    ) -> Result<ListPart<Report>, Error> {
        if let Some(cursor) = &page.after {
            ReportId::parse(cursor).map_err(|_| unknown_cursor())?;
        }
        let connections = self.usable_connections(caller, query.connection.as_deref())?;
        let filter = ReportFilter { state: query.state, connections };
        let part = Page { limit: page.limit + 1, after: page.after.clone() };
        let _permit = self.read_permit(caller).await;
        let mut items = self.0.store.reports(Some(&caller.tenant), &filter, &part).await.or_not_applied()?;
        let more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(ListPart { items, next })
    }

    /// Returns a report, with its body if asked for.
    ///
    /// # Errors
    /// `not_found`, `store_unavailable`.
    pub async fn report(&self, caller: &RequestContext, id: &ReportId, with_body: bool) -> Result<ReportView, Error> {
        let report = self.own_report(caller, id).await?.report;
        let body = if with_body { self.0.store.report_body(id).await.or_not_applied()? } else { None };
        Ok(ReportView { report, body })
    }

    /// Returns the connections to look at; `None` for all of them.
    fn usable_connections(&self, caller: &RequestContext, named: Option<&str>) -> Result<Option<Vec<String>>, Error> {
        if let Some(name) = named {
            self.configured().named(caller, name)?;
            return Ok(Some(vec![name.to_owned()]));
        }
        Ok(match &caller.connections {
            ConnectionAccess::All => None,
            ConnectionAccess::Named(allowed) => Some(allowed.iter().cloned().collect()),
        })
    }

    /// Returns the store's filter for a query; `None` if nothing can match.
    pub(super) async fn result_filter(
        &self,
        caller: &RequestContext,
        query: &ResultQuery,
    ) -> Result<Option<ResultFilter>, Error> {
        let connection = query.connection.as_deref();
        let mut connections = self.usable_connections(caller, connection)?;
        let mut assessment_refs = None;
        if let Some(text) = query.assessment.as_deref() {
            let configured = self.configured();
            if let Some(entry) = configured.catalogue.assessments.get(text) {
                // Another connection may know another test by the same id.
                if connections.as_ref().is_some_and(|usable| !usable.contains(&entry.connection)) {
                    return Ok(None);
                }
                connections = Some(vec![entry.connection.clone()]);
                assessment_refs = Some(vec![entry.reference.clone()]);
            } else {
                assessment_refs = Some(vendor_refs(&configured, connection, text));
            }
        }
        let mut candidates = query.candidate.clone().map(|id| vec![id]);
        if let Some(external_id) = &query.external_id {
            let identity = Identity::ExternalId(external_id.clone());
            let found = self.0.store.candidates(&caller.tenant, connection, &identity).await.or_not_applied()?;
            let found = found.into_iter().map(|candidate| candidate.id);
            let found: Vec<CandidateId> =
                found.filter(|id| query.candidate.as_ref().is_none_or(|candidate| candidate == id)).collect();
            if found.is_empty() {
                return Ok(None);
            }
            candidates = Some(found);
        }
        Ok(Some(ResultFilter {
            assignment: query.assignment.clone(),
            candidates,
            assessment_refs,
            connections,
            activity: query.activity,
            grading: query.grading,
            modified_since: query.modified_since,
        }))
    }

    async fn view_results(&self, caller: &RequestContext, results: Vec<ExamResult>) -> Result<Vec<ResultView>, Error> {
        if results.is_empty() {
            return Ok(Vec::new());
        }
        let counting = self.counting_results(&results).await?;
        let candidates: BTreeSet<String> = results.iter().map(|result| result.state.candidate.to_string()).collect();
        let assignments: BTreeSet<String> =
            results.iter().filter_map(|result| Some(result.state.assignment.as_ref()?.to_string())).collect();
        let store = &self.0.store;
        let candidates: Vec<String> = candidates.into_iter().collect();
        let people = store.candidates_by_id(&caller.tenant, &candidates).await.or_not_applied()?;
        let people: HashMap<CandidateId, Candidate> = people.into_iter().map(|it| (it.id.clone(), it)).collect();
        let assignments: Vec<String> = assignments.into_iter().collect();
        let bookings = if assignments.is_empty() {
            Vec::new()
        } else {
            store.assignments_by_id(&caller.tenant, &assignments).await.or_not_applied()?
        };
        let bookings: HashMap<AssignmentId, Assignment> = bookings.into_iter().map(|it| (it.id.clone(), it)).collect();
        let configured = self.configured();
        let view = |result: ExamResult| {
            let booking = result.state.assignment.as_ref().and_then(|id| bookings.get(id));
            let person = people.get(&result.state.candidate);
            ResultView {
                assessment: name_of(&configured.catalogue, &result),
                external_id: person.and_then(|candidate| candidate.person.external_id.clone()),
                reference: booking.and_then(|booking| booking.order.reference.clone()),
                counts: counting.contains(&result.id),
                result,
            }
        };
        Ok(results.into_iter().map(view).collect())
    }
}

/// Returns the vendors' ids that a text which is no id of the catalogue may mean: the text in the vendors' own forms.
fn vendor_refs(configured: &Snapshot, connection: Option<&str>, text: &str) -> Vec<String> {
    let asked = configured.connections.iter().filter(|(name, _)| connection.is_none_or(|asked| asked == *name));
    let forms = asked.filter_map(|(_, connection)| connection.vendor().assessment_ref(text));
    forms.chain([text.to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the catalogue's id of the result's assessment, else the vendor's.
fn name_of(catalogue: &Catalogue, result: &ExamResult) -> String {
    let (connection, reference) = (&result.connection, &result.state.assessment_ref);
    let mut entries = catalogue.assessments.values();
    let entry = entries.find(|entry| entry.connection == *connection && entry.reference == *reference);
    entry.map_or_else(|| reference.clone(), |entry| entry.id.clone())
}

fn unknown_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}
