//! Reconciles the due writes of a connection, with as many calls in flight as its bulk limits allow. Registrations that
//! are safe to resend share vendor calls as they did at first, so an interrupted bulk is reconciled as fast as it was
//! sent; any other write has its own call.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;

use crate::domain::capability::RetrySafety;
use crate::domain::error::Error;
use crate::domain::event::SettledBy;
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::intent::{Intent, MAX_BACKOFF, Write};
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::{BatchGroup, CallContext, CallPurpose, Priority};
use crate::service::Gateway;
use crate::service::batching::{into_batches, may_split};
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::fair_semaphore::QueueKey;
use crate::service::write::conclusion::RowFate;
use crate::service::write::executor::InFlightWrite;
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::keep_unknown_unless_proved;
use crate::store::Mutation;
use crate::telemetry::spans;

/// Minimum and maximum number of open writes read per page.
const PAGE_SIZES: (usize, usize) = (1_000, 4_000);
/// Maximum number of writes of one batch read again concurrently.
const MAX_CONCURRENT_READS: usize = 16;
/// Maximum number of batches prepared concurrently.
const MAX_PREPARED_BATCHES: usize = 256;

impl Gateway {
    /// Reconciles the due writes of a connection.
    pub(in crate::service) async fn reconcile_due(&self, name: &str) {
        loop {
            if self.is_stopping() || !self.0.lease.holds() {
                return;
            }
            let Ok(connection) = self.connection_of(name) else { return };
            let now = self.now();
            let farthest = MAX_BACKOFF.saturating_add(connection.settle_grace());
            let farthest = SignedDuration::try_from(farthest).unwrap_or(SignedDuration::MAX);
            let horizon = now.saturating_add(farthest).unwrap_or(Timestamp::MAX);
            // A batch for each call that may be in flight, and one that is being prepared.
            let page = connection.largest_batch().saturating_mul(connection.max_in_flight() + 1);
            let page = page.clamp(PAGE_SIZES.0, PAGE_SIZES.1);
            let due = match self.0.store.due_intents(name, now, horizon, page).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, connection = name, "reading due writes failed; will retry");
                    return;
                }
            };
            let found = due.len();
            let mut reconciling =
                stream::iter(into_batches(&connection, due, |intent| batch_group(&connection, intent)))
                    .map(|intents| async move {
                        let Some(first) = intents.first() else { return 0 };
                        let span = spans::settling(first.write.record_id(), &first.connection);
                        let record = first.write.record_id().to_owned();
                        let reconciled = async {
                            match intents.as_slice() {
                                [intent] => self.reconcile_in_background(intent).await.map(usize::from),
                                _ => self.reconcile_batch(intents).await,
                            }
                        };
                        reconciled.instrument(span).await.unwrap_or_else(|error| {
                            let code = error.code.as_str();
                            tracing::debug!(record, connection = name, code, "a write stays unknown");
                            0
                        })
                    })
                    .buffer_unordered(MAX_PREPARED_BATCHES);
            let mut handled = 0;
            while let Some(done) = reconciling.next().await {
                handled += done;
            }
            // Other tasks or instances hold the locks of the writes that are still due.
            if found < page || handled == 0 {
                return;
            }
        }
    }

    /// Reconciles one write, unless another task holds its lock. Returns whether this task handled it.
    async fn reconcile_in_background(&self, intent: &Intent) -> Result<bool, Error> {
        let (connection, _permit) = self.acquire_bulk(&intent.connection, &queue_key(intent)).await?;
        let connection = connection.as_ref();
        // Count as work in progress, so that the process does not exit in the middle of it.
        let _token = self.0.tasks.token();
        if self.is_stopping() {
            return Ok(false);
        }
        let call = self.reconcile_context(intent);
        let Some(_locks) = self.try_lock_subjects(intent).await? else { return Ok(false) };
        let id = intent.write.record();
        let reconciled =
            self.0.reconciler.reconcile_locked(&intent.tenant, connection, &id, &call, SettledBy::Reconciler).await?;
        if reconciled.is_none() {
            // The record was erased, so there is no outcome to report.
            self.0.store.commit(vec![Mutation::RemoveIntent(id.to_string())]).await.or_not_applied()?;
        }
        Ok(true)
    }

    /// Reconciles registrations in one call, except those whose locks other tasks hold. Returns how many this task
    /// handled.
    async fn reconcile_batch(&self, intents: Vec<Intent>) -> Result<usize, Error> {
        let Some(first) = intents.first() else { return Ok(0) };
        let (name, key, call) = (first.connection.clone(), queue_key(first), self.reconcile_context(first));
        let (connection, _permit) = self.acquire_bulk(&name, &key).await?;
        // Count as work in progress, so that the process does not exit in the middle of it.
        let _token = self.0.tasks.token();
        if self.is_stopping() {
            return Ok(0);
        }
        let rows = intents.len();
        let mut looked = stream::iter(self.lock_free_subjects(intents).await?)
            .map(|(intent, lock)| self.reread_open(&connection, intent, lock))
            .buffered(MAX_CONCURRENT_READS);
        let mut open = Vec::with_capacity(rows);
        while let Some(found) = looked.next().await {
            open.extend(found?);
        }
        drop(looked);
        if open.is_empty() {
            return Ok(0);
        }
        tracing::info!(connection = name, rows = open.len(), "reconciling registrations in one call");
        let handled = open.len();
        // However often the call is split, it counts as one attempt: a rejected call had no effect.
        for write in &mut open {
            write.intent.expedite(self.now());
            write.intent.attempts += 1;
        }
        let executor = &self.0.executor;
        let mut parts = vec![open];
        let mut end = Ok(());
        while let Some(mut part) = parts.pop() {
            // A write whose attempt cannot be committed is not sent and stays unknown.
            let intents = part.iter_mut().map(|write| &mut write.intent);
            let results = match executor.begin_attempts(&connection, intents).await.or_not_applied() {
                Ok(()) => {
                    let writes: Vec<Write> = part.iter().map(|write| write.intent.write.clone()).collect();
                    executor.send(&connection, &writes, &call).await
                }
                Err(error) => part.iter().map(|_| Err(error.clone().into())).collect(),
            };
            if part.len() > 1 && may_split(&results) {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            }
            let results = results
                .into_iter()
                .zip(&part)
                .map(|(result, write)| result.map_err(|error| keep_unknown_unless_proved(error, &write.record.path())));
            let results = results.collect();
            let by = Some(SettledBy::Reconciler);
            end = end.and(executor.conclude(&connection, part, results, RowFate::End, by, &name).await.map(drop));
        }
        end.map(|()| handled)
    }

    /// Locks the writes' subjects and returns the writes whose subjects no other task holds; usually that is all of
    /// them, which takes one call of the store.
    async fn lock_free_subjects(&self, intents: Vec<Intent>) -> Result<Vec<(Intent, SubjectLock)>, Error> {
        let mut by_subject: BTreeMap<SubjectKey, Intent> =
            intents.into_iter().map(|intent| (intent.subject.clone(), intent)).collect();
        let subjects: BTreeSet<SubjectKey> = by_subject.keys().cloned().collect();
        if let Some(locks) = self.0.subject_locks.try_lock_all(&subjects).await.or_not_applied()? {
            return Ok(by_subject.into_values().zip(locks).collect());
        }
        let mut locked = Vec::with_capacity(by_subject.len());
        while let Some((subject, intent)) = by_subject.pop_first() {
            if let Some(lock) = self.0.subject_locks.try_lock(&subject).await.or_not_applied()? {
                locked.push((intent, lock));
            }
        }
        Ok(locked)
    }

    /// Reads the write and its record again under the lock; `None` if the write may not be resent in a shared call.
    async fn reread_open(
        &self,
        connection: &Connection,
        intent: Intent,
        lock: SubjectLock,
    ) -> Result<Option<InFlightWrite>, Error> {
        let id = intent.write.record();
        let Some(intent) = self.0.store.intent(id.as_str()).await.or_not_applied()? else { return Ok(None) };
        let in_grace = self.0.executor.grace_periods.remaining(&intent, connection.settle_grace()).is_some();
        if intent.in_flight || in_grace || matches!(batch_group(connection, &intent), BatchGroup::Single) {
            return Ok(None);
        }
        let record = self.0.reconciler.read(&intent.tenant, &id).await?;
        let open = record.filter(|record| !record.is_settled());
        Ok(open.map(|record| InFlightWrite { record, intent, lock: Some(lock) }))
    }

    fn reconcile_context(&self, intent: &Intent) -> CallContext {
        let exchange = self.background_exchange(format!("settle-{}", intent.write.record_id()), None);
        let cause = Cause::Settling { resource: intent.write.record().path() };
        self.keep_exchange(&exchange, ExchangeOwner { tenant: intent.tenant.clone(), cause });
        CallContext { purpose: CallPurpose::Reconcile, priority: Priority::Bulk, exchange }
    }
}

/// Returns the queue in which reconciliation waits for in-flight permits.
fn queue_key(intent: &Intent) -> QueueKey {
    QueueKey { tenant: intent.tenant.clone(), operation: "settling".to_owned() }
}

/// Returns which due writes may share a call. Tenants never do: each tenant sees its own calls.
fn batch_group(connection: &Connection, intent: &Intent) -> BatchGroup {
    match &intent.write {
        Write::Register(registration) if connection.retry_safety(intent) == RetrySafety::Idempotent => {
            match connection.vendor().reconcile_batch(registration) {
                BatchGroup::Keyed { key, at_most, bytes } => {
                    BatchGroup::Keyed { key: format!("{}\n{key}", intent.tenant), at_most, bytes }
                }
                BatchGroup::Single => BatchGroup::Single,
            }
        }
        _ => BatchGroup::Single,
    }
}
