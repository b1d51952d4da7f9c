//! Opens the configured store with the engine its location calls for.

use std::sync::Arc;

use crate::commands::Process;
use crate::config::{StoreLocation, StoreParts};
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
