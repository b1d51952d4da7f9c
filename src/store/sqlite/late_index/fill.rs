//! Reads the rows that have no entry in the table yet, and rebuilds the table.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::entries::{Entry, Source};

/// Row numbers by source.
pub(super) type RowNumbers = [i64; Source::ALL.len()];

/// Maximum entries sorted in memory at once.
const MAX_SORTED: i64 = 250_000;

/// Entries read from the rows, and the number of the last row of each source.
pub(super) struct UnmergedRows {
    pub(super) entries: BTreeSet<Entry>,
    pub(super) last: RowNumbers,
}

/// Reads the entries of all rows after the watermarks; if there are more than `most`, merges all of them first.
pub(super) fn read_unmerged(connection: &Connection, most: usize) -> Result<UnmergedRows, StoreError> {
    let (mut watermarks, last) = (watermarks(connection)?, last_rows(connection)?);
    let unmerged: i64 = last.iter().zip(watermarks).map(|(last, watermark)| (last - watermark).max(0)).sum();
    if usize::try_from(unmerged).is_ok_and(|unmerged| unmerged > most) {
        rebuild(connection)?;
        watermarks = self::watermarks(connection)?;
    }
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

/// Makes the table anew from the rows, in one transaction and in bounded memory.
pub(in crate::store::sqlite) fn rebuild(connection: &Connection) -> Result<(), StoreError> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM late_index", [])?;
    let last = last_rows(&transaction)?;
    // Values are spread evenly, so equal ranges of their first two bytes hold about as many each.
    let parts = u16::try_from(last.iter().sum::<i64>() / MAX_SORTED + 1).unwrap_or(u16::MAX);
    let bound = |part: u16| u16::try_from(u32::from(part) * 0x1_0000 / u32::from(parts)).ok().map(u16::to_be_bytes);
    for part in 0..parts {
        transaction
            .prepare_cached(
                "INSERT INTO late_index (short, source, row_id)
                 SELECT substr(scope, 1, 8), 0, id FROM idempotency_keys WHERE scope >= ?1 AND (?2 IS NULL OR scope < ?2)
                 UNION ALL
                 SELECT substr(blind, 1, 8), 1, id FROM identities WHERE blind >= ?1 AND (?2 IS NULL OR blind < ?2)
                 UNION ALL
                 SELECT substr(blind, 1, 8), 2, id FROM lookups WHERE blind >= ?1 AND (?2 IS NULL OR blind < ?2)
                 ORDER BY 1, 2, 3",
            )?
            .execute(params![bound(part), bound(part + 1)])?;
    }
    write_watermarks(&transaction, &last)?;
    Ok(transaction.commit()?)
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
