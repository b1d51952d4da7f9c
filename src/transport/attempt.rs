//! One attempt: sends the request once and classifies its end by one question above all: can the vendor have seen the
//! whole request?
//!
//! Nothing here may call a request unsent because of an error's wording alone: a [`BodyGate`] in front of the body
//! records whether any byte was handed out, and once shut passes none. hyper reads the body before it flushes the head
//! (`proto/h1/dispatch.rs`), and a head without its announced body is no request either way.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio_rustls::rustls::{CertificateError, Error as TlsError};

use crate::domain::error::Code;
use crate::domain::validation::sanitize_for_display;
use crate::domain::vendor_error::VendorError;
use crate::transport::response::Response;

/// The end of an attempt without a complete response.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub(super) kind: AttemptErrorKind,
    pub(super) error: VendorError,
    /// The status, if it arrived.
    pub(super) status: Option<StatusCode>,
    /// Why no connection could be made, if that ended the attempt.
    pub(super) connect: Option<ConnectFailure>,
}

/// Why no connection to the vendor could be made.
#[derive(Debug, Clone)]
pub struct ConnectFailure {
    /// The innermost cause, in the library's own words.
    pub cause: String,
    /// The kind of failure, if the TLS handshake failed.
    pub tls: Option<TlsFailure>,
}

/// Why a TLS handshake failed, by what an operator can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The certificate is expired or not valid yet.
    OutsideValidity,
    /// The certificate is not valid for the host.
    WrongHost,
    /// No trusted authority issued the certificate.
    UnknownIssuer,
    /// Any other failure of the handshake.
    Handshake,
}

/// The meaning of a failed attempt for the outer layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptErrorKind {
    /// The gateway ended the attempt; the vendor is not to blame.
    Local,
    /// The request never left this machine and may be retried.
    NotSent,
    /// The request may have reached the vendor, and no response arrived.
    Ambiguous,
    /// The vendor's response cannot be read.
    InvalidResponse,
}

impl AttemptErrorKind {
    /// Returns whether the request was sent, or may have been.
    pub(super) const fn was_sent(self) -> bool {
        match self {
            Self::Ambiguous | Self::InvalidResponse => true,
            Self::Local | Self::NotSent => false,
        }
    }
}

impl AttemptError {
    pub(super) fn local(error: VendorError) -> Self {
        Self { kind: AttemptErrorKind::Local, error, status: None, connect: None }
    }

    fn not_sent(detail: impl Into<String>) -> Self {
        let error = VendorError::new(Code::VendorUnreachable, detail);
        Self { kind: AttemptErrorKind::NotSent, error, status: None, connect: None }
    }

    fn connect_failed(detail: impl Into<String>, error: &reqwest::Error) -> Self {
        let connect = ConnectFailure { cause: root_cause(error), tls: tls_failure(error) };
        Self { connect: Some(connect), ..Self::not_sent(detail) }
    }

    fn ambiguous(code: Code, detail: impl Into<String>, status: Option<StatusCode>) -> Self {
        Self { kind: AttemptErrorKind::Ambiguous, error: no_response_error(code, detail), status, connect: None }
    }
}

/// A check whether a request may be sent now.
pub(super) type SendPermit = Arc<dyn Fn() -> bool + Send + Sync>;

/// A gate between the body and the wire that records how far the exchange came.
#[derive(Default, Clone)]
pub(super) struct BodyGate(Arc<SendState>);

#[derive(Default)]
struct SendState {
    permit: Option<SendPermit>,
    body: AtomicU8,
    status: AtomicU16,
}

impl BodyGate {
    const UNTOUCHED: u8 = 0;
    const PASSED: u8 = 1;
    const SHUT: u8 = 2;

    /// Creates a gate that passes nothing once the permit is withdrawn.
    pub(super) fn new(permit: Option<SendPermit>) -> Self {
        Self(Arc::new(SendState { permit, ..SendState::default() }))
    }

