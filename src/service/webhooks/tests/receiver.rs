//! A receiver in the same process: it records what arrives and responds as a test says.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use url::Url;

use crate::domain::webhook::WebhookSource;
use crate::domain::webhook::signature::SignatureHeaders;
use crate::service::webhooks::settings::DeliveryTransport;
use crate::transport::delivery::{DeliveryError, DeliveryResponse, TargetPolicy};

/// What arrived in one attempt.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) url: String,
    pub(super) headers: SignatureHeaders,
    pub(super) body: Bytes,
    pub(super) json: Value,
    pub(super) sequence: Option<u64>,
    /// How many attempts at the same host were in flight, with this one.
    pub(super) in_flight: usize,
    pub(super) accepted: bool,
}

impl Received {
    /// Returns whether it went to this host.
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.url.starts_with(&format!("https://{host}."))
    }
}

type Answer = Result<DeliveryResponse, DeliveryError>;
type Script = Box<dyn FnMut(&Received) -> Answer + Send>;

pub(super) struct Receiver {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
    /// By address.
    in_flight: Mutex<BTreeMap<String, usize>>,
    is_open: watch::Sender<bool>,
    policy: Mutex<TargetPolicy>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            script: Mutex::new(Box::new(|_| respond(200))),
            received: Mutex::default(),
            in_flight: Mutex::default(),
            is_open: watch::Sender::new(true),
            policy: Mutex::default(),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a script returns")]
pub(super) fn respond(status: u16) -> Answer {
    Ok(DeliveryResponse { status, retry_after: None })
}

pub(super) fn unreachable() -> Answer {
    Err(DeliveryError::NotConnected("connection refused".to_owned()))
}

impl Receiver {
    /// Responds so from now on.
    pub(super) fn script(&self, script: impl FnMut(&Received) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Judges addresses by this from now on, as the HTTP client does.
    pub(super) fn judge_by(&self, policy: TargetPolicy) {
        *self.policy.lock().unwrap() = policy;
    }

    /// Holds back all responses until it is opened.
    pub(super) fn open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    pub(super) fn forget(&self) {
        self.received.lock().unwrap().clear();
    }

    /// Returns everything that arrived, in the order of the responses.
    pub(super) fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Returns what arrived at a host and was accepted.
    pub(super) fn accepted(&self, host: &str) -> Vec<Received> {
        self.all().into_iter().filter(|one| one.accepted && one.is_at(host)).collect()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.lock().unwrap().values().sum()
    }
}

/// Counts an attempt until it ends, also if it is dropped.
struct InFlight<'a>(&'a Receiver, String);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self.0.in_flight.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

#[async_trait]
impl DeliveryTransport for Receiver {
    async fn check_host(&self, _: &Url) -> Result<(), DeliveryError> {
        Ok(())
    }

    async fn send(&self, source: WebhookSource, url: &str, headers: &SignatureHeaders, body: Bytes) -> Answer {
        let policy = self.policy.lock().unwrap().clone();
        policy.judge(source, url).map_err(DeliveryError::Refused)?;
        let in_flight = {
            let mut counts = self.in_flight.lock().unwrap();
            let count = counts.entry(url.to_owned()).or_default();
            *count += 1;
            *count
        };
        let _counted = InFlight(self, url.to_owned());
        self.is_open.subscribe().wait_for(|is_open| *is_open).await.ok();
        tokio::task::yield_now().await;
        let json: Value = serde_json::from_slice(&body).unwrap();
        let sequence = json["sequence"].as_u64();
        let (url, headers) = (url.to_owned(), headers.clone());
        let mut received = Received { url, headers, body, json, sequence, in_flight, accepted: false };
        let answer = (self.script.lock().unwrap())(&received);
        received.accepted = matches!(answer, Ok(DeliveryResponse { status: 200..=299, .. }));
        self.received.lock().unwrap().push(received);
        answer
    }
}
