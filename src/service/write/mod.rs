//! The write protocol: how one change at a vendor is made durable, sent, concluded and, if its outcome is unknown,
//! reconciled.
//!
//! 1. [`idempotency`]: the caller's key is acquired; a finished write is replayed, an open one is reconciled first. A
//!    registration acquires a new key in step 3. [`open_keys`] remembers unfinished keys in memory, for retries while
//!    the store cannot be read.
//! 2. [`locks`]: the subject's lock orders writes about the same person or booking, across replicas.
//! 3. [`executor`], begin: record, intent, key and bulk row are committed together. From here on only the vendor's own
//!    response proves `not_applied`.
//! 4. [`executor`], send: one vendor call for all writes of a batch; a single write is a batch of one.
//! 5. [`conclusion`]: the transition of the record ([`crate::domain::transition`]) is committed with intent,
//!    key, row and audit entry. An outcome that cannot be committed is queued, and the caller gets `unknown`.
//! 6. [`reconciler`]: resolves an unknown outcome by the vendor's declared retry safety, after the [`grace`] period in
//!    which an interrupted attempt may still take effect.
//! 7. [`orphans`]: adopts open intents that no task works on: those of a dead process, of a task that has ended, and of
//!    a commit in doubt.
//!
//! Meanwhile the caller holds a [`handle`]: the work runs in its own task, so a caller who hangs up changes nothing.
//! [`tenant_isolation`] keeps tenants that share a connection apart, and [`erasure`] removes erased people from stored
//! replies. [`single_writes`] lets background work know that callers wait. [`identity_upkeep`] brings the index entries of
//! an earlier version into their present form.

pub(super) mod conclusion;
pub(super) mod erasure;
pub(super) mod executor;
pub(super) mod grace;
pub(super) mod handle;
pub(super) mod idempotency;
pub(super) mod identity_upkeep;
pub(super) mod locks;
pub(super) mod open_keys;
pub(super) mod orphans;
mod pending_outcomes;
pub(super) mod reconciler;
pub(super) mod replay;
pub(super) mod single_writes;
pub(super) mod tenant_isolation;
mod vendor_call;
