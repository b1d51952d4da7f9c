//! Requests that the sandbox itself sends, like a vendor's webhook.
//!
//! They go to this machine only. Anyone who reaches the port can use the control endpoints, so the sandbox rejects
//! addresses that are not loopback, resolves no names and follows no redirects: it must never become a way to send
//! requests elsewhere.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use url::{Host, Url};

/// Requests to send.
#[derive(Debug)]
pub(super) struct Batch {
    pub deliveries: Vec<Delivery>,
    /// How many are sent at the same time; with 1 they keep their order.
    pub concurrency: usize,
}

/// One request, retried until the response is 200.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub url: Loopback,
    /// Name and value of the header with the key; `None` to send none.
    pub key: Option<(&'static str, String)>,
    pub body: String,
    /// How long to wait before the first attempt.
    pub delay: Duration,
    /// Maximum number of attempts.
    pub attempts: u64,
    pub retry_delay: Duration,
    /// Timeout of one attempt.
    pub timeout: Duration,
    /// The subject of the effect, and the keys to count it by.
    pub subject: String,
    pub keys: Vec<(&'static str, String)>,
}

/// The result of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The response was 200.
    Delivered,
    /// The response had another status.
    Refused(u16),
    /// No response, or not in time.
    Unanswered,
}

impl Outcome {
    /// Returns the word in the list of effects.
    pub(super) fn word(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Refused(_) => "refused",
            Outcome::Unanswered => "unanswered",
        }
    }

    /// Renders one attempt for the response of the control call.
    pub(super) fn to_json(self, subject: &str, attempt: u64) -> Value {
        let status = match self {
            Outcome::Delivered => Some(200),
            Outcome::Refused(status) => Some(status),
            Outcome::Unanswered => None,
        };
        json!({ "subject": subject, "attempt": attempt, "outcome": self.word(), "status": status })
    }
}

/// A loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loopback(Url);

impl Loopback {
    /// Parses an address and rejects every one that is not `http` at 127.0.0.0/8, `[::1]` or `localhost`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("url is not a valid address: {error}"))?;
        let is_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() == "http" && is_loopback {
            Ok(Loopback(url))
        } else {
            Err(format!("url must be http at 127.0.0.0/8, [::1] or localhost, not {text}"))
        }
    }
}

/// Creates a client that only reaches this machine. It keeps connections only if several requests are sent at a time: a
/// load of them would run out of ports otherwise, while a list of a few shows each its own connection.
pub(super) fn client(concurrency: usize) -> Result<reqwest::Client, String> {
    let localhost = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // Overrides whatever the resolver returns.
        .resolve_to_addrs("localhost", &localhost)
        .pool_max_idle_per_host(if concurrency > 1 { concurrency } else { 0 })
        .build()
        .map_err(|error| format!("the HTTP client cannot be created: {error}"))
}

/// Sends a request once.
pub(super) async fn send(client: &reqwest::Client, delivery: &Delivery) -> Outcome {
    let mut request = client
        .post(delivery.url.0.clone())
        .timeout(delivery.timeout)
        .header("Content-Type", "application/json")
        .body(delivery.body.clone());
    if let Some((name, value)) = &delivery.key {
        request = request.header(*name, value);
    }
    match request.send().await.map(|answer| answer.status().as_u16()) {
        Ok(200) => Outcome::Delivered,
        Ok(status) => Outcome::Refused(status),
        Err(_) => Outcome::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_accepted() {
        for good in ["http://127.0.0.1:80/x", "http://127.9.9.9/", "http://[::1]:8080/", "http://LOCALHOST:1/a?b=c"] {
            assert!(Loopback::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://192.0.2.1/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://127.0.0.1@example.com/",
            "http://example.com#@127.0.0.1/",
            "https://127.0.0.1/",
            "file:///etc/passwd",
            "127.0.0.1",
            "",
        ] {
            assert!(Loopback::parse(bad).is_err(), "{bad}");
        }
    }
}
