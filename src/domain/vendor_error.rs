//! The error of a vendor call: what the caller learns, and what the response proves about the write.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::error::{Code, Error, FieldError, VendorResponse};
use super::outcome::Outcome;

/// The part of a vendor call that a rejection applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionScope {
    /// This row. Others in the same call are independent of it.
    Row,
    /// The whole call. Its other rows may be valid, so splitting the call is worthwhile.
    Batch,
}

/// An error of a vendor call, as adapters and the transport return it. The service draws its conclusions from what it
/// proves, and passes on the [`Error`] alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct VendorError {
    /// The error for the caller.
    pub error: Box<Error>,
    /// The part of the vendor call that the rejection applies to.
    pub scope: RejectionScope,
    /// Whether this rejection of a retry proves that the earlier attempt had no effect either. Set by the vendor's
    /// error table; without it, reconciliation leaves the write unknown.
    pub proves_no_effect: bool,
    /// Whether the vendor may still act on the attempt: no complete response arrived, or it had a status of 500 or
    /// above, which a proxy may have sent while the vendor is still working.
    pub may_still_complete: bool,
}

impl From<Error> for VendorError {
    fn from(error: Error) -> Self {
        let error = Box::new(error);
        Self { error, scope: RejectionScope::Row, proves_no_effect: false, may_still_complete: false }
    }
}

impl Deref for VendorError {
    type Target = Error;

    fn deref(&self) -> &Error {
        &self.error
    }
}

impl DerefMut for VendorError {
    fn deref_mut(&mut self) -> &mut Error {
        &mut self.error
    }
}

impl VendorError {
    /// Creates an error with outcome `not_applied`: nothing happened at the vendor.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error::new(code, detail).into()
    }

    /// Creates an error after which it is unknown whether the write happened.
    #[must_use]
    pub fn unknown(code: Code, detail: impl Into<String>) -> Self {
        Error::unknown(code, detail).into()
    }

    /// Creates the error for these fields; see [`Error::from_fields`].
    #[must_use]
    pub fn from_fields(errors: Vec<FieldError>) -> Self {
        Error::from_fields(errors).into()
    }

    /// Changes the error for the caller.
    #[must_use]
    pub fn map(mut self, change: impl FnOnce(Error) -> Error) -> Self {
        self.error = Box::new(change(*self.error));
        self
    }

    /// Adds a field error.
    #[must_use]
    pub fn with_field(self, field: FieldError) -> Self {
        self.map(|error| error.with_field(field))
    }

    /// Adds the vendor's error. With a status of 500 or above the vendor may still be working.
    #[must_use]
    pub fn with_vendor_response(mut self, response: VendorResponse) -> Self {
        self.may_still_complete |= response.http_status.is_some_and(|status| status >= 500);
        self.map(|error| error.with_vendor_response(response))
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub fn with_retry_after(self, wait: Option<Duration>) -> Self {
        self.map(|error| error.with_retry_after(wait))
    }

    /// Sets the resource that will show the reconciled state.
    #[must_use]
    pub fn with_resource(self, resource: impl Into<String>) -> Self {
        self.map(|error| error.with_resource(resource))
    }

    /// Sets the outcome to unknown: the rejection proves nothing about the write.
    #[must_use]
    pub fn with_unknown_outcome(self) -> Self {
        self.with_outcome(Outcome::Unknown)
    }

    /// Sets the outcome.
    #[must_use]
    pub fn with_outcome(self, outcome: Outcome) -> Self {
        self.map(|error| Error { outcome, ..error })
    }

    /// Marks the error as a rejection of the whole call.
    #[must_use]
    pub fn for_batch(mut self) -> Self {
        self.scope = RejectionScope::Batch;
        self
    }

    /// Marks the error as a rejection which proves that an earlier attempt of the same write had no effect either.
    #[must_use]
    pub fn proving_no_effect(mut self) -> Self {
        self.proves_no_effect = true;
        self
    }
}
