//! The connection check: it distinguishes everything that can be wrong with a connection, gives advice, and has no side
//! effects at the vendor.

use std::process::Stdio;

use examgate::sandbox::accounts;
use serde_json::{Value, json};

use crate::support::connections::{client, examtesting, sandbox_connections, startexam, thinkexam};
use crate::support::gateway::{Gateway, http, read_effects, sandbox, set_faults};
use crate::support::vendor::{Stub, build_response};

/// The address of a person, which no check shows.
const PLANTED_ADDRESS: &str = "planted@example.com";

async fn check_connection(gateway: &Gateway, connection: &str) -> Value {
    let response = gateway.post(&format!("/connections/{connection}/check"), &json!({})).await;
    assert_eq!(response.status, 200, "{}", response.body);
    response.body
}

/// Returns the results of the steps, in order: address, reachability, tls, clock, credentials.
fn results(body: &Value) -> Vec<&str> {
    let steps: Vec<&str> = check_fields(body, "check");
    assert_eq!(steps, ["address", "reachability", "tls", "clock", "credentials"]);
    check_fields(body, "result")
}

fn check_fields<'a>(body: &'a Value, field: &str) -> Vec<&'a str> {
    let checks = body["checks"].as_array().expect("a list of checks");
    checks.iter().map(|check| check[field].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_healthy_vendor_is_reported_as_healthy_without_side_effects() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port, credentials, status) in [
        ("startexam-main", sandbox.startexam(), "ok", "ok"),
        ("thinkexam-main", sandbox.thinkexam(), "ok", "ok"),
        ("examtesting-main", sandbox.examtesting(), "unchecked", "unchecked"),
    ] {
        let found = check_connection(&gateway, connection).await;
        assert_eq!(results(&found), ["ok", "ok", "unchecked", "ok", credentials], "{found}");
        assert_eq!((&found["status"], &found["circuit"]), (&json!(status), &json!("closed")), "{connection}");
        assert_eq!(read_effects(port).await["effects"], json!([]), "{connection}");
    }
    let seen = gateway.get("/connections/startexam-main").await;
    // A slow response arrives some seconds after its time.
    let ahead = seen.body["clockAheadSeconds"].as_i64().expect("learned from the responses' Date");
    assert!(ahead.abs() < 60, "{}", seen.body);
}

#[tokio::test]
async fn the_source_of_results_is_checked_if_there_is_one() {
    let sandbox = sandbox().await;
    let start = format!("http://{}", sandbox.startexam());
    let feed = "[connections.startexam-main.results]\nmode = \"feed\"\n";
    let other = startexam(&start, "").replace("startexam-main", "other");
    let other = other + "[connections.other.results]\nmode = \"feed\"\ncenters = [\"nowhere\"]\n";
    let receiver = "[connections.thinkexam-main.results]\nmode = \"webhook\"\npath_token = \"plain:token-0123456789ab\"\n\
                    keys = [\"plain:key-of-the-webhook\"]\n";
    let think = thinkexam(&format!("http://{}", sandbox.thinkexam()), "");
    let gateway = Gateway::start(&(startexam(&start, feed) + &other + &think + receiver)).await;
    let finished = json!({ "finished": true, "count": 3, "data": [{ "name": "Email", "value": PLANTED_ADDRESS }] });
    let address = format!("{start}/_sessions");
    let stated = http().post(address).json(&finished).send().await.expect("the sandbox responds");
    assert!(stated.status().is_success(), "{}", stated.text().await.unwrap_or_default());

    for (connection, result, expected) in [
        ("startexam-main", "ok", "\"mycenter\" has 3 entries of the last day"),
        ("other", "fault", "\"nowhere\" cannot be read: "),
        ("thinkexam-main", "ok", "/receivers/thinkexam-main/TOKEN"),
    ] {
        let found = check_connection(&gateway, connection).await;
        let (steps, results) = (check_fields(&found, "check"), check_fields(&found, "result"));
        assert_eq!((steps.last(), results.last()), (Some(&"results"), Some(&result)), "{found}");
        assert!(check_fields(&found, "detail")[5].contains(expected), "{found}");
        // The feed that is read in the background may have shown its fault already.
        assert!(result == "fault" || found["status"] == "ok", "{found}");
        for planted in [PLANTED_ADDRESS, "token-0123456789ab", "key-of-the-webhook"] {
            assert!(!found.to_string().contains(planted), "{planted}: {found}");
        }
    }
    let advice = check_connection(&gateway, "thinkexam-main").await["checks"][5]["advice"].to_string();
    assert!(advice.contains("underscores_in_headers"), "{advice}");
    let exchanges = gateway.get("/exchanges").await.body.to_string();
    assert!(exchanges.contains("results.feed") && !exchanges.contains(PLANTED_ADDRESS), "{exchanges}");
}

