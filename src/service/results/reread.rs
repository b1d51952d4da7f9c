//! Reads a connection's kept reports again under today's settings. The result is the same as if they had been read so from
//! the start.
//!
//! First all reports are read and matched again, then the series that they belonged or belong to are folded. The lock of the
//! connection's reports is released after each chunk, so that feed and receiver go on. A report that comes meanwhile may be
//! folded with readings of both kinds; it is read again itself, so that its series is folded once more. A run that breaks off
//! begins again; what was done before then changes nothing.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::domain::error::{Code, Error};
use crate::domain::ids::OperationId;
use crate::domain::operation::{Operation, OperationKind, OperationState};
use crate::domain::results::{ReportSource, ReportState, SeriesKey};
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::exchange_log::traceparent;
use crate::service::results::chunk::{CHUNK, IngestPlan};
use crate::service::results::directory::named_series;
use crate::service::results::ingest::require_source;
use crate::service::results::matching::Owner;
use crate::service::results::rereading::{RereadReport, Rereading};
use crate::service::{AcceptedOperation, Gateway, RequestContext};
use crate::store::StoredReport;

impl Gateway {
    /// Starts an operation of kind `reread`, at most once under the caller's key: reads the connection's kept reports again
    /// under today's settings.
    ///
    /// # Errors
    /// `connection_not_found`, `connection_forbidden`, `capability_unsupported`, `idempotency_key_reused`,
    /// `idempotency_in_progress`, `draining`, `store_unavailable`.
    pub async fn reread_reports(
        &self,
        caller: &RequestContext,
        connection: &str,
        since: Option<Timestamp>,
    ) -> Result<AcceptedOperation, Error> {
        self.refuse_when_draining()?;
        let connection = self.configured().named(caller, connection)?;
        require_source(&connection)?;
        let operation = Operation {
            id: OperationId::generate(&self.0.system),
            tenant: caller.tenant.clone(),
            client: caller.client.clone(),
            kind: OperationKind::Reread,
            connection: connection.name.clone(),
            strict: false,
            fail_on_errors: None,
            state: OperationState::Receiving,
            cancelling: false,
            total: 0,
            created: self.0.system.now(),
            accepted: since.unwrap_or(Timestamp::UNIX_EPOCH),
            started: None,
            finished: None,
            request_id: caller.exchange.request_id().to_owned(),
            traceparent: traceparent(&caller.exchange),
            replay: None,
        };
        self.queue_operation(caller, operation).await
    }

    /// Reads the reports of an operation again. Returns whether it is done; if not, it is to be run again from the start.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(in crate::service) async fn run_reread(&self, operation: &Operation) -> Result<bool, Error> {
        let Ok(connection) = self.connection_of(&operation.connection) else { return Ok(true) };
        let Ok(source) = require_source(&connection) else { return Ok(true) };
        let mut rereading = Rereading { said: self.said_owners(&connection).await?, ..Rereading::default() };
        let mut after = 0;
        // Until nothing has come since the last reports were read again.
        loop {
            loop {
                if self.is_stopping() || !self.0.lease.holds() {
                    return Ok(false);
                }
                if self.is_cancelled(operation).await? {
                    return Ok(true);
                }
                let (turn, since) = (self.begin_ingest_turn(), operation.accepted);
                let lock = self.lock_reports(&connection.name).await?;
                let reports = self.0.store.reports_since(&connection.name, since, after, turn.size()).await;
                let reports = reports.or_not_applied()?;
                let Some(last) = reports.last() else { break };
                after = last.arrival;
                let reports = self.read_again(source, reports).await?;
                let mut plan = IngestPlan::new(lock);
                self.match_again(&connection, source, reports, &mut rereading, &mut plan).await?;
                self.commit_plan(plan, Vec::new()).await?;
                turn.end().await;
            }
            let mut series = std::mem::take(&mut rereading.series).into_iter().peekable();
            if series.peek().is_none() {
                break;
            }
            while series.peek().is_some() {
                if self.is_stopping() || !self.0.lease.holds() {
                    return Ok(false);
                }
                let turn = self.begin_ingest_turn();
                let keys: BTreeSet<SeriesKey> = series.by_ref().take(turn.size()).collect();
                let mut plan = IngestPlan::new(self.lock_reports(&connection.name).await?);
                self.fold_again(&connection, source, keys, &rereading, &mut plan).await?;
                self.commit_plan(plan, Vec::new()).await?;
                turn.end().await;
            }
            rereading.moved.clear();
        }
        // Another report of the same registration, read earlier or later, may have told whose a parked one is. What the vendor
        // is to be asked for is asked again with the next run over the feeds.
        match self.look_at_parked_reports(&connection).await {
            Err(error) if error.code == Code::StoreUnavailable => Err(error),
            Ok(is_done) => Ok(is_done),
            Err(_) => Ok(true),
        }
    }

    /// Returns whose registrations are by a person's word, of all kept reports of the connection.
    async fn said_owners(&self, connection: &Connection) -> Result<HashMap<SeriesKey, Owner>, Error> {
        let (mut said, mut after) = (HashMap::new(), 0);
        loop {
            let since = Timestamp::UNIX_EPOCH;
            let reports = self.0.store.reports_since(&connection.name, since, after, CHUNK).await.or_not_applied()?;
            let Some(last) = reports.last() else { return Ok(said) };
            after = last.arrival;
            for stored in reports {
                let series = stored.reading.as_ref().and_then(|reading| named_series(&reading.series)).cloned();
                if let Some(series) = series
                    && let Some(owner) = self.said_owner(connection, &stored).await?
                {
                    said.insert(series, owner);
                }
            }
        }
    }

    async fn is_cancelled(&self, operation: &Operation) -> Result<bool, Error> {
        let found = self.0.store.operation(&operation.tenant, &operation.id).await.or_not_applied()?;
        Ok(found.is_none_or(|(operation, _)| operation.cancelling))
    }

    /// Reads the bodies that are still kept; the others keep their readings. Leaves out what was dismissed.
    async fn read_again(
        &self,
        source: &dyn ReportSource,
        reports: Vec<StoredReport>,
    ) -> Result<Vec<RereadReport>, Error> {
        let mut read = Vec::with_capacity(reports.len());
        for mut stored in reports.into_iter().filter(|stored| stored.report.state != ReportState::Dismissed) {
            let series = self.series_of_report(&stored).await?;
            let body = self.0.store.report_body(&stored.report.id).await.or_not_applied()?;
            if let Some(body) = body {
                let reading = source.read_report(stored.report.kind, &body, &stored.report.context).reading;
                stored.report.rejection = reading.as_ref().err().cloned();
                stored.reading = reading.ok();
            }
            read.push(RereadReport { stored, series });
        }
        Ok(read)
    }
}
