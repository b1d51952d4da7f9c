//! What an integrator writes by hand: accepts a candidate, signs and sends it to StartExam, responds with 201. It
//! stores nothing, detects no retries and does not report unknown outcomes.
//!
//! bare VENDOR_URL; the first line on stdout is its address.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use examgate_bench::{KEY, PROFILE, authorization, date, document};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Candidate {
    #[allow(dead_code, reason = "part of the document, but unused here")]
    connection: Option<String>,
    external_id: String,
    #[serde(default)]
    name: Name,
    email: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    given_name: Option<String>,
    family_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Employees<'a> {
    profile_id: &'a str,
    employees: [Employee<'a>; 1],
}

#[derive(Serialize)]
struct Employee<'a> {
    id: &'a str,
    status: &'a str,
    data: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct Pair<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Clone)]
struct Gateway {
    client: reqwest::Client,
    vendor: String,
}

fn answer(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn problem(status: StatusCode, detail: &str) -> Response {
    answer(status, serde_json::json!({ "status": status.as_u16(), "detail": detail }).to_string())
}

fn known(headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|value| value.strip_prefix("Bearer ")) == Some(KEY)
}

async fn register(State(gateway): State<Gateway>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    if !known(&headers) {
        return problem(StatusCode::UNAUTHORIZED, "unknown key");
    }
    let candidate: Candidate = match serde_json::from_slice(&body) {
        Ok(candidate) => candidate,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    let id = candidate.external_id.as_str();
    if id.is_empty() || id.chars().count() > 250 {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "externalId");
    }
    if candidate.email.as_ref().is_some_and(|email| !email.contains('@')) {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "email");
    }
    let fields = [
        ("First Name", &candidate.name.given_name),
        ("Last Name", &candidate.name.family_name),
        ("Email", &candidate.email),
    ];
    let data = fields.into_iter().filter_map(|(name, value)| Some(Pair { name, value: value.as_deref()? })).collect();
    let employees = Employees { profile_id: PROFILE, employees: [Employee { id, status: "active", data }] };
    let Ok(body) = serde_json::to_vec(&employees) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "body");
    };
    let (path, date) = ("/v1/employees", date());
    let request = gateway
        .client
        .post(format!("{}{path}", gateway.vendor))
        .header("authorization", authorization("POST", path, &date, body.len()))
        .header("date", date)
        .header("content-type", "application/json; charset=utf-8")
        .body(body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(_) => return problem(StatusCode::GATEWAY_TIMEOUT, "vendor"),
    };
    let status = response.status();
    if response.bytes().await.is_err() || !status.is_success() {
        return problem(StatusCode::BAD_GATEWAY, "vendor");
    }
    answer(StatusCode::CREATED, document(&format!("cand_{}", Uuid::new_v4().simple()), id))
}

async fn read(headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !known(&headers) {
        return problem(StatusCode::UNAUTHORIZED, "unknown key");
    }
    answer(StatusCode::OK, document(&id, "bench-0000-1"))
}

#[tokio::main]
async fn main() {
    let vendor = std::env::args().nth(1).expect("usage: bare VENDOR_URL");
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(20))
        .tcp_nodelay(true)
        .build()
        .expect("a client");
    let routes = Router::new()
        .route("/candidates", post(register))
        .route("/candidates/{id}", get(read))
        .route("/readyz", get(|| async { "ok" }))
        .with_state(Gateway { client, vendor });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound"));
    // Without this, Nagle's algorithm delays responses by tens of milliseconds.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, routes).await.expect("serves");
}
