//! The schema: checks its owner, version and keys, migrates it, and registers instances.
//!
//! Nothing is written before the schema is known to belong to examgate. Everything here runs under one lock, so that
//! processes that start together take turns.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};

use super::instances;
use crate::store::codec::RecordCodec;
use crate::store::encryption::KeyId;
use crate::store::postgres::commit_slots;
use crate::store::{Inspection, Keyring, Peer, SchemaChange, StoreError};

/// One file per version, in order. Never edit a released one.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_audit.sql"),
    include_str!("migrations/0003_clock.sql"),
    include_str!("migrations/0004_people.sql"),
    include_str!("migrations/0005_counts.sql"),
    include_str!("migrations/0006_retry.sql"),
    include_str!("migrations/0007_identities.sql"),
    include_str!("migrations/0008_lists.sql"),
    include_str!("migrations/0009_rows.sql"),
    include_str!("migrations/0010_results.sql"),
    include_str!("migrations/0011_events.sql"),
    include_str!("migrations/0012_deliveries.sql"),
    include_str!("migrations/0013_event_indices.sql"),
    include_str!("migrations/0014_report_fetches.sql"),
    include_str!("migrations/0015_sweeps.sql"),
];

/// The form of the index entries that this version writes: 2 is the identity's key, 1 the text as it was given.
pub(super) const IDENTITY_FORM: i32 = 2;

/// Number of the advisory lock: "exgt" twice.
const LOCK: i64 = 0x6578_6774_6578_6774;

/// Time limit of a migration, or of the wait for the migration of another process.
const MIGRATION_TIMEOUT: &str = "10min";

/// Time for which an instance that lacks a key is watched for a heartbeat before it counts as dead.
const WATCH_TIME: Duration = Duration::from_secs(8);

/// Migrates the schema. Refuses one that belongs to another program, is newer, or was written under a missing key.
pub(super) async fn prepare(connection: &mut PgConnection, records: &RecordCodec) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    let done = match version(&mut transaction).await? {
        Some(done) => done,
        None => register(&mut transaction).await?,
    };
    let todo = missing(done)?;
    for migration in todo {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if !todo.is_empty() {
        sqlx::query("UPDATE schema_version SET version = $1")
            .bind(i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await?;
    }
    check_keys(&mut transaction, records).await?;
    Ok(transaction.commit().await?)
}

/// Returns the migrations that a schema of this version lacks.
fn missing(version: i64) -> Result<&'static [&'static str], StoreError> {
    usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).ok_or_else(|| {
        let known = MIGRATIONS.len();
        let detail = "it was written by a newer examgate";
        StoreError::Unavailable(format!("{detail} (schema version {version}, this one knows up to {known})"))
    })
}

/// Reports what [`prepare`] and [`register_instance`] would change or refuse, without changing anything.
pub(super) async fn inspect(connection: &mut PgConnection, keyring: &Keyring) -> Result<Inspection, StoreError> {
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
    let version = version(&mut transaction).await?.unwrap_or(0);
    missing(version)?;
    let schema = SchemaChange::between(version, MIGRATIONS.len());
    if schema == SchemaChange::Create {
        return Ok(Inspection { schema, registers_key: true });
    }
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM keys").fetch_all(&mut *transaction).await?;
    keys.iter().try_for_each(|key| keyring.require(key))?;
    let watched = instances_without_key(&mut transaction, keyring.current_id()).await?;
    transaction.rollback().await?;
    if !watched.is_empty() {
        tokio::time::sleep(WATCH_TIME).await;
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        let living = instances_without_key(&mut transaction, keyring.current_id()).await?;
        transaction.rollback().await?;
        if living.iter().any(|peer| !watched.contains(peer)) {
            return Err(new_key());
        }
    }
    let registers_key = keys.iter().all(|key| *key != keyring.current_id());
    Ok(Inspection { schema, registers_key })
}

/// Returns the instances that have not ended and lack this key.
async fn instances_without_key(connection: &mut PgConnection, key: KeyId) -> Result<Vec<Peer>, StoreError> {
    let lacking = sqlx::query("SELECT id, beats FROM instances WHERE NOT ended AND NOT $1 = ANY(keys)").bind(key);
    let rows = lacking.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Peer { instance: row.try_get(0)?, heartbeats: row.try_get(1)? })).collect()
}

