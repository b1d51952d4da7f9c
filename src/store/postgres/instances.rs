//! Instances: that this one lives, that another has ended, and who has the turn to write about a subject.
//!
//! No clock of any machine decides about life. An instance counts its beats; whoever watches another's count stand still
//! for long enough ends it, and from then on none of its transactions is let in (`lanes.rs`).

use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use crate::store::encryption::BlindIndex;
use crate::store::{Peer, StoreError};

/// One beat, and who else counts as living.
pub(super) async fn beat(pulse: &PgPool, instance: &str) -> Result<Vec<Peer>, TxError> {
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

/// Ends the peer if it has not beaten since; whether it is ended now.
///
/// Its own row first: a beat that comes meanwhile waits, and finds itself ended. Then its lanes: each waits for the
/// transaction that is in it, which is so counted among what the peer did while it lived.
pub(super) async fn end(connection: &mut PgConnection, peer: &Peer) -> Result<bool, TxError> {
    let ended = sqlx::query("UPDATE instances SET ended = true WHERE id = $1 AND beats = $2 AND NOT ended")
        .bind(&peer.instance)
        .bind(peer.heartbeats)
        .execute(&mut *connection)
        .await?;
    if ended.rows_affected() == 0 {
        let ended = sqlx::query_scalar::<_, bool>("SELECT ended FROM instances WHERE id = $1").bind(&peer.instance);
        // One that is not there any more had ended before.
        return Ok(ended.fetch_optional(connection).await?.unwrap_or(true));
    }
    sqlx::query("UPDATE lanes SET ended = true WHERE instance = $1").bind(&peer.instance).execute(connection).await?;
    Ok(true)
}

/// Ends the instance itself, its lanes after it as in [`end`]; may be done twice.
pub(super) async fn leave(pulse: &PgPool, instance: &str) -> Result<(), TxError> {
    sqlx::query("UPDATE instances SET ended = true WHERE id = $1").bind(instance).execute(pulse).await?;
    sqlx::query("UPDATE lanes SET ended = true WHERE instance = $1").bind(instance).execute(pulse).await?;
    Ok(())
}

/// Forgets the turns of instances that ended, and those of them that nothing points to any more. None can get anything new.
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

/// A turn or a key that this instance may have taken without knowing: the answer was lost, and the caller was told so.
#[derive(Debug, Clone)]
pub(super) enum UncertainLocks {
    /// The subject's forms, and which take it was: one that succeeded since is not given back.
    Turn(Vec<BlindIndex>, i64),
    /// The key's forms, and which take it was. A use whose caller was told of an error is open: a repeat goes on with it.
    Key(Vec<BlindIndex>, i64),
}

/// What may be held without anybody knowing, until it is given back.
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

/// Gives back what was held without anybody knowing.
pub(super) async fn tie_up(hand: &mut WriteContext<'_>, loose: &[UncertainLocks]) -> Result<(), TxError> {
    for end in loose {
        let query = match end {
            UncertainLocks::Turn(forms, take) => {
                sqlx::query("DELETE FROM turns WHERE subject = ANY($2) AND owner = $1 AND take = $3")
                    .bind(hand.instance)
                    .bind(forms)
                    .bind(take)
            }
            UncertainLocks::Key(forms, take) => sqlx::query(
                "UPDATE idempotency_keys SET owner = NULL WHERE scope = ANY($2) AND owner = $1 AND take = $3",
            )
            .bind(hand.instance)
            .bind(forms)
            .bind(take),
        };
        query.execute(&mut *hand.connection).await?;
    }
    Ok(())
}

/// Takes the turns in all their forms, or none of them.
///
/// All forms, because while a key is being replaced two replicas write under different ones; each has the other's in its
/// ring, so that the primary key decides between them. In order, so that two of them do not wait for each other.
///
/// Only an owner that is known to have ended loses its turn. One that this statement cannot see yet may have begun to live
/// after the statement did.
pub(super) async fn acquire_locks(
    hand: &mut WriteContext<'_>,
    forms: &[BlindIndex],
    take: i64,
) -> Result<bool, TxError> {
    let mut sorted = forms.to_vec();
    sorted.sort_unstable();
    let taken = sqlx::query(
        "INSERT INTO turns (subject, owner, take) SELECT form, $2, $3 FROM unnest($1::bytea[]) AS wanted (form)
         ON CONFLICT (subject) DO UPDATE SET owner = excluded.owner, take = excluded.take
         WHERE turns.owner = excluded.owner OR turns.owner IN (SELECT id FROM instances WHERE ended)",
    )
    .bind(&sorted)
    .bind(hand.instance)
    .bind(take)
    .execute(&mut *hand.connection)
    .await?;
    if taken.rows_affected() == sorted.len() as u64 {
        return Ok(true);
    }
    release_locks(hand, &sorted).await?;
    Ok(false)
}

/// Gives back this instance's turns among these, in any of their forms.
pub(super) async fn release_locks(hand: &mut WriteContext<'_>, forms: &[BlindIndex]) -> Result<(), TxError> {
    sqlx::query("DELETE FROM turns WHERE subject = ANY($1) AND owner = $2")
        .bind(forms)
        .bind(hand.instance)
        .execute(&mut *hand.connection)
        .await?;
    Ok(())
}
