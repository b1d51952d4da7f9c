//! Opens database files: checks the owner and version of a file and sets how durable it is.
//!
//! Nothing is written to a file before it is known to belong to examgate.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;
use crate::store::codec::RecordCodec;

/// "exgt", in the header of every examgate database (<https://www.sqlite.org/fileformat2.html#application_id>).
pub(super) const APPLICATION_ID: i64 = 0x6578_6774;

/// One file per version, in order. Never edit a released one.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_operations.sql"),
    include_str!("migrations/0003_audit.sql"),
    include_str!("migrations/0004_keys.sql"),
    include_str!("migrations/0005_counts.sql"),
    include_str!("migrations/0006_clock.sql"),
    include_str!("migrations/0007_people.sql"),
    include_str!("migrations/0008_parts.sql"),
    include_str!("migrations/0009_retry.sql"),
    include_str!("migrations/0010_identities.sql"),
    include_str!("migrations/0011_lists.sql"),
    include_str!("migrations/0012_late_index.sql"),
    include_str!("migrations/0013_results.sql"),
    include_str!("migrations/0014_events.sql"),
    include_str!("migrations/0015_deliveries.sql"),
    include_str!("migrations/0016_event_indices.sql"),
    include_str!("migrations/0017_report_fetches.sql"),
    include_str!("migrations/0018_sweeps.sql"),
];

/// Time a statement waits for another connection that locks the file (a backup).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements cached per connection: more than this engine has, because the default of 16 is fewer.
const STATEMENTS: usize = 192;

/// Creates the file if it is missing and returns its canonical name, free of symbolic links, so that the files beside
/// it (its lock, its log) are the same for every process that opens it.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let path = location(path)?;
    create_private(&path)?;
    canonical(&path)
}

/// Returns the canonical name of an existing file.
///
/// # Errors
/// [`StoreError::Unavailable`] also if the file has several hard links: `SQLite` keeps its log beside the name it was
/// given, and two logs of one database destroy it
/// (<https://www.sqlite.org/howtocorrupt.html#_multiple_links_to_the_same_file>).
pub(super) fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let path = path.canonicalize().map_err(unusable)?;
    #[cfg(unix)]
    {
        let names = std::os::unix::fs::MetadataExt::nlink(&path.metadata().map_err(unusable)?);
        if names > 1 {
            let detail = "the file has several names (hard links), and each would have its own log; keep one";
            return Err(StoreError::Unavailable(format!("{}: {detail}", path.display())));
        }
    }
    Ok(path)
}

/// Opens the connection that writes to a [`resolve`]d file and migrates its schema.
pub(super) fn writer(path: &Path, records: &RecordCodec) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = Connection::open_with_flags(path, flags).map_err(StoreError::from);
    opened.and_then(|connection| prepare(connection, records)).map_err(|error| with_path(path, error))
}

/// Opens a read-only connection to a file that [`writer`] has opened before. `patience` is how long it waits for
/// another connection that locks the file.
pub(super) fn reader(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| with_path(path, error.into()))?;
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens a connection that checkpoints a file [`writer`] has opened before.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| with_path(path, error.into()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA cache_size = 0;")?;
    Ok(connection)
}

/// Opens a database in memory, which exists as long as this one connection.
pub(super) fn memory(records: &RecordCodec) -> Result<Connection, StoreError> {
    prepare(Connection::open_in_memory()?, records)
}

fn prepare(mut connection: Connection, records: &RecordCodec) -> Result<Connection, StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    refuse_foreign(&connection)?;
    apply_settings(&connection)?;
    migrate(&mut connection)?;
    check_keys(&mut connection, records)?;
    Ok(connection)
}

pub(super) fn refuse_foreign(connection: &Connection) -> Result<(), StoreError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == APPLICATION_ID || (application == 0 && objects == 0) {
        return Ok(());
    }
    Err(StoreError::Unavailable("this SQLite database belongs to another program".to_owned()))
}

