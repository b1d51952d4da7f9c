//! What callers want written, and the work of one transaction for many of them: each table is written by one statement
//! for all callers.
//!
//! Callers that share a transaction must be independent ([`Job::targets`]): each then gets the result it would have got
//! alone, whatever the order of the others.

use std::sync::Arc;

use super::begin::{self, BeginJob, BegunWrite};
use super::error::TxError;
use super::instances::{self, UncertainLocks};
use super::mutations::{self, Target};
use super::transaction::WriteContext;
use super::{keys, query};
use crate::store::codec::{EncodedMutation, KeyRow, PreparedWriteRow};
use crate::store::encryption::BlindIndex;
use crate::store::{KeyState, StoreError};

/// What one caller wants written.
pub(super) enum Job {
    BeginWrites(BeginJob),
    Commit(Vec<EncodedMutation>),
    /// Acquires a key, with the number of the acquisition.
    AcquireKey(KeyRow, i64),
    /// Acquires the locks with these index values, with the number of the acquisition.
    AcquireLocks(Vec<BlindIndex>, i64),
    ReleaseLocks(Vec<BlindIndex>),
    /// Checks that there is space for a write.
    Probe,
}

/// Result of a [`Job`] whose transaction was committed.
pub(super) enum JobResult {
    Begun(Vec<BegunWrite>),
    /// An error is the caller's own: its key could not be read, and nothing of it was written.
    Key(Result<KeyState, StoreError>),
    /// Whether all locks were acquired.
    Locks(bool),
    Done,
}

impl Job {
    /// Returns the objects that the job depends on or writes.
    pub(super) fn targets(&self) -> Vec<Target<'_>> {
        match self {
            Self::BeginWrites(job) => job.targets(),
            Self::Commit(mutations) => mutations.iter().map(Target::of).collect(),
            Self::AcquireKey(claim, _) => claim.scopes.iter().map(Target::Scope).collect(),
            Self::AcquireLocks(forms, _) | Self::ReleaseLocks(forms) => forms.iter().map(Target::Lock).collect(),
            Self::Probe => Vec::new(),
        }
    }

    /// Returns the chains of audit entries that the job appends to. Jobs that append to one chain may share a transaction.
    pub(super) fn chains(&self) -> impl Iterator<Item = Target<'_>> {
        let mutations = if let Self::Commit(mutations) = self { mutations.as_slice() } else { &[] };
        mutations.iter().filter_map(|mutation| match mutation {
            EncodedMutation::Audit(entry) => Some(Target::Chain(&entry.tenant)),
            _ => None,
        })
    }

    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Probe)
    }

    /// Returns whether the caller waits until it is known whether the job was committed, however long that takes: an audit
    /// entry must be neither lost nor written twice. The end of an operation has one, too, and an event.
    pub(super) fn is_patient(&self) -> bool {
        let Self::Commit(mutations) = self else { return false };
        let is_audit = |mutation: &EncodedMutation| matches!(mutation, EncodedMutation::Audit(_));
        let is_end =
            |mutation: &EncodedMutation| matches!(mutation, EncodedMutation::Operation(_) | EncodedMutation::Event(_));
        mutations.iter().any(is_audit) && mutations.iter().all(|mutation| is_audit(mutation) || is_end(mutation))
    }

    /// Returns whether the job appends events.
    pub(super) fn has_events(&self) -> bool {
        let Self::Commit(mutations) = self else { return false };
        mutations.iter().any(|mutation| matches!(mutation, EncodedMutation::Event(_)))
    }

    /// Returns what the job acquires, to be released if its caller did not learn of it.
    pub(super) fn uncertain_locks(&self) -> Option<UncertainLocks> {
        match self {
            Self::BeginWrites(job) => {
                job.key.as_ref().map(|(key, take)| UncertainLocks::Key(key.scopes.clone(), *take))
            }
            Self::AcquireKey(claim, take) => Some(UncertainLocks::Key(claim.scopes.clone(), *take)),
            Self::AcquireLocks(forms, take) => Some(UncertainLocks::Turn(forms.clone(), *take)),
            Self::Commit(_) | Self::ReleaseLocks(_) | Self::Probe => None,
        }
    }

    /// Returns the size of what it writes, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::BeginWrites(job) => job.open_rows().map(PreparedWriteRow::bytes).sum(),
            Self::Commit(mutations) => mutations.iter().map(EncodedMutation::bytes).sum(),
            Self::AcquireKey(..) => size_of::<KeyRow>(),
            Self::AcquireLocks(forms, _) | Self::ReleaseLocks(forms) => size_of_val(forms.as_slice()),
            Self::Probe => query::PROBE_BYTES,
        }
    }
}

