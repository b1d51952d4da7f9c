//! What goes in and what comes out: [`Request`], [`Signer`], [`Answer`].
//!
//! None of these may show what it carries when it is printed for debugging: personal data, credentials, signatures.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use url::Url;

use crate::domain::error::Error;
use crate::transport::redaction::RedactionPolicy;

/// Where a request goes.
#[derive(Clone)]
pub enum Target {
    /// A path (and query) below the connection's `base_url`, percent-encoded as it shall reach the wire: text that a URL
    /// parser would rewrite is refused.
    Path(String),
    /// An address of its own (a signature service).
    Url(Url),
}

/// A request before it is signed.
#[derive(Clone)]
pub struct Request {
    /// The gateway's word for what is done (`assignments.create`), for logs, metrics and problems.
    pub operation: &'static str,
    /// The verb.
    pub method: Method,
    /// Where it goes.
    pub target: Target,
    /// Headers the adapter sets; `Content-Length` is added from the body.
    pub headers: HeaderMap,
    /// The body, serialised once: the bytes that are signed are the bytes that are sent.
    pub body: Bytes,
    /// What of it and of its answer operators may look at.
    pub shown: RedactionPolicy,
}

/// What a signer sees and may change: the headers of one attempt.
pub struct SigningRequest<'a> {
    /// The verb.
    pub method: &'a Method,
    /// The whole address.
    pub url: &'a Url,
    /// The headers of this attempt, to be added to.
    pub headers: &'a mut HeaderMap,
    /// The body as it will be sent.
    pub body: &'a Bytes,
}

/// Signs one attempt.
///
/// It must not send through the client whose call it signs: that call already holds a place at the vendor, perhaps the
/// only one. [`crate::transport::Client::with_separate_limits`] has places of its own.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Adds what the vendor wants to see; `now` is the time of this attempt.
    ///
    /// # Errors
    /// A fault with outcome `not_applied`: nothing was sent.
    async fn sign(&self, draft: SigningRequest<'_>, now: Timestamp) -> Result<(), Error>;
}

/// Adds nothing.
pub struct NoSignature;

#[async_trait]
impl Signer for NoSignature {
    async fn sign(&self, _draft: SigningRequest<'_>, _now: Timestamp) -> Result<(), Error> {
        Ok(())
    }
}

/// A complete answer.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole and within `max_response_bytes`.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("operation", &self.operation)
            .field("method", &self.method)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
