//! Workloads through the complete router and store, without a socket on the caller's side.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use data_encoding::HEXLOWER;
use examgate::commands::Process;
use examgate::config::{Components, HostAccess, Sources, Startup, StoreLocation, prepare};
use examgate::http::{ApiParts, Limits, LoadGauges, router};
use examgate::service::Gateway;
use examgate::store::SqliteStore;
use examgate::telemetry::metrics;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tower::Service as _;

use crate::people::{mistaken, somebody};
use crate::surroundings::environment;
use crate::{Failure, Times, begins, ends, vendor};

/// Uncounted repetitions, to warm up caches, connections and the store's first pages.
const WARM_UP: usize = 100;
/// Counted repetitions: they span several checkpoints of the store.
const COUNTED: usize = 200;

const KEY: &str = "egk_for-counting-only";
const STARTEXAM: &str = "startexam-main";

/// A gateway on a store in a temporary file, with its router.
struct Asked {
    router: Router,
    _folder: TempDir,
}

/// Returns the configuration of a gateway whose vendors are all at this address.
fn configuration(vendor: std::net::SocketAddr, folder: &std::path::Path) -> String {
    let key = HEXLOWER.encode(&Sha256::digest(KEY));
    let sealing = data_encoding::BASE64.encode(&[7; 32]);
    format!(
        r#"
        [store]
        url = "sqlite:{}/store.db"
        encryption_key = "plain:{sealing}"
        [auth.clients.lms]
        key_sha256 = ["{key}"]
        scopes = ["candidates:write", "candidates:read"]
        connections = ["*"]
        rate_limit = {{ requests_per_second = 100000, burst = 100000 }}
        [connections.startexam-main]
        vendor = "startexam"
        base_url = "http://{vendor}"
        account_id = 99
        secret = "plain:c2VjcmV0IGZvciBjb3VudGluZw=="
        center = "mycenter"
        profile_id = "d51b5efd-fb21-4cb8-94e2-145014839465"
        requests_per_second = 0
        [connections.examtesting-main]
        vendor = "examtesting"
        base_url = "http://{vendor}"
        institution_id = "1234"
        api_key = "plain:count-key"
        api_pass = "plain:count-pass"
        default_group = "Students"
        requests_per_second = 0
        "#,
        folder.display()
    )
}

/// The parts of a gateway, with vendors that respond.
pub async fn prepared(folder: &std::path::Path) -> Result<(Startup, Process), Failure> {
    let text = configuration(vendor::start().await?, folder);
    let mut process = Process::current();
    process.environment = environment();
    let sources = Sources { file: Some(("examgate.toml".into(), text)), environment: Vec::new() };
    let machine = HostAccess { secrets: &process, files: &process, environment: &process.environment };
    let prepared = prepare(&sources, &machine).map_err(|faults| format!("{faults:?}"))?;
    Ok((prepared, process))
}

impl Asked {
    /// Builds a gateway as `serve` does, metrics and log included; the log is formatted and discarded.
    async fn start() -> Result<Self, Failure> {
        let lines = tracing_subscriber::fmt().json().flatten_event(true).with_max_level(tracing::Level::INFO);
        lines.with_writer(std::io::sink).try_init()?;
        PrometheusBuilder::new().set_buckets(&metrics::BUCKETS)?.install_recorder()?;
        metrics::describe();
        let folder = tempfile::tempdir()?;
        let (Startup { config, parts, store, identity: _ }, process) = prepared(folder.path()).await?;
        let Process { environment, .. } = process;
        let StoreLocation::Sqlite(path) = store.place else { return Err("the store is a file".into()) };
        let store = Arc::new(SqliteStore::open_to_serve(&path, store.keyring, environment.clone())?);
        let Components { connections, catalogue, delivery: _ } = parts;
        let kept = config.store.kept();
        let gateway = Gateway::start(store, connections, catalogue, environment.clone(), kept)
            .await
            .map_err(|fault| fault.detail)?;
        let (limits, busy) = (Limits::default(), LoadGauges::default());
        let face = ApiParts {
            gateway,
            server: config.server,
            auth: config.auth,
            environment,
            limits,
            busy,
            ask: Arc::new(|_| Box::pin(async { Err("no keys are published".to_owned()) })),
            console: None,
        };
        Ok(Self { router: router(&face), _folder: folder })
    }

