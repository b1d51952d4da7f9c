//! Mutations ready to write, with all content sealed: done before the transaction, which may run more than once.

use crate::domain::audit::Entry;
use crate::domain::candidate::Identity;
use crate::domain::ids::CandidateId;
use crate::domain::intent::Intent;
use crate::domain::operation::{ItemId, ItemOutcome, ItemState};
use crate::store::codec::{
    AssignmentRow, CandidateRow, DeliveryRow, IntentRow, NewEventRow, OperationRow, RecordCodec, ResultMutation,
    WebhookMutation, micros,
};
use crate::store::result_sql;
use crate::store::sql::{self, Statement, values};
use crate::store::{
    AcquireKey, ConnectionStateChange, Mutation, PreparedRecord, PreparedWrite, StoreError, UnindexedCandidate,
};

/// A [`PreparedWrite`] ready to write.
pub(in crate::store) struct PreparedWriteRow {
    pub record: String,
    pub tenant: String,
    /// The new candidate, if it is one, with the identities it needs.
    pub new: Option<(CandidateRow, Vec<Identity>)>,
    /// The row it comes from, with the row's concatenated subjects.
    pub item: Option<(ItemId, Vec<u8>)>,
    /// Everything else: the known record, the key and the intent.
    pub mutations: Vec<EncodedMutation>,
}

/// A [`Mutation`] ready to write.
pub(in crate::store) enum EncodedMutation {
    Candidate(CandidateRow),
    IndexGroup(Statement),
    /// The engine computes the index values, because it knows the candidate's connection.
    Identities(CandidateId, Vec<Identity>),
    /// Removes the candidate; its intent has a mutation of its own.
    EraseCandidate(CandidateId),
    Assignment(Box<AssignmentRow>),
    Intent(IntentRow),
    RemoveIntent(String),
    /// The record and the start time of the attempt.
    RequireAttempt(String, i64),
    Key(Statement),
    /// Removes the key with this token unless it has a reply. Not a [`Self::Key`], because an index may have to know of the
    /// row.
    FreeKey(String),
    Operation(Statement),
    ClaimItem(ItemId, String, Vec<u8>),
    EndItem(ItemOutcomeRow),
    SetItemSubjects(ItemId, Vec<u8>),
    /// The row and the record it has led to.
    RequeueItem(ItemId, String),
    /// A change of reports and results.
    Result(ResultMutation),
    /// A change of a webhook.
    Webhook(WebhookMutation),
    Delivery(Box<DeliveryRow>),
    ConnectionState(ConnectionStateChange),
    /// The engine numbers the event.
    Event(Box<NewEventRow>),
    /// The engine seals the entry, because it knows the entry's place in the chain.
    Audit(Entry),
}

/// Outcome of a row, ready to write.
pub(in crate::store) struct ItemOutcomeRow {
    pub at: ItemId,
    pub state: &'static str,
    pub record: Option<String>,
    pub end: Vec<u8>,
    /// Whether the password stays: a skipped row may still be sent.
    pub keeps_secret: bool,
    /// State the row must be in; any state if `None`.
    pub only: Option<&'static str>,
}

/// Size of a row without its sealed content, roughly.
const ROW_BYTES: usize = 256;

impl PreparedWriteRow {
    /// Returns the size of what it writes, roughly.
    pub(in crate::store) fn bytes(&self) -> usize {
        let new = self.new.as_ref().map_or(0, |(candidate, _)| candidate.bytes());
        ROW_BYTES + new + self.mutations.iter().map(EncodedMutation::bytes).sum::<usize>()
    }
}

impl EncodedMutation {
    /// Returns the size of what it writes, roughly.
    pub(in crate::store) fn bytes(&self) -> usize {
        ROW_BYTES
            + match self {
                Self::Candidate(row) => row.bytes(),
                Self::Assignment(row) => row.sealed.len(),
                Self::Intent(row) => row.sealed.len(),
                Self::EndItem(end) => end.end.len(),
                Self::ClaimItem(_, _, subjects) | Self::SetItemSubjects(_, subjects) => subjects.len(),
                Self::Key(statement) | Self::IndexGroup(statement) | Self::Operation(statement) => statement.bytes(),
                // Each has entries of its own in two tables.
                Self::Identities(_, identities) => 2 * ROW_BYTES * identities.len(),
                Self::Audit(entry) => ROW_BYTES + entry.text_bytes(),
                Self::Result(mutation) => mutation.bytes(),
                Self::Webhook(mutation) => mutation.bytes(),
                Self::Delivery(row) => row.attempts.len(),
                Self::Event(row) => row.data.len(),
                Self::EraseCandidate(_)
                | Self::RemoveIntent(_)
                | Self::RequireAttempt(..)
                | Self::RequeueItem(..)
                | Self::ConnectionState(_)
                | Self::FreeKey(_) => 0,
            }
    }
}

