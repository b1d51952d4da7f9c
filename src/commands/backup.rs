//! `backup`: copies the SQLite database of a gateway while it serves.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Process, say};
use crate::commands::load_config::ConfigOption;
use crate::commands::{load_config, open_store};
use crate::store::{SqliteStore, WrittenBackup};

/// Copy the SQLite database to a file, also while the gateway serves from it
#[derive(Args)]
#[command(
    after_help = "Example:\n  examgate backup /backups/examgate-$(date +%F).db --config examgate.toml\n\nThe copy is as of \
                        one moment, checked, readable by its owner only, and never overwrites a file. The encryption key is \
                        NOT in it: keep a copy of the key apart from it; without the key the backup cannot be read.\n\nA \
                        PostgreSQL store is backed up with pg_dump; the command prints how.\nExit code: 0 the backup is \
                        complete, 1 it failed, 2 invalid configuration or a PostgreSQL store."
)]
pub(super) struct Options {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let store = load_config::inspected(options.config.file(), process)?.store;
    let file = options.file.display();
    let nothing = "there is no database to back up yet";
    let (database, keyring) = open_store::sqlite_file(&store, nothing, |shown| {
        format!("pg_dump --format=custom --no-owner --file='{file}' '{shown}'")
    })?;
    let written = SqliteStore::back_up(database, &options.file, keyring);
    let WrittenBackup { mended } = written.map_err(|error| Failure::other("no backup", error))?;
    let size = options.file.metadata().map_err(|error| Failure::other(&file.to_string(), error))?.len();
    say(format_args!("{file}: {size} bytes, a backup of {}", database.display()))?;
    if let Some(faults) = mended {
        say(format_args!(
            "The index of the database has faults ({faults}): people or keys in it may not be found. Faults of entries are \
             mended in the backup. To mend the database, stop the gateway, make another backup and restore that one; this \
             one lacks what was written since. Please report it."
        ))?;
    }
    say("The encryption key (store.encryption_key) is not in it: keep a copy of the key in another place.")
}
