//! Connections: how they are made, how long anything may take, and that a commit is durable.
//!
//! As with every PostgreSQL client, what the address leaves open (a password, certificates) may come from the `PG…`
//! environment variables and the password file; the library reads them.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use super::error::silent;
use crate::secret::Secret;
use crate::store::StoreError;

/// Connections for reads and writes. More would not commit faster on one server, and replicas share its limit.
const CONNECTIONS: u32 = 10;

/// Transactions at the same time: fewer than connections, so that reads always find one.
pub(super) const LANES: u16 = 8;

/// Long reads at the same time: they leave connections to writes and to reads of single records.
pub(super) const LISTS: usize = 4;

/// How long anybody waits for a connection or a lane.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// A beat that takes longer says that the server does not answer, though it may yet.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// How long one statement may take, waiting for locks included; the server itself breaks it off then.
const STATEMENT: &str = "10s";

/// How long a transaction may lie still. A process that was suspended in the middle of one would otherwise keep its lane,
/// and nobody could end it.
const IDLE: &str = "3s";

/// How long a read, or a transaction up to its commit, may take: longer than the server's own limit, for a server that is
/// silent altogether.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

/// Idle for longer, a connection is asked whether it still lives before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection that comes back may take to answer.
const FLUSH: Duration = Duration::from_secs(2);

/// Prepared statements a connection keeps: more than there are.
const STATEMENTS: usize = 200;

/// Whether a commit has to be on the disk when it is acknowledged.
#[derive(Clone, Copy)]
enum Durable {
    Yes,
    No,
}

/// What the address says.
pub(super) fn options(url: &Secret) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose())?;
    // Statements are no secret, but there are thousands a second and their slowness is seen elsewhere.
    Ok(options.application_name("examgate").statement_cache_capacity(STATEMENTS).disable_statement_logging())
}

/// One connection, to see at once why there is none.
pub(super) async fn first(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        settle(&mut connection, Durable::Yes).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    Ok(tokio::time::timeout(WAIT, connecting).await.map_err(|_| silent())??)
}

/// Connections for everything but beats.
pub(super) fn pool(options: &PgConnectOptions) -> PgPool {
    pooled(Durable::Yes).max_connections(CONNECTIONS).connect_lazy_with(options.clone())
}

/// The connection for beats: one of its own, so that a busy instance is not taken for a dead one. A beat need not survive
/// a crash of the server, only move on; so it does not wait for the disk.
pub(super) fn pulse(options: &PgConnectOptions) -> PgPool {
    pooled(Durable::No).max_connections(1).connect_lazy_with(options.clone())
}

fn pooled(durable: Durable) -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(WAIT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| Box::pin(settle(connection, durable)))
        // The library waits for ever for the answer of a connection that comes back, and a place in the pool with it. Of
        // a server that is gone without a word there would soon be no place left.
        .after_release(|connection, _| {
            Box::pin(async move {
                tokio::time::timeout(FLUSH, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                Ok(true)
            })
        })
}

/// The settings this engine relies on, whatever the server's defaults are.
///
/// An intent that was acknowledged and is gone after a power cut would be sent again, so a commit waits for the disk
/// (`synchronous_commit`). A server set to wait for its standbys to have applied it stays so: that is more, not less.
async fn settle(connection: &mut PgConnection, durable: Durable) -> Result<(), sqlx::Error> {
    let commit = match durable {
        Durable::Yes => "on",
        Durable::No => "off",
    };
    sqlx::query(
        "SELECT set_config('synchronous_commit',
                    CASE WHEN $1 = 'on' AND current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'
                         ELSE $1 END, false),
                set_config('default_transaction_isolation', 'read committed', false),
                set_config('default_transaction_deferrable', 'off', false),
                set_config('statement_timeout', $2, false),
                set_config('lock_timeout', '0', false),
                set_config('idle_in_transaction_session_timeout', $3, false)",
    )
    .bind(commit)
    .bind(STATEMENT)
    .bind(IDLE)
    .execute(connection)
    .await?;
    Ok(())
}
