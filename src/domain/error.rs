//! What can go wrong, as words: every problem [`Code`], and [`Fault`], the error type of everything above the vendors' wires.
//!
//! It knows no HTTP status (that is the public face's business) and never holds a cause that could carry a secret.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::ExchangeId;
use super::outcome::Outcome;

mod code;

pub use code::{Code, Responsibility};

/// What is wrong with one member of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// RFC 6901 pointer into the request body, or `?name` for a query parameter.
    pub pointer: String,
    /// `missing_field`, `invalid_field`, `unknown_field`, `capability_unsupported`, `duplicate_item`, …
    pub code: Cow<'static, str>,
    /// One sentence for people.
    pub detail: String,
}

impl FieldError {
    /// Code of a member that must be there and is not.
    pub const MISSING: &'static str = "missing_field";
    /// Code of a member with a wrong type or value.
    pub const INVALID: &'static str = "invalid_field";
    /// Code of a member nobody knows.
    pub const UNKNOWN: &'static str = "unknown_field";
    /// Code of a decisive member the vendor has no place for.
    pub const UNSUPPORTED: &'static str = "capability_unsupported";

    /// A member that must be there and is not.
    #[must_use]
    pub fn missing(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::MISSING, detail)
    }

    /// A member with a wrong type or value.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::INVALID, detail)
    }

    /// A decisive member the vendor has no place for.
    #[must_use]
    pub fn unsupported(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(pointer, Self::UNSUPPORTED, detail)
    }

    /// Any other fault.
    #[must_use]
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: Cow::Borrowed(code), detail: detail.into() }
    }

    /// The same fault seen from an enclosing document, e.g. below `/items/3`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

/// What the vendor itself said, kept for whoever has to talk to it. Already cleaned: no control characters, at most 300
/// characters, secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorResponse {
    /// The operation called, in the gateway's words, e.g. `assignments.create`.
    pub operation: String,
    /// The HTTP status, where an answer came.
    pub http_status: Option<u16>,
    /// The vendor's own code.
    pub code: Option<String>,
    /// The vendor's own message.
    pub message: Option<String>,
}

/// How much of a call a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionScope {
    /// This row only.
    #[default]
    Row,
    /// The call was refused whole: its other rows may be in order, so the call is worth splitting.
    #[serde(rename = "call")]
    Batch,
}

/// What became of one of several vendor calls made for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialResult {
    /// Position, in each of the lists, of the first entry sent in this call.
    pub from: usize,
    /// Position after the last entry sent in this call (of the longer list).
    pub to: usize,
    /// What is known of this call.
    pub outcome: Outcome,
}

/// Anything that ends a request or a row without success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    /// The word a program acts on.
    pub code: Code,
    /// What is known of the write.
    pub outcome: Outcome,
    /// What happened this time, in a sentence.
    pub detail: String,
    /// Every member at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// How long to wait before a repeat, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// What the vendor said, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorResponse>,
    /// The connection concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionRef>,
    /// Path of the resource where the settled state will appear, e.g. `/candidates/cand_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// How much of the vendor call it is about.
    #[serde(default)]
    pub reach: RejectionScope,
    /// Whether this refusal of a repeat proves that the earlier attempt did nothing either. The vendor's error table says
    /// so; without it a settling attempt leaves the write unknown.
    #[serde(default)]
    pub proof: bool,
    /// Whether the vendor may still act on the attempt: no complete answer came, or one with a status from 500 on, which a
    /// proxy may have given while the vendor is at work.
    #[serde(default)]
    pub lingering: bool,
    /// What became of each call, where one request took several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<PartialResult>,
    /// The exchange in which the vendor was asked; unset where it is the request's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeId>,
}

/// A connection with the vendor it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The operator's name for it.
    pub connection: String,
    /// The kind of vendor.
    pub vendor: String,
}

impl Error {
    /// A fault with outcome `not_applied`: nothing happened at the vendor.
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
            reach: RejectionScope::Row,
            proof: false,
            lingering: false,
            chunks: Vec::new(),
            exchange: None,
        }
    }

    /// A fault after which nobody can say whether the write happened.
    #[must_use]
    pub fn unknown(code: Code, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::new(code, detail) }
    }

    /// The fault for these members: `capability_unsupported` when that is all that is wrong, else `validation_failed`;
    /// so too when none is named, since nothing then says that the vendor cannot.
    #[must_use]
    pub fn from_fields(errors: Vec<FieldError>) -> Self {
        let only_capability = !errors.is_empty() && errors.iter().all(|error| error.code == FieldError::UNSUPPORTED);
        let code = if only_capability { Code::CapabilityUnsupported } else { Code::ValidationFailed };
        let detail = match errors.as_slice() {
            [] => "The request is not valid.".to_owned(),
            [only] if only.pointer.is_empty() => format!("The body: {}", only.detail),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} members are at fault; see errors.", several.len()),
        };
        Self { errors, ..Self::new(code, detail) }
    }

    /// With the member this is about.
    #[must_use]
    pub fn with_field(mut self, error: FieldError) -> Self {
        self.errors.push(error);
        self
    }

    /// With what the vendor said. An answer from 500 on leaves open whether the vendor has stopped: see
    /// [`Fault::lingering`].
    #[must_use]
    pub fn with_vendor_response(mut self, answer: VendorResponse) -> Self {
        self.lingering |= answer.http_status.is_some_and(|status| status >= 500);
        self.vendor = Some(answer);
        self
    }

    /// With the time to wait before a repeat.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// As a refusal of the whole call.
    #[must_use]
    pub fn for_batch(mut self) -> Self {
        self.reach = RejectionScope::Batch;
        self
    }

    /// As a refusal which proves that an earlier attempt of the same write did nothing either.
    #[must_use]
    pub fn proving_no_effect(mut self) -> Self {
        self.proof = true;
        self
    }

    /// With the resource where the settled state will appear.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// The same fault, but what became of the write is not known: a refusal that proves nothing.
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
    fn a_refusal_says_the_vendor_cannot_only_where_every_member_says_so() {
        let unsupported = || FieldError::new("/a", FieldError::UNSUPPORTED, "no");
        let code = |errors: Vec<FieldError>| Error::from_fields(errors).code;
        assert_eq!(code(vec![unsupported()]), Code::CapabilityUnsupported);
        assert_eq!(code(vec![unsupported(), FieldError::invalid("/b", "no")]), Code::ValidationFailed);
        assert_eq!(code(Vec::new()), Code::ValidationFailed);
        assert!(!Error::from_fields(Vec::new()).detail.contains('0'));
    }
}
