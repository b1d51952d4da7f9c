//! Events, and the states that they report. Everything here runs inside a transaction of the writer thread.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::codec::NewEventRow;
use crate::store::sqlite::items::MAX_PORTION;
use crate::store::sqlite::reports::is_candidate_present;
use crate::store::sqlite::write_context::WriteContext;
use crate::store::{ConnectionStateChange, StoreError};

/// Appends an event to its tenant's under the next number.
pub(super) fn append(tx: &WriteContext<'_>, row: &NewEventRow) -> Result<(), StoreError> {
    let NewEventRow { id, tenant, event_type, timestamp, connection: at, assignment, assessment_ref, data, candidate } =
        row;
    if let Some(candidate) = candidate
        && !is_candidate_present(tx.connection, candidate)?
    {
        return Ok(());
    }
    let sequence: i64 = tx
        .connection
        .prepare_cached(
            "INSERT INTO event_heads (tenant, latest, removed) VALUES (?1, 1, 0)
             ON CONFLICT (tenant) DO UPDATE SET latest = latest + 1 RETURNING latest",
        )?
        .query_row([tenant], |row| row.get(0))?;
    tx.connection
        .prepare_cached(
            "INSERT INTO events (tenant, sequence, id, type, timestamp, connection, assignment, assessment_ref, data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![tenant, sequence, id, event_type, timestamp, at, assignment, assessment_ref, data])?;
    tx.has_events.set(true);
    Ok(())
}

/// Changes the last reported state of a connection; fails if another writer has changed it meanwhile.
pub(super) fn set_connection_state(connection: &Connection, change: &ConnectionStateChange) -> Result<(), StoreError> {
    let ConnectionStateChange { connection: name, before, state } = change;
    let changed = match before {
        None => connection
            .prepare_cached("INSERT INTO connection_states (connection, state) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![name, state])?,
        Some(before) => connection
            .prepare_cached("UPDATE connection_states SET state = ?2 WHERE connection = ?1 AND state = ?3")?
            .execute(params![name, state, before])?,
    };
    if changed == 0 { Err(StoreError::Superseded) } else { Ok(()) }
}

/// Removes a portion of the tenant's events up to this number, from the first on. Returns how many, and whether there are more.
pub(super) fn purge(connection: &Connection, tenant: &str, until: i64) -> Result<(u64, bool), StoreError> {
    let removed: Option<i64> = connection
        .prepare_cached("SELECT removed FROM event_heads WHERE tenant = ?1")?
        .query_row([tenant], |row| row.get(0))
        .optional()?;
    let removed = removed.unwrap_or(until);
    let to = removed.saturating_add(i64::try_from(MAX_PORTION.rows).unwrap_or(i64::MAX)).min(until);
    if to <= removed {
        return Ok((0, false));
    }
    let gone = connection
        .prepare_cached("DELETE FROM events WHERE tenant = ?1 AND sequence > ?2 AND sequence <= ?3")?
        .execute(params![tenant, removed, to])?;
    connection.prepare_cached("UPDATE event_heads SET removed = ?2 WHERE tenant = ?1")?.execute(params![tenant, to])?;
    Ok((gone as u64, to < until))
}
