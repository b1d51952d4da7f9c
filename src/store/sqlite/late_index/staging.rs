//! The writer's side of the index: what the open transaction adds and removes, and the merging.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::late_index::entries::{Entry, SharedEntries, Source, UnmergedEntries, collect_rows};
use crate::store::sqlite::late_index::fill::{RowNumbers, UnmergedRows, merge_rest, read_unmerged, write_watermarks};

/// Entries that a generation collects before it is merged: some 2.5 MiB of memory, of which there are two at most. The
/// more, the more of them share a page of the table.
pub(in crate::store::sqlite) const GENERATION: usize = 98_304;

/// Entries merged for each one added, so that a generation is merged before the next one is full.
const MERGED_FOR_EACH: usize = 2;

/// Generations that are kept in memory when a database is opened. A process that was killed leaves up to three: one, and
/// what was added while as much again was merged.
const MAX_READ: usize = 4;

/// Minimum entries merged in one commit: a few neighbours share a page, so it costs less to merge rarely and many.
const MIN_SLICE: usize = 64;

/// The index as the one connection that writes sees it.
pub(in crate::store::sqlite) struct LateIndex {
    shared: SharedEntries,
    /// Entries after which a generation is frozen.
    generation: usize,
    /// The last row number given, per source. Never decreases, so a number up to the watermark is not given twice.
    last: Cell<RowNumbers>,
    /// The last rows of the frozen generation, if there is one.
    frozen_until: Cell<Option<RowNumbers>>,
    /// Entries that may be merged with the next commits.
    credit: Cell<usize>,
    staged: RefCell<StagedEntries>,
}

/// What the open transaction does.
#[derive(Default)]
struct StagedEntries {
    added: BTreeSet<Entry>,
    removed: BTreeSet<Entry>,
    /// The changes to both, in order.
    log: Vec<StagedChange>,
    /// What it merges.
    merged: Vec<Entry>,
    /// Whether nothing of the frozen generation is left then.
    completes: bool,
}

#[derive(Clone, Copy)]
enum StagedChange {
    Added(Entry),
    Removed(Entry),
    /// Removed after the same transaction had added it.
    Withdrawn(Entry),
}

impl LateIndex {
    /// Reads the entries that are not in the table yet.
    pub(in crate::store::sqlite) fn open(connection: &Connection, generation: usize) -> Result<Self, StoreError> {
        let index = Self {
            shared: SharedEntries::default(),
            generation,
            last: Cell::default(),
            frozen_until: Cell::default(),
            credit: Cell::default(),
            staged: RefCell::default(),
        };
        merge_rest(connection, generation.saturating_mul(MAX_READ))?;
        index.reload(connection)?;
        Ok(index)
    }

    /// Returns the entries that readers ask.
    pub(in crate::store::sqlite) fn shared(&self) -> SharedEntries {
        self.shared.clone()
    }

    /// Reads the entries anew: after a failed commit, memory must agree with the disk, whatever became of it.
    pub(in crate::store::sqlite) fn reload(&self, connection: &Connection) -> Result<(), StoreError> {
        self.begin();
        let UnmergedRows { entries, last } = read_unmerged(connection)?;
        let before = self.last.get();
        self.last.set(std::array::from_fn(|source| last[source].max(before[source])));
        self.frozen_until.set(None);
        let mut generations = self.shared.write();
        generations.active = entries;
        generations.frozen.clear();
        Ok(())
    }

    /// Returns the number of the next row.
    pub(in crate::store::sqlite) fn next_row(&self, source: Source) -> i64 {
        let mut last = self.last.get();
        last[source.index()] += 1;
        self.last.set(last);
        last[source.index()]
    }

    /// Adds the entry of a row that this transaction inserts under a number of [`Self::next_row`].
    pub(in crate::store::sqlite) fn add(&self, source: Source, blind: &BlindIndex, row: i64) {
        let entry = Entry::new(source, blind, row);
        let mut staged = self.staged.borrow_mut();
        staged.added.insert(entry);
        staged.log.push(StagedChange::Added(entry));
    }

