//! A look at a vendor's front door: is its name known, does somebody listen, does TLS work, what time is it there. Nothing
//! that identifies the account is sent.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::SignedDuration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::domain::vendor::CallContext;
use crate::transport::attempt::{AttemptError, TlsFailure};
use crate::transport::client::Client;
use crate::transport::redaction::RedactionPolicy;
use crate::transport::request::{NoSignature, Request, Target};
use crate::transport::shared_state::clock_skew;

/// Longest that a name or a connection is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses that are tried.
const MAX_ADDRESSES: usize = 4;

/// What was seen, as far as the look came. A step that failed ends it.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// Host and port.
    pub place: String,
    /// Whether the connection is to be encrypted.
    pub encrypted: bool,
    /// The addresses of the host's name, or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// How long it took until somebody listened, or why nobody did.
    pub listening: Option<Result<Duration, String>>,
    /// What came of a plain `HEAD` of `base_url`.
    pub answer: Option<Result<ProbeResponse, NoGreeting>>,
}

/// What the vendor's server answered to a question that means nothing.
#[derive(Debug, Clone, Copy)]
pub struct ProbeResponse {
    /// The status: any will do.
    pub status: u16,
    /// How far its clock is ahead of ours by its `Date`; negative when it is behind. To the second, as the header is.
    pub ahead: Option<SignedDuration>,
}

/// Why the vendor's server returned no response.
#[derive(Debug, Clone)]
pub struct NoGreeting {
    /// The cause, as a sentence.
    pub reason: String,
    /// The kind of failure, if the TLS handshake failed.
    pub tls: Option<TlsFailure>,
}

impl Client {
    /// Looks whether the vendor is there. Goes past the breaker, since a look is most wanted when that is open, but keeps to
    /// the rate; new connections are made for it.
    pub async fn probe(&self, call: &CallContext) -> ProbeReport {
        let url = self.base_url();
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(443));
        let mut look = ProbeReport {
            place: format!("{host}:{port}"),
            encrypted: url.scheme() == "https",
            addresses: resolve(url, port).await,
            listening: None,
            answer: None,
        };
        let Ok(addresses) = &look.addresses else { return look };
        let listening = connect(addresses).await;
        let reached = listening.is_ok();
        look.listening = Some(listening);
        if reached {
            look.answer = Some(self.read_greeting(call).await);
        }
        look
    }

    async fn read_greeting(&self, call: &CallContext) -> Result<ProbeResponse, NoGreeting> {
        let fresh = self.with_new_pool().map_err(|error| NoGreeting { reason: error.to_string(), tls: None })?;
        let request = Request {
            operation: "connections.check",
            method: Method::HEAD,
            target: Target::Path(String::new()),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            shown: RedactionPolicy::NOTHING,
        };
        match fresh.send_unguarded(&request, &NoSignature, call).await {
            Ok(answer) => {
                Ok(ProbeResponse { status: answer.status.as_u16(), ahead: clock_skew(&answer.headers, self.now()) })
            }
            Err(AttemptError { connect: Some(failure), .. }) => {
                Err(NoGreeting { reason: format!("{}.", failure.cause), tls: failure.tls })
            }
            Err(AttemptError { fault, .. }) => Err(NoGreeting { reason: fault.detail, tls: None }),
        }
    }
}

async fn resolve(url: &Url, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses = match url.host() {
        Some(url::Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Domain(name)) => timeout(TIMEOUT, lookup_host((name, port))).await,
        None => return Err("base_url names no host".to_owned()),
    };
    match addresses {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer of the name server within {} s", TIMEOUT.as_secs())),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<Duration, String> {
    let mut last = String::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let began = Instant::now();
        last = match timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(began.elapsed()),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no answer within {} s", TIMEOUT.as_secs()),
        };
    }
    Err(last)
}
