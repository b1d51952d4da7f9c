//! How every engine reads reports and results.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ResultReads, column, lines};
use crate::domain::assignment::Assignment;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::ids::{AssignmentId, CandidateId, ReportId, ResultId};
use crate::domain::results::{
    Activity, ExamResult, Grading, Report, ReportDigest, ReportState, ResultVersion, SeriesKey,
};
use crate::store::codec::{
    FetchRow, ReceivedRow, RecordCodec, ReportRecordRow, SealedRow, SeriesReportRow, SeriesResultRow, micros,
    participant_of,
};
use crate::store::encryption::BlindIndex;
use crate::store::engine::{Access, Engine};
use crate::store::result_sql as sql;
use crate::store::sql::{AFTER_ALL, Sql, SqlValue, values};
use crate::store::{
    FeedPosition, FetchCount, Page, ReceivedWebhook, ReportCount, ReportFetch, ReportFilter, ReportHint, ResultFilter,
    Series, StoreError, StoredReport,
};

/// Number of assignments that are not indexed yet read at once.
const UNINDEXED_PAGE: usize = 500;

#[async_trait]
impl<E: Engine> ResultReads for E {
    async fn received_webhooks(&self, connection: &str, limit: usize) -> Result<Vec<ReceivedWebhook>, StoreError> {
        let rows: Vec<ReceivedRow> = self.select(Access::Scan, sql::RECEIVED, &values![connection, limit]).await?;
        rows.into_iter().map(|row| self.codec().received(row)).collect()
    }

    fn report_digest(&self, input: &[u8]) -> ReportDigest {
        self.codec().report_digest(input)
    }

    async fn reports_by_digest(&self, connection: &str, digests: &[ReportDigest]) -> Result<Vec<Report>, StoreError> {
        let digests: Vec<BlindIndex> = digests.iter().map(|digest| digest.0).collect();
        reports(self, Access::Scan, sql::REPORTS_BY_DIGEST, &values![&*digests, connection]).await.map(without_readings)
    }