#[tokio::test]
async fn an_unreachable_vendor_is_distinguished_from_an_unresponsive_one() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let nobody = startexam("http://127.0.0.1:1", "");
    let unknown = examtesting("http://nowhere.invalid", "allow_http = true");
    let mute = startexam(&silent, "timeout = \"2s\"").replace("startexam-main", "mute");
    let gateway = Gateway::start(&(nobody + &unknown + &mute)).await;

    let found = check_connection(&gateway, "startexam-main").await;
    assert_eq!(results(&found), ["ok", "fault", "unchecked", "unchecked", "unchecked"], "{found}");
    assert_eq!(found["status"], "degraded");
    let found = check_connection(&gateway, "examtesting-main").await;
    assert_eq!(results(&found), ["fault", "unchecked", "unchecked", "unchecked", "unchecked"], "{found}");
    assert!(check_fields(&found, "advice")[0].contains("base_url"), "{found}");
    let found = check_connection(&gateway, "mute").await;
    assert_eq!(results(&found), ["ok", "ok", "unchecked", "unchecked", "unchecked"], "{found}");
}

#[tokio::test]
async fn wrong_credentials_are_reported_with_advice() {
    let sandbox = sandbox().await;
    let wrong = startexam(&format!("http://{}", sandbox.startexam()), "").replace(accounts::startexam::SECRET, "wrong");
    let gateway = Gateway::start(&wrong).await;
    let found = check_connection(&gateway, "startexam-main").await;
    assert_eq!(results(&found), ["ok", "ok", "unchecked", "ok", "fault"], "{found}");
    assert_eq!(found["status"], "credentials_invalid");
    assert!(!check_fields(&found, "advice")[4].is_empty());
}

#[tokio::test]
async fn excessive_clock_skew_is_measured_and_reported() {
    let vendor = Stub::start(|_| {
        let mut response = build_response(404, "text/plain", String::new());
        let late = std::time::SystemTime::now() + std::time::Duration::from_secs(1_000);
        response.headers_mut().insert("date", httpdate::fmt_http_date(late).parse().expect("a header value"));
        response
    })
    .await;
    let other = examtesting(&vendor.url(), "");
    let gateway = Gateway::start(&(startexam(&vendor.url(), "") + &other)).await;
    let found = check_connection(&gateway, "startexam-main").await;
    assert_eq!(results(&found)[3], "fault", "{found}");
    let detail = check_fields(&found, "detail")[3].to_owned();
    let seconds = (900..=1000).any(|seconds| detail.contains(&format!("{seconds} s")));
    assert!(detail.contains("behind") && seconds, "{detail}");
    assert!(check_fields(&found, "advice")[3].contains("NTP"));
    // Its calls carry no time, so the skew is no error there.
    assert_eq!(results(&check_connection(&gateway, "examtesting-main").await)[3], "ok");
}

#[tokio::test]
async fn an_open_circuit_does_not_prevent_a_check() {
    let sandbox = sandbox().await;
    let more = "breaker = { failures = 1, cooldown = \"1h\" }";
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), more)).await;
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "server_error", "times": 1 }] })).await;
    let person = json!({ "externalId": "1", "email": "a@example.org", "name": { "givenName": "A" } });
    assert_eq!(gateway.post("/candidates", &person).await.problem().1, "vendor_internal_error");
    let found = check_connection(&gateway, "startexam-main").await;
    assert_eq!(results(&found)[..4], ["ok", "ok", "unchecked", "ok"], "the vendor is back: {found}");
    assert_eq!((&found["status"], &found["circuit"]), (&json!("circuit_open"), &json!("open")));
}

#[tokio::test]
async fn tls_is_checked_for_https_addresses() {
    // Plain text instead of TLS, as behind a wrong port.
    let vendor = Stub::start(|_| build_response(200, "text/plain", String::new())).await;
    let gateway = Gateway::start(&startexam(&format!("https://{}", vendor.address), "")).await;
    let found = check_connection(&gateway, "startexam-main").await;
    let (found_results, details) = (results(&found), check_fields(&found, "detail"));
    assert_eq!(found_results[..2], ["ok", "ok"]);
    assert_ne!(found_results[2], "ok", "{details:?}");
    assert_eq!(found_results[4], "unchecked");
}

#[tokio::test]
async fn the_check_command_reports_the_same_and_sets_its_exit_code() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().expect("a folder");
    let run = async |connections: &str| {
        let path = folder.path().display();
        let store = format!("[store]\nurl = \"sqlite:{path}/s.db\"\nencryption_key = \"file:{path}/s.key\"\n");
        std::fs::write(folder.path().join("examgate.toml"), store + &client("lms", "", "[\"*\"]") + connections)
            .expect("a configuration");
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
            .args(["check", "--config"])
            .arg(folder.path().join("examgate.toml"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = run(&sandbox_connections(&sandbox, "")).await;
    assert_eq!(code, Some(0), "{text}");
    for line in ["connection startexam-main: ok: ", "connection examtesting-main: unchecked: ", "  clock: ok: "] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (code, text) = run(&startexam("http://127.0.0.1:1", "")).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("  reachability: fault: ") && text.contains("Advice: "), "{text}");
}
