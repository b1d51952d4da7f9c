use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::entries::{Entry, collect_rows};
use super::*;
use crate::secret::Secret;
use crate::store::codec::RecordCodec;
use crate::store::conformance::environment;
use crate::store::encryption::BlindIndex;
use crate::store::sqlite::connect;
use crate::store::sqlite::tests::{beside, place};
use crate::store::{Keyring, StoreError};

mod model;

/// A value; two neighbours share the short form, as values hardly ever do.
fn blind(value: u32) -> BlindIndex {
    let mut blind = [0; 32];
    // Spread like a keyed hash.
    blind[..8].copy_from_slice(&u64::from(value / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    blind[28..].copy_from_slice(&value.to_be_bytes());
    blind
}

/// Rows of `lookups` alone, with their index.
struct Rows {
    connection: Connection,
    index: LateIndex,
    /// The directory of its file, if that is its own.
    directory: Option<TempDir>,
}

impl Rows {
    fn open(path: Option<&Path>, generation: usize) -> Self {
        // One key for all, since a copy is opened under it again.
        let key = Secret::new(data_encoding::BASE64.encode(&[7; 32]));
        let records = RecordCodec::new(Keyring::new(&key, &[]).unwrap(), environment());
        let connection = match path {
            Some(path) => connect::writer(&connect::resolve(path).unwrap(), &records).unwrap(),
            None => connect::memory(&records).unwrap(),
        };
        Self::over(connection, generation)
    }

    fn over(connection: Connection, generation: usize) -> Self {
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 0").unwrap();
        let index = LateIndex::open(&connection, generation).unwrap();
        Self { connection, index, directory: None }
    }

    /// As after a restart.
    fn reopen(self, generation: usize) -> Self {
        Self { directory: self.directory, ..Self::over(self.connection, generation) }
    }

    fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    fn begin(&self) {
        self.run("BEGIN IMMEDIATE");
        self.index.begin();
    }

    fn commit(&self) {
        self.index.prepare_commit(&self.connection).unwrap();
        self.run("COMMIT");
        self.index.publish();
    }

    fn insert(&self, value: u32) -> i64 {
        let row = self.index.next_row(Source::Lookup);
        self.connection
            .execute(
                "INSERT INTO lookups (id, candidate_id, tenant, kind, blind) VALUES (?1, 'cand', 't', 'email', ?2)",
                params![row, blind(value)],
            )
            .unwrap();
        self.index.add(Source::Lookup, &blind(value), row);
        row
    }

    fn delete(&self, value: u32, row: i64) {
        self.connection.execute("DELETE FROM lookups WHERE id = ?1", [row]).unwrap();
        self.index.remove(&self.connection, Source::Lookup, &blind(value), row).unwrap();
    }

    fn find(&self, value: u32) -> Vec<i64> {
        find_rows(&self.connection, &self.index, value)
    }

    /// Commits these values; returns their rows.
    fn add(&self, values: impl IntoIterator<Item = u32>) -> Vec<i64> {
        self.begin();
        let rows = values.into_iter().map(|value| self.insert(value)).collect();
        self.commit();
        rows
    }

    fn unmerged(&self) -> usize {
        let shared = self.index.shared();
        let generations = shared.read();
        generations.active.len() + generations.frozen.len()
    }

    fn number(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn watermark(&self) -> i64 {
        self.number("SELECT row_id FROM late_index_watermarks WHERE source = 2")
    }

    /// Asserts that table, memory and rows agree.
    fn assert_whole(&self) {
        assert_eq!(check(&self.connection).unwrap(), IndexFaults::default());
        let rows: BTreeMap<i64, BlindIndex> = self
            .connection
            .prepare("SELECT id, blind FROM lookups")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for (row, blind) in &rows {
            let sql = "SELECT id FROM lookups WHERE id = ?1 AND blind = ?2";
            let read = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let found = find(&self.connection, &self.index.shared(), Source::Lookup, blind, sql, read).unwrap();
            assert!(found.contains(row), "row {row} is not found");
        }
        let shared = self.index.shared();
        let generations = shared.read();
        for entry in generations.active.iter().chain(&generations.frozen) {
            let blind = rows.get(&entry.row()).unwrap_or_else(|| panic!("{entry:?} has no row"));
            assert_eq!(Entry::new(Source::Lookup, blind, entry.row()), *entry);
        }
    }
}

fn find_rows(connection: &Connection, entries: &impl UnmergedEntries, value: u32) -> Vec<i64> {
    let sql = "SELECT id FROM lookups WHERE id = ?1 AND blind = ?2";
    find(connection, entries, Source::Lookup, &blind(value), sql, |row| row.get(0)).unwrap()
}

#[test]
fn an_entry_sorts_as_the_table_does_and_returns_its_columns() {
    let row = (1 << 60) + 5;
    for source in Source::ALL {
        let entry = Entry::new(source, &[0xab; 32], row);
        assert_eq!((entry.short(), entry.source(), entry.row()), ([0xab; 8], source.number(), row));
    }
    let all = [
        Entry::new(Source::Lookup, &[1; 32], 9),
        Entry::new(Source::Key, &[0xf0; 32], 2),
        Entry::new(Source::Key, &[0xf0; 32], 3),
        Entry::new(Source::Identity, &[0xf0; 32], 1),
    ];
    assert!(all.is_sorted());
    let mut rows = Vec::new();
    collect_rows(&all.into(), Source::Key, &[0xf0; 32], &mut rows);
    assert_eq!(rows, [2, 3]);
}

#[test]
fn memory_stays_bounded_while_a_hundred_thousand_rows_are_added() {
    const GENERATION: usize = 4_000;
    let rows = Rows::open(None, GENERATION);
    for commit in 0..1_000 {
        rows.add(commit * 100..(commit + 1) * 100);
        assert!(rows.unmerged() < 2 * GENERATION, "{} after {commit} commits", rows.unmerged());
    }
    let merged = usize::try_from(rows.number("SELECT count(*) FROM late_index")).unwrap();
    assert!(merged + rows.unmerged() >= 100_000 && merged > 90_000, "{merged}");
    rows.assert_whole();
    // A single large transaction, too.
    rows.add(100_000..130_000);
    for value in 130_000..130_200 {
        rows.add([value]);
    }
    assert!(rows.unmerged() < 40_000, "{}", rows.unmerged());
    rows.assert_whole();
}

/// Opens a copy of the files as a process that was killed now would leave them.
fn killed_now(path: &Path, generation: usize) -> Rows {
    let (directory, copy) = place();
    for suffix in ["", "-wal"] {
        fs::copy(beside(path, suffix), beside(&copy, suffix)).unwrap();
    }
    Rows { directory: Some(directory), ..Rows::open(Some(&copy), generation) }
}

#[test]
fn a_kill_at_any_step_of_a_merge_loses_and_invents_nothing() {
    let (_directory, path) = place();
    let rows = Rows::open(Some(&path), 100);
    let (mut next, mut present, mut merging) = (0, BTreeMap::new(), 0);
    for step in 0_u32..60 {
        rows.begin();
        for value in next..next + 12 {
            present.insert(value, rows.insert(value));
        }
        next += 12;
        if step % 3 == 0 {
            // From every generation, also while its entry is in the slice that is merged now.
            let victims: Vec<(u32, i64)> = present.iter().step_by(17).map(|(value, row)| (*value, *row)).collect();
            for (value, row) in victims.into_iter().take(3) {
                rows.delete(value, row);
                present.remove(&value);
            }
        }
        rows.index.prepare_commit(&rows.connection).unwrap();
        // Before the commit, as if it had never begun.
        let before = killed_now(&path, 100);
        before.assert_whole();
        assert!(before.find(next - 1).is_empty(), "step {step}");
        rows.run("COMMIT");
        let after = killed_now(&path, 100);
        after.assert_whole();
        rows.index.publish();
        for (value, row) in &present {
            assert_eq!(after.find(*value), [*row], "step {step}");
        }
        assert!(after.index.next_row(Source::Lookup) > present.values().copied().max().unwrap());
        merging += u32::from(rows.number("SELECT count(*) FROM late_index") > 0);
        // What continues after the kill is whole again, with merges of its own.
        for value in 10_000..10_020 {
            after.add([value, value + 100, value + 200]);
        }
        after.assert_whole();
    }
    assert!(merging > 20 && rows.watermark() > 0, "{merging} steps with merged entries");
}

#[test]
fn a_row_number_up_to_the_watermark_is_never_given_again() {
    let rows = Rows::open(None, 10);
    let given: Vec<(u32, i64)> = (0..100).map(|value| (value, rows.add([value])[0])).collect();
    let watermark = rows.watermark();
    assert!(watermark > 10);
    rows.begin();
    for (value, row) in given.iter().filter(|(_, row)| *row >= watermark) {
        rows.delete(*value, *row);
    }
    rows.commit();
    let rows = rows.reopen(10);
    let new = rows.add([777])[0];
    assert!(new > watermark, "row {new} would be taken for one that has its entry");
    let rows = rows.reopen(10);
    assert_eq!(rows.find(777), [new]);
    rows.assert_whole();
}

#[test]
fn memory_agrees_with_the_disk_after_a_commit_in_doubt() {
    for took_place in [true, false] {
        let rows = Rows::open(None, 20);
        for value in 0..40 {
            rows.add([value * 2, value * 2 + 1]);
        }
        let row = rows.find(3)[0];
        rows.begin();
        rows.delete(3, row);
        rows.insert(500);
        rows.index.prepare_commit(&rows.connection).unwrap();
        rows.run(if took_place { "COMMIT" } else { "ROLLBACK" });
        rows.index.reload(&rows.connection).unwrap();
        assert_eq!(rows.find(500).is_empty(), !took_place);
        assert_eq!(rows.find(3).is_empty(), took_place);
        rows.assert_whole();
        for value in 600..700 {
            rows.add([value]);
        }
        rows.assert_whole();
    }
}

#[test]
fn readers_never_miss_an_entry_that_is_being_merged() {
    const COMMITS: u32 = 1_500;
    let (_directory, path) = place();
    let rows = Rows::open(Some(&path), 200);
    let (shared, committed) = (rows.index.shared(), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for reader in 0_u64..2 {
            let (shared, committed, path) = (shared.clone(), &committed, path.clone());
            scope.spawn(move || {
                let connection = connect::reader(&path, connect::BUSY_TIMEOUT).unwrap();
                let (mut asked, mut seed) = (0_u64, reader + 1);
                loop {
                    let known = committed.load(Ordering::Acquire);
                    if known >= COMMITS {
                        break;
                    }
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = u32::try_from(seed >> 33).unwrap() % (known * 4).max(1);
                    if known > 0 {
                        assert_eq!(find_rows(&connection, &shared, value).len(), 1, "{value} of {}", known * 4);
                        asked += 1;
                    }
                }
                assert!(asked > 0);
            });
        }
        for commit in 0..COMMITS {
            rows.add(commit * 4..commit * 4 + 4);
            committed.store(commit + 1, Ordering::Release);
        }
    });
    assert!(rows.watermark() > 0);
    rows.assert_whole();
}

#[test]
fn missing_orphaned_and_double_entries_are_found_and_mended() {
    let rows = Rows::open(None, 10);
    for value in 0..200 {
        rows.add([value]);
    }
    assert!(rows.watermark() > 100);
    let faults = || check(&rows.connection).unwrap();
    assert!(faults().is_none());
    rows.run("DELETE FROM late_index WHERE row_id = 5");
    assert_eq!(faults(), IndexFaults { missing: 1, ..IndexFaults::default() });
    rows.run("INSERT INTO late_index (short, source, row_id) VALUES (x'0102030405060708', 2, 7)");
    assert_eq!(faults(), IndexFaults { missing: 1, orphans: 1, doubles: 0 });
    rows.run("INSERT INTO late_index (short, source, row_id) VALUES (x'0102030405060708', 9, 7)");
    assert_eq!(faults(), IndexFaults { missing: 1, orphans: 2, doubles: 0 });
    rebuild(&rows.connection).unwrap();
    assert!(faults().is_none());
    let rows = rows.reopen(10);
    assert_eq!((rows.unmerged(), rows.find(5).len()), (0, 1));

    // One identity held twice.
    for id in [1, 2] {
        let sql = "INSERT INTO identities (id, candidate_id, tenant, connection, kind, blind) VALUES (?1, 'a', 't', 'c', 'k', ?2)";
        rows.connection.execute(sql, params![id, blind(1)]).unwrap();
    }
    rebuild(&rows.connection).unwrap();
    assert_eq!(check(&rows.connection).unwrap(), IndexFaults { doubles: 1, ..IndexFaults::default() });
}

#[test]
fn a_rebuild_in_parts_has_every_entry() {
    let rows = Rows::open(None, 10);
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
               INSERT INTO lookups (id, candidate_id, tenant, kind, blind) SELECT i, 'cand', 't', 'email', randomblob(32) FROM n";
    rows.run(sql);
    // More than a process keeps in memory: they are merged when it starts.
    let rows = rows.reopen(10);
    assert_eq!((rows.unmerged(), rows.watermark()), (0, 300_000));
    assert_eq!(rows.number("SELECT count(*) FROM late_index"), 300_000);
    assert!(check(&rows.connection).unwrap().is_none());
    assert_eq!(rows.add([1]), [300_001]);
}

#[test]
fn a_failed_read_of_the_rows_is_an_error() {
    let rows = Rows::open(None, 10);
    rows.run("DROP TABLE lookups");
    assert!(matches!(rows.index.reload(&rows.connection), Err(StoreError::Unavailable(_))));
}
