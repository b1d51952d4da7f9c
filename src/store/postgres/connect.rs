//! Connections and their settings: timeouts, and durable commits.
//!
//! As with every PostgreSQL client, values missing from the address (a password, certificates) may come from the `PG…`
//! environment variables and the password file; sqlx reads them.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::time::Instant;

use super::error::no_response;
use crate::secret::Secret;
use crate::store::StoreError;

/// Connections for reads, and for the transactions that are not committed in groups; those have one more. A second one
/// for them would make groups smaller and commits more, and replicas share the server's limit.
const CONNECTIONS: u32 = 9;

/// Concurrent transactions, the group's included: fewer than connections, so that reads always find one.
pub(super) const LANES: u16 = 8;

/// Concurrent long reads: they leave connections for writes and for reads of single records.
pub(super) const LISTS: usize = 4;

/// Maximum wait for a connection or a commit slot.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Duration of a heartbeat after which the server counts as unavailable, although it may still respond.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// Time limit of one statement, lock waits included; the server then cancels it.
const STATEMENT_TIMEOUT: &str = "10s";

/// Time limit of an idle transaction. A process suspended inside a transaction would otherwise keep its commit slot,
/// and no peer could end its instance.
const IDLE_TRANSACTION_TIMEOUT: &str = "3s";

/// Time limit of a read, or of a transaction up to its commit: longer than the limit of the server, for a server that
/// does not respond at all.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

/// Time a group waits for a row that another transaction has locked. The callers of the group are then served one by one,
/// so that only the caller who needs the row waits for it. Two replicas that commit one after the other wait less.
const GROUP_LOCK_TIMEOUT: &str = "300ms";

/// Idle time after which a connection is tested before use.
const FRESH: Duration = Duration::from_secs(1);

/// Time limit for a connection returned to the pool to respond.
pub(super) const FLUSH: Duration = Duration::from_secs(2);

/// Prepared statements cached per connection: more than this engine has.
const STATEMENTS: usize = 200;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Reads, and transactions of one caller.
    General,
    /// Transactions of many callers.
    Groups,
    Heartbeats,
}

/// The connection of the transactions that many callers share.
pub(super) struct GroupConnection {
    options: PgConnectOptions,
    /// With the time at which it was last used.
    idle: Option<(PgConnection, Instant)>,
}

impl GroupConnection {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, idle: None }
    }

    /// Takes the connection out; opens one if there is none or if it no longer responds. One that is not put back is
    /// closed.
    pub(super) async fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        if let Some((mut connection, used)) = self.idle.take()
            && (used.elapsed() <= FRESH || matches!(tokio::time::timeout(FLUSH, connection.ping()).await, Ok(Ok(()))))
        {
            return Ok(connection);
        }
        let mut connection = PgConnection::connect_with(&self.options).await?;
        apply_settings(&mut connection, Purpose::Groups).await?;
        Ok(connection)
    }

    /// Puts back a connection on which no transaction is open.
    pub(super) fn put_back(&mut self, connection: PgConnection) {
        self.idle = Some((connection, Instant::now()));
    }
}

/// Parses the connection options from the address.
pub(super) fn options(url: &Secret) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose())?;
    // Statements contain no secrets, but thousands run per second, and the metrics already show slow ones.
    Ok(options.application_name("examgate").statement_cache_capacity(STATEMENTS).disable_statement_logging())
}

/// Opens one connection, so that an error is reported at once.
pub(super) async fn first(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        apply_settings(&mut connection, Purpose::General).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    Ok(tokio::time::timeout(WAIT, connecting).await.map_err(|_| no_response())??)
}

/// Creates the pool for everything except heartbeats.
pub(super) fn pool(options: &PgConnectOptions) -> PgPool {
    pool_options(Purpose::General).max_connections(CONNECTIONS).connect_lazy_with(options.clone())
}

/// Creates the pool of the one heartbeat connection, separate so that a busy instance does not count as dead. A
/// heartbeat does not wait for the disk: it need not survive a crash of the server.
pub(super) fn heartbeat_pool(options: &PgConnectOptions) -> PgPool {
    pool_options(Purpose::Heartbeats).max_connections(1).connect_lazy_with(options.clone())
}

fn pool_options(purpose: Purpose) -> PgPoolOptions {
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
        .after_connect(move |connection, _| Box::pin(apply_settings(connection, purpose)))
        // sqlx waits without limit for the response of a returned connection, which occupies a slot of the pool
        // meanwhile. A server that vanished silently would soon exhaust the pool.
        .after_release(|connection, _| {
            Box::pin(async move {
                tokio::time::timeout(FLUSH, connection.ping()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                Ok(true)
            })
        })
}

/// Applies the settings this engine relies on, whatever the defaults of the server.
///
/// An acknowledged intent that is lost in a power cut would be sent again, so a commit waits for the disk
/// (`synchronous_commit`). The stronger `remote_apply`, where commits wait for standbys, is kept.
///
/// A plan is made while the tables are small, and kept: without these settings it scans whole tables, which grow. Every
/// statement that runs often finds its rows by an index, from a short list. `jit` would compile each plan that has a node
/// which is switched off, because such nodes count as expensive. The statements of groups have one plan for every list.
async fn apply_settings(connection: &mut PgConnection, purpose: Purpose) -> Result<(), sqlx::Error> {
    let commit = if purpose == Purpose::Heartbeats { "off" } else { "on" };
    let (lock_timeout, plans) = match purpose {
        Purpose::Groups => (GROUP_LOCK_TIMEOUT, "force_generic_plan"),
        Purpose::General | Purpose::Heartbeats => ("0", "auto"),
    };
    sqlx::query(
        "SELECT set_config('synchronous_commit',
                    CASE WHEN $1 = 'on' AND current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'
                         ELSE $1 END, false),
                set_config('default_transaction_isolation', 'read committed', false),
                set_config('default_transaction_deferrable', 'off', false),
                set_config('statement_timeout', $2, false),
                set_config('lock_timeout', $3, false),
                set_config('idle_in_transaction_session_timeout', $4, false),
                set_config('plan_cache_mode', $5, false),
                set_config('enable_seqscan', 'off', false),
                set_config('enable_hashjoin', 'off', false),
                set_config('enable_mergejoin', 'off', false),
                set_config('jit', 'off', false)",
    )
    .bind(commit)
    .bind(STATEMENT_TIMEOUT)
    .bind(lock_timeout)
    .bind(IDLE_TRANSACTION_TIMEOUT)
    .bind(plans)
    .execute(connection)
    .await?;
    Ok(())
}
