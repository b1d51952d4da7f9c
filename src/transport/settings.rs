//! What an operator can set for any connection, whatever the vendor.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::domain::units::{ByteSize, ConfigDuration};
use crate::secret::{self, SecretRef};
use crate::transport::root_certificates::RootCertificates;

/// The settings every connection has besides its vendor's own (contract of the configuration: `[connections.<name>]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ConnectionSettings {
    /// One attempt: connecting, signing, sending and reading the answer.
    pub timeout: ConfigDuration,
    /// How long the vendor may still act after an attempt that timed out, was cut off, met a 5xx or was abandoned.
    pub settle_grace: ConfigDuration,
    /// Most calls at the vendor at once; at least 1.
    pub max_in_flight: usize,
    /// Most calls a second; 0 is no limit.
    pub requests_per_second: u32,
    /// Most rows in one call; 0 is the vendor's own maximum.
    pub batch_size: usize,
    /// Repeating what never left this machine.
    pub retry: RetrySettings,
    /// Pausing while the vendor fails.
    pub breaker: BreakerSettings,
    /// How long no registration is sent after the vendor said that it has no seats left; 0 is no pause.
    pub seat_limit_pause: ConfigDuration,
    /// Whether a plain `http://` address beyond loopback is accepted.
    pub allow_http: bool,
    /// Longest body of a call with several rows.
    pub max_request_bytes: ByteSize,
    /// Longest answer that is read.
    pub max_response_bytes: ByteSize,
    /// Where certificates are kept that are trusted besides the platform's roots, in PEM; `None`: no others.
    #[serde(deserialize_with = "secret::optional")]
    pub ca: Option<SecretRef>,
    /// What was read from there; whoever reads the references puts it here.
    #[serde(skip)]
    pub authorities: RootCertificates,
}

/// Repeating a connection attempt: full jitter between 0 and `min(max, base · 2ⁿ)`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct RetrySettings {
    /// Attempts in all; 1 is no repeat.
    pub attempts: u32,
    /// Upper end of the first pause.
    pub base: ConfigDuration,
    /// Upper end of any pause.
    pub max: ConfigDuration,
}

/// Pausing while the vendor fails.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct BreakerSettings {
    /// Failures in a row that open the circuit; 0 turns the breaker off.
    pub failures: u32,
    /// How long nothing is sent before one call may probe.
    pub cooldown: ConfigDuration,
}

impl ConnectionSettings {
    /// The keys of this struct, so that a configuration table can be divided between it and the vendor's settings.
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

    /// Whether this address may be called: `https`, or `http` to this machine, or `http` expressly allowed.
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

/// Whether the address is one of this machine, which needs no encryption to get there.
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
