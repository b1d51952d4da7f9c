//! Rows about bookings.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt as _};

use super::delivery::{BookingRow, Planned, Ready, in_calls};
use super::people::refuse_repeat;
use super::worker::Work;
use crate::dispatch::assignments::PreparedBooking;
use crate::dispatch::connections::{Begun, Connection};
use crate::dispatch::journal::bound;
use crate::dispatch::settling::not_before_it_is_settled;
use crate::dispatch::{BeforeSending as _, store_fault};
use crate::domain::assignment::{Assignment, NewAssignment};
use crate::domain::operation::{Item, ItemEnd, ItemResult, Row};
use crate::domain::problem::Fault;
use crate::store::{Change, StoreError, Subject};

/// Look-ups of one window at once.
const AT_ONCE: usize = 64;

impl Work {
    /// Looks up, plans and packs rows; those at fault end here.
    pub(super) async fn plan_bookings(
        &self,
        connection: &Connection,
        items: Vec<Item>,
        seen: &mut HashMap<Subject, u64>,
    ) -> Result<Vec<Planned>, Fault> {
        let orders = items.into_iter().filter_map(|mut item| match item.row.take() {
            Some(Row::Assignment(order)) => Some((item, *order)),
            _ => None,
        });
        let mut resolved = stream::iter(orders)
            .map(|(item, order)| async move {
                let prepared = self.prepare_one(connection, &item, &order).await;
                (item, order, prepared)
            })
            .buffered(AT_ONCE);
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        while let Some((item, order, prepared)) = resolved.next().await {
            let planned = prepared.and_then(|PreparedBooking { assignment, intent }| {
                let subject = self.gateway.0.store.subject_of(&item.at.operation, &assignment.turn());
                refuse_repeat(seen, &[subject], item.at.index)?;
                Ok(BookingRow { item: item.clone(), order, assignment, intent, subjects: vec![subject] })
            });
            match planned {
                Ok(row) => rows.push(row),
                Err(fault) if self.waits_on(connection, &fault) => {}
                Err(fault) => ends.push(Change::ItemEndedUnsent(item.at, None, ItemEnd::failed(fault))),
            }
        }
        drop(resolved);
        self.ended(ends).await?;
        let calls = in_calls(connection, rows, |row| &row.intent.write);
        Ok(calls.into_iter().map(Planned::Bookings).collect())
    }

    async fn prepare_one(
        &self,
        connection: &Connection,
        item: &Item,
        order: &NewAssignment,
    ) -> Result<PreparedBooking, Fault> {
        let caller = self.caller_of(item);
        let resolved = self.gateway.resolve(&caller, &self.gateway.configured(), connection, order).await?;
        // All rows of a try were accepted at one moment; the validity that follows from it decides which may share a call.
        let accepted = self.operation.accepted;
        self.gateway.prepare_booking(&caller, connection, order, resolved, accepted, self.operation.strict)
    }

    /// Journals a call's bookings and sends those that are new.
    pub(super) async fn book_all(
        &self,
        connection: &Connection,
        mut rows: Vec<BookingRow>,
        begun: Begun,
    ) -> Result<(), Fault> {
        // Turns are taken in one order by everybody who takes several, so that two bulks never wait for each other.
        rows.sort_by_cached_key(|row| row.assignment.turn());
        let (mut open, mut ends) = (Vec::with_capacity(rows.len()), Vec::new());
        for mut row in rows {
            let turn = self.gateway.turn(&row.assignment.turn()).await?;
            match self.first_look(connection, &mut row).await {
                Ok(None) => open.push((row, turn)),
                Ok(Some(existing)) => {
                    let differs = existing.warnings.iter().filter(|warning| warning.is_of_request());
                    let end = ItemEnd { warnings: differs.cloned().collect(), ..ItemEnd::of(ItemResult::Existing) };
                    ends.push(Change::ItemSubjects(row.item.at.clone(), row.subjects));
                    ends.push(Change::ItemEndedUnsent(row.item.at, Some(existing.id.to_string()), end));
                }
                Err(fault) if self.waits_on(connection, &fault) => {}
                Err(fault) => ends.push(Change::ItemEndedUnsent(row.item.at, None, ItemEnd::failed(fault))),
            }
        }
        self.ended(ends).await?;
        open.sort_by_key(|(row, _)| row.item.at.index);
        let mut ready = Vec::with_capacity(open.len());
        for (row, turn) in self.journalled(connection, open).await? {
            ready.push(Ready { record: row.assignment, intent: row.intent, turn });
        }
        // A row that books again what is over goes in another call than those that are content with what there is.
        let mut calls = in_calls(connection, ready, |row| &row.intent.write).into_iter().peekable();
        let (mut begun, mut all) = (Some(begun), Ok(()));
        while let Some(rows) = calls.next() {
            let more = calls.peek().is_some();
            all = all.and(self.send_ready(connection, rows, &mut begun, more).await);
        }
        all
    }

    /// The booking there is already, where the row is content with it; the caller holds the subject's turn.
    async fn first_look(&self, connection: &Connection, row: &mut BookingRow) -> Result<Option<Assignment>, Fault> {
        let caller = self.caller_of(&row.item);
        let earlier =
            self.gateway.earlier_booking(&caller, connection, &row.order, &row.assignment, &mut row.intent).await;
        let earlier = earlier.map_err(|fault| not_before_it_is_settled(connection, fault))?;
        if earlier.is_none() {
            self.gateway.mark_first_booking(connection, &row.assignment, &mut row.intent).await?;
        }
        Ok(earlier)
    }

    /// Writes the rows' records and intents, all in one transaction; those cancelled meanwhile are left out.
    async fn journalled<T>(
        &self,
        connection: &Connection,
        mut open: Vec<(BookingRow, T)>,
    ) -> Result<Vec<(BookingRow, T)>, Fault> {
        for (row, _) in &mut open {
            self.begun(connection, &mut row.intent);
        }
        let changes: Vec<Change> = open.iter().flat_map(|(row, _)| Self::written(row)).collect();
        match self.gateway.commit_intents(changes).await {
            Ok(()) => return Ok(open),
            Err(StoreError::Withdrawn) => {}
            Err(error) => return Err(store_fault(&error)),
        }
        let mut still = Vec::with_capacity(open.len());
        for (row, turn) in open {
            match self.gateway.commit_intents(Self::written(&row)).await {
                Ok(()) => still.push((row, turn)),
                Err(StoreError::Withdrawn) => {}
                // Those written before are sent; the others wait still, or are found by the search for orphans.
                Err(error) if !still.is_empty() => {
                    tracing::warn!(%error, "some rows of a call could not be recorded yet");
                    break;
                }
                Err(error) => return Err(error).before_sending(),
            }
        }
        Ok(still)
    }

    fn written(row: &BookingRow) -> Vec<Change> {
        let mut changes = vec![Change::Assignment(row.assignment.clone()), Change::Intent(row.intent.clone())];
        changes.extend(bound(&row.intent, &row.subjects));
        changes
    }
}
