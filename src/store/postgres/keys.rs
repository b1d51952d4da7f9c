//! Idempotency keys.

use std::collections::HashSet;

use sqlx::{PgConnection, Row as _};

use super::error::TxError;
use super::transaction::WriteContext;
use crate::domain::intent::IdempotencyKeyUse;
use crate::store::codec::{KeyRow, StoredKey};
use crate::store::columns::FromColumns as _;
use crate::store::encryption::BlindIndex;
use crate::store::sql::{self, Statement};
use crate::store::{KeyState, StoreError};

/// Maximum keys deleted in one transaction.
const MAX_PURGED_KEYS: i64 = 5_000;

/// A key to acquire if it is free or has expired.
pub(super) struct KeyRequest<'a> {
    pub(super) claim: &'a KeyRow,
    /// The number of the acquisition.
    pub(super) take: i64,
    /// The record that the use of the key has already led to.
    pub(super) record: Option<&'a str>,
}

/// Acquires the keys of these callers, with the number of each acquisition, and returns their states, in order. No two
/// callers may ask for one key, and the transaction must hold the [`advisory_locks`] of all.
pub(super) async fn take(
    tx: &mut WriteContext<'_>,
    claims: &[(&KeyRow, i64)],
) -> Result<Vec<Result<KeyState, StoreError>>, TxError> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let stored = stored(tx, claims).await?;
    let new = claims.iter().zip(&stored).filter(|(_, stored)| stored.is_none());
    let new = new.map(|((claim, take), _)| KeyRequest { claim, take: *take, record: None }).collect();
    let begun = begin(tx, new).await?;
    let mut resumed = Vec::new();
    let mut states = Vec::with_capacity(claims.len());
    for ((claim, take), stored) in claims.iter().zip(stored) {
        let Some(stored) = stored else {
            let key = || IdempotencyKeyUse { scope: claim.scope.clone(), token: claim.token.clone() };
            let is_new = begun.contains(&claim.token);
            // Acquired in the meantime, unless it is new.
            states.push(Ok(if is_new { KeyState::Acquired(key()) } else { KeyState::InProgress }));
            continue;
        };
        let state = tx.records.key_state(claim, &stored);
        if let Ok(KeyState::Resumable(key, _)) = &state {
            resumed.push((stored.scope, key.token.clone(), *take));
        }
        states.push(state);
    }
    resume(tx, &resumed).await?;
    Ok(states)
}

/// Reads and locks the unexpired key of each caller. The row is locked beside the advisory lock, because reconciliation
/// records the outcome of an earlier use without that.
async fn stored(tx: &mut WriteContext<'_>, claims: &[(&KeyRow, i64)]) -> Result<Vec<Option<StoredKey>>, TxError> {
    let mut forms: Vec<(BlindIndex, i64, i64)> = (0_i64..)
        .zip(claims)
        .flat_map(|(place, (claim, _))| claim.scopes.iter().map(move |scope| (*scope, claim.now, place)))
        .collect();
    forms.sort_unstable();
    let rows = sqlx::query(
        "SELECT scope, token, fingerprint,
                owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM instances WHERE id = owner AND ended), record, sealed,
                place
         FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS wanted (scope, now, place)
         JOIN idempotency_keys USING (scope)
         WHERE expires > now ORDER BY scope FOR UPDATE OF idempotency_keys",
    )
    .bind(forms.iter().map(|(scope, ..)| *scope).collect::<Vec<_>>())
    .bind(forms.iter().map(|(_, now, _)| *now).collect::<Vec<_>>())
    .bind(forms.iter().map(|(.., place)| *place).collect::<Vec<_>>())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut stored: Vec<Option<StoredKey>> = claims.iter().map(|_| None).collect();
    for row in rows {
        let place: i64 = row.try_get(6)?;
        if let Some(free) = usize::try_from(place).ok().and_then(|place| stored.get_mut(place)) {
            free.get_or_insert(StoredKey::from_columns(&row)?);
        }
    }
    Ok(stored)
}

async fn resume(tx: &mut WriteContext<'_>, keys: &[(BlindIndex, String, i64)]) -> Result<(), TxError> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE idempotency_keys AS known SET owner = $4, token = given.token, take = given.take
         FROM unnest($1::bytea[], $2::text[], $3::bigint[]) AS given (scope, token, take)
         WHERE known.scope = given.scope",
    )
    .bind(keys.iter().map(|(scope, ..)| *scope).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, token, _)| token.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(.., take)| *take).collect::<Vec<_>>())
    .bind(tx.instance)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Inserts the first use of each key under its first form, unless a use under any form has not expired; replaces an
