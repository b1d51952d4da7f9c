//! What operators read about requests: who sent them, with which key, for which connection; and which connection needs
//! them.

use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::connections::{client, client_with, startexam};
use crate::support::gateway::{Gateway, http, key};
use crate::support::people::person;
use crate::support::vendor::{Stub, json_response};

/// Returns the lines of a log that are JSON and have this field.
fn lines_with<'a>(log: &str, name: &'a str, value: &'a str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line[name] == value).collect()
}

/// Returns the line of the access log for the request with this id.
fn access_line(log: &str, id: &str) -> Value {
    let mut lines = lines_with(log, "target", "examgate::access");
    lines.retain(|line| line["request_id"] == id);
    assert_eq!(lines.len(), 1, "{id}: {lines:?}");
    lines.remove(0)
}

fn key_id(key: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(key.as_bytes()))[..8].to_owned()
}

/// Lines are written together under load; none may be left behind when the process ends.
#[tokio::test]
async fn each_request_of_a_burst_has_its_line_once_the_process_has_ended() {
    let gateway = Gateway::start_with("", &client("lms", "", "[\"*\"]")).await;
    let ids: Vec<String> = (0..300).map(|number| format!("burst-{number}")).collect();
    let ask = |id: &String| gateway.request(Method::GET, "/vendors").header("x-request-id", id).send();
    for response in join_all(ids.iter().map(ask)).await {
        assert_eq!(response.status, 200);
    }
    let (_, log) = gateway.finish().await;
    for id in &ids {
        assert_eq!(access_line(&log, id)["status"], 200);
    }
    assert_eq!(lines_with(&log, "message", "stopped").len(), 1);
}

#[tokio::test]
async fn a_line_names_client_key_and_connection_of_failed_requests_too() {
    let stub = Stub::start(|_| json_response(401, &json!({}))).await;
    let clients = client("lms", "", "[\"*\"]") + &client_with("poor", "", "[\"*\"]", "[\"audit:read\"]");
    let gateway = Gateway::start_with(&startexam(&stub.url(), ""), &clients).await;
    let ask = |who: &str, method: Method, path: &str, id: &str| {
        gateway.request_as(&key(who), method, path).header("x-request-id", id)
    };
    let post = |id: &str, body: &Value| ask("lms", Method::POST, "/candidates", id).json(body).send();
    assert_eq!(post("vendor", &person("1")).await.problem().1, "connection_credentials_invalid");
    assert_eq!(post("invalid", &json!({ "odd": 1 })).await.problem().0, 422);
    assert_eq!(ask("poor", Method::GET, "/vendors", "scope").send().await.problem().0, 403);
    let foreign = ask("lms", Method::GET, "/connections/ada@example.org", "unknown").send().await;
    assert_eq!(foreign.problem().1, "connection_not_found");
    assert_eq!(gateway.anonymous(Method::GET, "/vendors").header("x-request-id", "anon").send().await.status, 401);
    let (_, log) = gateway.finish().await;
    for (id, client, connection) in [
        ("vendor", "lms", Some("startexam-main")),
        ("invalid", "lms", None),
        ("scope", "poor", None),
        ("unknown", "lms", None),
    ] {
        let line = access_line(&log, id);
        assert_eq!((&line["client"], &line["key"]), (&json!(client), &json!(key_id(&key(client)))), "{line}");
        assert_eq!(line.get("connection").and_then(Value::as_str), connection, "{line}");
    }
    let line = access_line(&log, "anon");
    assert_eq!((line.get("client"), line.get("key"), line.get("connection")), (None, None, None), "{line}");
    assert!(!log.contains("ada@"), "{log}");
}

