//! [`Client`]: sends one request through all layers and gives back the answer, or the fault that ended it.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use url::Url;

use super::breaker::Circuit;
use super::settings::ConnectionSettings;
use crate::domain::environment::Environment;
use crate::domain::problem::{ConnectionName, Fault};
use crate::domain::vendor::Call;
use crate::secret::{Redactor, Secret};

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A path (and query) below the connection's `base_url`.
    Path(String),
    /// An address of its own (a signature service).
    Url(Url),
}

/// A request before it is signed.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole and within `max_response_bytes`.
    pub body: Bytes,
}

/// A connection whose settings cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(pub String);

/// The way out for one connection; clones share limits, breaker and connection pool.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// A client for this connection. Opens nothing.
    ///
    /// # Errors
    /// [`ClientError`] when the address may not be called or the TLS set-up fails.
    pub fn new(
        name: ConnectionName,
        base_url: &Url,
        settings: &ConnectionSettings,
        secrets: Redactor,
        environment: Environment,
    ) -> Result<Self, ClientError> {
        todo!()
    }

    /// Sends the request through all layers.
    ///
    /// # Errors
    /// `vendor_unreachable`, `vendor_circuit_open`, `connection_saturated` (nothing was sent), `vendor_timeout`,
    /// `vendor_bad_response` (sent; outcome unknown), or what the signer said.
    pub async fn send(&self, request: Request, signer: &dyn Sign, call: &Call) -> Result<Answer, Fault> {
        todo!()
    }

    /// Whether calls go out at the moment.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        todo!()
    }

    /// A vendor's text made fit to show: configured secrets and these masked, control characters removed, ≤ 300
    /// characters.
    #[must_use]
    pub fn clean<'a>(&self, text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
        todo!()
    }
}
