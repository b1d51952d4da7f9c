//! Entries, and those in memory, which the writer shares with the readers.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::encryption::BlindIndex;

/// The table whose row an entry points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::sqlite) enum Source {
    Key = 0,
    Identity = 1,
    Lookup = 2,
}

impl Source {
    pub(in crate::store::sqlite) const ALL: [Self; 3] = [Self::Key, Self::Identity, Self::Lookup];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Returns the number in the column `source`.
    pub(super) const fn number(self) -> i64 {
        self as i64
    }

    /// Returns the statement that reads number and value of the rows after a row, in order.
    pub(super) const fn rows_after(self) -> &'static str {
        match self {
            Self::Key => "SELECT id, scope FROM idempotency_keys WHERE id > ?1 ORDER BY id",
            Self::Identity => "SELECT id, blind FROM identities WHERE id > ?1 ORDER BY id",
            Self::Lookup => "SELECT id, blind FROM lookups WHERE id > ?1 ORDER BY id",
        }
    }

    /// Returns the statement that counts the rows after a row, up to a number.
    pub(super) const fn count_after(self) -> &'static str {
        match self {
            Self::Key => "SELECT count(*) FROM (SELECT 1 FROM idempotency_keys WHERE id > ?1 LIMIT ?2)",
            Self::Identity => "SELECT count(*) FROM (SELECT 1 FROM identities WHERE id > ?1 LIMIT ?2)",
            Self::Lookup => "SELECT count(*) FROM (SELECT 1 FROM lookups WHERE id > ?1 LIMIT ?2)",
        }
    }

    /// Returns the statement that reads the last of the next so many rows after a row.
    pub(super) const fn portion_end(self) -> &'static str {
        match self {
            Self::Key => "SELECT max(id) FROM (SELECT id FROM idempotency_keys WHERE id > ?1 ORDER BY id LIMIT ?2)",
            Self::Identity => "SELECT max(id) FROM (SELECT id FROM identities WHERE id > ?1 ORDER BY id LIMIT ?2)",
            Self::Lookup => "SELECT max(id) FROM (SELECT id FROM lookups WHERE id > ?1 ORDER BY id LIMIT ?2)",
        }
    }

    /// Returns the statement that merges the entries of the rows after one and up to another.
    pub(super) const fn merge_between(self) -> &'static str {
        match self {
            Self::Key => {
                "INSERT OR IGNORE INTO late_index (short, source, row_id)
                 SELECT substr(scope, 1, 8), 0, id FROM idempotency_keys WHERE id > ?1 AND id <= ?2 ORDER BY 1, 3"
            }
            Self::Identity => {
                "INSERT OR IGNORE INTO late_index (short, source, row_id)
                 SELECT substr(blind, 1, 8), 1, id FROM identities WHERE id > ?1 AND id <= ?2 ORDER BY 1, 3"
            }
            Self::Lookup => {
                "INSERT OR IGNORE INTO late_index (short, source, row_id)
                 SELECT substr(blind, 1, 8), 2, id FROM lookups WHERE id > ?1 AND id <= ?2 ORDER BY 1, 3"
            }
        }
    }

    /// Returns the statement that reads the number of the last row.
    pub(super) const fn last_row(self) -> &'static str {
        match self {
            Self::Key => "SELECT coalesce(max(id), 0) FROM idempotency_keys",
            Self::Identity => "SELECT coalesce(max(id), 0) FROM identities",
            Self::Lookup => "SELECT coalesce(max(id), 0) FROM lookups",
        }
    }
}

/// Bits of a row's number in [`Entry::place`]; the source is above them.
const ROW_BITS: u32 = 61;

/// Points from the short form of a blind value to a row. Sorted like the table `late_index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    short: u64,
    place: u64,
}

impl Entry {
    pub(super) fn new(source: Source, blind: &BlindIndex, row: i64) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&blind[..8]);
        Self { short: u64::from_be_bytes(short), place: ((source as u64) << ROW_BITS) | row.cast_unsigned() }
    }

    /// Returns the column `short`.
    pub(super) const fn short(self) -> [u8; 8] {
        self.short.to_be_bytes()
    }

    /// Returns the column `source`.
    pub(super) const fn source(self) -> i64 {
        (self.place >> ROW_BITS).cast_signed()
    }

    /// Returns the column `row_id`.
    pub(super) const fn row(self) -> i64 {
        (self.place & ((1 << ROW_BITS) - 1)).cast_signed()
    }
}

/// Adds the rows to which entries of this value point.
pub(super) fn collect_rows(entries: &BTreeSet<Entry>, source: Source, blind: &BlindIndex, rows: &mut Vec<i64>) {
    let range = Entry::new(source, blind, 0)..=Entry::new(source, blind, (1 << ROW_BITS) - 1);
    rows.extend(entries.range(range).map(|entry| entry.row()));
}

/// Entries that are not, or perhaps not, in the table yet.
pub(in crate::store::sqlite) trait UnmergedEntries {
    /// Returns the rows to which entries of this value point.
    fn unmerged_rows(&self, source: Source, blind: &BlindIndex) -> Vec<i64>;
}

/// The entries in memory: one generation collects, the one before it is merged.
#[derive(Debug, Default)]
pub(super) struct Generations {
    pub(super) active: BTreeSet<Entry>,
    pub(super) frozen: BTreeSet<Entry>,
}

/// The entries of committed rows. A reader asks them before it asks the table: an entry leaves them only after the
/// commit that merged it, so it is in one of the two.
#[derive(Debug, Clone, Default)]
pub(in crate::store::sqlite) struct SharedEntries(Arc<RwLock<Generations>>);

impl SharedEntries {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Generations> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnmergedEntries for SharedEntries {
    fn unmerged_rows(&self, source: Source, blind: &BlindIndex) -> Vec<i64> {
        let generations = self.read();
        let mut rows = Vec::new();
        collect_rows(&generations.active, source, blind, &mut rows);
        collect_rows(&generations.frozen, source, blind, &mut rows);
        rows
    }
}
