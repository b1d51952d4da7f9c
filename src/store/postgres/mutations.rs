//! Applies the mutations of one commit.
//!
//! Mutations of different tables do not depend on each other's order, so they are applied table by table, always in the
//! same order of tables. Within a table, consecutive mutations of the same kind share one statement: the outcomes of a
//! batch take three statements instead of a few thousand.

use std::collections::HashSet;
use std::mem::discriminant;

use crate::domain::audit::Entry;
use crate::domain::candidate::Identity;
use crate::domain::ids::CandidateId;
use crate::domain::operation::{ItemId, Operation};
use crate::store::StoreError;
use crate::store::codec::{AssignmentRow, CandidateRow, EncodedMutation, IntentRow, ItemOutcomeRow};
use crate::store::postgres::error::TxError;
use crate::store::postgres::transaction::WriteContext;
use crate::store::postgres::{audit, candidates, items, keys, operations, records};

/// A mutation, split into two steps if it affects two tables.
enum Step<'a> {
    Candidate(&'a CandidateRow),
    Identities(&'a CandidateId, &'a [Identity]),
    Erase(&'a CandidateId),
    Assignment(&'a AssignmentRow),
    Intent(&'a IntentRow),
    Settled(&'a str),
    AttemptHeld(&'a str, i64),
    KeyBound(&'a str, &'a str),
    KeyAnswered(&'a str, &'a [u8]),
    KeyOpen(&'a str),
    KeyFreed(&'a str),
    ItemClaimed(&'a ItemId, &'a str, &'a [u8]),
    ItemEnded(&'a ItemOutcomeRow),
    ItemSubjects(&'a ItemId, &'a [u8]),
    ItemWaiting(&'a ItemId),
    Operation(&'a Operation),
    Cancelling(&'a str),
    Audit(&'a Entry),
}

/// The object a step affects, within its table.
#[derive(PartialEq, Eq, Hash)]
enum StepTarget<'a> {
    Record(&'a str),
    Item(&'a ItemId),
    /// Each audit entry is its own target.
    Line(*const Entry),
}

impl<'a> Step<'a> {
    fn of(change: &'a EncodedMutation) -> impl Iterator<Item = Self> {
        let (step, more) = match change {
            EncodedMutation::Candidate(row) => (Self::Candidate(row), None),
            EncodedMutation::Identities(id, identities) => (Self::Identities(id, identities), None),
            EncodedMutation::EraseCandidate(id) => (Self::Erase(id), Some(Self::Settled(id.as_str()))),
            EncodedMutation::Assignment(row) => (Self::Assignment(row), None),
            EncodedMutation::Intent(row) => (Self::Intent(row), None),
            EncodedMutation::Settled(record) => (Self::Settled(record), None),
            EncodedMutation::AttemptHeld(record, started) => (Self::AttemptHeld(record, *started), None),
            EncodedMutation::KeyBound(token, record) => (Self::KeyBound(token, record), None),
            EncodedMutation::KeyAnswered(token, sealed) => (Self::KeyAnswered(token, sealed), None),
            EncodedMutation::KeyOpen(token) => (Self::KeyOpen(token), None),
            EncodedMutation::KeyFreed(token) => (Self::KeyFreed(token), None),
            EncodedMutation::ItemClaimed(at, record, subjects) => (Self::ItemClaimed(at, record, subjects), None),
            EncodedMutation::ItemEnded(end) => (Self::ItemEnded(end), None),
            EncodedMutation::ItemSubjects(at, subjects) => (Self::ItemSubjects(at, subjects), None),
            EncodedMutation::ItemWaiting(at) => (Self::ItemWaiting(at), None),
            EncodedMutation::Operation(operation) => (Self::Operation(operation), None),
            EncodedMutation::OperationCancelling(id) => (Self::Cancelling(id.as_str()), None),
            EncodedMutation::Audit(entry) => (Self::Audit(entry), None),
        };
        std::iter::once(step).chain(more)
    }

    /// Returns the position of the table in the order of application.
    fn table(&self) -> u8 {
        match self {
            Self::Operation(_) | Self::Cancelling(_) => 0,
            Self::ItemClaimed(..) | Self::ItemEnded(_) | Self::ItemSubjects(..) | Self::ItemWaiting(_) => 1,
            Self::KeyBound(..) | Self::KeyAnswered(..) | Self::KeyOpen(_) | Self::KeyFreed(_) => 2,
            Self::Candidate(_) | Self::Identities(..) | Self::Erase(_) => 3,
            Self::Assignment(_) => 4,
            // Before the intents change: both use the same table.
            Self::AttemptHeld(..) => 5,
            Self::Intent(_) | Self::Settled(_) => 6,
            // Last, because all writers of a tenant contend for the end of its chain.
            Self::Audit(_) => 7,
        }
    }

    fn target(&self) -> StepTarget<'a> {
        match self {
            Self::Candidate(row) => StepTarget::Record(&row.id),
            Self::Identities(id, _) | Self::Erase(id) => StepTarget::Record(id.as_str()),
            Self::Assignment(row) => StepTarget::Record(&row.id),
            Self::Intent(row) => StepTarget::Record(&row.record),
            Self::Operation(operation) => StepTarget::Record(operation.id.as_str()),
            Self::Settled(text)
            | Self::AttemptHeld(text, _)
            | Self::KeyBound(text, _)
            | Self::KeyAnswered(text, _)
            | Self::KeyOpen(text)
            | Self::KeyFreed(text)
            | Self::Cancelling(text) => StepTarget::Record(text),
            Self::ItemClaimed(at, ..) | Self::ItemSubjects(at, _) | Self::ItemWaiting(at) => StepTarget::Item(at),
            Self::ItemEnded(end) => StepTarget::Item(&end.at),
            Self::Audit(entry) => StepTarget::Line(std::ptr::from_ref(*entry)),
        }
    }
}

/// Applies all mutations, or fails.
pub(super) async fn apply(
    hand: &mut WriteContext<'_>,
    changes: impl Iterator<Item = &EncodedMutation> + Send,
) -> Result<(), TxError> {
    let mut steps: Vec<Step<'_>> = changes.flat_map(Step::of).collect();
    // A stable sort keeps the order within a table.
    steps.sort_by_key(Step::table);
    for run in group_steps(&steps) {
        apply_group(hand, run).await?;
    }
    Ok(())
}

/// Groups consecutive steps of the same kind with distinct targets: given two rows for one target, a statement would
/// apply either of them.
fn group_steps<'s, 'a>(steps: &'s [Step<'a>]) -> Vec<&'s [Step<'a>]> {
    let mut runs = Vec::new();
    let (mut from, mut seen) = (0, HashSet::new());
    for (at, step) in steps.iter().enumerate() {
        let alike = steps.get(from).is_some_and(|first| discriminant(first) == discriminant(step));
        if !alike || !seen.insert(step.target()) {
            runs.push(&steps[from..at]);
            from = at;
            seen.clear();
            seen.insert(step.target());
        }
    }
    runs.push(&steps[from..]);
    runs
}

/// Collects the content of each step of a run; all are of the same kind.
macro_rules! rows {
    ($run:expr, $step:pat => $row:expr) => {
        $run.iter()
            .filter_map(|step| match step {
                $step => Some($row),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

/// Applies a run: in one statement if one exists for many rows, otherwise step by step, which is rare.
async fn apply_group(hand: &mut WriteContext<'_>, run: &[Step<'_>]) -> Result<(), TxError> {
    match run {
        [] => Ok(()),
        [Step::Candidate(_), ..] => {
            candidates::update(hand.connection, &rows!(run, Step::Candidate(row) => *row)).await
        }
        [Step::Assignment(_), ..] => records::put_assignments(hand, &rows!(run, Step::Assignment(row) => *row)).await,
        [Step::Intent(_), ..] => records::put_intents(hand, &rows!(run, Step::Intent(row) => *row)).await,
        [Step::Settled(_), ..] => records::settle(hand.connection, &rows!(run, Step::Settled(record) => *record)).await,
        [Step::AttemptHeld(..), ..] => {
            records::hold_attempts(hand, &rows!(run, Step::AttemptHeld(record, started) => (*record, *started))).await
        }
        [Step::ItemClaimed(..), ..] => {
            let rows = rows!(run, Step::ItemClaimed(at, record, subjects) => (*at, *record, *subjects));
            let claimed = items::claim(hand.connection, &rows).await?;
            if claimed.len() == rows.len() { Ok(()) } else { Err(StoreError::ItemNotWaiting.into()) }
        }
        [Step::ItemEnded(_), ..] => items::end(hand.connection, &rows!(run, Step::ItemEnded(end) => *end)).await,
        [Step::ItemSubjects(..), ..] => {
            let rows = rows!(run, Step::ItemSubjects(at, subjects) => (*at, *subjects));
            items::remember(hand.connection, &rows).await
        }
        [Step::Audit(_), ..] => audit::append(hand, &rows!(run, Step::Audit(entry) => *entry)).await,
        [Step::ItemWaiting(_), ..] => items::requeue(hand.connection, &rows!(run, Step::ItemWaiting(at) => *at)).await,
        alone => {
            for step in alone {
                apply_step(hand, step).await?;
            }
            Ok(())
        }
    }
}

async fn apply_step(hand: &mut WriteContext<'_>, step: &Step<'_>) -> Result<(), TxError> {
    match step {
        Step::Identities(id, identities) => candidates::set_identities(hand, id, identities).await,
        Step::Erase(id) => records::erase_person(hand, id).await,
        Step::KeyBound(token, record) => keys::bind(hand.connection, token, record).await,
        Step::KeyAnswered(token, sealed) => keys::answer(hand.connection, token, sealed).await,
        Step::KeyOpen(token) => keys::open(hand.connection, token).await,
        Step::KeyFreed(token) => keys::free(hand.connection, token).await,
        Step::Operation(operation) => operations::put(hand.connection, operation).await,
        Step::Cancelling(id) => operations::cancel(hand.connection, id).await,
        // Applied in batches above.
        Step::Candidate(_)
        | Step::Assignment(_)
        | Step::Intent(_)
        | Step::Settled(_)
        | Step::AttemptHeld(..)
        | Step::ItemClaimed(..)
        | Step::ItemEnded(_)
        | Step::ItemSubjects(..)
        | Step::ItemWaiting(_)
        | Step::Audit(_) => Ok(()),
    }
}
