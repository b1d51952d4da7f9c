//! Ingestion: reports that have come, and recorded ones that are looked at again, become results in one transaction.
//!
//! All of it runs under the connection's lock, so that no two tasks fold the same series. It works on chunks, and looks up
//! everything for all reports of a chunk together.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use crate::domain::error::{Code, Error};
use crate::domain::results::{ReportSource, SeriesKey};
use crate::domain::subject::SubjectKey;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::{Chunk, Draft, IngestPlan, TouchedReport};
use crate::service::results::directory::named_series;
use crate::service::results::drafts::move_touched;
use crate::service::write::locks::SubjectLock;
use crate::store::{Mutation, Series, StoreError};

/// Returns the connection's source of reports.
///
/// # Errors
/// `capability_unsupported`.
pub(super) fn require_source(connection: &Connection) -> Result<&dyn ReportSource, Error> {
    connection.report_source().ok_or_else(|| {
        let results = &connection.descriptor().results;
        let detail = format!("The connection `{}` reads no results. {}", connection.name, results.note);
        connection.tag_connection(Error::new(Code::CapabilityUnsupported, detail.trim_end()))
    })
}

impl Gateway {
    /// Acquires the lock under which a connection's reports are ingested.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn lock_reports(&self, connection: &str) -> Result<SubjectLock, Error> {
        let lock = self.lock_subject(&SubjectKey::reports(connection)).await?;
        // A commit in doubt may take effect after it was looked for.
        if self.0.results.in_doubt.load(Ordering::Relaxed) {
            if self.0.store.has_undecided_commits() {
                return Err(Error::new(Code::StoreUnavailable, "An earlier commit is not decided yet."));
            }
            self.0.store.remember_time(self.now()).await.or_not_applied()?;
            self.0.results.in_doubt.store(false, Ordering::Relaxed);
        }
        Ok(lock)
    }

    /// Ingests a chunk.
    ///
    /// # Errors
    /// `capability_unsupported`, `store_unavailable`.
    pub(super) async fn ingest(&self, connection: &Connection, chunk: Chunk) -> Result<(), Error> {
        let lock = self.lock_reports(&connection.name).await?;
        let plan = self.plan_chunk(connection, chunk, lock).await?;
        self.commit_plan(plan, Vec::new()).await.map(drop)
    }

    /// Commits what the ingestion of a chunk changes, with what is to be fetched because of it and these mutations; releases its
    /// locks. Returns the reports of the chunk.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn commit_plan(&self, plan: IngestPlan, more: Vec<Mutation>) -> Result<Vec<TouchedReport>, Error> {
        let IngestPlan { mut changes, touched, fetches, .. } = plan;
        let fetching = fetches.first().and_then(|fetch| self.0.results.signals(&fetch.connection));
        changes.extend(fetches.into_iter().map(|fetch| Mutation::RequestFetch(Box::new(fetch))));
        changes.extend(more);
        if !changes.is_empty() {
            let committed = self.0.store.commit(changes).await;
            if matches!(committed, Err(StoreError::InDoubt(_))) {
                self.0.results.in_doubt.store(true, Ordering::Relaxed);
            }
            committed.or_not_applied()?;
        }
        if let Some(signals) = fetching {
            signals.fetches.notify_one();
        }
        Ok(touched)
    }

    /// Plans the ingestion of a chunk; the caller has acquired the lock of the connection's reports.
    ///
    /// # Errors
    /// `capability_unsupported`, `store_unavailable`.
    pub(super) async fn plan_chunk(
        &self,
        connection: &Connection,
        chunk: Chunk,
        lock: SubjectLock,
    ) -> Result<IngestPlan, Error> {
        let source = require_source(connection)?;
        let mut plan = IngestPlan::new(lock);
        let Chunk { arrivals, looks, touched } = chunk;
        // What a fetched report leaves open, fetching it once more would not answer.
        let answered: BTreeSet<String> =
            arrivals.iter().filter_map(|arrival| arrival.context.participant.clone()).collect();
        let (mut drafts, mut moves) = self.draft_arrivals(connection, arrivals, &mut plan).await?;
        moves.extend(move_touched(connection, touched, &mut plan.changes));
        drafts.extend(looks.into_iter().filter_map(Draft::of_look));
        let named = drafts.iter().filter_map(|draft| named_series(&draft.reading.series));
        let named: BTreeSet<SeriesKey> = named.chain(moves.iter().map(|moved| &moved.series)).cloned().collect();
        let mut series = self.read_series(connection, named).await?;
        let matched = self.match_drafts(connection, source, drafts, &series, &mut plan).await?;
        let matched = self.admit_evidence(connection, matched, &mut plan).await?;
        let missing = matched.iter().map(|matched| &matched.series).filter(|key| !series.contains_key(*key));
        let missing: BTreeSet<SeriesKey> = missing.cloned().collect();
        series.extend(self.read_series(connection, missing).await?);
        self.revise_chunk(connection, source, matched, series, &moves, &mut plan).await?;
        plan.fetches.retain(|fetch| !answered.contains(&fetch.participant));
        plan.changes.extend(std::mem::take(&mut plan.repeats_of_new).into_iter().map(Mutation::RepeatReport));
        if !plan.rechecks.is_empty() {
            let hints = std::mem::take(&mut plan.rechecks).into_iter().collect();
            plan.changes.push(Mutation::RecheckReports(connection.name.clone(), hints));
        }
        Ok(plan)
    }

    pub(super) async fn read_series(
        &self,
        connection: &Connection,
        keys: BTreeSet<SeriesKey>,
    ) -> Result<HashMap<SeriesKey, Series>, Error> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<SeriesKey> = keys.into_iter().collect();
        let series = self.0.store.series(&connection.name, &keys).await.or_not_applied()?;
        Ok(series.into_iter().map(|series| (series.key.clone(), series)).collect())
    }
}
