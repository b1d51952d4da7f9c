//! Planning and sending of assignment rows.

use futures_util::stream::{self, StreamExt as _};

use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::error::Error;
use crate::domain::operation::{Item, ItemOutcome, ItemRequest, ItemStatus};
use crate::service::assignments::booking::PreparedBooking;
use crate::service::bulk::batch_sender::{AssignmentRow, Batch, into_batches};
use crate::service::bulk::duplicates::PlannedRows;
use crate::service::bulk::operation_run::OperationRun;
use crate::service::bulk_limits::ClaimPermit;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::write::executor::InFlightWrite;
use crate::service::write::locks::SubjectLock;
use crate::service::write::reconciler::blocked_by_unknown_write;
use crate::store::{BeginResult, Mutation, PreparedRecord, PreparedWrite};

/// Maximum number of concurrent look-ups.
const MAX_CONCURRENT_LOOKUPS: usize = 64;

impl OperationRun {
    /// Resolves and plans rows and groups them into batches; invalid rows fail here.
    pub(super) async fn plan_bookings(
        &self,
        connection: &Connection,
        items: Vec<Item>,
        seen: &mut PlannedRows,
    ) -> Result<Vec<Batch>, Error> {
        let orders = items.into_iter().filter_map(|mut item| match item.request.take() {
            Some(ItemRequest::Assignment(order)) => Some((item, *order)),
            _ => None,
        });
        let mut resolved = stream::iter(orders)
            .map(|(item, order)| async move {
                // As with candidates: an earlier version may have accepted the row.
                match order.clone().checked() {
                    Ok(order) => {
                        let prepared = self.prepare_one(connection, &item, &order).await;
                        (item, order, prepared)
                    }
                    Err(errors) => (item, order, Err(Error::from_fields(errors))),
                }
            })
            .buffered(MAX_CONCURRENT_LOOKUPS);
        let (mut rows, mut ends, mut all) = (Vec::new(), Vec::new(), Ok(()));
        while let Some((item, order, prepared)) = resolved.next().await {
            let planned = match prepared {
                Ok(PreparedBooking { assignment, intent }) => {
                    let subject =
                        self.gateway.0.store.hash_subject(&item.id.operation, assignment.subject_key().as_str());
                    let row = AssignmentRow { item: item.clone(), order, assignment, intent, subjects: vec![subject] };
                    seen.add_booking(&item, subject).await.map(|()| row)
                }
                Err(error) => Err(error),
            };
            match planned {
                Ok(row) => rows.push(row),
                Err(error) => all = all.and(self.end_row(connection, item.id, error, &mut ends)),
            }
        }
        drop(resolved);
        all?;
        self.commit_unsent_outcomes(ends).await?;
        let calls = into_batches(connection, rows, |row| &row.intent.write);
        Ok(calls.into_iter().map(Batch::Bookings).collect())
    }

    async fn prepare_one(
        &self,
        connection: &Connection,
        item: &Item,
        order: &NewAssignment,
    ) -> Result<PreparedBooking, Error> {
        let caller = self.row_context(item);
        let resolved = self.gateway.resolve(&caller, &self.gateway.configured(), connection, order).await?;
        // Use one acceptance time for all rows: it determines the validity, and only rows of equal validity share a
        // call.
        let accepted = self.operation.accepted;
        self.gateway.prepare_booking(&caller, connection, order, resolved, accepted, self.operation.strict)
    }

