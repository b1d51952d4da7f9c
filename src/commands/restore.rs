//! `restore`: puts a backup in the place of the SQLite database.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Process, say};
use crate::commands::load_config::ConfigOption;
use crate::commands::{load_config, open_store};
use crate::store::{RestoredBackup, SqliteStore};

/// Put a backup in the place of the SQLite database; the gateway must be stopped
#[derive(Args)]
#[command(
    after_help = "Example:\n  systemctl stop examgate\n  examgate restore /backups/examgate-2026-11-29.db --config \
                        examgate.toml\n  systemctl start examgate\n\nThe backup is checked first: whole, of this or an \
                        earlier version, and written under store.encryption_key or one of store.decryption_keys. The \
                        database it replaces is kept beside it as NAME.before-restore-1. Run it as the user that the \
                        gateway runs as.\n\nThe gateway then knows nothing of what it wrote at the vendors after the \
                        backup. docs/OPERATIONS.md, \"Backup and restore\", says what that means and what to do.\n\nExit \
                        code: 0 restored, 1 it failed and the database is as it was, 2 invalid configuration or a \
                        PostgreSQL store."
)]
pub(super) struct Options {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let store = load_config::inspected(options.config.file(), process)?.store;
    let file = options.file.display();
    let without_key = "put your copy of the key there first: a new key cannot open a backup";
    let (database, keyring) = open_store::sqlite_file(&store, without_key, |shown| {
        format!("pg_restore --clean --if-exists --no-owner --single-transaction --dbname='{shown}' '{file}'")
    })?;
    let restored = SqliteStore::restore(database, &options.file, keyring);
    let RestoredBackup { kept, until, mended } = restored.map_err(|error| Failure::other("not restored", error))?;
    say(format_args!("{}: restored from {file}", database.display()))?;
    if let Some(kept) = kept {
        say(format_args!("the database it replaces: {}", kept.display()))?;
    }
    if let Some(faults) = mended {
        say(format_args!("mended the index of the backup: {faults}"))?;
    }
    let until = until.map_or_else(|| "the backup".to_owned(), |time| format!("about {time:.0}"));
    say(format_args!(
        "The gateway knows nothing of what it wrote at the vendors after {until}: a request for one of those people is \
         treated as the first.\nBefore you start the gateway: set bookings_only_here = false where it is true, and tell the \
         callers that responses after that time no longer count (docs/OPERATIONS.md, \"Backup and restore\")."
    ))
}
