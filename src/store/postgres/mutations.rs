//! Applies the mutations of one transaction.
//!
//! Mutations of different tables do not depend on each other's order, so they are applied table by table, always in the
//! same order of tables. Within a table, mutations of the same kind about different objects share one statement: the
//! outcomes of a batch take three statements instead of a few thousand. A statement gets its objects in order, so that
//! two transactions do not deadlock.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use crate::domain::operation::ItemId;
use crate::store::StoreError;
use crate::store::codec::EncodedMutation;
use crate::store::encryption::BlindIndex;
use crate::store::postgres::candidates::IndexForm;
use crate::store::postgres::error::TxError;
use crate::store::postgres::transaction::WriteContext;
use crate::store::postgres::{audit, candidates, events, items, keys, records, results, webhooks};

/// An object that a mutation affects, or that another job depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target<'a> {
    Record(&'a str),
    Item(&'a ItemId),
    /// The use of a key.
    Token(&'a str),
    Operation(&'a str),
    /// A form of a key.
    Scope(&'a BlindIndex),
    /// A form of the subject of a lock.
    Lock(&'a BlindIndex),
    Identity(&'a IndexForm),
    /// A tenant's chain of audit entries.
    Chain(&'a str),
    /// The address of a mutation that affects nothing another does: its rows are always new.
    Own(usize),
}

impl<'a> Target<'a> {
    pub(super) fn of(mutation: &'a EncodedMutation) -> Self {
        let own = || Self::Own(std::ptr::from_ref(mutation).addr());
        match mutation {
            EncodedMutation::Candidate(row) => Self::Record(&row.id),
            EncodedMutation::Identities(id, _) | EncodedMutation::EraseCandidate(id) => Self::Record(id.as_str()),
            EncodedMutation::Assignment(row) => Self::Record(&row.id),
            EncodedMutation::Intent(row) => Self::Record(&row.record),
            EncodedMutation::RemoveIntent(record) | EncodedMutation::RequireAttempt(record, _) => Self::Record(record),
            EncodedMutation::ClaimItem(at, ..)
            | EncodedMutation::SetItemSubjects(at, _)
            | EncodedMutation::RequeueItem(at, _) => Self::Item(at),
            EncodedMutation::EndItem(end) => Self::Item(&end.at),
            // The values of these statements are in the order of `sql.rs`.
            EncodedMutation::IndexGroup(statement) => statement.text(1).map_or_else(own, Self::Record),
            EncodedMutation::Key(statement) => {
                statement.text(statement.values.len().saturating_sub(1)).map_or_else(own, Self::Token)
            }
            EncodedMutation::FreeKey(token) => Self::Token(token),
            EncodedMutation::Operation(statement) => {
                statement.text(statement.values.len().saturating_sub(1)).map_or_else(own, Self::Operation)
            }
            EncodedMutation::Webhook(change) => Self::Record(change.id()),
            EncodedMutation::Delivery(row) => Self::Record(&row.id),
            EncodedMutation::ConnectionState(change) => Self::Record(&change.connection),
            EncodedMutation::Result(_) | EncodedMutation::Event(_) | EncodedMutation::Audit(_) => own(),
        }
    }

    /// Returns what targets of one table are ordered by.
    fn rank(&self) -> (&str, u64) {
        match self {
            Self::Record(id) | Self::Token(id) | Self::Operation(id) => (id, 0),
            Self::Item(at) => (at.operation.as_str(), at.index),
            Self::Scope(_) | Self::Lock(_) | Self::Identity(_) | Self::Chain(_) | Self::Own(_) => ("", 0),
        }
    }
}

/// The position of a mutation's table in the order of application.
type Table = u8;

/// Position of the check that an attempt is this instance's: before the intents change, which have the same table.
const ATTEMPTS: Table = 5;

fn table(mutation: &EncodedMutation) -> Table {
    match mutation {
        EncodedMutation::Operation(_) => 0,
        EncodedMutation::ClaimItem(..)
        | EncodedMutation::EndItem(_)
        | EncodedMutation::SetItemSubjects(..)
        | EncodedMutation::RequeueItem(..) => 1,
        EncodedMutation::Key(_) | EncodedMutation::FreeKey(_) => 2,
        EncodedMutation::Candidate(_)
        | EncodedMutation::IndexGroup(_)
        | EncodedMutation::Identities(..)
        | EncodedMutation::EraseCandidate(_) => 3,
        EncodedMutation::Assignment(_) => 4,
        EncodedMutation::RequireAttempt(..) => ATTEMPTS,
        EncodedMutation::Intent(_) | EncodedMutation::RemoveIntent(_) => 6,
        EncodedMutation::Result(_) => 7,
        EncodedMutation::Webhook(_) => 8,
        EncodedMutation::Delivery(_) => 9,
        EncodedMutation::ConnectionState(_) => 10,
        // After all that waits for a lock: so an event has a greater number than those of the transaction that was waited for.
        EncodedMutation::Event(_) => 11,
        // Last, because all writers of a tenant contend for the end of its chain.
        EncodedMutation::Audit(_) => 12,
    }
}

/// Applies all mutations, or fails.
pub(super) async fn apply(tx: &mut WriteContext<'_>, mut mutations: Vec<&EncodedMutation>) -> Result<(), TxError> {
    let concluded = take_conclusions(&mut mutations);
    // A stable sort keeps the order within a table.
    mutations.sort_by_key(|mutation| table(mutation));
    let intents = mutations.split_off(mutations.partition_point(|mutation| table(mutation) < ATTEMPTS));
    for group in group_mutations(&mutations) {
        apply_group(tx, &group).await?;
    }
    records::conclude_attempts(tx, &concluded).await?;
    for group in group_mutations(&intents) {
        apply_group(tx, &group).await?;
    }
    Ok(())
}

/// Takes out the checks of attempts whose intents are then removed and not changed otherwise, together with the removals:
/// one statement does both. Returns their records and starts, in order.
fn take_conclusions<'a>(mutations: &mut Vec<&'a EncodedMutation>) -> Vec<(&'a str, i64)> {
    // Of each record: the start of the checked attempt, the number of checks, of removals and of other changes.
    let mut changes: HashMap<&'a str, (i64, [usize; 3])> = HashMap::new();
    for mutation in &*mutations {
        match mutation {
            EncodedMutation::RequireAttempt(record, started) => {
                let (start, counts) = changes.entry(record).or_default();
                *start = *started;
                counts[0] += 1;
            }
            EncodedMutation::RemoveIntent(record) => changes.entry(record).or_default().1[1] += 1,
            EncodedMutation::Intent(row) => changes.entry(&row.record).or_default().1[2] += 1,
            _ => {}
        }
    }
    changes.retain(|_, (_, counts)| *counts == [1, 1, 0]);
    mutations.retain(|mutation| match mutation {
        EncodedMutation::RequireAttempt(record, _) | EncodedMutation::RemoveIntent(record) => {
            !changes.contains_key(record.as_str())
        }
        _ => true,
    });
    let mut concluded: Vec<(&str, i64)> = changes.into_iter().map(|(record, (start, _))| (record, start)).collect();
    concluded.sort_unstable();
    concluded
}

type Group<'a> = Vec<&'a EncodedMutation>;

/// Groups mutations, in the order of their tables, by kind: a statement given two rows for one target would apply either
/// of them, so mutations of one target never share a group and keep their order. Mutations that take and release
/// identities keep theirs too, since one may need what another releases.
fn group_mutations<'a>(mutations: &[&'a EncodedMutation]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut last_of_target: HashMap<Target<'a>, usize> = HashMap::new();
    let mut last_of_kind: HashMap<Discriminant<EncodedMutation>, usize> = HashMap::new();
    for mutation in mutations.iter().copied() {
        let (target, kind) = (Target::of(mutation), discriminant(mutation));
        let after_target = last_of_target.get(&target).map_or(0, |last| last + 1);
        let moves_identities =
            |it: &EncodedMutation| matches!(it, EncodedMutation::Identities(..) | EncodedMutation::EraseCandidate(_));
        let after_other = groups
            .iter()
            .rposition(|group| group.first().is_some_and(|it| moves_identities(it) && discriminant(*it) != kind))
            .filter(|_| moves_identities(mutation))
            .map_or(0, |last| last + 1);
        let from = after_target.max(after_other);
        let known = last_of_kind.get(&kind).copied().filter(|last| *last >= from);
        let place = known.unwrap_or(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(mutation);
        last_of_target.insert(target, place);
        last_of_kind.insert(kind, place);
    }
    for group in &mut groups {
        if group.first().is_some_and(|first| !is_applied_in_order(first)) {
            group.sort_by(|one, other| Target::of(one).rank().cmp(&Target::of(other).rank()));
        }
    }
    groups
}

/// Returns whether the mutations of this kind are applied one by one, or make a chain.
const fn is_applied_in_order(mutation: &EncodedMutation) -> bool {
    matches!(
        mutation,
        EncodedMutation::Identities(..)
            | EncodedMutation::EraseCandidate(_)
            | EncodedMutation::IndexGroup(_)
            | EncodedMutation::Operation(_)
            | EncodedMutation::Result(_)
            | EncodedMutation::Delivery(_)
            | EncodedMutation::Event(_)
            | EncodedMutation::Audit(_)
    )
}

/// Collects the content of each mutation of a group; all are of the same kind.
macro_rules! rows {
    ($group:expr, $kind:pat => $row:expr) => {
        $group
            .iter()
            .filter_map(|mutation| match mutation {
                $kind => Some($row),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

/// Applies a group: in one statement if one exists for many rows, otherwise one by one, which is rare.
async fn apply_group(tx: &mut WriteContext<'_>, group: &[&EncodedMutation]) -> Result<(), TxError> {
    use EncodedMutation::{
        Assignment, Audit, Candidate, ClaimItem, ConnectionState, Delivery, EndItem, EraseCandidate, Event, FreeKey,
        Identities, IndexGroup, Intent, Key, Operation, RemoveIntent, RequeueItem, RequireAttempt,
        Result as ResultChange, SetItemSubjects, Webhook,
    };
    let Some(first) = group.first() else { return Ok(()) };
    match first {
        Candidate(_) => candidates::update(tx.connection, &rows!(group, Candidate(row) => row)).await,
        Assignment(_) => records::put_assignments(tx, &rows!(group, Assignment(row) => &**row)).await,
        Intent(_) => records::put_intents(tx, &rows!(group, Intent(row) => row)).await,
        RemoveIntent(_) => records::settle(tx.connection, &rows!(group, RemoveIntent(record) => record.as_str())).await,
        RequireAttempt(..) => {
            let rows = rows!(group, RequireAttempt(record, started) => (record.as_str(), *started));
            records::hold_attempts(tx, &rows).await
        }
        ClaimItem(..) => {
            let rows = rows!(group, ClaimItem(at, record, subjects) => (at, record.as_str(), subjects.as_slice()));
            let claimed = items::claim(tx.connection, &rows).await?;
            if claimed.len() == rows.len() { Ok(()) } else { Err(StoreError::ItemNotWaiting.into()) }
        }
        EndItem(_) => items::end(tx.connection, &rows!(group, EndItem(end) => end)).await,
        SetItemSubjects(..) => {
            let rows = rows!(group, SetItemSubjects(at, subjects) => (at, subjects.as_slice()));
            items::set_subjects(tx.connection, &rows).await
        }
        RequeueItem(..) => {
            let rows = rows!(group, RequeueItem(at, record) => (at, record.as_str()));
            items::requeue(tx.connection, &rows).await
        }
        FreeKey(_) => keys::free(tx, rows!(group, FreeKey(token) => token.as_str())).await,
        Key(_) => keys::change(tx, &rows!(group, Key(statement) => statement)).await,
        ResultChange(_) => results::apply(tx, &rows!(group, ResultChange(change) => change)).await,
        Webhook(_) => webhooks::apply(tx.connection, &rows!(group, Webhook(change) => change)).await,
        Delivery(_) => webhooks::put_deliveries(tx.connection, &rows!(group, Delivery(row) => &**row)).await,
        ConnectionState(_) => {
            let changes = rows!(group, ConnectionState(change) => change);
            events::set_connection_states(tx.connection, &changes).await
        }
        Event(_) => events::append(tx.connection, &rows!(group, Event(row) => &**row)).await,
        Audit(_) => audit::append(tx, &rows!(group, Audit(entry) => entry)).await,
        IndexGroup(_) | Identities(..) | EraseCandidate(_) | Operation(_) => {
            for mutation in group {
                match mutation {
                    Identities(id, identities) => candidates::set_identities(tx, id, identities).await?,
                    EraseCandidate(id) => records::erase_person(tx, id).await?,
                    IndexGroup(statement) | Operation(statement) => tx.run(statement).await?,
                    _ => {}
                }
            }
            Ok(())
        }
    }
}