    /// Commits the intents of a batch's bookings and sends those that are new.
    pub(super) async fn book_batch(
        &self,
        connection: &Connection,
        mut rows: Vec<AssignmentRow>,
        begun: ClaimPermit,
    ) -> Result<(), Error> {
        // In the order of the locks; a subject has one row, because a second would be a duplicate.
        rows.sort_by_cached_key(|row| row.assignment.subject_key());
        let subjects = rows.iter().map(|row| row.assignment.subject_key()).collect();
        let locks = self.gateway.0.subject_locks.lock_all(&subjects).await.or_not_applied()?;
        let (mut open, mut ends, mut checks) = (Vec::with_capacity(rows.len()), Vec::new(), Ok(()));
        let mut checked = stream::iter(rows.into_iter().zip(locks))
            .map(|(mut row, lock)| async move {
                let existing = self.check_existing(connection, &mut row).await;
                (row, lock, existing)
            })
            .buffer_unordered(MAX_CONCURRENT_LOOKUPS);
        while let Some((row, lock, existing)) = checked.next().await {
            match existing {
                Ok(None) => open.push((row, lock)),
                Ok(Some(existing)) => {
                    let differs = existing.warnings.iter().filter(|warning| warning.concerns_request_only());
                    let end =
                        ItemOutcome { warnings: differs.cloned().collect(), ..ItemOutcome::of(ItemStatus::Existing) };
                    ends.push(Mutation::SetItemSubjects(row.item.id.clone(), row.subjects));
                    ends.push(Mutation::EndWaitingItem(row.item.id, Some(existing.id.to_string()), end));
                }
                // The other rows' look-ups go on: one may be reconciling an earlier write.
                Err(error) => checks = checks.and(self.end_row(connection, row.item.id, error, &mut ends)),
            }
        }
        drop(checked);
        checks?;
        self.commit_unsent_outcomes(ends).await?;
        open.sort_by_key(|(row, _)| row.item.id.index);
        let ready = self.begin_rows(connection, open).await?;
        // Group again: a row that rebooks an expired booking must not share a call with rows that reuse existing ones.
        let mut calls = into_batches(connection, ready, |row| &row.intent.write).into_iter().peekable();
        let (mut begun, mut all) = (Some(begun), Ok(()));
        while let Some(rows) = calls.next() {
            let more = calls.peek().is_some();
            all = all.and(self.send_ready(connection, rows, &mut begun, more).await);
        }
        all
    }

    /// Returns the existing booking if the row reuses it; the caller holds the subject's lock.
    async fn check_existing(
        &self,
        connection: &Connection,
        row: &mut AssignmentRow,
    ) -> Result<Option<Assignment>, Error> {
        let caller = self.row_context(&row.item);
        let earlier =
            self.gateway.find_existing_booking(&caller, connection, &row.order, &row.assignment, &mut row.intent).await;
        let earlier = earlier.map_err(|error| blocked_by_unknown_write(connection, error))?;
        if earlier.is_none() {
            self.gateway.mark_first_booking(connection, &row.assignment, &mut row.intent).await?;
        }
        Ok(earlier)
    }

    /// Begins the rows' writes, and returns those of the rows that were not cancelled meanwhile.
    async fn begin_rows(
        &self,
        connection: &Connection,
        open: Vec<(AssignmentRow, SubjectLock)>,
    ) -> Result<Vec<InFlightWrite>, Error> {
        let (mut rows, mut writes) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
        for (AssignmentRow { assignment, mut intent, subjects, .. }, lock) in open {
            self.gateway.0.executor.restart_attempt(connection, &mut intent);
            let record = PreparedRecord::Assignment(assignment.clone());
            writes.push(PreparedWrite { record, intent: intent.clone(), subjects });
            rows.push(InFlightWrite { record: assignment.into(), intent, lock: Some(lock) });
        }
        let results = self.gateway.0.executor.begin(None, writes).await.or_not_applied()?;
        let mut begun = Vec::with_capacity(rows.len());
        for (row, result) in rows.into_iter().zip(results) {
            match result {
                BeginResult::Begun => begun.push(row),
                // Send the rows committed so far; the others still wait, or the search for orphans finds them.
                BeginResult::Failed(error) => {
                    tracing::warn!(%error, "recording some rows of a batch failed; they will be retried");
                }
                // Cancelled meanwhile; the other results are not those of a booking.
                BeginResult::ItemCancelled
                | BeginResult::KeyInUse
                | BeginResult::Exists(_)
                | BeginResult::TakenByOtherTenant => {}
            }
        }
        Ok(begun)
    }
}
