//! Errors of statements: which of them may be retried, and how they are reported.
//!
//! Only the first line of a server message is passed on, because `DETAIL` quotes key values.

use sqlx::postgres::PgDatabaseError;

use crate::store::{DISK_FULL, StoreError};

/// Failure of a transaction.
#[derive(Debug)]
pub(super) enum TxError {
    /// The store's own error: nothing was written, and a retry would not change the result.
    Store(StoreError),
    /// An error of sqlx or the server.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for TxError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for TxError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TxError> for StoreError {
    fn from(failed: TxError) -> Self {
        match failed {
            TxError::Store(error) => error,
            TxError::Sql(error) => into_unavailable(&error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        into_unavailable(&error)
    }
}

/// How to react to an sqlx error before the transaction was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// The server resolved a conflict by rolling this transaction back: retry it.
    Again,
    /// The connection is lost, for example after a server restart: retry on another one.
    Elsewhere,
    /// A retry would not help.
    GiveUp,
}

/// Decides by the SQLSTATE classes and codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(super) fn retry_decision(error: &sqlx::Error) -> RetryDecision {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            RetryDecision::Elsewhere
        }
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // Serialization failure, deadlock.
            Some("40001" | "40P01") => RetryDecision::Again,
            // Shut down by an administrator or after a crash, or still starting; session ended by an idle timeout;
            // server became read-only after another was promoted.
            Some("57P01" | "57P02" | "57P03" | "25P03" | "57P05" | "25006") => RetryDecision::Elsewhere,
            Some(code) if code.starts_with("08") => RetryDecision::Elsewhere,
            _ => RetryDecision::GiveUp,
        },
        _ => RetryDecision::GiveUp,
    }
}

fn into_unavailable(error: &sqlx::Error) -> StoreError {
    let detail = match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            if code == "53100" {
                return StoreError::Unavailable(format!("{DISK_FULL} (SQLSTATE {code})"));
            }
            let message = database.try_downcast_ref::<PgDatabaseError>().map_or("", PgDatabaseError::message);
            format!("{message} (SQLSTATE {code})")
        }
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("TLS failed: {error}"),
        sqlx::Error::PoolTimedOut => "no connection to the database became free in time".to_owned(),
        sqlx::Error::PoolClosed => "the store is closed".to_owned(),
        // These errors may quote the address with its password.
        sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => "the database address is invalid".to_owned(),
        // Other errors may quote a value.
        _ => "unexpected response from the database".to_owned(),
    };
    StoreError::Unavailable(detail)
}

/// Returns the error for a server that does not respond.
pub(super) fn no_response() -> StoreError {
    StoreError::Unavailable("the database did not respond in time".to_owned())
}
