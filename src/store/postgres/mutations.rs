//! Applies the mutations of one commit.
//!
//! Mutations of different tables do not depend on each other's order, so they are applied table by table, always in the
//! same order of tables. Within a table, consecutive mutations of the same kind share one statement: the outcomes of a
//! batch take three statements instead of a few thousand.

use std::collections::HashSet;
use std::mem::discriminant;

use crate::domain::operation::ItemId;
use crate::store::StoreError;
use crate::store::codec::EncodedMutation;
use crate::store::postgres::error::TxError;
use crate::store::postgres::transaction::WriteContext;
use crate::store::postgres::{audit, candidates, items, records};

/// The object a mutation affects, within its table.
#[derive(PartialEq, Eq, Hash)]
enum Target<'a> {
    Record(&'a str),
    Item(&'a ItemId),
    /// The mutation shares no statement with others, or its rows are always new.
    Own(*const EncodedMutation),
}

impl<'a> Target<'a> {
    fn of(mutation: &'a EncodedMutation) -> Self {
        match mutation {
            EncodedMutation::Candidate(row) => Self::Record(&row.id),
            EncodedMutation::Identities(id, _) | EncodedMutation::EraseCandidate(id) => Self::Record(id.as_str()),
            EncodedMutation::Assignment(row) => Self::Record(&row.id),
            EncodedMutation::Intent(row) => Self::Record(&row.record),
            EncodedMutation::RemoveIntent(record) | EncodedMutation::RequireAttempt(record, _) => Self::Record(record),
            EncodedMutation::ClaimItem(at, ..)
            | EncodedMutation::SetItemSubjects(at, _)
            | EncodedMutation::RequeueItem(at) => Self::Item(at),
            EncodedMutation::EndItem(end) => Self::Item(&end.at),
            EncodedMutation::IndexGroup(_)
            | EncodedMutation::Key(_)
            | EncodedMutation::Operation(_)
            | EncodedMutation::Audit(_) => Self::Own(std::ptr::from_ref(mutation)),
        }
    }
}

/// Returns the position of the mutation's table in the order of application.
fn table(mutation: &EncodedMutation) -> u8 {
    match mutation {
        EncodedMutation::Operation(_) => 0,
        EncodedMutation::ClaimItem(..)
        | EncodedMutation::EndItem(_)
        | EncodedMutation::SetItemSubjects(..)
        | EncodedMutation::RequeueItem(_) => 1,
        EncodedMutation::Key(_) => 2,
        EncodedMutation::Candidate(_)
        | EncodedMutation::IndexGroup(_)
        | EncodedMutation::Identities(..)
        | EncodedMutation::EraseCandidate(_) => 3,
        EncodedMutation::Assignment(_) => 4,
        // Before the intents change: both use the same table.
        EncodedMutation::RequireAttempt(..) => 5,
        EncodedMutation::Intent(_) | EncodedMutation::RemoveIntent(_) => 6,
        // Last, because all writers of a tenant contend for the end of its chain.
        EncodedMutation::Audit(_) => 7,
    }
}

/// Applies all mutations, or fails.
pub(super) async fn apply(
    tx: &mut WriteContext<'_>,
    mutations: impl Iterator<Item = &EncodedMutation> + Send,
) -> Result<(), TxError> {
    let mut mutations: Vec<&EncodedMutation> = mutations.collect();
    // A stable sort keeps the order within a table.
    mutations.sort_by_key(|mutation| table(mutation));
    for group in group_mutations(&mutations) {
        apply_group(tx, group).await?;
    }
    Ok(())
}

/// Groups consecutive mutations of the same kind with distinct targets: given two rows for one target, a statement
/// would apply either of them.
fn group_mutations<'s, 'a>(mutations: &'s [&'a EncodedMutation]) -> Vec<&'s [&'a EncodedMutation]> {
    let mut groups = Vec::new();
    let (mut from, mut seen) = (0, HashSet::new());
    for (index, mutation) in mutations.iter().enumerate() {
        let alike = mutations.get(from).is_some_and(|first| discriminant(*first) == discriminant(*mutation));
        if !alike || !seen.insert(Target::of(mutation)) {
            groups.push(&mutations[from..index]);
            from = index;
            seen.clear();
            seen.insert(Target::of(mutation));
        }
    }
    groups.push(&mutations[from..]);
    groups
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
        Assignment, Audit, Candidate, ClaimItem, EndItem, EraseCandidate, Identities, IndexGroup, Intent, Key,
        Operation, RemoveIntent, RequeueItem, RequireAttempt, SetItemSubjects,
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
        RequeueItem(_) => items::requeue(tx.connection, &rows!(group, RequeueItem(at) => at)).await,
        Audit(_) => audit::append(tx, &rows!(group, Audit(entry) => entry)).await,
        IndexGroup(_) | Identities(..) | EraseCandidate(_) | Key(_) | Operation(_) => {
            for mutation in group {
                match mutation {
                    Identities(id, identities) => candidates::set_identities(tx, id, identities).await?,
                    EraseCandidate(id) => records::erase_person(tx, id).await?,
                    IndexGroup(statement) | Key(statement) | Operation(statement) => tx.run(statement).await?,
                    _ => {}
                }
            }
            Ok(())
        }
    }
}