    /// Removes the entry of a row that this transaction deletes.
    pub(in crate::store::sqlite) fn remove(
        &self,
        connection: &Connection,
        source: Source,
        blind: &BlindIndex,
        row: i64,
    ) -> Result<(), StoreError> {
        let entry = Entry::new(source, blind, row);
        let mut staged = self.staged.borrow_mut();
        if staged.added.remove(&entry) {
            staged.log.push(StagedChange::Withdrawn(entry));
            return Ok(());
        }
        staged.removed.insert(entry);
        staged.log.push(StagedChange::Removed(entry));
        connection
            .prepare_cached("DELETE FROM late_index WHERE short = ?1 AND source = ?2 AND row_id = ?3")?
            .execute(params![entry.short(), entry.source(), entry.row()])?;
        Ok(())
    }

    /// Begins a transaction: forgets what an earlier one staged.
    pub(in crate::store::sqlite) fn begin(&self) {
        self.staged.take();
    }

    /// Returns a mark of what is staged.
    pub(in crate::store::sqlite) fn savepoint(&self) -> usize {
        self.staged.borrow().log.len()
    }

    /// Forgets what was staged after the mark.
    pub(in crate::store::sqlite) fn roll_back_to(&self, mark: usize) {
        let mut staged = self.staged.borrow_mut();
        let StagedEntries { added, removed, log, .. } = &mut *staged;
        for change in log.drain(mark..).rev() {
            match change {
                StagedChange::Added(entry) => added.remove(&entry),
                StagedChange::Removed(entry) => removed.remove(&entry),
                StagedChange::Withdrawn(entry) => added.insert(entry),
            };
        }
    }

    /// Does the last steps of the transaction: merges a slice of the frozen generation, and shows readers the entries
    /// added. A reader that sees the commit must find the row that replaces another; before the commit, or if it fails, an
    /// entry leads to no row.
    pub(in crate::store::sqlite) fn prepare_commit(&self, connection: &Connection) -> Result<(), StoreError> {
        self.merge(connection)?;
        self.shared.write().active.extend(self.staged.borrow().added.iter().copied());
        Ok(())
    }

    /// Merges a slice of the frozen generation.
    fn merge(&self, connection: &Connection) -> Result<(), StoreError> {
        let Some(until) = self.frozen_until.get() else { return Ok(()) };
        let mut staged = self.staged.borrow_mut();
        let StagedEntries { added, removed, merged, completes, .. } = &mut *staged;
        self.credit.set(self.credit.get() + MERGED_FOR_EACH * added.len());
        {
            let generations = self.shared.read();
            let mut left = generations.frozen.iter().filter(|entry| !removed.contains(entry)).copied();
            if self.credit.get() >= MIN_SLICE {
                merged.extend(left.by_ref().take(self.credit.get()));
            }
            *completes = left.next().is_none();
        }
        if !merged.is_empty() {
            self.credit.set(0);
        }
        // An entry may be there already: one that was merged before the process was killed.
        let mut insert = connection
            .prepare_cached("INSERT OR IGNORE INTO late_index (short, source, row_id) VALUES (?1, ?2, ?3)")?;
        for entry in merged {
            insert.execute(params![entry.short(), entry.source(), entry.row()])?;
        }
        if *completes { write_watermarks(connection, &until) } else { Ok(()) }
    }

    /// Shows readers what else the transaction has done, after its commit.
    pub(in crate::store::sqlite) fn publish(&self) {
        let StagedEntries { added: _, removed, merged, completes, log: _ } = self.staged.take();
        let mut generations = self.shared.write();
        for entry in merged.iter().chain(&removed) {
            generations.frozen.remove(entry);
        }
        for entry in &removed {
            generations.active.remove(entry);
        }
        if completes {
            self.frozen_until.set(None);
        }
        if self.frozen_until.get().is_none() && generations.active.len() >= self.generation {
            generations.frozen = std::mem::take(&mut generations.active);
            self.frozen_until.set(Some(self.last.get()));
        }
    }
}

impl UnmergedEntries for LateIndex {
    fn unmerged_rows(&self, source: Source, blind: &BlindIndex) -> Vec<i64> {
        let mut rows = self.shared.unmerged_rows(source, blind);
        collect_rows(&self.staged.borrow().added, source, blind, &mut rows);
        rows
    }
}