fn new_key() -> StoreError {
    let detail = "store.encryption_key is new, and another process serving from this database lacks it";
    StoreError::Unavailable(format!("{detail}; first add it to store.decryption_keys of every process"))
}

/// Registers this instance. Refuses a new key while a live instance lacks it: that instance could neither read new
/// records nor find the people in them, and would register them again.
pub(super) async fn register_instance(connection: &mut PgConnection, records: &RecordCodec) -> Result<(), StoreError> {
    let lacking = try_register_instance(connection, records, &[]).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    // Usually the previous process, which no peer has ended yet.
    tokio::time::sleep(WATCH_TIME).await;
    if try_register_instance(connection, records, &lacking).await?.is_empty() {
        return Ok(());
    }
    Err(new_key())
}

/// Registers this instance unless a live one lacks its key, and returns those that do. Ends the watched ones whose
/// heartbeat count is unchanged.
pub(super) async fn try_register_instance(
    connection: &mut PgConnection,
    records: &RecordCodec,
    watched: &[Peer],
) -> Result<Vec<Peer>, StoreError> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    check_keys(&mut transaction, records).await?;
    let (key, now) = records.key_in_use();
    let mut living = Vec::new();
    for peer in instances_without_key(&mut transaction, key).await? {
        if !(watched.contains(&peer) && instances::end(&mut transaction, &peer).await?) {
            living.push(peer);
        }
    }
    if living.is_empty() {
        // Later than every other one, whatever the clock says: the first one makes the digests of reports.
        sqlx::query(
            "INSERT INTO keys (id, first_used)
             SELECT $1, greatest($2, (SELECT max(first_used) + 1 FROM keys)) ON CONFLICT DO NOTHING",
        )
        .bind(key)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        let first = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM keys ORDER BY first_used, id LIMIT 1");
        records.set_first_key(&first.fetch_one(&mut *transaction).await?);
        instances::forget(&mut transaction).await?;
        sqlx::query("INSERT INTO instances (id, beats, ended, keys, identity_form) VALUES ($1, 0, false, $2, $3)")
            .bind(records.instance())
            .bind(records.key_ids())
            .bind(IDENTITY_FORM)
            .execute(&mut *transaction)
            .await?;
        commit_slots::make(&mut transaction, records.instance()).await?;
    }
    transaction.commit().await?;
    Ok(living)
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(MIGRATION_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(connection).await?;
    Ok(())
}

/// Returns the version of the current schema; `None` if it is empty.
async fn version(connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    // Objects of an extension are not data of another program.
    let found = sqlx::query(
        "SELECT current_schema() IS NOT NULL,
                count(*) FILTER (WHERE NOT EXISTS (
                    SELECT 1 FROM pg_depend
                    WHERE classid = 'pg_class'::regclass AND objid = class.oid AND deptype = 'e')),
                count(*) FILTER (WHERE relname = 'schema_version' AND EXISTS (
                    SELECT 1 FROM pg_attribute WHERE attrelid = class.oid AND attname = 'examgate'))
         FROM pg_class AS class
         WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
           AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (schema, objects, ours): (bool, i64, i64) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    if !schema {
        return Err(StoreError::Unavailable("the connection's search_path names no schema that exists".to_owned()));
    }
    if ours > 0 {
        return Ok(Some(sqlx::query_scalar("SELECT version FROM schema_version").fetch_one(connection).await?));
    }
    if objects > 0 {
        let detail = "this schema belongs to another program; give examgate a database or a schema of its own";
        return Err(StoreError::Unavailable(detail.to_owned()));
    }
    Ok(None)
}

/// Creates the version table in an empty schema and returns its version.
async fn register(connection: &mut PgConnection) -> Result<i64, StoreError> {
    // The name of the column marks the schema as one of examgate; the table has one row.
    let make = "CREATE TABLE schema_version (examgate boolean PRIMARY KEY CHECK (examgate), version bigint NOT NULL)";
    sqlx::raw_sql(make).execute(&mut *connection).await?;
    sqlx::raw_sql("INSERT INTO schema_version (examgate, version) VALUES (true, 0)").execute(connection).await?;
    Ok(0)
}

async fn check_keys(connection: &mut PgConnection, records: &RecordCodec) -> Result<(), StoreError> {
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM keys").fetch_all(connection).await?;
    keys.iter().try_for_each(|key| records.require_key(key))
}
