//! Opens the store where the configuration says it is, with the engine of that place.

use std::sync::Arc;

use crate::commands::Process;
use crate::config::{StoreLocation, StoreParts};
use crate::store::{Inspection, Keyring, PostgresStore, SqliteStore, Store, StoreError};

/// The store, for a process that serves from it.
pub(super) async fn to_serve(parts: StoreParts, process: &Process) -> Result<Arc<dyn Store>, StoreError> {
    let StoreParts { place, keyring, likeness: _ } = parts;
    let environment = process.environment.clone();
    Ok(match place {
        StoreLocation::Sqlite(path) => Arc::new(SqliteStore::open_to_serve(&path, keyring, environment)?),
        StoreLocation::Postgres { url, .. } => {
            Arc::new(PostgresStore::open_to_serve(&url, keyring, environment).await?)
        }
    })
}

/// What opening the store to serve from it would change; nothing is changed, and a process may be serving from it.
pub(super) async fn inspect(place: &StoreLocation, keyring: &Keyring) -> Result<Inspection, StoreError> {
    match place {
        StoreLocation::Sqlite(path) => SqliteStore::inspect(path, keyring),
        StoreLocation::Postgres { url, .. } => PostgresStore::inspect(url, keyring).await,
    }
}