/// Returns the numbers of the advisory locks that these jobs need before their transaction reads, in order.
pub(super) fn advisory_locks(jobs: &[Arc<Job>]) -> Vec<i64> {
    let keys = jobs.iter().filter_map(|job| match &**job {
        Job::BeginWrites(job) => job.key.as_ref().map(|(key, _)| &**key),
        Job::AcquireKey(claim, _) => Some(claim),
        Job::Commit(_) | Job::AcquireLocks(..) | Job::ReleaseLocks(_) | Job::Probe => None,
    });
    keys::advisory_locks(keys)
}

/// Runs independent jobs in one transaction that holds their advisory locks. Returns one result each, in order.
pub(super) async fn run(tx: &mut WriteContext<'_>, jobs: &[Arc<Job>]) -> Result<Vec<JobResult>, TxError> {
    let mut results: Vec<JobResult> = jobs.iter().map(|_| JobResult::Done).collect();
    run_locks(tx, jobs, &mut results).await?;
    run_keys(tx, jobs, &mut results).await?;
    let begun = run_begins(tx, jobs, &mut results).await?;
    let commits =
        jobs.iter().filter_map(|job| if let Job::Commit(mutations) = &**job { Some(mutations) } else { None });
    mutations::apply(tx, begun.into_iter().chain(commits.flatten()).collect()).await?;
    if jobs.iter().any(|job| job.is_probe()) {
        query::write_probe(tx.connection).await?;
    }
    Ok(results)
}

async fn run_locks(tx: &mut WriteContext<'_>, jobs: &[Arc<Job>], results: &mut [JobResult]) -> Result<(), TxError> {
    let (mut places, mut wanted, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for (place, job) in jobs.iter().enumerate() {
        match &**job {
            Job::AcquireLocks(forms, take) => {
                places.push(place);
                wanted.push((forms.as_slice(), *take));
            }
            Job::ReleaseLocks(forms) => released.extend_from_slice(forms),
            Job::BeginWrites(_) | Job::Commit(_) | Job::AcquireKey(..) | Job::Probe => {}
        }
    }
    for (place, granted) in places.into_iter().zip(instances::acquire_locks(tx, &wanted).await?) {
        results[place] = JobResult::Locks(granted);
    }
    instances::release_locks(tx, released).await
}

async fn run_keys(tx: &mut WriteContext<'_>, jobs: &[Arc<Job>], results: &mut [JobResult]) -> Result<(), TxError> {
    let (mut places, mut claims) = (Vec::new(), Vec::new());
    for (place, job) in jobs.iter().enumerate() {
        if let Job::AcquireKey(claim, take) = &**job {
            places.push(place);
            claims.push((claim, *take));
        }
    }
    for (place, state) in places.into_iter().zip(keys::take(tx, &claims).await?) {
        results[place] = JobResult::Key(state);
    }
    Ok(())
}

/// Begins the writes of all jobs; returns the mutations that belong to those that have begun.
async fn run_begins<'a>(
    tx: &mut WriteContext<'_>,
    jobs: &'a [Arc<Job>],
    results: &mut [JobResult],
) -> Result<Vec<&'a EncodedMutation>, TxError> {
    let (mut places, mut begins) = (Vec::new(), Vec::new());
    for (place, job) in jobs.iter().enumerate() {
        if let Job::BeginWrites(job) = &**job {
            places.push(place);
            begins.push(job);
        }
    }
    let (begun, mutations) = begin::begin_writes(tx, &begins).await?;
    for (place, begun) in places.into_iter().zip(begun) {
        results[place] = JobResult::Begun(begun);
    }
    Ok(mutations)
}
