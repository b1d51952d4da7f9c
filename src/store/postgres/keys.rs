//! Idempotency keys.

use sqlx::PgConnection;

use super::error::TxError;
use super::transaction::WriteContext;
use crate::domain::intent::IdempotencyKeyUse;
use crate::store::KeyState;
use crate::store::codec::{KeyRow, StoredKey};
use crate::store::columns::FromColumns as _;
use crate::store::encryption::BlindIndex;

/// Maximum keys deleted in one transaction.
const MAX_PURGED_KEYS: i64 = 5_000;

/// Acquires a key and returns its state.
pub(super) async fn take(tx: &mut WriteContext<'_>, claim: &KeyRow, take: i64) -> Result<KeyState, TxError> {
    lock_forms(tx, claim).await?;
    // Lock the row too: reconciliation records the outcome of an earlier use without the advisory lock.
    let stored = sqlx::query(
        "SELECT scope, token, fingerprint,
                owner IS NOT NULL AND owner NOT IN (SELECT id FROM instances WHERE ended), record, sealed
         FROM idempotency_keys WHERE scope = ANY($1) AND expires > $2 FOR UPDATE",
    )
    .bind(&claim.scopes)
    .bind(claim.now)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(stored) = stored else {
        if !begin(tx, claim, take, None).await? {
            // Acquired in the meantime.
            return Ok(KeyState::InProgress);
        }
        return Ok(KeyState::Acquired(IdempotencyKeyUse { scope: claim.scope.clone(), token: claim.token.clone() }));
    };
    let stored = StoredKey::from_columns(&stored)?;
    let taken = tx.records.key_state(claim, &stored)?;
    if let KeyState::Resumable(key, _) = &taken {
        sqlx::query("UPDATE idempotency_keys SET owner = $2, token = $3, take = $4 WHERE scope = $1")
            .bind(stored.scope)
            .bind(tx.instance)
            .bind(&key.token)
            .bind(take)
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(taken)
}

/// Acquires a key that is free or has expired, with the record it leads to; returns `false` if it is in use.
pub(super) async fn take_free(
    tx: &mut WriteContext<'_>,
    claim: &KeyRow,
    take: i64,
    record: Option<&str>,
) -> Result<bool, TxError> {
    lock_forms(tx, claim).await?;
    begin(tx, claim, take, record).await
}

/// Takes an advisory lock on every form of the key: the primary key alone would let two replicas begin that write under
/// different keys of one ring. The locks end with the transaction; a transaction has one such set and takes it in
/// order, so transactions do not deadlock.
async fn lock_forms(tx: &mut WriteContext<'_>, claim: &KeyRow) -> Result<(), TxError> {
    sqlx::query("SELECT pg_advisory_xact_lock(form) FROM unnest($1::bigint[]) AS wanted (form)")
        .bind(locks(&claim.scopes))
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Inserts the first use of a key under the first form, with the record it has already led to, if any, unless a use
/// under any form has not expired. Replaces an expired use of the same key.
async fn begin(tx: &mut WriteContext<'_>, claim: &KeyRow, take: i64, record: Option<&str>) -> Result<bool, TxError> {
    let begun = sqlx::query(
        "INSERT INTO idempotency_keys (scope, tenant, token, fingerprint, owner, take, expires, record)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8
         WHERE NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE scope = ANY($9) AND expires > $10)
         ON CONFLICT (scope) DO UPDATE SET tenant = excluded.tenant, token = excluded.token,
             fingerprint = excluded.fingerprint, owner = excluded.owner, take = excluded.take, record = excluded.record,
             sealed = NULL, expires = excluded.expires
         WHERE idempotency_keys.expires <= $10",
    )
    .bind(claim.scopes.first())
    .bind(&claim.tenant)
    .bind(&claim.token)
    .bind(claim.fingerprint)
    .bind(tx.instance)
    .bind(take)
    .bind(claim.expires)
    .bind(record)
    .bind(&claim.scopes)
    .bind(claim.now)
    .execute(&mut *tx.connection)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Returns the advisory lock numbers, sorted. Two keys that share a number by chance only wait for each other.
fn locks(scopes: &[BlindIndex]) -> Vec<i64> {
    let mut locks: Vec<i64> =
        scopes.iter().filter_map(|scope| scope.first_chunk().copied().map(i64::from_be_bytes)).collect();
    locks.sort_unstable();
    locks
}

/// Deletes a portion of the expired keys. Returns how many, and whether there may be more.
pub(super) async fn purge(connection: &mut PgConnection, now: i64) -> Result<(u64, bool), TxError> {
    let over = sqlx::query(
        "DELETE FROM idempotency_keys WHERE scope IN (
             SELECT scope FROM idempotency_keys WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now)
    .bind(MAX_PURGED_KEYS)
    .execute(connection)
    .await?
    .rows_affected();
    Ok((over, over >= MAX_PURGED_KEYS.unsigned_abs()))
}
