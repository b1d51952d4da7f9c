//! Finds rows by their blind value.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::StoreError;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::entries::{Source, UnmergedEntries};

/// Returns the rows with this blind value, oldest first. `sql` reads a row by its number (`?1`) and value (`?2`).
pub(in crate::store::sqlite) fn find<T>(
    connection: &Connection,
    entries: &dyn UnmergedEntries,
    source: Source,
    blind: &BlindIndex,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    // First the memory, then the table: between the two, an entry may move from the one to the other.
    let mut rows = entries.unmerged_rows(source, blind);
    let mut merged =
        connection.prepare_cached("SELECT row_id FROM late_index WHERE short = ?1 AND source = ?2 ORDER BY row_id")?;
    for row in merged.query_map(params![&blind[..8], source.number()], |row| row.get(0))? {
        rows.push(row?);
    }
    // After a restart an entry may be in both.
    rows.sort_unstable();
    rows.dedup();
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.extend(connection.prepare_cached(sql)?.query_row(params![row, blind], &read).optional()?);
    }
    Ok(found)
}
