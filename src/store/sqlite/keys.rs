//! Idempotency keys.

use rusqlite::params;

use crate::domain::intent::IdempotencyKeyUse;
use crate::store::codec::{KeyRow, StoredKey};
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::{Source, find};
use crate::store::sqlite::statements;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::{KeyState, StoreError};

/// What is stored of a key.
pub(super) struct KeyUses {
    /// The row of its use that has not expired.
    present: Option<(i64, StoredKey)>,
    /// Rows that have expired, in the form that is written.
    expired: Vec<i64>,
}

impl KeyUses {
    /// Returns whether the key was used before and has not expired.
    pub(super) const fn is_used(&self) -> bool {
        self.present.is_some()
    }
}

/// Acquires a key and returns its state.
pub(super) fn take(tx: &WriteContext<'_>, claim: &KeyRow) -> Result<KeyState, StoreError> {
    let uses = uses(tx, claim)?;
    let Some((row, stored)) = &uses.present else {
        begin(tx, claim, &uses, None)?;
        return Ok(KeyState::Acquired(IdempotencyKeyUse { scope: claim.scope.clone(), token: claim.token.clone() }));
    };
    let taken = tx.records.key_state(claim, stored)?;
    if let KeyState::Resumable(key, _) = &taken {
        tx.connection
            .prepare_cached("UPDATE idempotency_keys SET owner = ?2, token = ?3 WHERE id = ?1")?
            .execute(params![row, tx.instance, key.token])?;
    }
    Ok(taken)
}

/// Reads the uses of a key, under each form of its scope.
pub(super) fn uses(tx: &WriteContext<'_>, claim: &KeyRow) -> Result<KeyUses, StoreError> {
    let sql = "SELECT scope, token, fingerprint,
                      owner IS NOT NULL AND owner NOT IN (SELECT id FROM instances WHERE ended = 1), record, sealed,
                      id, expires
               FROM idempotency_keys WHERE id = ?1 AND scope = ?2";
    let mut uses = KeyUses { present: None, expired: Vec::new() };
    for (place, scope) in claim.scopes.iter().enumerate() {
        let found = find(tx.connection, tx.index, Source::Key, scope, sql, |row| {
            Ok((row.get(6)?, row.get::<_, i64>(7)?, statements::row::<StoredKey>(row)?))
        })?;
        for (row, expires, stored) in found {
            if expires > claim.now {
                uses.present.get_or_insert((row, stored));
            } else if place == 0 {
                uses.expired.push(row);
            }
        }
        if uses.is_used() {
            break;
        }
    }
    Ok(uses)
}

/// Inserts the first use of a key, with the record it has already led to, if any. Writes the first form and replaces
/// an expired use of the same key.
pub(super) fn begin(
    tx: &WriteContext<'_>,
    claim: &KeyRow,
    uses: &KeyUses,
    record: Option<&str>,
) -> Result<(), StoreError> {
    let KeyRow { scopes, tenant, token, fingerprint, expires, .. } = claim;
    let Some(scope) = scopes.first() else { return Ok(()) };
    for row in &uses.expired {
        remove(tx, *row, scope)?;
    }
    let row = tx.index.next_row(Source::Key);
    tx.connection
        .prepare_cached(
            "INSERT INTO idempotency_keys (id, scope, tenant, token, fingerprint, owner, record, expires)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![row, scope, tenant, token, fingerprint, tx.instance, record, expires])?;
    tx.index.add(Source::Key, scope, row);
    Ok(())
}

/// Removes a key that has no reply.
pub(super) fn free(tx: &WriteContext<'_>, token: &str) -> Result<(), StoreError> {
    let mut statement = tx
        .connection
        .prepare_cached("DELETE FROM idempotency_keys WHERE token = ?1 AND sealed IS NULL RETURNING id, scope")?;
    for freed in statement.query_map([token], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (row, scope): (i64, BlindIndex) = freed?;
        tx.index.remove(tx.connection, Source::Key, &scope, row)?;
    }
    Ok(())
}

/// Maximum keys removed in one transaction, and maximum bytes of their replies.
const MAX_PURGED_KEYS: i64 = 1_000;
const MAX_PURGED_BYTES: i64 = 2 << 20;

/// Removes a portion of the expired keys. Returns how many, and whether there may be more.
pub(super) fn purge(tx: &WriteContext<'_>, now: i64) -> Result<(u64, bool), StoreError> {
    let mut statement = tx.connection.prepare_cached(
        "SELECT id, coalesce(length(sealed), 0), scope FROM idempotency_keys WHERE expires <= ?1 LIMIT ?2",
    )?;
    let (mut bytes, mut over) = (0, Vec::<(i64, BlindIndex)>::new());
    let mut rows = statement.query(params![now, MAX_PURGED_KEYS])?;
    while bytes < MAX_PURGED_BYTES
        && let Some(row) = rows.next()?
    {
        over.push((row.get(0)?, row.get(2)?));
        bytes += row.get::<_, i64>(1)?;
    }
    drop(rows);
    for (row, scope) in &over {
        remove(tx, *row, scope)?;
    }
    Ok((over.len() as u64, !over.is_empty()))
}

fn remove(tx: &WriteContext<'_>, row: i64, scope: &BlindIndex) -> Result<(), StoreError> {
    tx.connection.prepare_cached("DELETE FROM idempotency_keys WHERE id = ?1")?.execute([row])?;
    tx.index.remove(tx.connection, Source::Key, scope, row)
}
