//! Opens the configured store with the engine its location calls for.

use std::path::Path;
use std::sync::Arc;

use crate::commands::{Failure, Process};
use crate::config::{KeyView, StoreLocation, StoreParts, StoreView};
use crate::store::{Inspection, Keyring, PostgresStore, SqliteStore, Store, StoreError};

/// Opens the store for a serving process.
pub(super) async fn to_serve(parts: StoreParts, process: &Process) -> Result<Arc<dyn Store>, StoreError> {
    let StoreParts { place, keyring, fingerprint: _ } = parts;
    let environment = process.environment.clone();
    Ok(match place {
        StoreLocation::Sqlite(path) => Arc::new(SqliteStore::open_to_serve(&path, keyring, environment)?),
        StoreLocation::Postgres { url, .. } => {
            Arc::new(PostgresStore::open_to_serve(&url, keyring, environment).await?)
        }
    })
}

/// Reports what opening the store to serve would change, without changing anything. Safe while another process is
/// serving.
pub(super) async fn inspect(place: &StoreLocation, keyring: &Keyring) -> Result<Inspection, StoreError> {
    match place {
        StoreLocation::Sqlite(path) => SqliteStore::inspect(path, keyring),
        StoreLocation::Postgres { url, .. } => PostgresStore::inspect(url, keyring).await,
    }
}

/// Returns the file and the keys of a SQLite store, for commands that work on the file itself.
///
/// # Errors
/// For PostgreSQL, the `command` line that does the same, made from the address without user and password; for a key
/// that does not exist, its file and the words `without_key`.
pub(super) fn sqlite_file<'a>(
    store: &'a StoreView,
    without_key: &str,
    command: impl Fn(&str) -> String,
) -> Result<(&'a Path, &'a Keyring), Failure> {
    let database = match &store.place {
        StoreLocation::Sqlite(path) => path,
        StoreLocation::Postgres { shown, .. } => {
            let command = command(shown);
            return Err(Failure::Usage(vec![format!(
                "store.url: {shown} is a PostgreSQL database, which its own tools back up and restore (user and password \
                 from PGUSER and PGPASSWORD):\n  {command}"
            )]));
        }
    };
    match &store.keys {
        KeyView::Known(keyring) => Ok((database, keyring)),
        KeyView::ToMake(key) => Err(Failure::Usage(vec![format!(
            "store.encryption_key: file {} does not exist; {without_key}",
            key.display()
        )])),
    }
}