    async fn series(&self, connection: &str, keys: &[SeriesKey]) -> Result<Vec<Series>, StoreError> {
        let mut series: Vec<Series> =
            keys.iter().map(|key| Series { key: key.clone(), sightings: Vec::new(), results: Vec::new() }).collect();
        let mut places: HashMap<BlindIndex, Vec<usize>> = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            for form in self.codec().series_forms(connection, key) {
                places.entry(form).or_default().push(place);
            }
        }
        let forms: Vec<BlindIndex> = places.keys().copied().collect();
        let reports: Vec<SeriesReportRow> = self.select(Access::Scan, sql::SERIES_REPORTS, &values![&*forms]).await?;
        for SeriesReportRow(row, form) in &reports {
            let Some(sighting) = self.codec().sighting(row)? else { continue };
            for place in places.get(form).into_iter().flatten() {
                series[*place].sightings.push(sighting.clone());
            }
        }
        let results: Vec<SeriesResultRow> = self.select(Access::Scan, sql::SERIES_RESULTS, &values![&*forms]).await?;
        for SeriesResultRow(row, form) in &results {
            let result = self.codec().exam_result(row)?;
            for place in places.get(form).into_iter().flatten() {
                series[*place].results.push(result.clone());
            }
        }
        Ok(series)
    }

    async fn report(&self, id: &ReportId) -> Result<Option<StoredReport>, StoreError> {
        Ok(reports(self, Access::Key, sql::REPORT, &values![id.as_str()]).await?.pop())
    }

    async fn report_body(&self, id: &ReportId) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(String, Vec<u8>)> =
            self.select_one(Access::Key, sql::REPORT_BODY, &values![id.as_str()]).await?;
        row.map(|(id, sealed)| self.codec().report_body(&id, &sealed)).transpose()
    }

    async fn reports(
        &self,
        tenant: Option<&str>,
        filter: &ReportFilter,
        page: &Page,
    ) -> Result<Vec<Report>, StoreError> {
        let ReportFilter { state, connections } = filter;
        let after = page.after.as_deref().unwrap_or(AFTER_ALL);
        if after.contains('\0') {
            return Ok(Vec::new());
        }
        let connections = connections.as_deref().map(lines);
        let of_state = state.is_some_and(|state| state != ReportState::Applied);
        let sql = if of_state { sql::LISTED_REPORTS_OF_STATE } else { sql::LISTED_REPORTS };
        let values =
            values![tenant.unwrap_or_default(), after, connections, state.map(ReportState::as_str), page.limit];
        reports(self, Access::List, sql, &values).await.map(without_readings)
    }

    async fn due_reports(&self, connection: &str, limit: usize) -> Result<Vec<StoredReport>, StoreError> {
        reports(self, Access::Scan, sql::DUE_REPORTS, &values![connection, limit]).await
    }

    async fn parked_reports(
        &self,
        connection: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredReport>, StoreError> {
        reports(self, Access::Scan, sql::PARKED_REPORTS, &values![connection, column(after), limit]).await
    }

    async fn reports_since(
        &self,
        connection: &str,
        since: Timestamp,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredReport>, StoreError> {
        let values = values![connection, column(after), micros(since), limit];
        reports(self, Access::Scan, sql::REPORTS_SINCE, &values).await
    }

    async fn erased_hints(&self, connection: &str, hints: &[ReportHint]) -> Result<Vec<bool>, StoreError> {
        let forms: Vec<Vec<BlindIndex>> = hints.iter().map(|hint| self.codec().hint_forms(connection, hint)).collect();
        let all: Vec<BlindIndex> = forms.iter().flatten().copied().collect();
        let erased: Vec<(BlindIndex,)> = self.select(Access::Scan, sql::ERASED_HINTS, &values![&*all]).await?;
        let erased: HashSet<BlindIndex> = erased.into_iter().map(|(form,)| form).collect();
        Ok(forms.iter().map(|forms| forms.iter().any(|form| erased.contains(form))).collect())
    }

    async fn count_reports(&self) -> Result<Vec<ReportCount>, StoreError> {
        let counts: Vec<(String, String, i64)> = self.select(Access::List, sql::REPORT_COUNTS, &values![]).await?;
        let count = |(connection, state, count): (String, String, i64)| {
            let state = ReportState::parse(&state)?;
            Some(ReportCount { connection, state, count: u64::try_from(count).unwrap_or(0) })
        };
        Ok(counts.into_iter().filter_map(count).collect())
    }

    async fn result(&self, tenant: &str, id: &ResultId) -> Result<Option<ExamResult>, StoreError> {
        self.record(sql::RESULT, &values![tenant, id.as_str()], RecordCodec::exam_result).await
    }

    async fn results(&self, tenant: &str, filter: &ResultFilter, page: &Page) -> Result<Vec<ExamResult>, StoreError> {
        let ResultFilter { assignment, candidates, assessment_refs, connections, activity, grading, modified_since } =
            filter;
        let after = page.after.as_deref().unwrap_or(AFTER_ALL);
        if after.contains('\0') {
            return Ok(Vec::new());
        }
        let candidates: Option<Vec<String>> =
            candidates.as_ref().map(|ids| ids.iter().map(ToString::to_string).collect());
        let (at, refs) = (connections.as_deref().map(lines), assessment_refs.as_deref().map(lines));
        let (activity, grading) = (activity.map(Activity::as_str), grading.map(Grading::as_str));
        let since = modified_since.map_or(i64::MIN, micros);
        let mut values: Vec<SqlValue<'_>> = values![tenant, after, at, refs, activity, grading, since].into();
        let sql = match (assignment, candidates) {
            (Some(assignment), candidates) => {
                values.extend(values![assignment.as_str(), candidates.as_deref().map(lines)]);
                sql::LISTED_RESULTS_OF_ASSIGNMENT
            }
            (None, Some(candidates)) => {
                values.extend(values![candidates]);
                sql::LISTED_RESULTS_OF_CANDIDATES
            }
            (None, None) => sql::LISTED_RESULTS,
        };
        values.extend(values![page.limit]);
        self.records(Access::List, sql, &values, RecordCodec::exam_result).await
    }

    async fn result_versions(&self, tenant: &str, id: &ResultId) -> Result<Vec<ResultVersion>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> =
            self.select(Access::List, sql::RESULT_VERSIONS, &values![tenant, id.as_str()]).await?;
        rows.iter().map(|row| self.codec().result_version(id, row)).collect()
    }

    async fn results_of_assignments(&self, ids: &[AssignmentId]) -> Result<Vec<ExamResult>, StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.records(Access::List, sql::RESULTS_OF_ASSIGNMENTS, &values![ids], RecordCodec::exam_result).await
    }

    async fn results_of_candidate(
        &self,
        candidate: &CandidateId,
        assessment_ref: &str,
    ) -> Result<Vec<ExamResult>, StoreError> {
        let values = values![candidate.as_str(), assessment_ref];
        self.records(Access::Key, sql::RESULTS_OF_CANDIDATE, &values, RecordCodec::exam_result).await
    }

    async fn feed_positions(&self, connection: &str) -> Result<Vec<FeedPosition>, StoreError> {
        let rows: Vec<(String, i64, i64)> = self.select(Access::Key, sql::WATERMARKS, &values![connection]).await?;
        let position = |(center, watermark, read)| {
            let odd = |_| StoreError::Unreadable(format!("feeds {connection}: its watermark is no time"));
            let watermark = Timestamp::from_microsecond(watermark).map_err(odd)?;
            let read = Timestamp::from_microsecond(read).map_err(odd)?;
            Ok(FeedPosition { connection: connection.to_owned(), center, watermark, read })
        };
        rows.into_iter().map(position).collect()
    }

    async fn last_sweep(&self, connection: &str) -> Result<Option<Timestamp>, StoreError> {
        let found: Option<(i64,)> = self.select_one(Access::Key, sql::LAST_SWEEP, &values![connection]).await?;
        let odd = |_| StoreError::Unreadable(format!("sweeps {connection}: its beginning is no time"));
        found.map(|(begun,)| Timestamp::from_microsecond(begun).map_err(odd)).transpose()
    }

    async fn due_fetches(
        &self,
        connection: &str,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ReportFetch>, StoreError> {
        let values = values![connection, micros(now), limit];
        let rows: Vec<FetchRow> = self.select(Access::Scan, sql::DUE_FETCHES, &values).await?;
        rows.iter().map(|row| self.codec().report_fetch(row)).collect()
    }

    async fn count_fetches(&self) -> Result<Vec<FetchCount>, StoreError> {
        let counts: Vec<(String, i64, i64)> = self.select(Access::List, sql::FETCH_COUNTS, &values![]).await?;
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let count = |(connection, pending, failing)| FetchCount {
            connection,
            pending: number(pending),
            failing: number(failing),
        };
        Ok(counts.into_iter().map(count).collect())
    }

    async fn assignments_of_participants(
        &self,
        connection: &str,
        participants: &[String],
    ) -> Result<Vec<Assignment>, StoreError> {
        let codec = self.codec();
        let hints = participants.iter().cloned().map(ReportHint::Participant);
        let forms: Vec<BlindIndex> = hints.flat_map(|hint| codec.hint_forms(connection, &hint)).collect();
        let sql = sql::ASSIGNMENTS_OF_PARTICIPANTS;
        let mut found = self.records(Access::Scan, sql, &values![&*forms], RecordCodec::assignment).await?;
        found.extend(unindexed_assignments(self, connection, participants).await?);
        Ok(distinct(found))
    }

    async fn assignments_of_people(
        &self,
        connection: &str,
        ids: &[CandidateId],
        known_as: &[Identity],
    ) -> Result<Vec<Assignment>, StoreError> {
        let codec = self.codec();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let by_id = values![ids, connection];
        let mut found =
            self.records(Access::Scan, sql::ASSIGNMENTS_OF_CANDIDATES, &by_id, RecordCodec::assignment).await?;
        let forms: Vec<BlindIndex> =
            known_as.iter().flat_map(|identity| codec.identity_forms(connection, identity)).collect();
        let by_form = values![connection, &*forms];
        found.extend(self.records(Access::Scan, sql::ASSIGNMENTS_OF_PERSONS, &by_form, RecordCodec::assignment).await?);
        Ok(distinct(found))
    }

    async fn candidates_at(&self, connection: &str, identities: &[Identity]) -> Result<Vec<Candidate>, StoreError> {
        self.candidates_with(connection, identities).await
    }

    async fn booked_assignments(
        &self,
        connection: &str,
        after: Option<&AssignmentId>,
        limit: usize,
    ) -> Result<Vec<Assignment>, StoreError> {
        let values = values![connection, after.map_or("", AssignmentId::as_str), limit];
        self.records(Access::Scan, sql::BOOKED_ASSIGNMENTS, &values, RecordCodec::assignment).await
    }
}

