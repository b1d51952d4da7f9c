//! Opening a database file: whose it is, which version it has, how durable it is.
//!
//! Nothing is written to a file before it is known to be ours.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;
use crate::store::codec::RecordCodec;

/// "exgt", in the header of every database of ours (<https://www.sqlite.org/fileformat2.html#application_id>).
pub(super) const APPLICATION_ID: i64 = 0x6578_6774;

/// One file a version, in order. A released one is never edited.
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
];

/// How long a statement waits for others that hold the file (a backup).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements a connection keeps: more than there are, since the default of 16 is fewer.
const STATEMENTS: usize = 64;

/// Makes the file if there is none, and finds its one name: without symbolic links, so that whatever lies beside it (its
/// lock, its log) is the same for all who open it.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let path = location(path)?;
    create_private(&path)?;
    canonical(&path)
}

/// The one name of a file that exists.
///
/// # Errors
/// [`StoreError::Unavailable`] also where it has several, by hard links: `SQLite` keeps its log beside the name it was given,
/// and two logs of one database destroy it (<https://www.sqlite.org/howtocorrupt.html#_multiple_links_to_the_same_file>).
pub(super) fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let path = path.canonicalize().map_err(unusable)?;
    #[cfg(unix)]
    {
        let names = std::os::unix::fs::MetadataExt::nlink(&path.metadata().map_err(unusable)?);
        if names > 1 {
            let detail = "the file has several names (hard links), and each would have a log of its own; keep one";
            return Err(StoreError::Unavailable(format!("{}: {detail}", path.display())));
        }
    }
    Ok(path)
}

/// The connection that writes to a file that was [`resolve`]d, its schema up to date.
pub(super) fn writer(path: &Path, records: &RecordCodec) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = Connection::open_with_flags(path, flags).map_err(StoreError::from);
    opened.and_then(|connection| prepare(connection, records)).map_err(|error| naming(path, error))
}

/// A connection that only reads; the file is one that [`writer`] has opened before. It waits for those who hold the file for
/// as long as this.
pub(super) fn reader(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| naming(path, error.into()))?;
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// A connection for bringing the write-ahead log into a file that [`writer`] has opened before.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| naming(path, error.into()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA cache_size = 0;")?;
    Ok(connection)
}

/// A database that lives as long as its one connection.
pub(super) fn memory(records: &RecordCodec) -> Result<Connection, StoreError> {
    prepare(Connection::open_in_memory()?, records)
}

fn prepare(mut connection: Connection, records: &RecordCodec) -> Result<Connection, StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    refuse_foreign(&connection)?;
    tune(&connection)?;
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

/// FULL: a commit that was acknowledged has been fsynced; NORMAL would lose the last ones with the power.
/// The log keeps its size when it begins anew ([`crate::store::sqlite::checkpointer`]): written over, it is synchronised without its inode.
/// Erased records are overwritten, not only unlinked.
/// What a savepoint may have to take back stays in memory: each job of a group has one, and past 64 KiB `SQLite` would keep
/// the pages of all of them in a temporary file (<https://www.sqlite.org/tempfiles.html#statement_journal_files>).
fn tune(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 25165824;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;",
    )?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" || mode == "memory" {
        return Ok(());
    }
    // Some network and overlay file systems have no shared memory for the write-ahead log.
    Err(StoreError::Unavailable(format!("the file system allows no write-ahead log (journal mode is {mode})")))
}

/// The version of the schema, 0 where there is none, and the migrations it lacks.
pub(super) fn version(connection: &Connection) -> Result<(i64, &'static [&'static str]), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let todo = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let detail = "it was written by a newer examgate";
        StoreError::Unavailable(format!("{detail} (schema version {version}, this one knows up to {known})"))
    })?;
    Ok((version, todo))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (_, todo) = version(&transaction)?;
    for migration in todo {
        transaction.execute_batch(migration)?;
    }
    if !todo.is_empty() {
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
    transaction.execute("INSERT OR IGNORE INTO keys (id, first_used) VALUES (?1, ?2)", records.key_in_use())?;
    Ok(transaction.commit()?)
}

/// From now on this instance is the one that serves: all earlier ones have ended, however they did.
pub(super) fn take_over(connection: &mut Connection, instance: &str) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE instances SET ended = 1", [])?;
    // Those nothing points to any more are forgotten.
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

/// Absolute, because `SQLite` reads a name that begins with `file:` as an address.
pub(super) fn location(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
}

/// Makes the file if there is none, for its owner only; `SQLite` gives the files beside it the same mode.
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

pub(super) fn naming(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(detail) => StoreError::Unavailable(format!("{}: {detail}", path.display())),
        StoreError::Unreadable(detail) => StoreError::Unreadable(format!("{}: {detail}", path.display())),
        other => other,
    }
}
