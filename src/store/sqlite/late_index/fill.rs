//! Reads the rows that have no entry in the table yet, and rebuilds the table.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::entries::{Entry, Source};

/// Row numbers by source.
pub(super) type RowNumbers = [i64; Source::ALL.len()];

/// Maximum entries merged in one transaction.
const MAX_PORTION: i64 = 250_000;

/// Entries read from the rows, and the number of the last row of each source.
pub(super) struct UnmergedRows {
    pub(super) entries: BTreeSet<Entry>,
    pub(super) last: RowNumbers,
}

/// Reads the entries of all rows after the watermarks.
pub(super) fn read_unmerged(connection: &Connection) -> Result<UnmergedRows, StoreError> {
    let (watermarks, last) = (watermarks(connection)?, last_rows(connection)?);
    let mut entries = BTreeSet::new();
    for source in Source::ALL {
        let mut statement = connection.prepare(source.rows_after())?;
        let mut rows = statement.query([watermarks[source.index()]])?;
        while let Some(row) = rows.next()? {
            let (id, blind): (i64, BlindIndex) = (row.get(0)?, row.get(1)?);
            entries.insert(Entry::new(source, &blind, id));
        }
    }
    let mut next = last;
    // Rows up to the watermark are not read again, so their numbers must not be used again either.
    next.iter_mut().zip(watermarks).for_each(|(last, watermark)| *last = (*last).max(watermark));
    Ok(UnmergedRows { entries, last: next })
}

/// Makes the table anew from the rows.
pub(in crate::store::sqlite) fn rebuild(connection: &Connection) -> Result<(), StoreError> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM late_index", [])?;
    transaction.execute("UPDATE late_index_watermarks SET row_id = 0", [])?;
    transaction.commit()?;
    merge_rest(connection, 0)
}

/// Merges the entries of all rows after the watermarks if there are more than `most` of a source, in portions: one that was
/// merged stays so, whatever happens to the next.
pub(super) fn merge_rest(connection: &Connection, most: usize) -> Result<(), StoreError> {
    for source in Source::ALL {
        let unmerged: i64 = connection.query_row(
            source.count_after(),
            params![watermarks(connection)?[source.index()], i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1)],
            |row| row.get(0),
        )?;
        if usize::try_from(unmerged).is_ok_and(|unmerged| unmerged > most) {
            while merge_portion(connection, source)? {}
        }
    }
    Ok(())
}

/// Merges the next portion of a source; returns whether there was one.
fn merge_portion(connection: &Connection, source: Source) -> Result<bool, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    let after = watermarks(&transaction)?[source.index()];
    let until: Option<i64> =
        transaction.query_row(source.portion_end(), params![after, MAX_PORTION], |row| row.get(0))?;
    let Some(until) = until else { return Ok(false) };
    // An entry may be there already: one that was merged before the process was killed.
    transaction.execute(source.merge_between(), params![after, until])?;
    transaction
        .execute("UPDATE late_index_watermarks SET row_id = ?2 WHERE source = ?1", params![source.number(), until])?;
    transaction.commit()?;
    Ok(true)
}

/// Records that every row up to these has its entry.
pub(super) fn write_watermarks(connection: &Connection, rows: &RowNumbers) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("UPDATE late_index_watermarks SET row_id = max(row_id, ?2) WHERE source = ?1")?;
    for source in Source::ALL {
        statement.execute(params![source.number(), rows[source.index()]])?;
    }
    Ok(())
}

fn watermarks(connection: &Connection) -> Result<RowNumbers, StoreError> {
    let mut watermarks = RowNumbers::default();
    for source in Source::ALL {
        watermarks[source.index()] = connection.query_row(
            "SELECT row_id FROM late_index_watermarks WHERE source = ?1",
            [source.number()],
            |row| row.get(0),
        )?;
    }
    Ok(watermarks)
}

fn last_rows(connection: &Connection) -> Result<RowNumbers, StoreError> {
    let mut last = RowNumbers::default();
    for source in Source::ALL {
        last[source.index()] = connection.query_row(source.last_row(), [], |row| row.get(0))?;
    }
    Ok(last)
}
