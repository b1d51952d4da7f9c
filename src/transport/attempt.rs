//! One attempt: the request goes out once, and what ended it is told apart by one question above all: can the vendor have
//! seen the whole of it?
//!
//! Nothing here may call a request unsent on the strength of an error's wording alone: a [`Gate`] in front of the body
//! knows whether a byte of it was handed out, and once shut lets none through. hyper reads the body before it flushes the
//! head (`proto/h1/dispatch.rs`), and a head without the body it announces is no request either way.

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

use crate::domain::error::{Code, Error};
use crate::domain::validation::sanitize_for_display;
use crate::transport::request::Response;

/// How an attempt ended without an answer.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub(super) kind: AttemptErrorKind,
    pub(super) fault: Error,
    /// The status, where that much of the answer came.
    pub(super) status: Option<StatusCode>,
    /// Why no connection could be made, where that ended the attempt.
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

/// What a broken attempt means for the layers outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptErrorKind {
    /// It ended for a reason of our own; it says nothing about the vendor.
    Local,
    /// It never left this machine and may be repeated.
    NotSent,
    /// It may have reached the vendor, and no answer came.
    Ambiguous,
    /// The vendor answered, in a way that cannot be read.
    InvalidResponse,
}

impl AttemptError {
    pub(super) fn ours(fault: Error) -> Self {
        Self { kind: AttemptErrorKind::Local, fault, status: None, connect: None }
    }

    fn unsent(detail: impl Into<String>) -> Self {
        let fault = Error::new(Code::VendorUnreachable, detail);
        Self { kind: AttemptErrorKind::NotSent, fault, status: None, connect: None }
    }

    fn unconnected(detail: impl Into<String>, error: &reqwest::Error) -> Self {
        let connect = ConnectFailure { cause: root(error), tls: tls_failure(error) };
        Self { connect: Some(connect), ..Self::unsent(detail) }
    }

    fn lost(code: Code, detail: impl Into<String>, status: Option<StatusCode>) -> Self {
        Self { kind: AttemptErrorKind::Ambiguous, fault: unanswered(code, detail), status, connect: None }
    }
}

/// Whether a request may leave now.
pub(super) type SendPermit = Arc<dyn Fn() -> bool + Send + Sync>;

/// Stands between the body and the wire, and remembers how far the exchange came.
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

    /// A gate that lets nothing through once the permit is withdrawn.
    pub(super) fn new(permit: Option<SendPermit>) -> Self {
        Self(Arc::new(SendState { permit, ..SendState::default() }))
    }

    /// Lets the body through, unless the gate was shut before or may not open any more.
    fn pass(&self) -> bool {
        if self.0.permit.as_ref().is_some_and(|permit| !permit()) {
            self.shut();
        }
        self.turn(Self::PASSED)
    }

    /// Lets nothing through from now on. Whether nothing ever went through.
    fn shut(&self) -> bool {
        self.turn(Self::SHUT)
    }

    // One atomic step, since the connection's own task may reach for the body while the attempt is being given up.
    fn turn(&self, to: u8) -> bool {
        match self.0.body.compare_exchange(Self::UNTOUCHED, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(was) => was == to,
        }
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0.status.load(Ordering::Acquire)).ok()
    }

    /// What a time-out means at this point.
    pub(super) fn timed_out(&self, limit: impl std::fmt::Display) -> AttemptError {
        if self.shut() {
            return AttemptError::unsent(format!("No connection was ready within {limit}; nothing was sent."));
        }
        AttemptError::lost(Code::VendorTimeout, format!("No complete answer came within {limit}."), self.status())
    }
}

