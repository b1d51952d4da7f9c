//! Opens the store where the configuration says it is, with the engine of that place.

use std::sync::Arc;

use super::Process;
use crate::config::{StoreParts, StorePlace};
use crate::store::{PostgresStore, SqliteStore, Store, StoreError};

/// The store, for a process that serves from it.
pub(super) async fn to_serve(parts: StoreParts, process: &Process) -> Result<Arc<dyn Store>, StoreError> {
    let StoreParts { place, keyring, likeness: _ } = parts;
    let environment = process.environment.clone();
    Ok(match place {
        StorePlace::Sqlite(path) => Arc::new(SqliteStore::open_to_serve(&path, keyring, environment)?),
        StorePlace::Postgres { url, .. } => Arc::new(PostgresStore::open_to_serve(&url, keyring, environment).await?),
    })
}

/// The store, to look at beside a process that may be serving from it.
pub(super) async fn to_look_at(parts: StoreParts, process: &Process) -> Result<Arc<dyn Store>, StoreError> {
    let StoreParts { place, keyring, likeness: _ } = parts;
    let environment = process.environment.clone();
    Ok(match place {
        StorePlace::Sqlite(path) => Arc::new(SqliteStore::open(&path, keyring, environment)?),
        StorePlace::Postgres { url, .. } => Arc::new(PostgresStore::open(&url, keyring, environment).await?),
    })
}
