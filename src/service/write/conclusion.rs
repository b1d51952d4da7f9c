//! The mutations that record what became of a write: its record, identities, idempotency key and bulk row.

use crate::domain::error::Error;
use crate::domain::intent::WriteOrigin;
use crate::domain::operation::ItemOutcome;
use crate::domain::outcome::Outcome;
use crate::domain::record::Record;
use crate::domain::transition::{AppliedWrite, Transition};
use crate::store::Mutation;

/// Returns the mutation that stores the record; `None` for an enrolment, which has none of its own.
pub(super) fn record_mutation(record: Record) -> Option<Mutation> {
    match record {
        Record::Candidate(candidate) => Some(Mutation::Candidate(*candidate)),
        Record::Assignment(assignment) => Some(Mutation::Assignment(*assignment)),
        Record::Enrolment(_) => None,
    }
}

/// Returns the mutations that store the record and the candidate's identities.
pub(super) fn transition_mutations(transition: &Transition) -> impl Iterator<Item = Mutation> + use<> {
    let Transition { record, erased, identities, result: _ } = transition;
    let (record, identities) = match record {
        Record::Candidate(candidate) if *erased => (Some(Mutation::EraseCandidate(candidate.id.clone())), None),
        Record::Candidate(candidate) => {
            let identities = identities.clone().map(|all| Mutation::Identities(candidate.id.clone(), all));
            (record_mutation(record.clone()), identities)
        }
        Record::Assignment(_) | Record::Enrolment(_) => (record_mutation(record.clone()), None),
    };
    identities.into_iter().chain(record)
}

/// Builds the mutations that complete the idempotency key and bulk row of an applied write.
pub(super) fn complete_origin(
    origin: WriteOrigin,
    record: &str,
    applied: &mut AppliedWrite,
) -> impl Iterator<Item = Mutation> + use<> {
    let key = origin.key.zip(applied.reply.take()).map(|(key, reply)| Mutation::CompleteKey(key, reply));
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), applied.row.clone()));
    key.into_iter().chain(item)
}

/// Builds the mutations that mark the idempotency key and bulk row of a failed or unknown write.
pub(super) fn fail_origin(origin: WriteOrigin, record: &str, error: &Error) -> impl Iterator<Item = Mutation> + use<> {
    let key = origin.key.map(|key| match error.outcome {
        Outcome::Unknown => Mutation::ReleaseKey(key),
        Outcome::Applied | Outcome::NotApplied => Mutation::FreeKey(key),
    });
    let end = ItemOutcome::failed(error.clone());
    let item = origin.item.map(|item| Mutation::EndItem(item, Some(record.to_owned()), end));
    key.into_iter().chain(item)
}
