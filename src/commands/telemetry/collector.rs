//! The HTTP client that the trace exporter uses to reach the collector.
//!
//! The exporter sends spans from a thread without a runtime; the request itself runs on the gateway's runtime. Failures
//! are logged when they begin and when they end, never with an address, since that may carry credentials.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// Maximum length in bytes of a collector's response, whose body is of no interest.
const MAX_ANSWER: usize = 64 * 1024;

/// HTTP client for exports.
#[derive(Debug)]
pub(super) struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

impl Collector {
    /// Creates a client with this timeout per request.
    pub(super) fn new(timeout: Duration, runtime: Handle) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, runtime, failing: AtomicBool::new(false) })
    }

    fn note(&self, fault: Option<String>) {
        let failed = fault.is_some();
        if self.failing.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        if let Some(fault) = fault {
            tracing::warn!(fault, "the collector rejects traces; dropping them, otherwise unaffected");
        } else {
            tracing::info!("the collector accepts traces again");
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let Ok(answered) = self.runtime.spawn(sent(client, request)).await else {
            return Err("the gateway is shutting down".into());
        };
        match &answered {
            Ok(answer) if answer.status().is_success() => self.note(None),
            Ok(answer) => self.note(Some(format!("it responds with status {}", answer.status().as_u16()))),
            Err(fault) => self.note(Some(fault.clone())),
        }
        answered.map_err(Into::into)
    }
}

async fn sent(client: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let (head, body) = request.into_parts();
    let asked = client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
    let mut answer = asked.send().await.map_err(describe)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut said = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(describe)? {
        if said.len() + part.len() > MAX_ANSWER {
            return Err("its response is too long".to_owned());
        }
        said.extend_from_slice(&part);
    }
    let mut response = Response::new(said.freeze());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Formats the error with its sources, without the address.
fn describe(error: reqwest::Error) -> String {
    super::whole(&error.without_url())
}
