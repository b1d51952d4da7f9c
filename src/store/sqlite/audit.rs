//! The audit record.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::audit::{Entry, NOTHING};
use crate::store::StoreError;
use crate::store::codec::AuditHead;
use crate::store::sqlite::mutations::WriteContext;

/// Appends an entry to its tenant's chain.
pub(super) fn append(hand: &WriteContext<'_>, entry: &Entry) -> Result<(), StoreError> {
    let connection = hand.connection;
    let head = connection
        .prepare_cached("SELECT seq, hash FROM audit_heads WHERE tenant = ?1")?
        .query_row([&entry.tenant], |row| Ok(AuditHead { seq: row.get(0)?, hash: row.get(1)? }))
        .optional()?;
    let head = head.unwrap_or_else(|| AuditHead { seq: 0, hash: NOTHING.to_owned() });
    let row = hand.records.audit_row(entry, &head)?;
    connection.prepare_cached("INSERT INTO audit (tenant, seq, sealed) VALUES (?1, ?2, ?3)")?.execute(params![
        entry.tenant,
        row.seq,
        row.sealed
    ])?;
    connection
        .prepare_cached(
            "INSERT INTO audit_heads (tenant, seq, hash) VALUES (?1, ?2, ?3)
             ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        )?
        .execute(params![entry.tenant, row.seq, row.hash])?;
    Ok(())
}

/// Returns number and sealed content of the tenant's entries after this one, in order.
pub(super) fn after(
    connection: &Connection,
    tenant: &str,
    seq: i64,
    limit: usize,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT seq, sealed FROM audit WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![tenant, seq, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
