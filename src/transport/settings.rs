//! Settings of any connection, whatever the vendor.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::domain::units::{ByteSize, ConfigDuration};
use crate::secret::{self, SecretRef};
use crate::transport::root_certificates::RootCertificates;

/// The settings common to all connections (documented under `[connections.<name>]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ConnectionSettings {
    /// Timeout of one attempt: connecting, signing, sending and reading the response.
    pub timeout: ConfigDuration,
    /// How long the vendor may still act after an attempt that timed out, was cut off, met a 5xx or was abandoned.
    pub settle_grace: ConfigDuration,
    /// Maximum calls at the vendor at once; at least 1.
    pub max_in_flight: usize,
    /// Maximum calls per second; 0 means no limit.
    pub requests_per_second: u32,
    /// Maximum rows per call; 0 means the vendor's own maximum.
    pub batch_size: usize,
    /// Retries of requests that never left this machine.
    pub retry: RetrySettings,
    /// Circuit breaker settings.
    pub breaker: BreakerSettings,
    /// How long registrations pause after the vendor reported that no seats are left; 0 means no pause.
    pub seat_limit_pause: ConfigDuration,
    /// Whether a plain `http://` address beyond loopback is accepted.
    pub allow_http: bool,
    /// Maximum body length of a call with several rows.
    pub max_request_bytes: ByteSize,
    /// Maximum response length that is read.
    pub max_response_bytes: ByteSize,
    /// Reference to additional root certificates in PEM; `None`: only the platform's.
    #[serde(deserialize_with = "secret::optional")]
    pub ca: Option<SecretRef>,
    /// The certificates from `ca`, filled in when references are resolved.
    #[serde(skip)]
    pub authorities: RootCertificates,
}

/// Connect retries: full jitter between 0 and `min(max, base · 2ⁿ)`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct RetrySettings {
    /// Total attempts; 1 means no retry.
    pub attempts: u32,
    /// Upper bound of the first delay.
    pub base: ConfigDuration,
    /// Upper bound of any delay.
    pub max: ConfigDuration,
}

/// Circuit breaker settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct BreakerSettings {
    /// Consecutive failures that open the circuit; 0 turns the breaker off.
    pub failures: u32,
    /// How long the circuit stays open before one call may probe.
    pub cooldown: ConfigDuration,
}

impl ConnectionSettings {
    /// The keys of this struct, so that a configuration table can be split between it and the vendor's settings.
    pub const KEYS: &'static [&'static str] = &[
        "timeout",
        "settle_grace",
        "max_in_flight",
        "requests_per_second",
        "batch_size",
        "retry",
        "breaker",
        "seat_limit_pause",
        "allow_http",
        "max_request_bytes",
        "max_response_bytes",
        "ca",
    ];

    /// Checks whether the address is permitted: `https`, `http` to this machine, or `http` if explicitly allowed.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn accepts(&self, url: &Url) -> Result<(), String> {
        if url.host().is_none() {
            return Err("must name a host".to_owned());
        }
        let loopback = is_loopback(url);
        match url.scheme() {
            "https" => Ok(()),
            "http" if loopback || self.allow_http => Ok(()),
            "http" => {
                Err("is plain http, which carries credentials and personal data in clear text; use https, or set \
                           allow_http = true"
                    .to_owned())
            }
            other => Err(format!("has the scheme `{other}`; expected https")),
        }
    }
}

/// Returns whether the address is on this machine, so that no encryption is needed.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            timeout: ConfigDuration(Duration::from_secs(20)),
            settle_grace: ConfigDuration(Duration::from_secs(30)),
            max_in_flight: 4,
            requests_per_second: 5,
            batch_size: 0,
            retry: RetrySettings::default(),
            breaker: BreakerSettings::default(),
            seat_limit_pause: ConfigDuration(Duration::from_mins(15)),
            allow_http: false,
            max_request_bytes: ByteSize(8 << 20),
            max_response_bytes: ByteSize(4 << 20),
            ca: None,
            authorities: RootCertificates::default(),
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: ConfigDuration(Duration::from_millis(200)),
            max: ConfigDuration(Duration::from_secs(5)),
        }
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, cooldown: ConfigDuration(Duration::from_secs(15)) }
    }
}
