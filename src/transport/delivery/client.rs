//! The HTTP client of deliveries, apart from that of vendors: other rules, another pool, no retries of its own.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use url::{Host, Url};

use super::resolver::{ConnectorResolver, HostResolver, JudgingResolver, ResolutionError, SystemResolver};
use super::target::{TargetPolicy, TargetRefusal};
use crate::domain::webhook::WebhookSource;
use crate::domain::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, SignatureHeaders, TIMESTAMP_HEADER};
use crate::transport::attempt::root_cause;
use crate::transport::root_certificates::RootCertificates;

/// Maximum number of bytes of a response's body that are read; a connection whose response is longer is not used again.
const MAX_BODY: usize = 4 << 10;
/// Idle time-out of pooled connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of idle connections to one host.
const MAX_IDLE: usize = 4;
/// Lifetime of one pool, after which names are resolved again.
const POOL_LIFETIME: Duration = Duration::from_mins(5);

/// The settings of the client.
#[derive(Debug, Clone)]
pub struct DeliveryClientSettings {
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// The limit of one attempt, from resolving the name to the end of the response.
    pub timeout: Duration,
    /// Root certificates that are trusted besides the platform's.
    pub authorities: RootCertificates,
}

/// The client of deliveries.
pub struct DeliveryClient {
    settings: DeliveryClientSettings,
    resolver: Arc<JudgingResolver>,
    pool: Mutex<Pool>,
}

struct Pool {
    client: reqwest::Client,
    created: Instant,
}

/// A receiver's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResponse {
    /// The status.
    pub status: u16,
    /// The value of `Retry-After`.
    pub retry_after: Option<String>,
}

/// Why an attempt got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The URL is refused.
    #[error("The URL {0}.")]
    Refused(TargetRefusal),
    /// The host name could not be resolved.
    #[error("The host name could not be resolved.")]
    Unresolved,
    /// An address of the host is refused; nothing was connected to.
    #[error("{0}.")]
    Address(String),
    /// No connection was made; the reason.
    #[error("No connection could be made ({0}).")]
    NotConnected(String),
    /// No complete response arrived within the time-out.
    #[error("No complete response arrived within {}.", crate::domain::units::ConfigDuration(*.0))]
    TimedOut(Duration),
    /// The connection ended before the response; the reason.
    #[error("The connection ended before the response ({0}).")]
    Disconnected(String),
}

