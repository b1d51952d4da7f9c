//! Fetches the reports that the feed's entries make necessary.
//!
//! What is to be fetched is recorded in the transaction that records the entry, so that neither the feed's watermark nor a
//! kill depends on it. A report that the vendor fails to give is asked for again, ever more rarely, and never given up: only
//! an answer ends it, or that the person is erased.

use futures_util::stream::{self, StreamExt as _};
use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::domain::error::{Code, Error};
use crate::domain::results::{ReportChannel, ReportContext, ReportKind, ReportSource};
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::CallContext;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::{Arrival, CHUNK, Chunk, FetchRequest};
use crate::service::results::ingest::require_source;
use crate::store::{FetchEnd, Mutation, ReportFetch};
use crate::telemetry::{metrics, spans};

/// Maximum number of reports that are fetched at once.
const MAX_CONCURRENT_FETCHES: usize = 4;
/// Pause after the first failure of a fetch; each further one is twice as long.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// Longest pause after a failure.
const MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);

impl Gateway {
    /// Fetches the reports that are due and ingests them, unless another task does. One that the vendor fails to give is
    /// postponed and holds up no other.
    ///
    /// # Errors
    /// `store_unavailable`; the error that keeps all reports of the connection from being fetched.
    pub(super) async fn fetch_due_reports(&self, connection: &Connection) -> Result<(), Error> {
        let source = require_source(connection)?;
        let ReportChannel::Feed(_) = source.channel() else { return Ok(()) };
        let name = &connection.name;
        // Looked at without the lock: usually there is nothing.
        if self.0.store.due_fetches(name, self.now(), 1).await.or_not_applied()?.is_empty() {
            return Ok(());
        }
        let lock = self.0.subject_locks.try_lock(&SubjectKey::fetches(name)).await.or_not_applied()?;
        let Some(_lock) = lock else { return Ok(()) };
        let _token = self.0.tasks.token();
        self.fetch_parts(connection, source).instrument(spans::reports(name)).await
    }

    async fn fetch_parts(&self, connection: &Connection, source: &dyn ReportSource) -> Result<(), Error> {
        let call = self.feed_context(connection);
        loop {
            if self.is_stopping() || !self.0.lease.holds() {
                return Ok(());
            }
            let due = self.0.store.due_fetches(&connection.name, self.now(), CHUNK).await.or_not_applied()?;
            let more = due.len() == CHUNK;
            self.fetch_part(connection, source, due, &call).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Fetches these reports, and ingests them in the transaction that records what came of each.
    async fn fetch_part(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        due: Vec<ReportFetch>,
        call: &CallContext,
    ) -> Result<(), Error> {
        let (mut arrivals, mut ends, mut all) = (Vec::with_capacity(due.len()), Vec::with_capacity(due.len()), Ok(()));
        let mut answers = stream::iter(due)
            .map(|fetch| async move {
                let ReportFetch { number, requests, failures, participant, center } = fetch;
                let request = FetchRequest { participant, center };
                let answer = self.fetch_report(connection, source, &request, call).await;
                (FetchEnd { number, requests, postponed: None }, failures, answer)
            })
            .buffered(MAX_CONCURRENT_FETCHES);
        while let Some((end, failures, answer)) = answers.next().await {
            let postponed = match answer {
                Ok(arrival) => {
                    arrivals.extend(arrival);
                    None
                }
                Err(error) if concerns_all(error.code) => {
                    all = Err(error);
                    break;
                }
                Err(error) => {
                    let failures = failures.saturating_add(1);
                    let (code, detail) = (error.code.as_str(), error.detail);
                    tracing::warn!(
                        connection = connection.name,
                        code,
                        detail,
                        failures,
                        "fetching a report failed; will retry"
                    );
                    metrics::fetch_failures(&connection.name, 1);
                    let now = self.now();
                    Some((failures, now.checked_add(pause(failures)).unwrap_or(now)))
                }
            };
            ends.push(Mutation::EndFetch(FetchEnd { postponed, ..end }));
        }
        drop(answers);
        if !arrivals.is_empty() {
            let lock = self.lock_reports(&connection.name).await?;
            let plan = self.plan_chunk(connection, Chunk::of_arrivals(arrivals), lock).await?;
            self.commit_plan(plan, ends).await?;
        } else if !ends.is_empty() {
            self.0.store.commit(ends).await.or_not_applied()?;
        }
        all
    }

    /// Fetches the reports of these registrations now and ingests them. Skips those that the vendor does not know, and those
    /// that it fails to give. Returns how many were found.
    ///
    /// # Errors
    /// `store_unavailable`; the error that keeps all reports of the connection from being fetched.
    pub(super) async fn fetch_reports(
        &self,
        connection: &Connection,
        requests: Vec<FetchRequest>,
        call: &CallContext,
    ) -> Result<usize, Error> {
        let source = require_source(connection)?;
        let mut found = 0;
        for part in requests.chunks(CHUNK) {
            let mut answers = stream::iter(part.to_vec())
                .map(|request| async move { self.fetch_report(connection, source, &request, call).await })
                .buffered(MAX_CONCURRENT_FETCHES);
            let mut arrivals = Vec::with_capacity(part.len());
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(arrival) => arrivals.extend(arrival),
                    Err(error) if concerns_all(error.code) => return Err(error),
                    Err(error) => {
                        let (code, detail) = (error.code.as_str(), error.detail);
                        tracing::warn!(connection = connection.name, code, detail, "fetching a report failed");
                        metrics::fetch_failures(&connection.name, 1);
                    }
                }
            }
            drop(answers);
            if !arrivals.is_empty() {
                found += arrivals.len();
                self.ingest(connection, Chunk::of_arrivals(arrivals)).await?;
            }
        }
        Ok(found)
    }

