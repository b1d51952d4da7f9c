//! Errors of the service: what a failure of the store means for a write at each of its stages, and the errors that
//! several requests share.

use std::time::Duration;

use crate::domain::error::{Code, Error, FieldError};
use crate::domain::outcome::{Outcome, Warning, WarningCode};
use crate::store::StoreError;

/// Conversions of a store's result into a service error; each fixes what a store failure means for the write.
pub(in crate::service) trait StoreResultExt<T> {
    /// Converts the error of a write that is not accepted yet: nothing was sent and nothing will be, unless the commit
    /// that would have accepted it is in doubt.
    fn or_not_applied(self) -> Result<T, Error>;

    /// Converts the error of a write that was accepted and whose outcome appears at `resource`: a store failure then
    /// proves nothing about the write.
    fn or_unknown(self, resource: &str) -> Result<T, Error>;
}

impl<T> StoreResultExt<T> for Result<T, StoreError> {
    fn or_not_applied(self) -> Result<T, Error> {
        self.map_err(|error| store_error(&error))
    }

    fn or_unknown(self, resource: &str) -> Result<T, Error> {
        self.map_err(|error| accepted_but_unreadable_error(&error, resource))
    }
}

/// Maps a store error from before the write was accepted, or from the commit that would have accepted it.
pub(in crate::service) fn store_error(error: &StoreError) -> Error {
    let wait = Some(Duration::from_secs(1));
    match error {
        StoreError::Conflict => Error::new(Code::CandidateConflict, "An identity is not available at this connection."),
        StoreError::ItemNotWaiting => skipped_error(),
        StoreError::InDoubt(_) | StoreError::Superseded => {
            tracing::error!(%error, "the store failed");
            let detail = "The store did not confirm the change. The gateway will find out whether it was made.";
            Error::unknown(Code::StoreUnavailable, detail).with_retry_after(wait)
        }
        StoreError::Unavailable(_) | StoreError::Unreadable(_) | StoreError::Fenced => {
            tracing::error!(%error, "the store failed");
            store_unreachable(error)
        }
    }
}

/// Builds the error of a request that was not sent because the store is unreachable or full.
pub(in crate::service) fn store_unreachable(error: &StoreError) -> Error {
    let detail = if error.is_full() {
        "The store is full: its disk has no space left to record a request; nothing was sent."
    } else {
        "The store cannot be reached; nothing was sent."
    };
    Error::new(Code::StoreUnavailable, detail).with_retry_after(Some(Duration::from_secs(1)))
}

/// Adds to the error of a commit in doubt the resource where the outcome will appear.
pub(in crate::service) fn with_resource_if_unknown(error: Error, resource: &str) -> Error {
    if error.outcome == Outcome::Unknown && error.resource.is_none() { error.with_resource(resource) } else { error }
}

/// Builds the error of a store failure after the write was accepted: the work continues, or resumes when the store is
/// back.
fn accepted_but_unreadable_error(error: &StoreError, resource: &str) -> Error {
    tracing::error!(%error, resource, "the store failed after a write was accepted");
    let detail = "The request was accepted, but the store cannot be read; the outcome will appear at `resource`.";
    Error::unknown(Code::StoreUnavailable, detail)
        .with_retry_after(Some(Duration::from_secs(1)))
        .with_resource(resource)
}

/// Builds the error of a store failure after the vendor was called: the outcome could not be committed.
pub(in crate::service) fn outcome_not_stored_error(error: &StoreError, resource: &str) -> Error {
    tracing::error!(%error, resource, "the store failed after the vendor was called");
    let wait = Some(Duration::from_secs(1));
    Error::unknown(Code::StoreUnavailable, "The vendor was called, but the outcome could not be stored.")
        .with_retry_after(wait)
        .with_resource(resource)
}

pub(in crate::service) fn draining_error() -> Error {
    Error::new(Code::Draining, "This instance is shutting down.").with_retry_after(Some(Duration::from_secs(1)))
}

/// Rejects fields the vendor does not support if the request has `Prefer: handling=strict`.
pub(in crate::service) fn enforce_strict(strict: bool, warnings: &[Warning]) -> Result<(), Error> {
    if !strict {
        return Ok(());
    }
    let ignored: Vec<FieldError> = warnings
        .iter()
        .filter(|warning| warning.code == WarningCode::FieldIgnored)
        .map(|warning| FieldError::unsupported(warning.pointer.clone().unwrap_or_default(), warning.detail.clone()))
        .collect();
    if ignored.is_empty() { Ok(()) } else { Err(Error::from_fields(ignored)) }
}

/// Builds the error of a row that was skipped.
pub(in crate::service) fn skipped_error() -> Error {
    let detail =
        "The operation stopped before this row: it was cancelled, or the number of failed rows reached failOnErrors.";
    Error::new(Code::Skipped, detail)
}

/// Builds the error of settling a write that is not open.
pub(in crate::service) fn nothing_to_settle() -> Error {
    Error::from_fields(vec![FieldError::invalid("/outcome", "there is nothing to settle: the outcome is known")])
}

/// Builds the error of a reference to something that does not exist.
pub(in crate::service) fn reference(error: FieldError) -> Error {
    if error.code == FieldError::UNSUPPORTED {
        return Error::from_fields(vec![error]);
    }
    Error::new(Code::InvalidReference, format!("{}: {}", error.pointer, error.detail)).with_field(error)
}

/// Builds the error of a key that was used for a request with other content.
pub(in crate::service) fn key_reused() -> Error {
    Error::new(Code::IdempotencyKeyReused, "The key was already used for a different request.")
}

/// Builds the error of a key whose earlier request is in progress.
pub(in crate::service) fn key_in_progress() -> Error {
    let detail = "An earlier request with this key is still running; its outcome is not known yet. This request sent \
                  nothing; a retry with the same key never makes the write twice.";
    Error::new(Code::IdempotencyInProgress, detail).with_retry_after(Some(Duration::from_secs(1)))
}