#[tokio::test]
async fn a_connection_that_needs_an_operator_is_a_warning_once() {
    let stub = Stub::start(|_| json_response(401, &json!({}))).await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for number in 0..3 {
        assert_eq!(gateway.post("/candidates", &person(&number.to_string())).await.status, 424);
    }
    let warnings = |log: &str| {
        let mut lines = lines_with(log, "level", "WARN");
        lines.retain(|line| line["connection"] == "startexam-main");
        lines.into_iter().map(|line| line["code"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    gateway.post("/candidates", &json!({ "odd": 1 })).await;
    assert_eq!(gateway.get("/connections/startexam-main").await.body["status"], "credentials_invalid");
    stub.respond_with(|_| json_response(200, &json!({})));
    gateway.post("/candidates", &person("a")).await;
    assert_eq!(gateway.get("/connections/startexam-main").await.body["status"], "ok");
    stub.respond_with(|_| json_response(401, &json!({})));
    assert_eq!(gateway.post("/candidates", &person("b")).await.status, 424);
    let (_, log) = gateway.finish().await;
    assert_eq!(warnings(&log), ["connection_credentials_invalid"; 2], "{log}");
}

#[tokio::test]
async fn the_base_path_is_no_part_of_a_route_in_logs_metrics_and_exchanges() {
    let environment = [("EXAMGATE__SERVER__BASE_PATH", "/exam-api"), ("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let mut gateway = Gateway::start_with_env("", &client("lms", "", "[\"*\"]"), &environment).await;
    let admin = gateway.admin_address().await;
    for (id, path, status) in [
        ("vendor", "/exam-api/vendors/startexam", 200),
        ("root", "/exam-api", 303),
        ("slash", "/exam-api/", 303),
        ("none", "/exam-api/nothing", 404),
    ] {
        let response = gateway.request(Method::GET, path).header("x-request-id", id).send().await;
        assert_eq!(response.status, status, "{path}");
    }
    let exchanges = gateway.get("/exam-api/exchanges").await;
    assert_eq!(exchanges.text("/items/1/route"), "/vendors/{vendor}", "{exchanges:?}");
    assert_eq!(exchanges.text("/items/1/key"), key_id(&key("lms")), "{exchanges:?}");
    let metrics = http().get(format!("http://{admin}/metrics")).send().await.expect("metrics").text().await;
    let metrics = metrics.expect("text");
    let (_, log) = gateway.finish().await;
    for (id, route) in [("vendor", "/vendors/{vendor}"), ("root", "/"), ("slash", "/"), ("none", "-")] {
        assert_eq!(access_line(&log, id)["route"], route, "{id}");
        assert!(metrics.contains(&format!("route=\"{route}\"")), "{route}: {metrics}");
    }
    assert!(!metrics.contains("exam-api"), "{metrics}");
}

#[tokio::test]
async fn metrics_show_which_key_is_used() {
    let hashes = ["old", "new"].map(|key| HEXLOWER.encode(&Sha256::digest(key)));
    let clients = format!(
        "[auth.clients.lms]\nkey_sha256 = {hashes:?}\nscopes = [\"audit:read\"]\n[auth.clients.other]\nkey_sha256 = \
         [\"{}\"]\nscopes = [\"audit:read\"]\n",
        HEXLOWER.encode(&Sha256::digest("third"))
    );
    let environment = [("EXAMGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")];
    let mut gateway = Gateway::start_with_env("", &clients, &environment).await;
    let admin = gateway.admin_address().await;
    // A request counts whatever becomes of it, as long as the key is right.
    for (key, path, status) in
        [("new", "/audit", 200), ("new", "/vendors", 403), ("third", "/audit", 200), ("wrong", "/audit", 401)]
    {
        assert_eq!(gateway.request_as(key, Method::GET, path).send().await.status, status, "{key} {path}");
    }
    let metrics = http().get(format!("http://{admin}/metrics")).send().await.expect("metrics").text().await;
    let metrics = metrics.expect("text");
    for (client, key, count) in [("lms", "new", 2), ("lms", "old", 0), ("other", "third", 1)] {
        let key = key_id(key);
        let series = format!("examgate_client_requests_total{{client=\"{client}\",key=\"{key}\"}} {count}\n");
        assert!(metrics.contains(&series), "{series}: {metrics}");
    }
    assert!(!metrics.contains(&key_id("wrong")), "{metrics}");
}
