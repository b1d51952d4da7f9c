//! Opening a database file: whose it is, which version it has, how durable it is.
//!
//! Nothing is written to a file before it is known to be ours.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::StoreError;
use crate::store::records::Records;

/// "exgt", in the header of every database of ours (<https://www.sqlite.org/fileformat2.html#application_id>).
pub(super) const APPLICATION_ID: i64 = 0x6578_6774;

/// One file a version, in order. A released one is never edited.
pub(super) const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_operations.sql"),
    include_str!("migrations/0003_audit.sql"),
    include_str!("migrations/0004_keys.sql"),
    include_str!("migrations/0005_counts.sql"),
];

/// How long a statement waits for others that hold the file (a backup).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements a connection keeps: more than there are, since the default of 16 is fewer.
const STATEMENTS: usize = 64;

/// The connection that writes, its schema up to date.
pub(super) fn writer(path: &Path, records: &Records) -> Result<Connection, StoreError> {
    let path = location(path)?;
    create_private(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = Connection::open_with_flags(&path, flags).map_err(StoreError::from);
    opened.and_then(|connection| prepare(connection, records)).map_err(|error| naming(&path, error))
}

/// A connection that only reads; the file is one that [`writer`] has opened before. It waits for those who hold the file for
/// as long as this.
pub(super) fn reader(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    let path = location(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(&path, flags).map_err(|error| naming(&path, error.into()))?;
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// A connection for bringing the write-ahead log into a file that [`writer`] has opened before.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let path = location(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(&path, flags).map_err(|error| naming(&path, error.into()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA cache_size = 0;")?;
    Ok(connection)
}

/// A database that lives as long as its one connection.
pub(super) fn memory(records: &Records) -> Result<Connection, StoreError> {
    prepare(Connection::open_in_memory()?, records)
}

fn prepare(mut connection: Connection, records: &Records) -> Result<Connection, StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    refuse_foreign(&connection)?;
    tune(&connection)?;
    migrate(&mut connection)?;
    check_keys(&mut connection, records)?;
    Ok(connection)
}

fn refuse_foreign(connection: &Connection) -> Result<(), StoreError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == APPLICATION_ID || (application == 0 && objects == 0) {
        return Ok(());
    }
    Err(StoreError::Unavailable("this SQLite database belongs to another program".to_owned()))
}

/// FULL: a commit that was acknowledged has been fsynced; NORMAL would lose the last ones with the power.
/// The log keeps its size when it begins anew ([`super::checkpoints`]): written over, it is synchronised without its inode.
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

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let todo = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let detail = "it was written by a newer examgate";
        StoreError::Unavailable(format!("{detail} (schema version {version}, this one knows up to {known})"))
    })?;
    for migration in todo {
        transaction.execute_batch(migration)?;
    }
    if !todo.is_empty() {
        transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(transaction.commit()?)
}

fn check_keys(connection: &mut Connection, records: &Records) -> Result<(), StoreError> {
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
fn location(path: &Path) -> Result<PathBuf, StoreError> {
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

fn naming(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(detail) => StoreError::Unavailable(format!("{}: {detail}", path.display())),
        StoreError::Unreadable(detail) => StoreError::Unreadable(format!("{}: {detail}", path.display())),
        other => other,
    }
}
