//! The demo's HTTP client for the gateway's public API and the simulators' control endpoints. It knows no more of the
//! gateway than any other client.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::commands::{Failure, telemetry};
use crate::secret::Secret;

/// Longer than any request of the demo takes, so that a hanging gateway ends it with an error.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Client {
    http: reqwest::Client,
    gateway: SocketAddr,
    key: Secret,
}

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Client {
    pub(super) fn new(gateway: SocketAddr, key: Secret) -> Result<Self, Failure> {
        // Both ends are on this machine: ignore its proxy settings.
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| Failure::other("no HTTP client", error))?;
        Ok(Self { http, gateway, key })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        send(self.gateway(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        send(self.gateway(Method::POST, path).json(body)).await
    }

    /// Sends a POST with an `Idempotency-Key`.
    pub(super) async fn post_once(&self, path: &str, key: &str, body: &Value) -> Result<Answer, Failure> {
        send(self.gateway(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Fetches the simulator's record of what happened there.
    pub(super) async fn effects(&self, simulator: SocketAddr) -> Result<Value, Failure> {
        let answer = send(self.http.get(format!("http://{simulator}/_effects?calls=false"))).await?;
        Ok(answer.body)
    }

    /// Fetches the webhooks that the simulated LMS has received.
    pub(super) async fn ledger(&self, lms: SocketAddr) -> Result<Value, Failure> {
        Ok(send(self.http.get(format!("http://{lms}/_ledger"))).await?.body)
    }

    /// Fetches the calls that the simulator has received.
    pub(super) async fn calls(&self, simulator: SocketAddr) -> Result<Value, Failure> {
        let answer = send(self.http.get(format!("http://{simulator}/_effects?state=false"))).await?;
        Ok(answer.body)
    }

    /// Posts to a control endpoint of the simulator.
    pub(super) async fn control(&self, simulator: SocketAddr, path: &str, order: &Value) -> Result<(), Failure> {
        match send(self.http.post(format!("http://{simulator}{path}")).json(order)).await? {
            Answer { status: 200, .. } => Ok(()),
            Answer { status, body } => Err(Failure::Other(format!("the simulator rejected {path}: {status} {body}"))),
        }
    }

    /// Injects a fault at the simulator.
    pub(super) async fn inject_fault(&self, simulator: SocketAddr, fault: Value) -> Result<(), Failure> {
        self.control(simulator, "/_faults", &json!({ "add": [fault] })).await
    }

    /// Returns the address of this path of the gateway's.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway)
    }

    fn gateway(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(self.key.expose())
    }
}

async fn send(request: RequestBuilder) -> Result<Answer, Failure> {
    let fault = |error: reqwest::Error| Failure::other("a request of the demo failed", telemetry::whole(&error));
    let response = request.send().await.map_err(fault)?;
    let status = response.status().as_u16();
    let bytes = response.bytes().await.map_err(fault)?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))
    };
    Ok(Answer { status, body })
}
