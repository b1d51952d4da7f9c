//! Connectivity probe of a vendor: name resolution, TCP, TLS and clock. Sends nothing that identifies the account.

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

/// Maximum time for name resolution and for each connection attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum addresses tried.
const MAX_ADDRESSES: usize = 4;

/// The results of a probe. The first failed step ends it.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// Host and port.
    pub place: String,
    /// Whether the connection uses TLS.
    pub encrypted: bool,
    /// The addresses of the host name, or the reason why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// The time to connect, or the reason why no connection was made.
    pub listening: Option<Result<Duration, String>>,
    /// The result of a plain `HEAD` of `base_url`.
    pub answer: Option<Result<ProbeResponse, ProbeError>>,
}

/// The vendor server's response to the probe request.
#[derive(Debug, Clone, Copy)]
pub struct ProbeResponse {
    /// The status; any status will do.
    pub status: u16,
    /// The vendor clock's lead over ours, from `Date`; negative if it is behind. Accurate to one second, like the
    /// header.
    pub ahead: Option<SignedDuration>,
}

/// Why the vendor's server returned no response.
#[derive(Debug, Clone)]
pub struct ProbeError {
    /// The cause, as a sentence.
    pub reason: String,
    /// The kind of failure, if the TLS handshake failed.
    pub tls: Option<TlsFailure>,
}

impl Client {
    /// Probes the vendor. Bypasses the breaker, because a probe is most useful while it is open, but keeps to the rate
    /// limit; makes new connections.
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
            look.answer = Some(self.send_head(call).await);
        }
        look
    }

    async fn send_head(&self, call: &CallContext) -> Result<ProbeResponse, ProbeError> {
        let fresh = self.with_new_pool().map_err(|reason| ProbeError { reason, tls: None })?;
        let request = Request {
            operation: "connections.check",
            method: Method::HEAD,
            target: Target::Path(String::new()),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            shown: RedactionPolicy::NOTHING,
            min_response_limit: 0,
        };
        match fresh.send_unguarded(&request, &NoSignature, call).await {
            Ok(response) => {
                Ok(ProbeResponse { status: response.status.as_u16(), ahead: response.clock_skew(self.now()) })
            }
            Err(AttemptError { connect: Some(failure), .. }) => {
                Err(ProbeError { reason: format!("{}.", failure.cause), tls: failure.tls })
            }
            Err(AttemptError { error, .. }) => Err(ProbeError { reason: error.error.detail, tls: None }),
        }
    }
}

async fn resolve(url: &Url, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses = match url.host() {
        Some(url::Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Domain(name)) => timeout(TIMEOUT, lookup_host((name, port))).await,
        None => return Err("base_url has no host".to_owned()),
    };
    match addresses {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err("the host name has no address".to_owned()) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the name server did not respond within {} s", TIMEOUT.as_secs())),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<Duration, String> {
    let mut last = String::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let began = Instant::now();
        last = match timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(began.elapsed()),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no response within {} s", TIMEOUT.as_secs()),
        };
    }
    Err(last)
}