/// expired use of the same key. Returns the tokens of those inserted. The transaction must hold the [`advisory_locks`].
pub(super) async fn begin(
    tx: &mut WriteContext<'_>,
    mut requests: Vec<KeyRequest<'_>>,
) -> Result<HashSet<String>, TxError> {
    if requests.is_empty() {
        return Ok(HashSet::new());
    }
    requests.sort_by(|one, other| one.claim.scopes.cmp(&other.claim.scopes));
    let claims = || requests.iter().map(|request| request.claim);
    let forms = || (0_i64..).zip(claims()).flat_map(|(place, claim)| claim.scopes.iter().map(move |it| (place, it)));
    let begun: Vec<String> = sqlx::query_scalar(
        "WITH used AS MATERIALIZED (
             SELECT place FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS form (place, scope, now)
             JOIN idempotency_keys USING (scope) WHERE expires > now
         )
         INSERT INTO idempotency_keys AS known (scope, tenant, token, fingerprint, take, expires, record, owner)
         SELECT scope, tenant, token, fingerprint, take, expires, record, $4
         FROM unnest($5::bigint[], $6::bytea[], $7::text[], $8::text[], $9::bytea[], $10::bigint[], $11::bigint[],
             $12::text[]) AS new (place, scope, tenant, token, fingerprint, take, expires, record)
         WHERE place NOT IN (SELECT place FROM used)
         ON CONFLICT (scope) DO UPDATE SET tenant = excluded.tenant, token = excluded.token,
             fingerprint = excluded.fingerprint, owner = excluded.owner, take = excluded.take, record = excluded.record,
             sealed = NULL, expires = excluded.expires
         WHERE known.expires <= $13
         RETURNING token",
    )
    .bind(forms().map(|(place, _)| place).collect::<Vec<_>>())
    .bind(forms().map(|(_, scope)| *scope).collect::<Vec<_>>())
    .bind(claims().flat_map(|claim| claim.scopes.iter().map(|_| claim.now)).collect::<Vec<_>>())
    .bind(tx.instance)
    .bind((0_i64..).zip(claims()).map(|(place, _)| place).collect::<Vec<_>>())
    .bind(claims().map(|claim| claim.scopes.first().copied()).collect::<Vec<_>>())
    .bind(claims().map(|claim| claim.tenant.as_str()).collect::<Vec<_>>())
    .bind(claims().map(|claim| claim.token.as_str()).collect::<Vec<_>>())
    .bind(claims().map(|claim| claim.fingerprint).collect::<Vec<_>>())
    .bind(requests.iter().map(|request| request.take).collect::<Vec<_>>())
    .bind(claims().map(|claim| claim.expires).collect::<Vec<_>>())
    .bind(requests.iter().map(|request| request.record).collect::<Vec<_>>())
    // Which use has expired for its caller is known from `used`; no other transaction can have inserted one since.
    .bind(claims().map(|claim| claim.now).max())
    .fetch_all(&mut *tx.connection)
    .await?;
    Ok(begun.into_iter().collect())
}

/// Frees these keys, as far as they have no reply.
pub(super) async fn free(tx: &mut WriteContext<'_>, tokens: Vec<&str>) -> Result<(), TxError> {
    if tokens.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM idempotency_keys WHERE token = ANY($1) AND sealed IS NULL")
        .bind(tokens)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Applies changes of different keys: those of one kind in one statement.
pub(super) async fn change(tx: &mut WriteContext<'_>, changes: &[&Statement]) -> Result<(), TxError> {
    let of = |kind: &sql::Sql| -> Vec<&Statement> {
        changes.iter().copied().filter(|change| change.sql.postgres == kind.postgres).collect()
    };
    let texts = |changes: &[&Statement], index| -> Vec<Option<String>> {
        changes.iter().map(|change| change.text(index).map(str::to_owned)).collect()
    };
    let [bound, completed, released] = [sql::BIND_KEY, sql::COMPLETE_KEY, sql::RELEASE_KEY].map(of);
    if !bound.is_empty() {
        sqlx::query(
            "UPDATE idempotency_keys AS known SET record = given.record
             FROM unnest($1::text[], $2::text[]) AS given (record, token) WHERE known.token = given.token",
        )
        .bind(texts(&bound, 0))
        .bind(texts(&bound, 1))
        .execute(&mut *tx.connection)
        .await?;
    }
    if !completed.is_empty() {
        sqlx::query(
            "UPDATE idempotency_keys AS known SET owner = NULL, sealed = given.sealed
             FROM unnest($1::bytea[], $2::text[]) AS given (sealed, token)
             WHERE known.token = given.token AND known.sealed IS NULL",
        )
        .bind(completed.iter().map(|change| change.binary(0)).collect::<Vec<_>>())
        .bind(texts(&completed, 1))
        .execute(&mut *tx.connection)
        .await?;
    }
    if !released.is_empty() {
        sqlx::query("UPDATE idempotency_keys SET owner = NULL WHERE token = ANY($1)")
            .bind(texts(&released, 0))
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

/// Returns the numbers of the advisory locks of every form of these keys, in order: the primary key alone would let two
/// replicas begin one write under different keys of one ring. A transaction takes them before it reads, once and in
/// order, so transactions do not deadlock. Two keys that share a number by chance only wait for each other.
pub(super) fn advisory_locks<'a>(claims: impl Iterator<Item = &'a KeyRow>) -> Vec<i64> {
    let scopes = claims.flat_map(|claim| &claim.scopes);
    let mut locks: Vec<i64> = scopes.filter_map(|scope| scope.first_chunk().copied().map(i64::from_be_bytes)).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// Takes advisory locks until the end of the transaction.
pub(super) async fn lock(tx: &mut WriteContext<'_>, locks: &[i64]) -> Result<(), TxError> {
    if locks.is_empty() {
        return Ok(());
    }
    sqlx::query("SELECT pg_advisory_xact_lock(form) FROM unnest($1::bigint[]) AS wanted (form)")
        .bind(locks)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Deletes a portion of the expired keys. Returns how many, and whether there may be more.
pub(super) async fn purge(connection: &mut PgConnection, now: i64) -> Result<(u64, bool), TxError> {
    let over = sqlx::query(
        "DELETE FROM idempotency_keys WHERE scope = ANY(ARRAY(
             SELECT scope FROM idempotency_keys WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind(now)
    .bind(MAX_PURGED_KEYS)
    .execute(connection)
    .await?
    .rows_affected();
    Ok((over, over >= MAX_PURGED_KEYS.unsigned_abs()))
}