/// Sends the request and reads the whole answer.
pub(super) async fn exchange(
    http: &reqwest::Client,
    mut request: reqwest::Request,
    body: Bytes,
    max_response_bytes: u64,
    gate: &BodyGate,
) -> Result<Response, AttemptError> {
    if body.is_empty() {
        // There is no body whose reading could be watched, so it counts as sent from here on.
        gate.pass();
    } else {
        *request.body_mut() = Some(reqwest::Body::wrap(GatedBody { gate: gate.clone(), body: Some(body) }));
    }
    let mut response = http.execute(request).await.map_err(|error| broken(error, gate))?;
    let (status, headers) = (response.status(), response.headers().clone());
    gate.0.status.store(status.as_u16(), Ordering::Release);

    let announced = response.content_length().unwrap_or(0);
    if announced > max_response_bytes {
        return Err(too_long(status, max_response_bytes));
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(part) = response.chunk().await.map_err(|error| broken(error, gate))? {
        if (whole.len() + part.len()) as u64 > max_response_bytes {
            return Err(too_long(status, max_response_bytes));
        }
        whole.extend_from_slice(&part);
    }
    Ok(Response { status, headers, body: whole.freeze() })
}

fn too_long(status: StatusCode, limit: u64) -> AttemptError {
    let detail = format!("The vendor's answer is longer than max_response_bytes ({limit} bytes).");
    let fault = unanswered(Code::VendorBadResponse, detail);
    AttemptError { kind: AttemptErrorKind::InvalidResponse, fault, status: Some(status), connect: None }
}

/// The fault of an attempt without a complete answer: nothing tells that the vendor has stopped working on it.
fn unanswered(code: Code, detail: impl Into<String>) -> Error {
    Error { lingering: true, ..Error::unknown(code, detail) }
}

fn broken(error: reqwest::Error, gate: &BodyGate) -> AttemptError {
    let error = error.without_url();
    if error.is_builder() {
        let fault = Error::new(Code::Internal, format!("The request could not be built: {}.", root(&error)));
        return AttemptError::ours(fault);
    }
    if error.is_connect() {
        let detail = if error.is_dns() {
            "The vendor's host name could not be resolved; nothing was sent.".to_owned()
        } else if error.is_timeout() {
            "The vendor did not accept a connection in time; nothing was sent.".to_owned()
        } else {
            format!("No connection to the vendor ({}); nothing was sent.", root(&error))
        };
        return AttemptError::unconnected(detail, &error);
    }
    // hyper cancels only what it hands back unwritten; and a gate still shut has let no byte of the body out.
    if hyper_error(&error).is_some_and(hyper::Error::is_canceled) || gate.shut() {
        return AttemptError::unsent("The connection was closed before the request was written; nothing was sent.");
    }
    let (code, detail) = cut(&error);
    AttemptError::lost(code, detail, gate.status())
}

/// How the connection ended after the request may have been written.
fn cut(error: &reqwest::Error) -> (Code, String) {
    if let Some(error) = hyper_error(error) {
        if error.is_parse() {
            return (Code::VendorBadResponse, "What came back is not HTTP.".to_owned());
        }
        if error.is_incomplete_message() {
            return (
                Code::VendorTimeout,
                "The vendor closed the connection before its answer was complete.".to_owned(),
            );
        }
    }
    let detail = match sources(error).find_map(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
            "The vendor reset the connection after the request was sent.".to_owned()
        }
        Some(io::ErrorKind::UnexpectedEof) => {
            "The vendor closed the connection before its answer was complete.".to_owned()
        }
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            "The vendor's answer breaks off in invalid HTTP.".to_owned()
        }
        _ => format!("The connection failed after the request was sent ({}).", root(error)),
    };
    (Code::VendorTimeout, detail)
}

fn hyper_error(error: &reqwest::Error) -> Option<&hyper::Error> {
    sources(error).find_map(|source| source.downcast_ref())
}

/// Finds rustls' error among the causes. An `io::Error` leaves the error it wraps out of its own chain of sources.
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
                // An authority's certificate that the server presents as its own: webpki names it in text only.
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

/// The innermost cause's own words; the outer ones only say that something went wrong.
pub(super) fn root(error: &reqwest::Error) -> String {
    let text = sources(error).last().map_or_else(|| "no further reason".to_owned(), ToString::to_string);
    sanitize_for_display(&text, 200)
}

struct GatedBody {
    gate: BodyGate,
    body: Option<Bytes>,
}

#[derive(Debug, thiserror::Error)]
#[error("the attempt was given up")]
struct GivenUp;

impl Body for GatedBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if self.body.is_some() && !self.gate.pass() {
            return Poll::Ready(Some(Err(GivenUp)));
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
    async fn a_gate_once_shut_lets_nothing_through() {
        let gate = BodyGate::default();
        let body = GatedBody { gate: gate.clone(), body: Some(Bytes::from_static(b"x")) };
        let broken = gate.timed_out("20s");
        assert_eq!((broken.kind, broken.fault.code), (AttemptErrorKind::NotSent, Code::VendorUnreachable));
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_body_once_read_cannot_be_called_unsent() {
        let gate = BodyGate::default();
        let body = GatedBody { gate: gate.clone(), body: Some(Bytes::from_static(b"x")) };
        assert_eq!(body.size_hint().exact(), Some(1));
        assert_eq!(body.collect().await.unwrap().to_bytes(), Bytes::from_static(b"x"));
        let broken = gate.timed_out("20s");
        assert_eq!((broken.kind, broken.fault.code), (AttemptErrorKind::Ambiguous, Code::VendorTimeout));
    }
}