impl CandidateRow {
    fn bytes(&self) -> usize {
        self.sealed.len() + self.photo.as_ref().map_or(0, Vec::len)
    }
}

impl RecordCodec {
    pub(in crate::store) fn encode_mutations(
        &self,
        mutations: Vec<Mutation>,
    ) -> Result<Vec<EncodedMutation>, StoreError> {
        let mut encoded = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            let intent_of = match &mutation {
                Mutation::EraseCandidate(id) => Some(EncodedMutation::RemoveIntent(id.to_string())),
                _ => None,
            };
            encoded.push(self.encode_mutation(mutation)?);
            encoded.extend(intent_of);
        }
        Ok(encoded)
    }

    fn encode_mutation(&self, mutation: Mutation) -> Result<EncodedMutation, StoreError> {
        Ok(match mutation {
            Mutation::Candidate(candidate) => EncodedMutation::Candidate(self.candidate_row(&candidate)?),
            Mutation::IndexGroup(UnindexedCandidate::Unreadable(id, sealed)) => {
                let values = values![Vec::<u8>::new(), id, sealed];
                EncodedMutation::IndexGroup(Statement::new(sql::INDEX_NO_GROUP, values))
            }
            Mutation::IndexGroup(UnindexedCandidate::Readable(candidate)) => {
                let (group, modified) = (self.group_index(&candidate), micros(candidate.last_modified));
                let values = values![group, candidate.id.to_string(), candidate.tenant, modified];
                EncodedMutation::IndexGroup(Statement::new(sql::INDEX_GROUP, values))
            }
            Mutation::Identities(id, identities) => EncodedMutation::Identities(id, identities),
            Mutation::EraseCandidate(id) => EncodedMutation::EraseCandidate(id),
            Mutation::Assignment(assignment) => EncodedMutation::Assignment(Box::new(self.assignment_row(assignment)?)),
            Mutation::Intent(intent) => EncodedMutation::Intent(self.intent_row(&intent)?),
            Mutation::RemoveIntent(record) => EncodedMutation::RemoveIntent(record),
            Mutation::RequireAttempt(record, started) => EncodedMutation::RequireAttempt(record, micros(started)),
            Mutation::BindKey(bound, record) => {
                EncodedMutation::Key(Statement::new(sql::BIND_KEY, values![record, bound.token]))
            }
            Mutation::CompleteKey(used, reply) => {
                let sealed = self.seal_reply(&used, reply)?;
                EncodedMutation::Key(Statement::new(sql::COMPLETE_KEY, values![sealed, used.token]))
            }
            Mutation::ReleaseKey(used) => EncodedMutation::Key(Statement::new(sql::RELEASE_KEY, values![used.token])),
            Mutation::FreeKey(used) => EncodedMutation::FreeKey(used.token),
            Mutation::ClaimItem(at, record, subjects) => EncodedMutation::ClaimItem(at, record, subjects.concat()),
            Mutation::SetItemSubjects(at, subjects) => EncodedMutation::SetItemSubjects(at, subjects.concat()),
            Mutation::RequeueItem(at, record) => EncodedMutation::RequeueItem(at, record),
            Mutation::EndItem(at, record, end) => self.end_item(at, record, end, None)?,
            Mutation::EndWaitingItem(at, record, end) => self.end_item(at, record, end, Some(ItemState::Waiting))?,
            Mutation::EndClaimedItem(at, record, end) => self.end_item(at, record, end, Some(ItemState::Claimed))?,
            Mutation::Operation(operation) => EncodedMutation::Operation(OperationRow::of(&operation).update()),
            Mutation::CancelOperation(id) => {
                EncodedMutation::Operation(Statement::new(sql::CANCEL_OPERATION, values![id.to_string()]))
            }
            Mutation::Audit(entry) => EncodedMutation::Audit(entry),
            Mutation::Event(event) => EncodedMutation::Event(Box::new((*event).into())),
            Mutation::EventAbout(candidate, event) => {
                let row = NewEventRow { candidate: Some(candidate.into()), ..(*event).into() };
                EncodedMutation::Event(Box::new(row))
            }
            Mutation::Webhook(webhook) => {
                EncodedMutation::Webhook(WebhookMutation::Put(Box::new(self.webhook_row(*webhook)?)))
            }
            Mutation::RemoveWebhook(tenant, id) => EncodedMutation::Webhook(WebhookMutation::Remove(tenant, id.into())),
            Mutation::ScanWebhook(scan) => EncodedMutation::Webhook(WebhookMutation::Scan(scan.into())),
            Mutation::WebhookHealth(health) => EncodedMutation::Webhook(WebhookMutation::Health(health.into())),
            Mutation::Delivery(delivery) => EncodedMutation::Delivery(Box::new(self.delivery_row(*delivery)?)),
            Mutation::ConnectionState(change) => EncodedMutation::ConnectionState(change),
            Mutation::ReceiveWebhook(webhook) => {
                EncodedMutation::Result(ResultMutation::Receive(self.received_row(webhook)?))
            }
            Mutation::RemoveReceived(id) => {
                EncodedMutation::Result(ResultMutation::RemoveReceived(i64::try_from(id).unwrap_or(i64::MAX)))
            }
            Mutation::Report(new) => {
                EncodedMutation::Result(ResultMutation::Report(Box::new(self.new_report_row(*new)?)))
            }
            Mutation::RepeatReport(repeated) => EncodedMutation::Result(ResultMutation::Repeat(repeated.into())),
            Mutation::UpdateReport(change) => {
                let (row, rechecks) = self.changed_report_row(*change)?;
                EncodedMutation::Result(ResultMutation::Update(Box::new(row), rechecks))
            }
            Mutation::Result(result, version) => {
                let row = self.result_row(&result, version.as_deref())?;
                EncodedMutation::Result(ResultMutation::Result(Box::new(row)))
            }
            Mutation::Watermark(position) => EncodedMutation::Result(ResultMutation::Watermark(position.into())),
            Mutation::RecordSweep(connection, begun) => {
                let record = Statement::new(result_sql::RECORD_SWEEP, values![connection, micros(begun)]);
                EncodedMutation::Result(ResultMutation::RecordSweep(record))
            }
            Mutation::RequestFetch(fetch) => {
                EncodedMutation::Result(ResultMutation::RequestFetch(Box::new(self.new_fetch_row(*fetch)?)))
            }
            Mutation::EndFetch(end) => EncodedMutation::Result(ResultMutation::EndFetch(end.into())),
            Mutation::RecheckReports(connection, hints) => {
                let forms = hints.iter().flat_map(|hint| self.hint_forms(&connection, hint)).collect();
                EncodedMutation::Result(ResultMutation::Recheck(connection, forms))
            }
        })
    }

    fn end_item(
        &self,
        at: ItemId,
        record: Option<String>,
        end: ItemOutcome,
        only: Option<ItemState>,
    ) -> Result<EncodedMutation, StoreError> {
        let state = end.state();
        let end = self.seal_outcome(&at, end)?;
        let (keeps_secret, only) = (state == ItemState::Skipped, only.map(ItemState::as_str));
        Ok(EncodedMutation::EndItem(ItemOutcomeRow { at, state: state.as_str(), record, end, keeps_secret, only }))
    }

    pub(in crate::store) fn encode_writes(
        &self,
        key: Option<&AcquireKey>,
        writes: Vec<PreparedWrite>,
    ) -> Result<Vec<PreparedWriteRow>, StoreError> {
        writes.into_iter().map(|write| self.encode_write(key, write)).collect()
    }

    fn encode_write(&self, key: Option<&AcquireKey>, write: PreparedWrite) -> Result<PreparedWriteRow, StoreError> {
        let PreparedWrite { record, intent, subjects } = write;
        let (id, tenant) = (intent.write.record_id().to_owned(), intent.tenant.clone());
        let (mut new, mut mutations) = (None, Vec::new());
        match record {
            PreparedRecord::NewCandidate(candidate, identities) => {
                new = Some((self.candidate_row(&candidate)?, identities));
            }
            PreparedRecord::Candidate(candidate, identities) => {
                let held = identities.map(|identities| Mutation::Identities(candidate.id.clone(), identities));
                mutations.push(Mutation::Candidate(candidate));
                mutations.extend(held);
            }
            PreparedRecord::Assignment(assignment) => mutations.push(Mutation::Assignment(assignment)),
            PreparedRecord::Enrolment(_) => {}
        }
        let Intent { origin, .. } = &intent;
        // A key acquired by the same call is written with its record.
        let bound = origin.key.clone().filter(|bound| key.is_none_or(|key| key.token != bound.token));
        mutations.extend(bound.map(|key| Mutation::BindKey(key, id.clone())));
        let item = origin.item.clone().map(|item| (item, subjects.concat()));
        mutations.push(Mutation::Intent(intent));
        Ok(PreparedWriteRow { record: id, tenant, new, item, mutations: self.encode_mutations(mutations)? })
    }
}