/// Applies the settings of the writing connection:
/// * `synchronous = FULL`: an acknowledged commit has been fsynced; NORMAL would lose the last ones in a power cut.
/// * `journal_size_limit`: the log keeps its size when it restarts ([`crate::store::sqlite::checkpointer`]), so that
///   overwriting it needs no sync of its inode.
/// * `secure_delete`: erased records are overwritten, not only unlinked.
/// * `temp_store = MEMORY`: rollback data of savepoints stays in memory. Each job of a group has a savepoint, and
///   beyond 64 KiB `SQLite` would write their pages to a temporary file
///   (<https://www.sqlite.org/tempfiles.html#statement_journal_files>).
fn apply_settings(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA journal_size_limit = 25165824;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;",
    )?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" || mode == "memory" {
        return Ok(());
    }
    // Some network and overlay file systems lack the shared memory that the write-ahead log needs.
    Err(StoreError::Unavailable(format!("the file system does not support a write-ahead log (journal mode is {mode})")))
}

/// Returns the version of the schema (0 if there is none) and the migrations it lacks.
pub(super) fn version(connection: &Connection) -> Result<(i64, &'static [&'static str]), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let todo = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let detail = "it was written by a newer examgate";
        StoreError::Unavailable(format!("{detail} (schema version {version}, this one knows up to {known})"))
    })?;
    Ok((version, todo))
}

/// Applies the migrations that are missing. Foreign keys are off meanwhile and checked at the end: with them, `SQLite`
/// empties a table row by row.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    apply_migrations(connection)?;
    Ok(connection.execute_batch("PRAGMA foreign_keys = ON")?)
}

fn apply_migrations(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (_, todo) = version(&transaction)?;
    for migration in todo {
        transaction.execute_batch(migration)?;
    }
    if !todo.is_empty() {
        if transaction.prepare("PRAGMA foreign_key_check")?.exists([])? {
            let detail = "rows refer to records that do not exist; restore a backup".to_owned();
            return Err(StoreError::Unavailable(detail));
        }
        transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(transaction.commit()?)
}

fn check_keys(connection: &mut Connection, records: &RecordCodec) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare("SELECT id FROM keys")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            records.require_key(&row.get::<_, Vec<u8>>(0)?)?;
        }
    }
    // Later than every other one, whatever the clock says: the first one makes the digests of reports.
    transaction.execute(
        "INSERT OR IGNORE INTO keys (id, first_used)
         VALUES (?1, max(?2, coalesce((SELECT max(first_used) + 1 FROM keys), 0)))",
        records.key_in_use(),
    )?;
    let first = "SELECT id FROM keys ORDER BY first_used, id LIMIT 1";
    records.set_first_key(&transaction.query_row(first, [], |row| row.get::<_, Vec<u8>>(0))?);
    Ok(transaction.commit()?)
}

/// Registers this instance as the one that serves; all earlier ones have ended.
pub(super) fn register_instance(connection: &mut Connection, instance: &str) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE instances SET ended = 1", [])?;
    // Delete instances that nothing refers to.
    transaction.execute(
        "DELETE FROM instances WHERE id NOT IN (
             SELECT owner FROM intents WHERE owner IS NOT NULL
             UNION SELECT owner FROM idempotency_keys WHERE owner IS NOT NULL
             UNION SELECT owner FROM operations WHERE owner IS NOT NULL AND state = 'receiving')",
        [],
    )?;
    transaction.execute("INSERT INTO instances (id, ended) VALUES (?1, 0)", [instance])?;
    Ok(transaction.commit()?)
}

/// Returns the absolute path, because `SQLite` treats a name that begins with `file:` as a URI.
pub(super) fn location(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
}

/// Creates the file if it is missing, for its owner only; `SQLite` gives the files beside it the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let detail = match options.open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => "its directory does not exist".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(StoreError::Unavailable(format!("{}: {detail}", path.display())))
}

pub(super) fn with_path(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(detail) => StoreError::Unavailable(format!("{}: {detail}", path.display())),
        StoreError::Unreadable(detail) => StoreError::Unreadable(format!("{}: {detail}", path.display())),
        other => other,
    }
}