    /// Sends a request; fails unless the response has this status.
    async fn send(&mut self, request: Request<Body>, expected: StatusCode) -> Result<Value, Failure> {
        let answer = self.router.call(request).await?;
        let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
        if status != expected {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// Registers a person under a key of their own.
    async fn register(&mut self, number: usize) -> Result<Value, Failure> {
        let request = post("/candidates", Some(number), &at(STARTEXAM, somebody(number)))?;
        self.send(request, StatusCode::CREATED).await
    }
}

/// Returns the document with its connection.
fn at(connection: &str, mut document: Value) -> Value {
    document["connection"] = connection.into();
    document
}

fn post(path: &str, key: Option<usize>, document: &Value) -> Result<Request<Body>, Failure> {
    let request =
        Request::post(path).header(AUTHORIZATION, format!("Bearer {KEY}")).header(CONTENT_TYPE, "application/json");
    let request =
        key.into_iter().fold(request, |request, key| request.header("idempotency-key", format!("k-{key:06}")));
    Ok(request.body(document.to_string().into())?)
}

/// `POST /candidates` with an `Idempotency-Key`, one person after another.
pub async fn keyed_write() -> Result<Times, Failure> {
    let mut asked = Asked::start().await?;
    for number in 0..WARM_UP {
        asked.register(number).await?;
    }
    begins();
    for number in WARM_UP..WARM_UP + COUNTED {
        asked.register(number).await?;
    }
    ends();
    Ok(COUNTED)
}

/// `GET /candidates/{id}`.
pub async fn read() -> Result<Times, Failure> {
    let mut asked = Asked::start().await?;
    let mut paths = Vec::new();
    for number in 0..WARM_UP {
        let candidate = asked.register(number).await?;
        let id = candidate["id"].as_str().ok_or("a candidate has an id")?;
        paths.push(format!("/candidates/{id}"));
    }
    for path in &paths {
        asked.send(get(path)?, StatusCode::OK).await?;
    }
    begins();
    for path in paths.iter().cycle().take(COUNTED) {
        asked.send(get(path)?, StatusCode::OK).await?;
    }
    ends();
    Ok(COUNTED)
}

fn get(path: &str) -> Result<Request<Body>, Failure> {
    Ok(Request::get(path).header(AUTHORIZATION, format!("Bearer {KEY}")).body(Body::empty())?)
}

/// The same write retried under its key: reads and hashes the body and decrypts the reply.
pub async fn repeat() -> Result<Times, Failure> {
    let mut asked = Asked::start().await?;
    for number in (0..WARM_UP).chain(0..WARM_UP) {
        asked.register(number).await?;
    }
    begins();
    for number in (0..WARM_UP).cycle().take(COUNTED) {
        asked.register(number).await?;
    }
    ends();
    Ok(COUNTED)
}

/// An invalid write: reads the body and reports every error.
pub async fn refusal() -> Result<Times, Failure> {
    let mut asked = Asked::start().await?;
    for number in 0..WARM_UP + COUNTED {
        if number == WARM_UP {
            begins();
        }
        let request = post("/candidates", None, &at(STARTEXAM, mistaken(number)))?;
        asked.send(request, StatusCode::UNPROCESSABLE_ENTITY).await?;
    }
    ends();
    Ok(COUNTED)
}

/// `POST /candidates/bulk` under a key, until the response reports how every row ended.
pub async fn bulk(connection: &str) -> Result<Times, Failure> {
    let mut asked = Asked::start().await?;
    for (from, rows) in [(0, WARM_UP), (WARM_UP, COUNTED)] {
        let people: Vec<Value> = (from..from + rows).map(somebody).collect();
        let request = post("/candidates/bulk", Some(from), &at(connection, json!({ "items": people })))?;
        if from == WARM_UP {
            begins();
        }
        let report = asked.send(request, StatusCode::MULTI_STATUS).await?;
        if report["summary"]["applied"] != rows {
            return Err(format!("not all rows were applied: {report}").into());
        }
    }
    ends();
    Ok(COUNTED)
}