/// Reads reports and opens them.
async fn reports<E: Engine>(
    engine: &E,
    access: Access,
    sql: &'static Sql,
    values: &[SqlValue<'_>],
) -> Result<Vec<StoredReport>, StoreError> {
    let rows: Vec<ReportRecordRow> = engine.select(access, sql, values).await?;
    rows.iter().map(|row| engine.codec().stored_report(row)).collect()
}

fn without_readings(reports: Vec<StoredReport>) -> Vec<Report> {
    reports.into_iter().map(|stored| stored.report).collect()
}

/// Reads the assignments of these registrations among those of an earlier version that are not indexed yet: all of them, until
/// the background has indexed them.
async fn unindexed_assignments<E: Engine>(
    engine: &E,
    connection: &str,
    participants: &[String],
) -> Result<Vec<Assignment>, StoreError> {
    let missing = engine.select_one(Access::Key, sql::IS_A_PARTICIPANT_MISSING, &values![]).await?;
    if !missing.is_some_and(|(missing,)| missing) {
        return Ok(Vec::new());
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let values = values![&after, UNINDEXED_PAGE];
        let rows: Vec<SealedRow> = engine.select(Access::Scan, sql::ASSIGNMENTS_WITHOUT_PARTICIPANT, &values).await?;
        let is_wanted = |booked: &Assignment| participant_of(booked).is_some_and(|id| participants.contains(&id));
        for row in rows.iter().filter(|row| row.connection == connection) {
            match engine.codec().assignment(row) {
                Ok(assignment) => found.extend(Some(assignment).filter(is_wanted)),
                // Logged when it is indexed.
                Err(StoreError::Unreadable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        match rows.last() {
            Some(last) if rows.len() == UNINDEXED_PAGE => last.id.clone_into(&mut after),
            _ => return Ok(found),
        }
    }
}

fn distinct(mut assignments: Vec<Assignment>) -> Vec<Assignment> {
    assignments.sort_by(|one, other| one.id.cmp(&other.id));
    assignments.dedup_by(|one, other| one.id == other.id);
    assignments
}
