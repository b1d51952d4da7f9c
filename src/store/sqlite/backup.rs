//! Copies a database while a process serves from it, and puts such a copy in its place.
//!
//! Neither ever overwrites a file of the operator: a backup needs a free name, and a restore keeps what it replaces. The
//! encryption key is not part of a backup.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::connect;
use super::inspect::{has_log, immutable, look};
use super::process_lock::ProcessLock;
use crate::store::sqlite::late_index;
use crate::store::{BackupError, Inspection, Keyring, RestoredBackup, SchemaChange, StoreError, WrittenBackup};

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self(match error {
            StoreError::Unavailable(detail) => detail,
            other => other.to_string(),
        })
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Writes a consistent copy of the database, as of one moment, to `target`.
///
/// # Errors
/// [`BackupError`]; no file named `target` exists then, unless it existed before.
pub(super) fn back_up(database: &Path, target: &Path, keyring: &Keyring) -> Result<WrittenBackup, BackupError> {
    let database = existing(database)?;
    let target = connect::location(target)?;
    refuse_existing(&target)?;
    let partial = PartialFile::create(with_suffix(&target, ".partial"))?;
    {
        // A connection of its own that cannot write: the serving process neither waits for it nor shares its faults.
        let source = connect::reader(&database, connect::BUSY_TIMEOUT)?;
        let inspection = look_at(&source, keyring)?;
        if inspection.schema == SchemaChange::Create {
            return Err(BackupError(format!("{}: holds no data yet", database.display())));
        }
        let name = partial.path.to_str().ok_or_else(|| at(&target, "the name is not UTF-8"))?;
        source.execute("VACUUM INTO ?1", [name]).map_err(|error| at(&partial.path, StoreError::from(error)))?;
    }
    // SQLite does not sync what VACUUM INTO writes (https://www.sqlite.org/lang_vacuum.html).
    sync(&partial.path)?;
    let Verified { until: _, mended } = verify(&partial.path, keyring)?;
    partial.publish(&target)?;
    Ok(WrittenBackup { mended })
}

/// Puts the backup in the place of the database and keeps the database it replaces beside it.
///
/// # Errors
/// [`BackupError`]; the database is then as it was.
pub(super) fn restore(database: &Path, backup: &Path, keyring: &Keyring) -> Result<RestoredBackup, BackupError> {
    let backup = existing(backup)?;
    if has_log(&backup) {
        let detail = "has a write-ahead log (-wal) beside it, so it is a database in use and not a backup; make one with \
                      `examgate backup`";
        return Err(at(&backup, detail));
    }
    let database = destination(database)?;
    if backup == database {
        return Err(at(&backup, "is the database itself"));
    }
    if let Ok(present) = database.metadata() {
        check_owner(&database, present.uid(), rustix::process::geteuid().as_raw())?;
    }
    let _right = ProcessLock::of(&database).map_err(|error| {
        let BackupError(detail) = error.into();
        at(&database, format!("{detail}; stop it first"))
    })?;
    let copied = copy(&backup, with_suffix(&database, ".restore"))?;
    let Verified { until, mended } =
        verify(&copied.path, keyring).map_err(|BackupError(detail)| at(&backup, detail))?;
    let kept = if database.exists() { Some(set_aside(&database)?) } else { None };
    copied.replace(&database)?;
    Ok(RestoredBackup { kept, until, mended })
}

/// Refuses to replace a database of another user, whose gateway could not open what this one creates.
fn check_owner(database: &Path, owner: u32, user: u32) -> Result<(), BackupError> {
    if owner == user {
        return Ok(());
    }
    let detail = format!("belongs to user id {owner}, and this is user id {user}; run the command as that user");
    Err(at(database, detail))
}

/// Returns the canonical name of a file that must exist.
fn existing(path: &Path) -> Result<PathBuf, BackupError> {
    let path = connect::location(path)?;
    match path.metadata() {
        Ok(found) if found.is_file() => Ok(connect::canonical(&path)?),
        Ok(_) => Err(at(&path, "is not a file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(at(&path, "does not exist")),
        Err(error) => Err(at(&path, error)),
    }
}

/// Returns the canonical name of the database, which need not exist yet.
fn destination(path: &Path) -> Result<PathBuf, BackupError> {
    let path = connect::location(path)?;
    if path.symlink_metadata().is_ok() {
        return existing(&path);
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.join(name)),
        _ => Err(at(&path, "its directory does not exist")),
    }
}

/// What was found in a private copy of a database.
struct Verified {
    /// The last time a process noted in it; older schemas have no clock.
    until: Option<Timestamp>,
    /// The faults of its index that were mended.
    mended: Option<String>,
}

/// Verifies that the file is a whole store of this program, not newer than it, that opens with these keys. Mends faults
/// of its index.
fn verify(path: &Path, keyring: &Keyring) -> Result<Verified, BackupError> {
    let connection = immutable(path)?;
    // First whose file it is: a damaged file fails here as well.
    let inspection = look_at(&connection, keyring).map_err(|BackupError(detail)| at(path, detail))?;
    if inspection.schema == SchemaChange::Create {
        return Err(at(path, "holds no data of examgate"));
    }
    let fault: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if fault != "ok" {
        return Err(at(path, format!("is damaged: {fault}")));
    }
    let seen = connection.query_row("SELECT seen FROM clock", [], |row| row.get::<_, i64>(0)).ok();
    let until = seen.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    // Older schemas have no late index; opening them makes it.
    if inspection.schema != SchemaChange::None {
        return Ok(Verified { until, mended: None });
    }
    let faults = late_index::check(&connection)?;
    drop(connection);
    if faults.is_none() {
        return Ok(Verified { until, mended: None });
    }
    let left = mend_index(path)?;
    if left.missing != 0 || left.orphans != 0 {
        return Err(at(path, format!("is damaged: {left}")));
    }
    // No copy at all would be worse than one in which a person is there twice.
    Ok(Verified { until, mended: Some(faults.to_string()) })
}

/// Rebuilds the index of a private copy; returns the faults that are left.
fn mend_index(path: &Path) -> Result<late_index::IndexFaults, BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    late_index::rebuild(&connection)?;
    Ok(late_index::check(&connection)?)
}