    /// Passes the body, unless the gate is shut or the permit was withdrawn.
    fn pass(&self) -> bool {
        if self.0.permit.as_ref().is_some_and(|permit| !permit()) {
            self.shut();
        }
        self.transition(Self::PASSED)
    }

    /// Shuts the gate; returns whether nothing ever passed.
    fn shut(&self) -> bool {
        self.transition(Self::SHUT)
    }

    // One atomic step, because the connection's own task may read the body while the attempt is being abandoned.
    fn transition(&self, to: u8) -> bool {
        match self.0.body.compare_exchange(Self::UNTOUCHED, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(was) => was == to,
        }
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0.status.load(Ordering::Acquire)).ok()
    }

    /// Classifies a timeout at this point.
    pub(super) fn timed_out(&self, limit: impl std::fmt::Display) -> AttemptError {
        if self.shut() {
            return AttemptError::not_sent(format!("No connection was ready within {limit}; nothing was sent."));
        }
        AttemptError::ambiguous(
            Code::VendorTimeout,
            format!("No complete response arrived within {limit}."),
            self.status(),
        )
    }
}

/// Sends the request and reads the whole response.
pub(super) async fn exchange(
    http: &reqwest::Client,
    mut request: reqwest::Request,
    body: Bytes,
    max_response_bytes: u64,
    gate: &BodyGate,
) -> Result<Response, AttemptError> {
    if body.is_empty() {
        // An empty body gives the gate nothing to observe, so the request counts as sent from here on.
        gate.pass();
    } else {
        *request.body_mut() = Some(reqwest::Body::wrap(GatedBody { gate: gate.clone(), body: Some(body) }));
    }
    let mut response = http.execute(request).await.map_err(|error| classify_error(error, gate))?;
    let (status, headers) = (response.status(), response.headers().clone());
    gate.0.status.store(status.as_u16(), Ordering::Release);

    let announced = response.content_length().unwrap_or(0);
    if announced > max_response_bytes {
        return Err(response_too_long(status, max_response_bytes));
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(part) = response.chunk().await.map_err(|error| classify_error(error, gate))? {
        if (whole.len() + part.len()) as u64 > max_response_bytes {
            return Err(response_too_long(status, max_response_bytes));
        }
        whole.extend_from_slice(&part);
    }
    Ok(Response { status, headers, body: whole.freeze() })
}

fn response_too_long(status: StatusCode, limit: u64) -> AttemptError {
    let detail = format!("The vendor's response is longer than the {limit} bytes that are read (max_response_bytes).");
    let error = no_response_error(Code::VendorBadResponse, detail);
    AttemptError { kind: AttemptErrorKind::InvalidResponse, error, status: Some(status), connect: None }
}

/// Creates the error of an attempt without a complete response: the vendor may still be working on it.
fn no_response_error(code: Code, detail: impl Into<String>) -> VendorError {
    VendorError { may_still_complete: true, ..VendorError::unknown(code, detail) }
}

fn classify_error(error: reqwest::Error, gate: &BodyGate) -> AttemptError {
    let error = error.without_url();
    if error.is_builder() {
        let detail = format!("The request could not be built: {}.", root_cause(&error));
        return AttemptError::local(VendorError::new(Code::Internal, detail));
    }
    if error.is_connect() {
        let detail = if error.is_dns() {
            "The vendor's host name could not be resolved; nothing was sent.".to_owned()
        } else if error.is_timeout() {
            "The vendor did not accept a connection in time; nothing was sent.".to_owned()
        } else {
            format!("Could not connect to the vendor ({}); nothing was sent.", root_cause(&error))
        };
        return AttemptError::connect_failed(detail, &error);
    }
    // hyper cancels only requests that it returns unwritten; and an unopened gate has passed no byte of the body.
    if hyper_error(&error).is_some_and(hyper::Error::is_canceled) || gate.shut() {
        return AttemptError::not_sent("The connection was closed before the request was written; nothing was sent.");
    }
    let (code, detail) = classify_disconnect(&error);
    AttemptError::ambiguous(code, detail, gate.status())
}

/// Classifies a connection failure after the request may have been written.
fn classify_disconnect(error: &reqwest::Error) -> (Code, String) {
    const INCOMPLETE: &str = "The vendor closed the connection before its response was complete.";
    let io_error = || sources(error).find_map(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    let detail = match hyper_error(error) {
        Some(error) if error.is_parse() => {
            return (Code::VendorBadResponse, "The vendor's response is not valid HTTP.".to_owned());
        }
        Some(error) if error.is_incomplete_message() => INCOMPLETE,
        _ => match io_error() {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
                "The vendor reset the connection after the request was sent."
            }
            Some(io::ErrorKind::UnexpectedEof) => INCOMPLETE,
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                "The vendor's response contains invalid HTTP."
            }
            _ => {
                let detail = format!("The connection failed after the request was sent ({}).", root_cause(error));
                return (Code::VendorTimeout, detail);
            }
        },
    };
    (Code::VendorTimeout, detail.to_owned())
}

