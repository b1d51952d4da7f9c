//! Instances: heartbeats, ending dead peers, and the locks that serialise writes about a subject.
//!
//! Liveness does not depend on any clock of another machine. An instance counts its heartbeats; a peer whose count
//! stays unchanged for long enough is ended, and none of its later transactions may proceed (`commit_slots.rs`).

use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use crate::store::encryption::BlindIndex;
use crate::store::{Peer, StoreError};

/// Records one heartbeat and returns the peers that have not ended.
pub(super) async fn record_heartbeat(pulse: &PgPool, instance: &str) -> Result<Vec<Peer>, TxError> {
    let beaten = sqlx::query("UPDATE instances SET beats = beats + 1 WHERE id = $1 AND NOT ended")
        .bind(instance)
        .execute(pulse)
        .await?;
    if beaten.rows_affected() == 0 {
        return Err(StoreError::Fenced.into());
    }
    let peers = sqlx::query("SELECT id, beats FROM instances WHERE NOT ended AND id <> $1").bind(instance);
    let peers = peers.fetch_all(pulse).await?;
    let peer = |row: PgRow| Ok(Peer { instance: row.try_get(0)?, heartbeats: row.try_get(1)? });
    Ok(peers.into_iter().map(peer).collect::<Result<_, sqlx::Error>>()?)
}

/// Ends the peer if it has recorded no heartbeat since. Returns whether it has ended.
///
/// Updates the row of the peer first: a concurrent heartbeat waits and then finds its instance ended. Then updates its
/// commit slots: each update waits for the transaction in that slot, which therefore counts as done while the peer was
/// alive.
pub(super) async fn end(connection: &mut PgConnection, peer: &Peer) -> Result<bool, TxError> {
    let ended = sqlx::query("UPDATE instances SET ended = true WHERE id = $1 AND beats = $2 AND NOT ended")
        .bind(&peer.instance)
        .bind(peer.heartbeats)
        .execute(&mut *connection)
        .await?;
    if ended.rows_affected() == 0 {
        let ended = sqlx::query_scalar::<_, bool>("SELECT ended FROM instances WHERE id = $1").bind(&peer.instance);
        // A missing instance had ended before.
        return Ok(ended.fetch_optional(connection).await?.unwrap_or(true));
    }
    sqlx::query("UPDATE lanes SET ended = true WHERE instance = $1").bind(&peer.instance).execute(connection).await?;
    Ok(true)
}

/// Ends this instance itself and then its commit slots, as in [`end`]; idempotent.
pub(super) async fn end_self(pulse: &PgPool, instance: &str) -> Result<(), TxError> {
    sqlx::query("UPDATE instances SET ended = true WHERE id = $1").bind(instance).execute(pulse).await?;
    sqlx::query("UPDATE lanes SET ended = true WHERE instance = $1").bind(instance).execute(pulse).await?;
    Ok(())
}

/// Deletes the locks of ended instances, and ended instances that nothing refers to. Neither can gain anything new.
pub(super) async fn forget(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM turns WHERE owner IN (SELECT id FROM instances WHERE ended)")
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM instances WHERE ended AND id NOT IN (
             SELECT owner FROM intents WHERE owner IS NOT NULL
             UNION SELECT owner FROM idempotency_keys WHERE owner IS NOT NULL
             UNION SELECT owner FROM operations WHERE state = 'receiving'
             UNION SELECT owner FROM turns)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A lock or key that this instance may hold unknowingly: the response was lost, and the caller got an error.
#[derive(Debug, Clone)]
pub(super) enum UncertainLocks {
    /// The index values of the subject and the number of the acquisition: a later one is not released.
    Turn(Vec<BlindIndex>, i64),
    /// The index values of the key and the number of the acquisition. A key whose caller got an error becomes
    /// resumable: a retry continues it.
    Key(Vec<BlindIndex>, i64),
}

/// The locks and keys that may be held unknowingly, until they are released.
#[derive(Default)]
pub(super) struct UncertainLocksGuard(Mutex<Vec<UncertainLocks>>);

impl UncertainLocksGuard {
    pub(super) fn add(&self, loose: impl IntoIterator<Item = UncertainLocks>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(loose);
    }

    pub(super) fn take(&self) -> Vec<UncertainLocks> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Releases locks and keys that were held unknowingly.
pub(super) async fn release_uncertain(tx: &mut WriteContext<'_>, loose: &[UncertainLocks]) -> Result<(), TxError> {
    for end in loose {
        let query = match end {
            UncertainLocks::Turn(forms, take) => {
                sqlx::query("DELETE FROM turns WHERE subject = ANY($2) AND owner = $1 AND take = $3")
                    .bind(tx.instance)
                    .bind(forms)
                    .bind(take)
            }
            UncertainLocks::Key(forms, take) => sqlx::query(
                "UPDATE idempotency_keys SET owner = NULL WHERE scope = ANY($2) AND owner = $1 AND take = $3",
            )
            .bind(tx.instance)
            .bind(forms)
            .bind(take),
        };
        query.execute(&mut *tx.connection).await?;
    }
    Ok(())
}

/// Acquires the locks in all their forms, or none of them.
///
/// All forms, because two replicas write under different keys while a key is being replaced; each has the other's key
/// in its ring, so the primary key decides between them. Sorted, so that two instances do not deadlock.
///
/// Only an owner known to have ended loses its lock. An instance that this statement does not see yet may have started
/// after the statement did.
pub(super) async fn acquire_locks(tx: &mut WriteContext<'_>, forms: &[BlindIndex], take: i64) -> Result<bool, TxError> {
    let mut sorted = forms.to_vec();
    sorted.sort_unstable();
    let taken = sqlx::query(
        "INSERT INTO turns (subject, owner, take) SELECT form, $2, $3 FROM unnest($1::bytea[]) AS wanted (form)
         ON CONFLICT (subject) DO UPDATE SET owner = excluded.owner, take = excluded.take
         WHERE turns.owner = excluded.owner OR turns.owner IN (SELECT id FROM instances WHERE ended)",
    )
    .bind(&sorted)
    .bind(tx.instance)
    .bind(take)
    .execute(&mut *tx.connection)
    .await?;
    if taken.rows_affected() == sorted.len() as u64 {
        return Ok(true);
    }
    release_locks(tx, &sorted).await?;
    Ok(false)
}

/// Releases this instance's locks among these, in any of their forms.
pub(super) async fn release_locks(tx: &mut WriteContext<'_>, forms: &[BlindIndex]) -> Result<(), TxError> {
    sqlx::query("DELETE FROM turns WHERE subject = ANY($1) AND owner = $2")
        .bind(forms)
        .bind(tx.instance)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}
