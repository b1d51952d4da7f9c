//! The HTTP API on its own, over a gateway without connections: everything a request can get wrong before a vendor is
//! involved.

mod compressing;
mod cors;
mod openapi_served;
mod protecting;
mod reading;
mod receiving;
mod serving;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use examgate::config::{Auth, ClientSettings, RateLimit, ServerSettings};
use examgate::domain::scope::Scope;
use examgate::domain::system::{Clock, SecureRandom, System};
use examgate::domain::units::{ByteSize, ConfigDuration};
use examgate::http::{ApiParts, Limits, ListenerOptions, LoadGauges, ShutdownHandle, router, serve};
use examgate::service::{Catalogue, ConnectionAccess, Gateway, Retention};
use examgate::store::{Keyring, SqliteStore};
use jiff::Timestamp;
use reqwest::{Method, Response};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

struct SystemEnvironment;

impl Clock for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl SecureRandom for SystemEnvironment {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("randomness");
    }
}

/// The keys of the two clients: one has all scopes, the other may read candidates, twice.
pub const ALL: &str = "key-of-all";
pub const FEW: &str = "key-of-few";

/// Longer than any test.
pub const RETENTION: Retention = Retention {
    operations: Duration::from_hours(1),
    keys: Duration::from_hours(1),
    reports: Duration::from_hours(1),
    parked_reports: Duration::from_hours(1),
    events: Duration::from_hours(1),
};

/// Returns an API with small limits.
pub async fn api_parts() -> ApiParts {
    let environment = System { clock: Arc::new(SystemEnvironment), entropy: Arc::new(SystemEnvironment) };
    let keyring = Keyring::new(&Keyring::generate(&environment), &[]).expect("a keyring");
    let store = SqliteStore::in_memory(keyring, environment.clone()).expect("a store");
    let client = |name: &str, key: &str, scopes: &[Scope], burst: u32| ClientSettings {
        name: name.to_owned(),
        tenant: name.to_owned(),
        key_sha256: vec![Sha256::digest(key.as_bytes()).into()],
        scopes: scopes.iter().copied().collect::<BTreeSet<_>>(),
        connections: ConnectionAccess::All,
        default_connection: None,
        rate_limit: RateLimit { requests_per_second: if burst > 10 { burst } else { 1 }, burst },
    };
    let gateway =
        Gateway::start(Arc::new(store), BTreeMap::new(), Catalogue::default(), environment.clone(), RETENTION);
    let gateway = gateway.await.expect("a gateway");
    let clients = [client("all", ALL, Scope::ALL, 100_000), client("few", FEW, &[Scope::CandidatesRead], 2)];
    ApiParts {
        gateway,
        server: ServerSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: None,
            receiver_listen: None,
            base_path: String::new(),
            public_url: None,
            cors_origins: Vec::new(),
            body_limit: ByteSize(1000),
            bulk_body_limit: ByteSize(100_000),
            request_timeout: ConfigDuration(Duration::from_mins(1)),
            keep_alive: ConfigDuration(KEEP_ALIVE),
            shutdown_delay: ConfigDuration(Duration::ZERO),
            shutdown_grace: ConfigDuration(Duration::from_secs(5)),
            tls: None,
        },
        auth: Auth::Keys(clients.into_iter().map(|client| (client.name.clone(), client)).collect()),
        environment,
        limits: Limits::default(),
        busy: LoadGauges::default(),
        ask: Arc::new(|_| Box::pin(async { Err("nobody publishes anything here".to_owned()) })),
        console: None,
    }
}

/// How long idle connections stay open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A listening API; it stops when dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub shutdown: ShutdownHandle,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.close();
    }
}

pub async fn serve_api(api_parts: &ApiParts) -> TestServer {
    serve_router(router(api_parts)).await
}

pub async fn serve_router(router: axum::Router) -> TestServer {
    serve_with(router, ListenerOptions { connections: 100, keep_alive: KEEP_ALIVE, busy: None, tls: None }).await
}

/// Serves a router with these listener options.
pub async fn serve_with(router: axum::Router, options: ListenerOptions) -> TestServer {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = ShutdownHandle::new(Duration::from_secs(5));
    tokio::spawn(serve(listener, router, options, shutdown.clone()));
    TestServer { address, shutdown }
}

/// A response with its body as JSON (or as text, if it is none).
#[derive(Debug)]
pub struct ApiResponse {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl ApiResponse {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a complete response");
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Returns status and code of a problem, and checks its other fields.
    pub fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status);
        assert_eq!(self.body["requestId"], self.header("x-request-id"));
        assert_eq!(self.body["type"], format!("/problems/{}", self.body["code"].as_str().expect("a code")));
        assert!(self.body["instance"].as_str().expect("an instance").starts_with("/exchanges/exc_"));
        (self.status, self.body["code"].as_str().expect("a code"))
    }

    /// Returns pointer and code of every invalid field.
    pub fn errors(&self) -> Vec<(&str, &str)> {
        let text = |error: &'_ Value, field: &str| error[field].as_str().map(str::len).is_some();
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(errors.iter().all(|error| text(error, "detail")), "{errors:?}");
        errors.iter().map(|e| (e["pointer"].as_str().expect("text"), e["code"].as_str().expect("text"))).collect()
    }
}

impl TestServer {
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        crate::support::gateway::http().request(method, format!("http://{}{path}", self.address)).bearer_auth(ALL)
    }

    pub fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        crate::support::gateway::http().request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> ApiResponse {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> ApiResponse {
        send(self.request(Method::POST, path).json(body)).await
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> ApiResponse {
    ApiResponse::of(request.send().await.expect("a response")).await
}
