//! A scripted vendor that records the requests it receives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};

/// A request as the vendor received it.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl SeenRequest {
    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

type Script = dyn Fn(&SeenRequest) -> Response + Send + Sync;

/// A stub of any vendor on a free port. It ends with the test's runtime.
#[derive(Clone)]
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
    script: Arc<Mutex<Arc<Script>>>,
}

impl Stub {
    /// Starts a vendor that responds by this script.
    pub async fn start(script: impl Fn(&SeenRequest) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let stub = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            script: Arc::new(Mutex::new(Arc::new(script))),
        };
        let router = Router::new().fallback(respond).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stub
    }

    /// Starts a stub that accepts every request with an empty object.
    pub async fn accepting() -> Self {
        Self::start(|_| json_response(200, &serde_json::json!({}))).await
    }

    /// Starts a StartExam that accepts every request.
    pub async fn accepting_startexam() -> Self {
        Self::start(|seen| {
            let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let ids = |rows: &Vec<serde_json::Value>| -> Vec<String> {
                (0..rows.len()).map(|row| format!("1f0e8b3a-5a0c-4c39-9b1e-0a4f7a1c{row:04x}")).collect()
            };
            let ids = body["employees"].as_array().map(ids).unwrap_or_default();
            json_response(
                200,
                &if seen.uri.path().contains("participants") {
                    serde_json::json!({ "participantIds": ids })
                } else {
                    serde_json::json!({})
                },
            )
        })
        .await
    }

    /// Returns the address as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Responds by another script from now on.
    pub fn respond_with(&self, script: impl Fn(&SeenRequest) -> Response + Send + Sync + 'static) {
        *self.script.lock().expect("no test panicked here") = Arc::new(script);
    }

    /// Returns every request so far.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().expect("no test panicked here").clone()
    }
}

/// Builds a response.
pub fn build_response(status: u16, content_type: &str, body: impl Into<String>) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", content_type)], body.into()).into_response()
}

/// Builds a JSON response.
pub fn json_response(status: u16, body: &serde_json::Value) -> Response {
    build_response(status, "application/json; charset=utf-8", body.to_string())
}

/// Builds a JSON response with these headers.
pub fn json_response_with_headers(status: u16, headers: &[(&'static str, &str)], body: &serde_json::Value) -> Response {
    let mut response = json_response(status, body);
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().expect("a header's value"));
    }
    response
}

async fn respond(State(stub): State<Stub>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
    let seen = SeenRequest { method: head.method, uri: head.uri, headers: head.headers, body };
    stub.seen.lock().expect("no test panicked here").push(seen.clone());
    let script = stub.script.lock().expect("no test panicked here").clone();
    script(&seen)
}
