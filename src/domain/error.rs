//! Problem [`Code`]s and [`Error`], the error type of everything above the vendor adapters' wire types.
//!
//! This module knows no HTTP status (the `http` layer maps codes to statuses) and never holds a cause that could carry
//! a secret.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::ExchangeId;
use super::outcome::Outcome;

mod code;

pub use code::{Code, Responsibility};

/// What is wrong with one field of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProblemField)]
pub struct FieldError {
    /// RFC 6901 pointer into the request body (in a bulk result: into the row), `?name` for a query parameter, or the
    /// name of a header.
    pub pointer: String,
    /// `missing_field`, `invalid_field`, `unknown_field`, `capability_unsupported`, `invalid_reference`, …
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// What is wrong, in one sentence.
    pub detail: String,
}

impl FieldError {
    /// Code for a required field that is missing.
    pub const MISSING: &'static str = "missing_field";
    /// Code for a field with a wrong type or value.
    pub const INVALID: &'static str = "invalid_field";
    /// Code for an unknown field.
    pub const UNKNOWN: &'static str = "unknown_field";
    /// Code for an id in a table that a spreadsheet has damaged.
    pub const DAMAGED_ID: &'static str = "damaged_id";
    /// Code for a significant field that the vendor does not support.
    pub const UNSUPPORTED: &'static str = "capability_unsupported";

    /// Creates an error for a required field that is missing.
    #[must_use]
    pub fn missing(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::MISSING, detail)
    }

    /// Creates an error for a field with a wrong type or value.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::INVALID, detail)
    }

    /// Creates an error for a significant field that the vendor does not support.
    #[must_use]
    pub fn unsupported(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::UNSUPPORTED, detail)
    }

    /// Creates an error with any other code.
    #[must_use]
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: Cow::Borrowed(code), detail: detail.into() }
    }

    /// Prefixes the pointer with that of an enclosing document, e.g. `/items/3`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

/// The vendor's own error, kept for support requests. Already sanitised: no control characters, at most 300 characters,
/// secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorResponse {
    /// The write kind or other call, in the gateway's words, e.g. `assignments.create`.
    pub operation: String,
    /// The HTTP status, if a response arrived.
    pub http_status: Option<u16>,
    /// The vendor's error code.
    pub code: Option<String>,
    /// The vendor's message.
    pub message: Option<String>,
}

/// The outcome of one of several vendor calls made for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProblemChunk)]
pub struct PartialResult {
    /// Position, in each of the lists, of the first entry sent in this call.
    pub from: usize,
    /// Position after the last entry sent in this call (of the longer list).
    pub to: usize,
    /// What is known about this call.
    pub outcome: Outcome,
}

/// The reason why a request or a row did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    /// The machine-readable code.
    pub code: Code,
    /// The known outcome of the write.
    pub outcome: Outcome,
    /// A sentence about this occurrence.
    pub detail: String,
    /// All invalid fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The delay before a retry, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// The vendor's error, if the vendor was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorResponse>,
    /// The connection concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionRef>,
    /// Path of the resource that will show the reconciled state, e.g. `/candidates/cand_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The result of each vendor call, if the request took several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<PartialResult>,
    /// The position of the earlier row that a row of a bulk repeats, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u64>,
    /// The exchange that holds the vendor call; unset if it is the request's own exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeId>,
    /// The number of the oldest event that is kept, if older ones were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}

/// A connection and the vendor it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The operator's name for the connection.
    pub connection: String,
    /// The kind of vendor.
    pub vendor: String,
}

impl Error {
    /// Creates an error with outcome `not_applied`: nothing happened at the vendor.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            outcome: Outcome::NotApplied,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            vendor: None,
            connection: None,
            resource: None,
            chunks: Vec::new(),
            duplicate_of: None,
            exchange: None,
            oldest: None,
        }
    }

    /// Creates an error after which it is unknown whether the write happened.
    #[must_use]
    pub fn unknown(code: Code, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::new(code, detail) }
    }

    /// Creates the error for these fields: `capability_unsupported` if all field errors have that code, else
    /// `validation_failed`. An empty list is `validation_failed` too, because it names no unsupported field.
    #[must_use]
    pub fn from_fields(errors: Vec<FieldError>) -> Self {
        let only_capability = !errors.is_empty() && errors.iter().all(|error| error.code == FieldError::UNSUPPORTED);
        let code = if only_capability { Code::CapabilityUnsupported } else { Code::ValidationFailed };
        let detail = match errors.as_slice() {
            [] => "The request is not valid.".to_owned(),
            [only] if only.pointer.is_empty() => format!("The body: {}", only.detail),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are invalid; see errors.", several.len()),
        };
        Self { errors, ..Self::new(code, detail) }
    }

    /// Adds a field error.
    #[must_use]
    pub fn with_field(mut self, error: FieldError) -> Self {
        self.errors.push(error);
        self
    }

    /// Adds the vendor's error.
    #[must_use]
    pub fn with_vendor_response(mut self, response: VendorResponse) -> Self {
        self.vendor = Some(response);
        self
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Sets the resource that will show the reconciled state.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Sets the position of the earlier row of the bulk that this row repeats.
    #[must_use]
    pub fn with_duplicate_of(mut self, earlier: u64) -> Self {
        self.duplicate_of = Some(earlier);
        self
    }

    /// Sets the outcome to unknown: the rejection proves nothing about the write.
    #[must_use]
    pub fn with_unknown_outcome(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_unsupported_requires_every_field_error_to_have_that_code() {
        let unsupported = || FieldError::new("/a", FieldError::UNSUPPORTED, "no");
        let code = |errors: Vec<FieldError>| Error::from_fields(errors).code;
        assert_eq!(code(vec![unsupported()]), Code::CapabilityUnsupported);
        assert_eq!(code(vec![unsupported(), FieldError::invalid("/b", "no")]), Code::ValidationFailed);
        assert_eq!(code(Vec::new()), Code::ValidationFailed);
        assert!(!Error::from_fields(Vec::new()).detail.contains('0'));
    }
}