fn hyper_error(error: &reqwest::Error) -> Option<&hyper::Error> {
    sources(error).find_map(|source| source.downcast_ref())
}

/// Finds rustls' error among the causes. An `io::Error` omits the error it wraps from its own chain of sources.
fn tls_failure(error: &reqwest::Error) -> Option<TlsFailure> {
    let wrapped = |source: &'_ (dyn StdError + 'static)| -> Option<TlsFailure> {
        let inner = source.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = source.downcast_ref::<TlsError>().or_else(|| inner?.downcast_ref::<TlsError>())?;
        Some(TlsFailure::from(tls))
    };
    sources(error).find_map(wrapped)
}

impl From<&TlsError> for TlsFailure {
    fn from(error: &TlsError) -> Self {
        use CertificateError as Bad;
        match error {
            TlsError::InvalidCertificate(reason) => match reason {
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    Self::OutsideValidity
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongHost,
                Bad::UnknownIssuer => Self::UnknownIssuer,
                // A CA certificate that the server presents as its own: webpki reports it only as text.
                Bad::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Self::UnknownIssuer,
                _ => Self::Handshake,
            },
            _ => Self::Handshake,
        }
    }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |source| StdError::source(*source))
}

/// Returns the innermost cause's message; the outer ones only say that something failed.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let text = sources(error).last().map_or_else(|| "no further reason".to_owned(), ToString::to_string);
    sanitize_for_display(&text, 200)
}

struct GatedBody {
    gate: BodyGate,
    body: Option<Bytes>,
}

#[derive(Debug, thiserror::Error)]
#[error("the attempt was abandoned")]
struct AttemptAbandoned;

impl Body for GatedBody {
    type Data = Bytes;
    type Error = AttemptAbandoned;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AttemptAbandoned>>> {
        if self.body.is_some() && !self.gate.pass() {
            return Poll::Ready(Some(Err(AttemptAbandoned)));
        }
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_shut_gate_passes_nothing() {
        let gate = BodyGate::default();
        let body = GatedBody { gate: gate.clone(), body: Some(Bytes::from_static(b"x")) };
        let broken = gate.timed_out("20s");
        assert_eq!((broken.kind, broken.error.code), (AttemptErrorKind::NotSent, Code::VendorUnreachable));
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_body_that_was_read_counts_as_sent() {
        let gate = BodyGate::default();
        let body = GatedBody { gate: gate.clone(), body: Some(Bytes::from_static(b"x")) };
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(body.collect().await.unwrap().to_bytes(), Bytes::from_static(b"x"));
        let broken = gate.timed_out("20s");
        assert_eq!((broken.kind, broken.error.code), (AttemptErrorKind::Ambiguous, Code::VendorTimeout));
    }
}
