//! The audit record.

use rusqlite::{OptionalExtension, params};

use crate::domain::audit::{Entry, NOTHING};
use crate::store::StoreError;
use crate::store::codec::AuditHead;
use crate::store::sqlite::write_context::WriteContext;

/// Appends an entry to its tenant's chain.
pub(super) fn append(tx: &WriteContext<'_>, entry: &Entry) -> Result<(), StoreError> {
    let connection = tx.connection;
    let head = connection
        .prepare_cached("SELECT seq, hash FROM audit_heads WHERE tenant = ?1")?
        .query_row([&entry.tenant], |row| Ok(AuditHead { seq: row.get(0)?, hash: row.get(1)? }))
        .optional()?;
    let head = head.unwrap_or_else(|| AuditHead { seq: 0, hash: NOTHING.to_owned() });
    let row = tx.records.audit_row(entry, &head)?;
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