    /// Fetches the report of a registration; `None` if the vendor knows of none.
    ///
    /// # Errors
    /// The vendor's, if a later attempt may succeed.
    pub(super) async fn fetch_report(
        &self,
        connection: &Connection,
        source: &dyn ReportSource,
        request: &FetchRequest,
        call: &CallContext,
    ) -> Result<Option<Arrival>, Error> {
        let FetchRequest { participant, center } = request;
        match source.fetch_report(participant, center.as_deref(), call).await {
            Ok(fetched) => {
                connection.note(Ok(()), self.0.system.now());
                let participant = Some(participant.clone());
                Ok(Some(Arrival {
                    read: fetched.report,
                    kind: ReportKind::FetchedReport,
                    context: ReportContext { center: center.clone(), participant, assessment: None },
                    as_of: fetched.as_of,
                    received: self.now(),
                    inbox: None,
                }))
            }
            Err(error) => {
                let error = connection.tag_connection(*error.error);
                connection.note(Err(&error), self.0.system.now());
                if is_unknown_registration(error.code) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Sets the gauges of what is to be fetched, and shows at the connection whether the vendor fails to give it.
    pub(super) async fn count_fetches(&self, connections: &[&str]) {
        let Ok(counts) = self.0.store.count_fetches().await else { return };
        for name in connections {
            let counted = counts.iter().find(|counted| counted.connection == *name);
            let (pending, failing) = counted.map_or((0, 0), |counted| (counted.pending, counted.failing));
            metrics::fetches(name, pending, failing);
            let Ok(connection) = self.connection_of(name) else { continue };
            let fault = format!("The vendor's reports of {failing} attempts could not be fetched yet.");
            connection.set_fetch_fault(Some(fault).filter(|_| failing > 0));
        }
    }
}

/// Returns the pause after this many failures.
fn pause(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE)
}

/// Returns whether an error says that no report of the connection can be fetched now, and nothing of the one that was asked for.
fn concerns_all(code: Code) -> bool {
    use Code::{
        ConnectionCredentialsInvalid, ConnectionMisconfigured, ConnectionSaturated, Draining, StoreUnavailable,
        VendorCircuitOpen, VendorClockSkew, VendorRateLimited, VendorUnreachable,
    };
    matches!(
        code,
        ConnectionCredentialsInvalid
            | ConnectionMisconfigured
            | ConnectionSaturated
            | Draining
            | StoreUnavailable
            | VendorCircuitOpen
            | VendorClockSkew
            | VendorRateLimited
            | VendorUnreachable
    )
}

/// Returns whether the vendor says that it knows nothing of a registration.
fn is_unknown_registration(code: Code) -> bool {
    use Code::{CandidateNotFound, InvalidField, InvalidReference, NotFound, VendorRejectedRequest};
    matches!(code, CandidateNotFound | InvalidField | InvalidReference | NotFound | VendorRejectedRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_cannot_be_fetched_is_asked_for_ever_more_rarely() {
        let seconds: Vec<i64> = [1, 2, 3, 9, 10, u32::MAX].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(seconds, [10, 20, 40, 2560, 3600, 3600]);
    }
}
