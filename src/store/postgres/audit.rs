//! The audit record.

use sqlx::Row as _;

use super::error::TxError;
use super::transaction::WriteContext;
use crate::domain::audit::{Entry, NOTHING};
use crate::store::codec::AuditHead;

/// Appends entries, each to its tenant's chain. Locks the end of each chain until the transaction ends, in tenant
/// order, so that transactions do not deadlock.
pub(super) async fn append(tx: &mut WriteContext<'_>, entries: &[&Entry]) -> Result<(), TxError> {
    let mut tenants: Vec<&str> = entries.iter().map(|entry| entry.tenant.as_str()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    for tenant in tenants {
        let own: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.tenant == tenant).collect();
        append_to(tx, tenant, &own).await?;
    }
    Ok(())
}

async fn append_to(tx: &mut WriteContext<'_>, tenant: &str, entries: &[&Entry]) -> Result<(), TxError> {
    // The update changes nothing: it locks the row, which the statement inserts if it is missing.
    let row = sqlx::query(
        "INSERT INTO audit_heads AS head (tenant, seq, hash) VALUES ($1, 0, $2)
         ON CONFLICT (tenant) DO UPDATE SET seq = head.seq RETURNING seq, hash",
    )
    .bind(tenant)
    .bind(NOTHING)
    .fetch_one(&mut *tx.connection)
    .await?;
    let mut head = AuditHead { seq: row.try_get(0)?, hash: row.try_get(1)? };
    let (mut numbers, mut seals) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
    for entry in entries {
        let row = tx.records.audit_row(entry, &head)?;
        numbers.push(row.seq);
        seals.push(row.sealed);
        head = AuditHead { seq: row.seq, hash: row.hash };
    }
    sqlx::query(
        "WITH lines AS (
             INSERT INTO audit (tenant, seq, sealed) SELECT $1, seq, sealed
             FROM unnest($2::bigint[], $3::bytea[]) AS new (seq, sealed))
         UPDATE audit_heads SET seq = $4, hash = $5 WHERE tenant = $1",
    )
    .bind(tenant)
    .bind(numbers)
    .bind(seals)
    .bind(head.seq)
    .bind(head.hash)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
