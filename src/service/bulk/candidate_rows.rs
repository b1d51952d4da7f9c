//! Planning and sending of candidate rows.

use futures_util::stream::{self, StreamExt as _};

use crate::domain::candidate::NewCandidate;
use crate::domain::error::{Code, Error};
use crate::domain::operation::{Item, ItemOutcome, ItemRequest, ItemStatus};
use crate::service::bulk::batch_sender::{Batch, CandidateRow, into_batches};
use crate::service::bulk::duplicates::PlannedRows;
use crate::service::bulk::operation_run::OperationRun;
use crate::service::bulk_limits::ClaimPermit;
use crate::service::candidates::CandidateWithPassword;
use crate::service::candidates::registration::PreparedRegistration;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::streams::complete_all;
use crate::service::write::executor::InFlightWrite;
use crate::service::write::handle::{WriteResult, accepted_channel};
use crate::store::{BeginResult, Mutation};

/// Number of rows planned before other tasks get their turn.
const PLANNED_AT_ONCE: usize = 8;

impl OperationRun {
    /// Plans rows and groups them into batches; invalid rows fail here.
    pub(super) async fn plan_candidates(
        &self,
        connection: &Connection,
        items: Vec<Item>,
        seen: &mut PlannedRows,
    ) -> Result<Vec<Batch>, Error> {
        let (mut people, mut ends) = (Vec::with_capacity(items.len()), Vec::new());
        for (number, mut item) in items.into_iter().enumerate() {
            if number % PLANNED_AT_ONCE == PLANNED_AT_ONCE - 1 {
                // Planning waits for nothing, so without this it would keep a thread from vendors' answers.
                tokio::task::yield_now().await;
            }
            let Some(ItemRequest::Candidate(new)) = item.request.take() else { continue };
            let at = item.id.clone();
            match self.plan_candidate(connection, item, *new, seen).await {
                Ok(person) => people.push(person),
                // If the rows wait for the store, none of these has been ended yet.
                Err(error) => self.end_row(connection, at, error, &mut ends)?,
            }
        }
        self.commit_unsent_outcomes(ends).await?;
        let calls = into_batches(connection, people, |person| &person.prepared.intent.write);
        Ok(calls.into_iter().map(Batch::People).collect())
    }

    async fn plan_candidate(
        &self,
        connection: &Connection,
        item: Item,
        new: NewCandidate,
        seen: &mut PlannedRows,
    ) -> Result<CandidateRow, Error> {
        let caller = self.row_context(&item);
        // An earlier version may have accepted the row, which registered every spelling as it stood.
        let person = new.person.checked().map_err(Error::from_fields)?;
        let new = NewCandidate { person, ..new };
        let new = self.gateway.with_booked_spelling(&caller, connection, new).await?;
        let prepared = self.gateway.prepare(&caller, connection, new.clone(), self.operation.strict)?;
        let subjects = self.gateway.row_subjects(&item.id, &prepared.identities);
        seen.add_candidate(&item, &prepared.identities, &subjects).await?;
        Ok(CandidateRow { item, new, prepared, subjects })
    }

    /// Inserts a batch's candidates and sends those that are new; existing ones are handled like single requests.
    pub(super) async fn register_batch(
        &self,
        connection: &Connection,
        mut people: Vec<CandidateRow>,
        begun: ClaimPermit,
    ) -> Result<(), Error> {
        let mut locks = Vec::with_capacity(people.len());
        let mut writes = Vec::with_capacity(people.len());
        for person in &mut people {
            self.gateway.0.executor.restart_attempt(connection, &mut person.prepared.intent);
            locks.push(self.gateway.0.subject_locks.lock_new(&person.prepared.intent.subject).await);
            writes.push(self.gateway.prepared_write(person.prepared.clone()));
        }
        let results = self.gateway.0.executor.begin(None, writes).await.or_not_applied()?;
        let mut all = Ok(());
        let (mut ready, mut known) = (Vec::with_capacity(people.len()), Vec::new());
        for ((person, lock), result) in people.into_iter().zip(locks).zip(results) {
            match result {
                BeginResult::Begun => {
                    let PreparedRegistration { candidate, identities: _, intent } = person.prepared;
                    ready.push(InFlightWrite { record: candidate.into(), intent, lock: Some(lock) });
                }
                BeginResult::Exists(_) | BeginResult::TakenByOtherTenant => known.push(person),
                // The row was cancelled meanwhile; without a key, none is in use.
                BeginResult::ItemCancelled | BeginResult::KeyInUse => {}
                // The inserted rows are sent nevertheless.
                BeginResult::Failed(error) => all = all.and(Err(error).or_not_applied()),
            }
        }
        // Existing candidates may need separate calls; keep the claim permit until those are done.
        let mut begun = Some(begun);
        if !ready.is_empty() {
            all = all.and(self.send_ready(connection, ready, &mut begun, !known.is_empty()).await);
        }
        let resolved =
            stream::iter(known).map(|person| self.resolve_existing_row(connection, person)).buffer_unordered(8);
        all.and(complete_all(resolved).await.map(drop))
    }

    /// Registers a row whose candidate already exists.
    async fn resolve_existing_row(&self, connection: &Connection, person: CandidateRow) -> Result<(), Error> {
        let CandidateRow { item, new, prepared: _, subjects } = person;
        let caller = self.row_context(&item);
        let strict = self.operation.strict;
        let result = self.gateway.register(&caller, connection, new, strict, None, &accepted_channel().0).await;
        let (id, mut ends) = (item.id.clone(), Vec::with_capacity(2));
        match result {
            // The write has recorded the row's outcome.
            Ok(WriteResult::Created(_) | WriteResult::Pending(_)) => return Ok(()),
            Ok(WriteResult::Existing(CandidateWithPassword { candidate, initial_password })) => {
                // Keep the warnings about this row; the record does not store them.
                let warnings =
                    candidate.warnings.iter().filter(|warning| warning.concerns_request_only()).cloned().collect();
                let end = ItemOutcome { warnings, initial_password, ..ItemOutcome::of(ItemStatus::Existing) };
                ends.push(Mutation::EndWaitingItem(item.id, Some(candidate.id.to_string()), end));
            }
            Err(error) if error.code == Code::Skipped => return Ok(()),
            Err(error) => self.end_row(connection, item.id, error, &mut ends)?,
        }
        if !ends.is_empty() {
            ends.push(Mutation::SetItemSubjects(id, subjects));
        }
        self.commit_unsent_outcomes(ends).await
    }
}
