//! The write protocol: how one change at a vendor is made durable, sent, concluded and, if its outcome is unknown,
//! reconciled.
//!
//! 1. [`locks`]: the subject's lock orders writes about the same person or booking, across replicas.
//! 2. [`idempotency`]: the caller's key is acquired; a finished write is replayed, an open one is reconciled first.
//!    [`open_keys`] remembers unfinished keys in memory, for retries while the store cannot be read.
//! 3. The record and its intent are committed. From here on only the vendor's own response proves `not_applied`.
//! 4. [`executor`]: sends the intent, concludes it from the vendor's response, and commits outcome, key, bulk row and
//!    audit entry together. An outcome that cannot be committed is queued, and the caller gets `unknown`.
//! 5. [`reconciler`]: resolves an unknown outcome by the vendor's declared retry safety, after the [`grace`] period in
//!    which an interrupted attempt may still take effect.
//! 6. [`orphans`]: finds intents of this process that no task works on, so that a commit in doubt ends like any other.
//!
//! Meanwhile the caller holds a [`handle`]: the work runs in its own task, so a caller who hangs up changes nothing.
//! [`tenant_isolation`] keeps tenants that share a connection apart, and [`erasure`] removes erased people from stored
//! replies.

pub(super) mod erasure;
pub(super) mod executor;
pub(super) mod grace;
pub(super) mod handle;
pub(super) mod idempotency;
pub(super) mod locks;
pub(super) mod open_keys;
pub(super) mod orphans;
pub(super) mod pending_outcomes;
pub(super) mod reconciler;
pub(super) mod replay;
pub(super) mod tenant_isolation;