fn look_at(connection: &Connection, keyring: &Keyring) -> Result<Inspection, BackupError> {
    look(connection, keyring).map_err(|error| match error {
        StoreError::Unreadable(detail) => BackupError(format!(
            "was written under another encryption key ({detail}); set store.encryption_key to that one"
        )),
        other => other.into(),
    })
}

/// Copies the backup to a private file beside the database. A file that an interrupted restore has left is replaced: the
/// process lock is held.
fn copy(backup: &Path, path: PathBuf) -> Result<PartialFile, BackupError> {
    // With its journal, which would be applied to the next copy of that name.
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut left = path.clone().into_os_string();
        left.push(suffix);
        match fs::remove_file(&left) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&path, error)),
            _ => {}
        }
    }
    let partial = PartialFile::create(path)?;
    let mut source = File::open(backup).map_err(|error| at(backup, error))?;
    let mut target = OpenOptions::new().write(true).open(&partial.path).map_err(|error| at(&partial.path, error))?;
    std::io::copy(&mut source, &mut target).map_err(|error| at(&partial.path, error))?;
    target.sync_all().map_err(|error| at(&partial.path, error))?;
    Ok(partial)
}

/// Gives the database a second name, under which it stays; returns that name. Its log is merged first, so that the
/// database is whole at every moment, even if the machine stops in between.
fn set_aside(database: &Path) -> Result<PathBuf, BackupError> {
    merge_log(database)?;
    let kept = (1..=9_999)
        .map(|number: u32| with_suffix(database, &format!(".before-restore-{number}")))
        .find(|path| path.symlink_metadata().is_err())
        .ok_or_else(|| at(database, "too many earlier databases are kept beside it"))?;
    match fs::hard_link(database, &kept) {
        Ok(()) => {}
        // Some file systems have no second names.
        Err(_) => drop(fs::copy(database, &kept).map_err(|error| at(&kept, error))?),
    }
    // What is left here belongs to a damaged database. It must go before another database takes the name: SQLite would
    // apply a log it finds to whatever file is beside it.
    for end in ["-wal", "-shm"] {
        let log = with_suffix(database, end);
        if log.exists() {
            fs::rename(&log, with_suffix(&kept, end)).map_err(|error| at(&log, error))?;
        }
    }
    Ok(kept)
}

/// Writes the log of the database into its file and removes it. A damaged database, perhaps the reason for the restore,
/// keeps its log.
fn merge_log(database: &Path) -> Result<(), BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let merged = Connection::open_with_flags(database, flags).and_then(|connection| {
        connection.busy_timeout(connect::BUSY_TIMEOUT)?;
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok((connect::refuse_foreign(&connection), busy))
    });
    match merged {
        Ok((Ok(()), 0)) => Ok(()),
        Ok((Ok(()), _)) => Err(at(database, "another program is reading it; try again")),
        Ok((Err(foreign), _)) => Err(at(database, BackupError::from(foreign))),
        Err(error) => match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Ok(()),
            _ => Err(at(database, StoreError::from(error))),
        },
    }
}

/// A private file that is removed unless it gets its final name.
struct PartialFile {
    path: PathBuf,
    kept: bool,
}

impl PartialFile {
    fn create(path: PathBuf) -> Result<Self, BackupError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(_) => Ok(Self { path, kept: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(at(&path, "another backup is being written, or one was interrupted; remove the file in that case"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(at(&path, "its directory does not exist")),
            Err(error) => Err(at(&path, error)),
        }
    }

    /// Gives the file this name, which must be free.
    fn publish(mut self, target: &Path) -> Result<(), BackupError> {
        // A rename would replace a file that has come into being meanwhile; a second name does not.
        match fs::hard_link(&self.path, target) {
            Ok(()) => fs::remove_file(&self.path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return refuse_existing(target),
            // Some file systems have no second names.
            Err(_) => {
                refuse_existing(target)?;
                fs::rename(&self.path, target)
            }
        }
        .map_err(|error| at(target, error))?;
        self.kept = true;
        sync_folder(target)
    }

    /// Gives the file this name in place of the file that has it.
    fn replace(mut self, target: &Path) -> Result<(), BackupError> {
        fs::rename(&self.path, target).map_err(|error| at(target, error))?;
        self.kept = true;
        sync_folder(target)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file cannot be removed");
        }
    }
}

fn refuse_existing(target: &Path) -> Result<(), BackupError> {
    match target.symlink_metadata() {
        Ok(_) => Err(at(target, "exists already, and a backup never overwrites a file; choose another name")),
        Err(_) => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| at(path, error))
}

/// Makes the new name durable.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    path.parent().map_or(Ok(()), sync)
}

fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

fn at(path: &Path, detail: impl std::fmt::Display) -> BackupError {
    BackupError(format!("{}: {detail}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_of_another_user_is_not_replaced() {
        let database = Path::new("/data/examgate.db");
        assert!(check_owner(database, 65_532, 65_532).is_ok());
        let BackupError(detail) = check_owner(database, 65_532, 0).unwrap_err();
        assert!(detail.starts_with("/data/examgate.db: belongs to user id 65532") && detail.contains("as that user"));
    }
}
