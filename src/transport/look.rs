//! A look at a vendor's front door: is its name known, does somebody listen, does TLS work, what time is it there. Nothing
//! that identifies the account is sent.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::SignedDuration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use url::Url;

use super::attempt::{Broken, TlsFailure};
use super::client::Client;
use super::flow::ahead;
use super::message::{Request, Target, Unsigned};
use super::shown::Shown;
use crate::domain::vendor::Call;

/// Longest that a name or a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses that are tried.
const MOST_ADDRESSES: usize = 4;

/// What was seen, as far as the look came. A step that failed ends it.
#[derive(Debug, Clone)]
pub struct Look {
    /// Host and port.
    pub place: String,
    /// Whether the connection is to be encrypted.
    pub encrypted: bool,
    /// The addresses of the host's name, or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
    /// How long it took until somebody listened, or why nobody did.
    pub listening: Option<Result<Duration, String>>,
    /// What came of a plain `HEAD` of `base_url`.
    pub answer: Option<Result<Greeting, NoGreeting>>,
}

/// What the vendor's server answered to a question that means nothing.
#[derive(Debug, Clone, Copy)]
pub struct Greeting {
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
    pub async fn look(&self, call: &Call) -> Look {
        let url = self.base_url();
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(443));
        let mut look = Look {
            place: format!("{host}:{port}"),
            encrypted: url.scheme() == "https",
            addresses: resolved(url, port).await,
            listening: None,
            answer: None,
        };
        let Ok(addresses) = &look.addresses else { return look };
        let listening = listening(addresses).await;
        let reached = listening.is_ok();
        look.listening = Some(listening);
        if reached {
            look.answer = Some(self.greeted(call).await);
        }
        look
    }

    async fn greeted(&self, call: &Call) -> Result<Greeting, NoGreeting> {
        let fresh = self.afresh().map_err(|error| NoGreeting { reason: error.to_string(), tls: None })?;
        let request = Request {
            operation: "connections.check",
            method: Method::HEAD,
            target: Target::Path(String::new()),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
            shown: Shown::NOTHING,
        };
        match fresh.past_the_breaker(&request, &Unsigned, call).await {
            Ok(answer) => Ok(Greeting { status: answer.status.as_u16(), ahead: ahead(&answer.headers, self.now()) }),
            Err(Broken { connect: Some(failure), .. }) => {
                Err(NoGreeting { reason: format!("{}.", failure.cause), tls: failure.tls })
            }
            Err(Broken { fault, .. }) => Err(NoGreeting { reason: fault.detail, tls: None }),
        }
    }
}

async fn resolved(url: &Url, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses = match url.host() {
        Some(url::Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(url::Host::Domain(name)) => timeout(PATIENCE, lookup_host((name, port))).await,
        None => return Err("base_url names no host".to_owned()),
    };
    match addresses {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer of the name server within {} s", PATIENCE.as_secs())),
    }
}

async fn listening(addresses: &[SocketAddr]) -> Result<Duration, String> {
    let mut last = String::new();
    for address in addresses.iter().take(MOST_ADDRESSES) {
        let began = Instant::now();
        last = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(began.elapsed()),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no answer within {} s", PATIENCE.as_secs()),
        };
    }
    Err(last)
}
