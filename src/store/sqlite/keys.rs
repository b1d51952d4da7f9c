//! Idempotency keys.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::journal::KeyRef;
use crate::store::records::{KeyRow, Records, StoredKey};
use crate::store::seal::Blind;
use crate::store::{KeyTaken, StoreError};

/// Takes a key, or says why not.
pub(super) fn take(
    connection: &Connection,
    records: &Records,
    claim: &KeyRow,
    instance: &str,
) -> Result<KeyTaken, StoreError> {
    for scope in &claim.scopes {
        let Some(stored) = stored(connection, scope, claim.now)? else { continue };
        let taken = records.key_taken(claim, &stored)?;
        if let KeyTaken::Open(key, _) = &taken {
            connection
                .prepare_cached("UPDATE idempotency_keys SET owner = ?2, token = ?3 WHERE scope = ?1")?
                .execute(params![stored.scope, instance, key.token])?;
        }
        return Ok(taken);
    }
    // The first form is the one to write.
    let scope = claim.scopes.first();
    connection
        .prepare_cached(
            "INSERT INTO idempotency_keys (scope, tenant, token, fingerprint, owner, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![scope, claim.tenant, claim.token, claim.fingerprint, instance, claim.expires])?;
    Ok(KeyTaken::New(KeyRef { scope: claim.scope.clone(), token: claim.token.clone() }))
}

/// What there is under this form of a scope. A use that is forgotten by now makes way.
fn stored(connection: &Connection, scope: &Blind, now: i64) -> Result<Option<StoredKey>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT scope, token, fingerprint,
                    owner IS NOT NULL AND owner NOT IN (SELECT id FROM instances WHERE ended = 1), record, sealed, expires
             FROM idempotency_keys LEFT JOIN idempotency_answers ON id = answer WHERE scope = ?1",
        )?
        .query_row([scope], |row| {
            let key = StoredKey {
                scope: row.get(0)?,
                token: row.get(1)?,
                fingerprint: row.get(2)?,
                running: row.get(3)?,
                record: row.get(4)?,
                answer: row.get(5)?,
            };
            Ok((key, row.get::<_, i64>(6)?))
        })
        .optional()?;
    match found {
        Some((_, expires)) if expires <= now => {
            connection.prepare_cached("DELETE FROM idempotency_keys WHERE scope = ?1")?.execute([scope])?;
            Ok(None)
        }
        found => Ok(found.map(|(key, _)| key)),
    }
}

pub(super) fn bind(connection: &Connection, token: &str, record: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE idempotency_keys SET record = ?2 WHERE token = ?1")?
        .execute(params![token, record])?;
    Ok(())
}

/// The first answer stands.
pub(super) fn answer(connection: &Connection, token: &str, sealed: &[u8]) -> Result<(), StoreError> {
    let kept = connection
        .prepare_cached(
            "INSERT INTO idempotency_answers (sealed)
             SELECT ?2 FROM idempotency_keys WHERE token = ?1 AND answer IS NULL",
        )?
        .execute(params![token, sealed])?;
    if kept > 0 {
        connection
            .prepare_cached("UPDATE idempotency_keys SET owner = NULL, answer = ?2 WHERE token = ?1")?
            .execute(params![token, connection.last_insert_rowid()])?;
    }
    Ok(())
}

pub(super) fn open(connection: &Connection, token: &str) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE idempotency_keys SET owner = NULL WHERE token = ?1")?.execute([token])?;
    Ok(())
}

pub(super) fn free(connection: &Connection, token: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM idempotency_keys WHERE token = ?1 AND answer IS NULL")?.execute([token])?;
    Ok(())
}

pub(super) fn purge(connection: &Connection, now: i64) -> Result<u64, StoreError> {
    let over = connection.prepare_cached("DELETE FROM idempotency_keys WHERE expires <= ?1")?.execute([now])?;
    Ok(over as u64)
}