impl DeliveryClient {
    /// Creates a client that resolves names as the system does.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn new(settings: DeliveryClientSettings) -> Result<Self, String> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Creates a client with another resolver.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn with_resolver(settings: DeliveryClientSettings, resolver: Arc<dyn HostResolver>) -> Result<Self, String> {
        let resolver = Arc::new(JudgingResolver::new(resolver, &settings.policy.allow_private));
        let pool = Pool { client: build(&settings, &resolver)?, created: Instant::now() };
        Ok(Self { settings, resolver, pool: Mutex::new(pool) })
    }

    /// Returns where deliveries may go.
    #[must_use]
    pub fn policy(&self) -> &TargetPolicy {
        &self.settings.policy
    }

    /// Resolves the host of a URL and judges its addresses, without connecting.
    ///
    /// # Errors
    /// [`DeliveryError::Unresolved`], [`DeliveryError::Address`], [`DeliveryError::TimedOut`].
    pub async fn check_host(&self, url: &Url) -> Result<(), DeliveryError> {
        let Some(Host::Domain(host)) = url.host() else { return Ok(()) };
        let timeout = self.settings.timeout;
        match tokio::time::timeout(timeout, self.resolver.resolve(host)).await {
            Ok(found) => found.map(drop).map_err(|error| DeliveryError::from_resolution(&error)),
            Err(_) => Err(DeliveryError::TimedOut(timeout)),
        }
    }

    /// Sends a signed body to the URL of a webhook that `source` has named, and returns the response. Follows no redirect.
    ///
    /// # Errors
    /// [`DeliveryError`] if no response arrived.
    pub async fn send(
        &self,
        source: WebhookSource,
        url: &str,
        headers: &SignatureHeaders,
        body: Bytes,
    ) -> Result<DeliveryResponse, DeliveryError> {
        // Judged with every attempt: the operator may have changed what is allowed.
        let url = self.settings.policy.judge(source, url).map_err(DeliveryError::Refused)?;
        let timeout = self.settings.timeout;
        match tokio::time::timeout(timeout, self.exchange(url, headers, body)).await {
            Ok(ended) => ended,
            Err(_) => Err(DeliveryError::TimedOut(timeout)),
        }
    }

    async fn exchange(
        &self,
        url: Url,
        headers: &SignatureHeaders,
        body: Bytes,
    ) -> Result<DeliveryResponse, DeliveryError> {
        let headers = header_map(headers).ok_or(DeliveryError::Refused(TargetRefusal::Form))?;
        let request = self.client().post(url).headers(headers).body(body);
        let mut response = request.send().await.map_err(|error| self.classify(error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let answer = DeliveryResponse { status: response.status().as_u16(), retry_after };
        let mut read = 0_usize;
        while read < MAX_BODY {
            match response.chunk().await {
                Ok(Some(part)) => read = read.saturating_add(part.len()),
                // The status is the answer; what ends the body changes nothing.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(answer)
    }

    /// Returns the client for the next attempt, with a new pool if the present one is too old.
    fn client(&self) -> reqwest::Client {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.created.elapsed() >= POOL_LIFETIME {
            pool.created = Instant::now();
            match build(&self.settings, &self.resolver) {
                Ok(client) => pool.client = client,
                // The settings are unchanged, so the old client still works.
                Err(error) => tracing::warn!(%error, "the pool of deliveries was not replaced; keeping the old one"),
            }
        }
        pool.client.clone()
    }

    fn classify(&self, error: reqwest::Error) -> DeliveryError {
        let error = error.without_url();
        if let Some(resolution) = sources(&error).find_map(|source| source.downcast_ref::<ResolutionError>()) {
            return DeliveryError::from_resolution(resolution);
        }
        if error.is_timeout() {
            return DeliveryError::TimedOut(self.settings.timeout);
        }
        let reason = root_cause(&error);
        if error.is_connect() { DeliveryError::NotConnected(reason) } else { DeliveryError::Disconnected(reason) }
    }
}

impl DeliveryError {
    /// Returns a word for what ended the attempt.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::Address(_) => "not_allowed",
            Self::Unresolved => "unresolved",
            Self::NotConnected(_) => "not_connected",
            Self::TimedOut(_) => "timed_out",
            Self::Disconnected(_) => "disconnected",
        }
    }

    fn from_resolution(error: &ResolutionError) -> Self {
        match error {
            ResolutionError::Unresolved(_) => Self::Unresolved,
            ResolutionError::Refused(refusal) => {
                Self::Address(format!("The host name resolves to an address that {refusal}"))
            }
        }
    }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |source| StdError::source(*source))
}

fn header_map(headers: &SignatureHeaders) -> Option<HeaderMap> {
    let SignatureHeaders { id, timestamp, signature } = headers;
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(ID_HEADER, HeaderValue::try_from(id).ok()?);
    map.insert(TIMESTAMP_HEADER, HeaderValue::try_from(timestamp).ok()?);
    map.insert(SIGNATURE_HEADER, HeaderValue::try_from(signature).ok()?);
    Some(map)
}

fn build(settings: &DeliveryClientSettings, resolver: &Arc<JudgingResolver>) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
        // A redirect could lead past the judge, and to a host that the operator does not allow.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // A proxy of the environment would resolve the name itself.
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .dns_resolver(Arc::new(ConnectorResolver(Arc::clone(resolver))))
        .connect_timeout(settings.timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .tls_certs_merge(settings.authorities.certificates())
        .build()
        .map_err(|error| format!("the client of deliveries cannot be created: {}", root_cause(&error)))
}
