//! Reads what has come to the receiver, and looks again at reports that may have become explained.

use crate::domain::error::Error;
use crate::domain::results::{ReportKind, ReportSource};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::{Arrival, CHUNK, Chunk, Look};
use crate::service::results::ingest::require_source;
use crate::store::{ReceivedWebhook, StoredReport};

impl Gateway {
    /// Reads the webhooks that have come.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn read_inbox(&self, connection: &Connection) -> Result<(), Error> {
        let source = require_source(connection)?;
        loop {
            // Looked at without the lock: usually there is nothing.
            let waiting = self.0.store.received_webhooks(&connection.name, 1).await.or_not_applied()?;
            if waiting.is_empty() || self.is_stopping() || !self.0.lease.holds() {
                return Ok(());
            }
            let _token = self.0.tasks.token();
            let turn = self.begin_ingest_turn();
            let lock = self.lock_reports(&connection.name).await?;
            let webhooks = self.0.store.received_webhooks(&connection.name, turn.size()).await.or_not_applied()?;
            let more = webhooks.len() == turn.size();
            let arrivals = webhooks.into_iter().map(|webhook| read_webhook(source, webhook)).collect();
            let plan = self.plan_chunk(connection, Chunk::of_arrivals(arrivals), lock).await?;
            self.commit_plan(plan, Vec::new()).await?;
            turn.end().await;
            if !more {
                return Ok(());
            }
        }
    }

    /// Looks again at the reports that are due. Some stay so, since a booking is being written: the next look is at those.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn look_at_due_reports(&self, connection: &Connection) -> Result<(), Error> {
        let mut first = None;
        loop {
            // Looked at without the lock: usually there is nothing.
            let due = self.0.store.due_reports(&connection.name, 1).await.or_not_applied()?;
            let next = due.first().map(|stored| stored.arrival);
            if next == first || next.is_none() || self.is_stopping() || !self.0.lease.holds() {
                return Ok(());
            }
            first = next;
            let _token = self.0.tasks.token();
            let lock = self.lock_reports(&connection.name).await?;
            let due = self.0.store.due_reports(&connection.name, CHUNK).await.or_not_applied()?;
            let more = due.len() == CHUNK;
            let plan = self.plan_chunk(connection, Chunk::of_looks(looks(due)), lock).await?;
            self.commit_plan(plan, Vec::new()).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Looks again at all parked reports. Returns whether it has come to their end.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(super) async fn look_at_parked_reports(&self, connection: &Connection) -> Result<bool, Error> {
        let mut after = 0;
        loop {
            if self.is_stopping() || !self.0.lease.holds() {
                return Ok(false);
            }
            let turn = self.begin_ingest_turn();
            let lock = self.lock_reports(&connection.name).await?;
            let parked = self.0.store.parked_reports(&connection.name, after, turn.size()).await.or_not_applied()?;
            let Some(last) = parked.last() else { return Ok(true) };
            after = last.arrival;
            let plan = self.plan_chunk(connection, Chunk::of_looks(looks(parked)), lock).await?;
            self.commit_plan(plan, Vec::new()).await?;
            turn.end().await;
        }
    }
}

fn looks(reports: Vec<StoredReport>) -> Vec<Look> {
    reports.into_iter().map(|stored| Look { stored, said: None }).collect()
}

fn read_webhook(source: &dyn ReportSource, webhook: ReceivedWebhook) -> Arrival {
    let ReceivedWebhook { id, connection: _, context, arrived, body } = webhook;
    let kind = ReportKind::Webhook;
    let read = source.read_report(kind, &body, &context);
    Arrival { read, kind, context, as_of: arrived, received: arrived, inbox: Some(id) }
}
