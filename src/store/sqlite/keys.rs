//! Idempotency keys.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::journal::KeyRef;
use crate::store::records::{KeyRow, Records, StoredKey};
use crate::store::{KeyTaken, StoreError};

/// Takes a key, or says why not.
pub(super) fn take(
    connection: &Connection,
    records: &Records,
    claim: &KeyRow,
    instance: &str,
) -> Result<KeyTaken, StoreError> {
    for scope in &claim.scopes {
        let stored = connection
            .prepare_cached(
                "SELECT scope, token, fingerprint,
                        owner IS NOT NULL AND owner NOT IN (SELECT id FROM instances WHERE ended = 1), record, sealed
                 FROM idempotency_keys WHERE scope = ?1 AND expires > ?2",
            )?
            .query_row(params![scope, claim.now], |row| {
                Ok(StoredKey {
                    scope: row.get(0)?,
                    token: row.get(1)?,
                    fingerprint: row.get(2)?,
                    running: row.get(3)?,
                    record: row.get(4)?,
                    answer: row.get(5)?,
                })
            })
            .optional()?;
        let Some(stored) = stored else { continue };
        let taken = records.key_taken(claim, &stored)?;
        if let KeyTaken::Open(key, _) = &taken {
            connection
                .prepare_cached("UPDATE idempotency_keys SET owner = ?2, token = ?3 WHERE scope = ?1")?
                .execute(params![stored.scope, instance, key.token])?;
        }
        return Ok(taken);
    }
    // The first form is the one to write; a forgotten use of the same key makes way.
    let scope = claim.scopes.first();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency_keys (scope, tenant, token, fingerprint, owner, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![scope, claim.tenant, claim.token, claim.fingerprint, instance, claim.expires])?;
    Ok(KeyTaken::New(KeyRef { scope: claim.scope.clone(), token: claim.token.clone() }))
}

pub(super) fn bind(connection: &Connection, token: &str, record: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE idempotency_keys SET record = ?2 WHERE token = ?1")?
        .execute(params![token, record])?;
    Ok(())
}

/// The first answer stands.
pub(super) fn answer(connection: &Connection, token: &str, sealed: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE idempotency_keys SET owner = NULL, sealed = ?2 WHERE token = ?1 AND sealed IS NULL")?
        .execute(params![token, sealed])?;
    Ok(())
}

pub(super) fn open(connection: &Connection, token: &str) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE idempotency_keys SET owner = NULL WHERE token = ?1")?.execute([token])?;
    Ok(())
}

pub(super) fn free(connection: &Connection, token: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM idempotency_keys WHERE token = ?1 AND sealed IS NULL")?.execute([token])?;
    Ok(())
}

pub(super) fn purge(connection: &Connection, now: i64) -> Result<u64, StoreError> {
    let over = connection.prepare_cached("DELETE FROM idempotency_keys WHERE expires <= ?1")?.execute([now])?;
    Ok(over as u64)
}
