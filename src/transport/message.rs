//! What goes in and what comes out: [`Request`], [`Sign`], [`Answer`].
//!
//! None of these may show what it carries when it is printed for debugging: personal data, credentials, signatures.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use url::Url;

use super::shown::Shown;
use crate::domain::problem::Fault;

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
    pub shown: Shown,
}

/// What a signer sees and may change: the headers of one attempt.
pub struct Draft<'a> {
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
/// only one. [`super::Client::sibling`] has places of its own.
#[async_trait]
pub trait Sign: Send + Sync {
    /// Adds what the vendor wants to see; `now` is the time of this attempt.
    ///
    /// # Errors
    /// A fault with outcome `not_applied`: nothing was sent.
    async fn sign(&self, draft: Draft<'_>, now: Timestamp) -> Result<(), Fault>;
}

/// Adds nothing.
pub struct Unsigned;

#[async_trait]
impl Sign for Unsigned {
    async fn sign(&self, _draft: Draft<'_>, _now: Timestamp) -> Result<(), Fault> {
        Ok(())
    }
}

/// A complete answer.
#[derive(Clone)]
pub struct Answer {
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

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
