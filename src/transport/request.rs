//! The input of the transport: [`Request`] and [`Signer`].
//!
//! The debug output of these types must never show their contents: personal data, credentials, signatures.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use url::Url;

use crate::domain::vendor_error::VendorError;
use crate::transport::redaction::RedactionPolicy;

/// The destination of a request.
#[derive(Clone)]
pub enum Target {
    /// A path (and query) below the connection's `base_url`, percent-encoded exactly as it is sent: text that a URL
    /// parser would rewrite is rejected.
    Path(String),
    /// An absolute address (a signature service).
    Url(Url),
}

/// A request before signing.
#[derive(Clone)]
pub struct Request {
    /// The call in the gateway's words (`assignments.create`), for logs, metrics and problems.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The destination.
    pub target: Target,
    /// Headers set by the adapter; `Content-Length` is derived from the body.
    pub headers: HeaderMap,
    /// The body, serialised once, so that the bytes signed are the bytes sent.
    pub body: Bytes,
    /// What operators may see of the request and its response.
    pub shown: RedactionPolicy,
    /// The response length that is read even if the connection's `max_response_bytes` is less; 0 for most calls.
    pub min_response_limit: u64,
}

/// The parts of an attempt that a signer sees, with its headers mutable.
pub struct SigningRequest<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The full address.
    pub url: &'a Url,
    /// The headers of this attempt; the signer adds to them.
    pub headers: &'a mut HeaderMap,
    /// The body as it will be sent.
    pub body: &'a Bytes,
}

/// Signs one attempt.
///
/// A signer must not send through the client whose call it signs: that call already holds an in-flight permit, perhaps
/// the only one. [`crate::transport::Client::with_separate_limits`] has permits of its own.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Adds the authentication that the vendor requires; `now` is the time of this attempt.
    ///
    /// # Errors
    /// An error with outcome `not_applied`: nothing was sent.
    async fn sign(&self, request: SigningRequest<'_>, now: Timestamp) -> Result<(), VendorError>;
}

/// A signer that adds nothing.
pub struct NoSignature;

#[async_trait]
impl Signer for NoSignature {
    async fn sign(&self, _request: SigningRequest<'_>, _now: Timestamp) -> Result<(), VendorError> {
        Ok(())
    }
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
