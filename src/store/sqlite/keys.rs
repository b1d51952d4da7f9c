//! Idempotency keys.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::intent::IdempotencyKeyUse;
use crate::store::codec::{KeyRow, StoredKey};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::statements;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::{KeyState, StoreError};

/// Acquires a key and returns its state.
pub(super) fn take(tx: &WriteContext<'_>, claim: &KeyRow) -> Result<KeyState, StoreError> {
    let WriteContext { connection, records, instance } = tx;
    for scope in &claim.scopes {
        let Some(stored) = stored(connection, scope, claim.now)? else { continue };
        let taken = records.key_state(claim, &stored)?;
        if let KeyState::Resumable(key, _) = &taken {
            connection
                .prepare_cached("UPDATE idempotency_keys SET owner = ?2, token = ?3 WHERE scope = ?1")?
                .execute(params![stored.scope, instance, key.token])?;
        }
        return Ok(taken);
    }
    begin(connection, claim, instance, None)?;
    Ok(KeyState::Acquired(IdempotencyKeyUse { scope: claim.scope.clone(), token: claim.token.clone() }))
}

/// Returns whether the key was used before and has not expired.
pub(super) fn is_used(connection: &Connection, claim: &KeyRow) -> Result<bool, StoreError> {
    for scope in &claim.scopes {
        if stored(connection, scope, claim.now)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Inserts the first use of a key, with the record it has already led to, if any. Writes the first form and replaces an
/// expired use of the same key.
pub(super) fn begin(
    connection: &Connection,
    claim: &KeyRow,
    instance: &str,
    record: Option<&str>,
) -> Result<(), StoreError> {
    let KeyRow { scopes, tenant, token, fingerprint, expires, .. } = claim;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency_keys (scope, tenant, token, fingerprint, owner, record, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![scopes.first(), tenant, token, fingerprint, instance, record, expires])?;
    Ok(())
}

/// Returns the unexpired use of a key under one form of its scope.
fn stored(connection: &Connection, scope: &BlindIndex, now: i64) -> Result<Option<StoredKey>, StoreError> {
    let stored = connection
        .prepare_cached(
            "SELECT scope, token, fingerprint,
                    owner IS NOT NULL AND owner NOT IN (SELECT id FROM instances WHERE ended = 1), record, sealed
             FROM idempotency_keys WHERE scope = ?1 AND expires > ?2",
        )?
        .query_row(params![scope, now], statements::row)
        .optional()?;
    Ok(stored)
}

/// Maximum keys removed in one transaction, and maximum bytes of their replies.
const MAX_PURGED_KEYS: i64 = 1_000;
const MAX_PURGED_BYTES: i64 = 2 << 20;

/// Removes a portion of the expired keys. Returns how many, and whether there may be more.
pub(super) fn purge(connection: &Connection, now: i64) -> Result<(u64, bool), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT rowid, coalesce(length(sealed), 0) FROM idempotency_keys WHERE expires <= ?1 LIMIT ?2",
    )?;
    let (mut bytes, mut over) = (0, Vec::new());
    let mut rows = statement.query(params![now, MAX_PURGED_KEYS])?;
    while bytes < MAX_PURGED_BYTES
        && let Some(row) = rows.next()?
    {
        over.push(row.get::<_, i64>(0)?);
        bytes += row.get::<_, i64>(1)?;
    }
    let mut remove = connection.prepare_cached("DELETE FROM idempotency_keys WHERE rowid = ?1")?;
    for row in &over {
        remove.execute([row])?;
    }
    Ok((over.len() as u64, !over.is_empty()))
}
