//! Proves that rows and entries agree.

use std::fmt;

use rusqlite::Connection;

use crate::store::StoreError;

/// The number of faults found in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store::sqlite) struct IndexFaults {
    /// Rows up to the watermark without an entry: nothing finds them.
    pub(in crate::store::sqlite) missing: i64,
    /// Entries without a row of their value.
    pub(in crate::store::sqlite) orphans: i64,
    /// Rows that have the value of another, of which there may be one only.
    pub(in crate::store::sqlite) doubles: i64,
}

impl IndexFaults {
    pub(in crate::store::sqlite) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for IndexFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, orphans, doubles } = self;
        write!(f, "{missing} rows without an entry, {orphans} entries without a row, {doubles} rows of the same value")
    }
}

/// Counts the faults. Rows after the watermark need no entry: they are read when the database is opened.
pub(in crate::store::sqlite) fn check(connection: &Connection) -> Result<IndexFaults, StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    Ok(IndexFaults { missing: count(MISSING)?, orphans: count(ORPHANS)?, doubles: count(DOUBLES)? })
}

const MISSING: &str = "
    WITH watermark (source, row_id) AS (SELECT source, row_id FROM late_index_watermarks)
    SELECT (SELECT count(*) FROM idempotency_keys AS r
            WHERE id <= (SELECT row_id FROM watermark WHERE source = 0)
              AND NOT EXISTS (SELECT 1 FROM late_index WHERE short = substr(r.scope, 1, 8) AND source = 0 AND row_id = r.id))
         + (SELECT count(*) FROM identities AS r
            WHERE id <= (SELECT row_id FROM watermark WHERE source = 1)
              AND NOT EXISTS (SELECT 1 FROM late_index WHERE short = substr(r.blind, 1, 8) AND source = 1 AND row_id = r.id))
         + (SELECT count(*) FROM lookups AS r
            WHERE id <= (SELECT row_id FROM watermark WHERE source = 2)
              AND NOT EXISTS (SELECT 1 FROM late_index WHERE short = substr(r.blind, 1, 8) AND source = 2 AND row_id = r.id))";

const ORPHANS: &str = "
    SELECT count(*) FROM late_index AS e WHERE NOT CASE source
        WHEN 0 THEN EXISTS (SELECT 1 FROM idempotency_keys WHERE id = e.row_id AND substr(scope, 1, 8) = e.short)
        WHEN 1 THEN EXISTS (SELECT 1 FROM identities WHERE id = e.row_id AND substr(blind, 1, 8) = e.short)
        WHEN 2 THEN EXISTS (SELECT 1 FROM lookups WHERE id = e.row_id AND substr(blind, 1, 8) = e.short)
        ELSE 0 END";

/// Several people may share a look-up, but no identity or key. Counted from the rows, also those after the watermark.
const DOUBLES: &str = "
    SELECT (SELECT coalesce(sum(copies - 1), 0)
            FROM (SELECT count(*) AS copies FROM identities GROUP BY connection, kind, blind HAVING copies > 1))
         + (SELECT coalesce(sum(copies - 1), 0)
            FROM (SELECT count(*) AS copies FROM idempotency_keys GROUP BY scope HAVING copies > 1))";
