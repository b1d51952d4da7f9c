//! What can go wrong below a statement, what of it may be tried again, and how it is told.
//!
//! Nothing a message of the server may quote is passed on but its first line: `DETAIL` names key values.

use sqlx::postgres::PgDatabaseError;

use crate::store::{FULL, StoreError};

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum TxError {
    /// The store's own answer: nothing was written, and trying again would not change it.
    Store(StoreError),
    /// The library's or the server's.
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
            TxError::Sql(error) => told(&error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        told(&error)
    }
}

/// What is to be done about an error of the library, as long as the transaction was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// The server sorted two transactions out and took this one back: it is run again.
    Again,
    /// The connection is gone, as after a restart of the server: the transaction is run again on another one.
    Elsewhere,
    /// Neither would help.
    GiveUp,
}

/// SQLSTATE classes and codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(super) fn advice(error: &sqlx::Error) -> RetryDecision {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            RetryDecision::Elsewhere
        }
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // Serialization failure, deadlock.
            Some("40001" | "40P01") => RetryDecision::Again,
            // Shut down by an administrator, after a crash, still starting; a session ended for being idle; a server that
            // takes no writes any more, since another one was made the first.
            Some("57P01" | "57P02" | "57P03" | "25P03" | "57P05" | "25006") => RetryDecision::Elsewhere,
            Some(code) if code.starts_with("08") => RetryDecision::Elsewhere,
            _ => RetryDecision::GiveUp,
        },
        _ => RetryDecision::GiveUp,
    }
}

fn told(error: &sqlx::Error) -> StoreError {
    let detail = match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            if code == "53100" {
                return StoreError::Unavailable(format!("{FULL} (SQLSTATE {code})"));
            }
            let message = database.try_downcast_ref::<PgDatabaseError>().map_or("", PgDatabaseError::message);
            format!("{message} (SQLSTATE {code})")
        }
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("no TLS: {error}"),
        sqlx::Error::PoolTimedOut => "no connection to the database became free in time".to_owned(),
        sqlx::Error::PoolClosed => "the store is closed".to_owned(),
        // These may quote the address with its password.
        sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => "its address cannot be used".to_owned(),
        // And these a value.
        _ => "the database answered something unexpected".to_owned(),
    };
    StoreError::Unavailable(detail)
}

/// A server that does not answer.
pub(super) fn silent() -> StoreError {
    StoreError::Unavailable("the database did not answer in time".to_owned())
}
