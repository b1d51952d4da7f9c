//! Instances: heartbeats, ending dead peers, and the locks that serialise writes about a subject.
//!
//! Liveness does not depend on any clock of another machine. An instance counts its heartbeats; a peer whose count
//! stays unchanged for long enough is ended, and none of its later transactions may proceed (`commit_slots.rs`).

use std::collections::HashSet;
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
        "DELETE FROM instances AS gone WHERE ended
           AND NOT EXISTS (SELECT 1 FROM intents WHERE owner = gone.id)
           AND NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE owner = gone.id)
           AND NOT EXISTS (SELECT 1 FROM operations WHERE state = 'receiving' AND owner = gone.id)
           AND NOT EXISTS (SELECT 1 FROM turns WHERE owner = gone.id)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A lock or key that this instance holds without the knowledge of the caller, who got an error: it was not yet known
/// whether the acquisition had been committed.
#[derive(Debug, Clone)]
pub(super) enum UncertainLocks {
    /// The index values of the subject and the number of the acquisition: a later one is not released.
    Turn(Vec<BlindIndex>, i64),
    /// The index values of the key and the number of the acquisition. A key whose caller got an error becomes
    /// resumable: a retry continues it.
    Key(Vec<BlindIndex>, i64),
}

/// The locks and keys that are held unknowingly, until they are released. Their transactions have ended: a release would
/// find nothing of one that is committed later, and what it acquired would be held for good.
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

/// Acquires for each caller the locks in all their forms, or none of them; returns whether, in order. `wanted` has the
/// forms of each caller, of which no two callers share one, and the number of the acquisition.
///
/// All forms, because two replicas write under different keys while a key is being replaced; each has the other's key
/// in its ring, so the primary key decides between them. Sorted, so that two instances do not deadlock.
///
/// Only an owner known to have ended loses its lock. An instance that this statement does not see yet may have started
/// after the statement did.
pub(super) async fn acquire_locks(
    tx: &mut WriteContext<'_>,
    wanted: &[(&[BlindIndex], i64)],
) -> Result<Vec<bool>, TxError> {
    let mut forms: Vec<(BlindIndex, i64)> =
        wanted.iter().flat_map(|(forms, take)| forms.iter().map(|form| (*form, *take))).collect();
    if forms.is_empty() {
        return Ok(vec![true; wanted.len()]);
    }
    forms.sort_unstable();
    let taken: HashSet<BlindIndex> = sqlx::query_scalar(
        "INSERT INTO turns (subject, owner, take)
         SELECT form, $3, take FROM unnest($1::bytea[], $2::bigint[]) AS wanted (form, take)
         ON CONFLICT (subject) DO UPDATE SET owner = excluded.owner, take = excluded.take
         WHERE turns.owner = excluded.owner OR EXISTS (SELECT 1 FROM instances WHERE id = turns.owner AND ended)
         RETURNING subject",
    )
    .bind(forms.iter().map(|(form, _)| *form).collect::<Vec<_>>())
    .bind(forms.iter().map(|(_, take)| *take).collect::<Vec<_>>())
    .bind(tx.instance)
    .fetch_all(&mut *tx.connection)
    .await?
    .into_iter()
    .collect();
    let granted: Vec<bool> = wanted.iter().map(|(forms, _)| forms.iter().all(|form| taken.contains(form))).collect();
    let refused = wanted.iter().zip(&granted).filter(|(_, granted)| !**granted);
    release_locks(tx, refused.flat_map(|((forms, _), _)| forms.iter().copied()).collect()).await?;
    Ok(granted)
}

/// Releases this instance's locks among these, in order.
pub(super) async fn release_locks(tx: &mut WriteContext<'_>, forms: Vec<BlindIndex>) -> Result<(), TxError> {
    if forms.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT subject FROM turns WHERE subject = ANY($1) AND owner IS NOT DISTINCT FROM $2
             ORDER BY subject FOR UPDATE)
         DELETE FROM turns WHERE subject = ANY(ARRAY(SELECT subject FROM held))",
    )
    .bind(forms)
    .bind(tx.instance)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
