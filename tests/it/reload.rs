//! SIGHUP: a changed configuration is applied at run time, as a whole or not at all, and loses no request.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use examgate::sandbox::{Sandbox, accounts};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::connections::{client, client_with, examtesting, startexam};
use crate::support::gateway::{ApiResponse, Gateway, TIMEOUT, http, key, sandbox, set_faults};
use crate::support::people::person;
use crate::support::vendor::{SeenRequest, Stub, build_response, json_response};
use crate::support::watch::{wait_for_state, wait_until};

pub const APPLIED: &str = "configuration reloaded";
const REFUSED: &str = "configuration reload rejected";
/// A secret that must never be printed.
const PLANTED_SECRET: &str = "hushhushdonttellthis";

/// Returns a configuration for this folder: connections and other sections, clients, and more keys of `[server]`.
fn configuration(folder: &Path, connections: &str, clients: &str, server: &str) -> String {
    let server = if server.is_empty() { "listen = \"127.0.0.1:0\"\nadmin_listen = \"\"" } else { server };
    format!(
        "[server]\n{server}\n[store]\nurl = \"sqlite:{0}/store.db\"\nencryption_key = \"file:{0}/store.key\"\n\
         {clients}\n{connections}\n",
        folder.display()
    )
}

pub fn default_client() -> String {
    client("lms", "", "[\"*\"]")
}

/// Replaces the file atomically.
fn replace_file(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join(format!("{name}.new"));
    std::fs::write(&temporary, text).expect("the file can be written");
    std::fs::rename(temporary, folder.join(name)).expect("the file can be replaced");
}

pub fn configure(gateway: &Gateway, connections: &str, clients: &str) {
    let folder = gateway.folder.path();
    replace_file(folder, "examgate.toml", &configuration(folder, connections, clients, ""));
}

pub async fn start_gateway(connections: impl FnOnce(&Path) -> String) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = configuration(folder.path(), &connections(folder.path()), &default_client(), "");
    replace_file(folder.path(), "examgate.toml", &text);
    Gateway::start_in(folder).await
}

/// Reloads the configuration and waits until it is applied; returns the log line that says so.
pub async fn reload(gateway: &mut Gateway) -> Value {
    let log = reload_until(gateway, APPLIED).await;
    let line = log.lines().last().expect("a line");
    serde_json::from_str(line).expect("a line of JSON")
}

/// Reloads the configuration; returns everything logged up to this text.
pub async fn reload_until(gateway: &mut Gateway, text: &str) -> String {
    drop(gateway.take_log());
    gateway.signal("HUP").await;
    gateway.wait_for_log(text).await
}

/// Returns a connection to this stub whose secret is in the folder.
fn examtesting_with_file(stub: &Stub, folder: &Path, more: &str) -> String {
    examtesting(&stub.url(), more).replace(
        &format!("api_pass = \"plain:{}\"", accounts::examtesting::API_PASS),
        &format!("api_pass = \"file:{}/pass\"", folder.display()),
    )
}

fn password_of(seen: &SeenRequest) -> String {
    let mut fields = url::form_urlencoded::parse(&seen.body);
    fields.find(|(name, _)| name.eq_ignore_ascii_case("apipass")).expect("a password").1.into_owned()
}

/// Returns an ExamTesting that accepts these passwords and registers everybody sent with one.
fn accept_passwords(
    passes: &Arc<Mutex<BTreeSet<String>>>,
) -> impl Fn(&SeenRequest) -> axum::response::Response + Send + Sync + 'static {
    let passes = Arc::clone(passes);
    move |seen| {
        let known = passes.lock().expect("no test panicked here").contains(&password_of(seen));
        let body =
            if known { "Status=SUCCESS&StudentId=7" } else { "status=ERROR&Reason=1003&error=Invalid Api Credentials" };
        build_response(200, "text/plain", body)
    }
}

fn passes(names: &[&str]) -> Arc<Mutex<BTreeSet<String>>> {
    Arc::new(Mutex::new(names.iter().map(|name| (*name).to_owned()).collect()))
}

/// Callers that register one person after the other until stopped.
pub struct Callers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<u16>>>,
}

impl Callers {
    pub fn start(gateway: &Gateway, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let address = gateway.address;
        let tasks = (0..count).map(|caller| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let body = person(&format!("c{caller}-{}", statuses.len()));
                    let request = http().post(format!("http://{address}/candidates")).bearer_auth(key("lms"));
                    let response = request.json(&body).send().await;
                    statuses.push(response.map_or(0, |response| response.status().as_u16()));
                }
                statuses
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// Stops the callers and returns the statuses of all responses; 0 for none.
    pub async fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        let mut statuses = Vec::new();
        for task in self.tasks {
            statuses.extend(task.await.expect("no caller panicked"));
        }
        statuses
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_rotated_twenty_times_in_a_row_without_losing_a_request() {
    let names: Vec<String> = (0..=20).map(|number| format!("pass-{number:02}")).collect();
    let accepted = passes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let stub = Stub::start(accept_passwords(&accepted)).await;
    let mut gateway = start_gateway(|folder| {
        replace_file(folder, "pass", &names[0]);
        examtesting_with_file(&stub, folder, "")
    })
    .await;
    let callers = Callers::start(&gateway, 4);
    for name in &names[1..] {
        replace_file(gateway.folder.path(), "pass", name);
        let line = reload(&mut gateway).await;
        assert_eq!(line["connections_changed"], "examtesting-main", "{line}");
        assert_eq!((line.get("clients"), line.get("catalogue")), (None, None), "{line}");
        // Every call after that line has the new secret.
        let before = stub.seen().len();
        let last = format!("last-{name}");
        assert_eq!(gateway.post("/candidates", &person(&last)).await.status, 201);
        let own = stub.seen().into_iter().skip(before).find(|seen| String::from_utf8_lossy(&seen.body).contains(&last));
        assert_eq!(password_of(&own.expect("a call")), *name);
    }
    let statuses = callers.stop().await;
    println!("{} requests while the secret changed 20 times", statuses.len());
    assert!(statuses.len() >= 20 && statuses.iter().all(|status| *status == 201), "{statuses:?}");
}

#[tokio::test]
async fn an_unchanged_configuration_changes_nothing() {
    let stub = Stub::start(accept_passwords(&passes(&["one"]))).await;
    let mut gateway = start_gateway(|folder| {
        replace_file(folder, "pass", "one\n");
        examtesting_with_file(&stub, folder, "")
    })
    .await;
    assert_eq!(gateway.post("/candidates", &person("a")).await.status, 201);
    let before = gateway.get("/connections/examtesting-main").await;
    let line = reload(&mut gateway).await;
    for what in ["connections_added", "connections_changed", "connections_removed", "clients", "catalogue", "limits"] {
        assert_eq!(line.get(what), None, "{line}");
    }
    // The same applies to its status: it is the very same connection.
    assert_eq!(gateway.get("/connections/examtesting-main").await.body, before.body);
}

#[tokio::test]
async fn a_wrong_secret_is_corrected_without_a_restart() {
    let sandbox = sandbox().await;
    // The account's secret after the vendor has begun to read its text as Base64.
    let (before, after) = (accounts::startexam::SECRET, "examgate-test-secret-01234567890");
    let mut gateway = start_gateway(|folder| {
        replace_file(folder, "secret", before);
        startexam(&format!("http://{}", sandbox.startexam()), "")
            .replace(&format!("secret = \"plain:{before}\""), &format!("secret = \"file:{}/secret\"", folder.display()))
    })
    .await;
    assert_eq!(gateway.post("/candidates", &person("a")).await.status, 201);
    set_faults(sandbox.startexam(), json!({ "switches": { "secret_encoding": "base64" } })).await;
    let refused = gateway.post("/candidates", &person("b")).await;
    assert_eq!(refused.problem(), (424, "connection_credentials_invalid", "not_applied"));
    replace_file(gateway.folder.path(), "secret", after);
    let line = reload(&mut gateway).await;
    assert!(!line.to_string().contains(after), "{line}");
    assert_eq!(gateway.post("/candidates", &person("b")).await.status, 201);
    assert_eq!(gateway.get("/connections/startexam-main").await.text("/status"), "ok");
}

pub async fn start_bulk(gateway: &Gateway, count: usize) -> String {
    let items: Vec<Value> = (0..count).map(|number| person(&format!("row{number}"))).collect();
    let request = gateway.request(Method::POST, "/candidates/bulk").header("Prefer", "respond-async");
    let accepted = request.json(&json!({ "items": items })).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    format!("/operations/{}", accepted.text("/id"))
}

pub fn applied_count(response: &ApiResponse) -> u64 {
    response.body["progress"]["applied"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_running_bulk_continues_with_the_new_secret() {
    let accepted = passes(&["old", "new"]);
    let stub = Stub::start(accept_passwords(&accepted)).await;
    let mut gateway = start_gateway(|folder| {
        replace_file(folder, "pass", "old");
        // One call at a time, so that no call with the old secret follows one with the new secret.
        examtesting_with_file(&stub, folder, "max_in_flight = 1")
            .replace("requests_per_second = 0", "requests_per_second = 50")
    })
    .await;
    let operation = start_bulk(&gateway, 300).await;
    wait_until(&gateway, &operation, |response| applied_count(response) >= 5).await;
    replace_file(gateway.folder.path(), "pass", "new");
    reload(&mut gateway).await;
    wait_until(&gateway, &operation, |_| stub.seen().iter().any(|seen| password_of(seen) == "new")).await;
    accepted.lock().expect("no test panicked here").remove("old");
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    assert_eq!(applied_count(&ended), 300, "{ended:?}");
    let seen = stub.seen();
    assert_eq!(seen.len(), 300, "no one is sent twice");
    assert!(seen.iter().any(|seen| password_of(seen) == "old"), "the bulk was running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_rejected_call_is_split_and_retried_with_the_new_settings() {
    const NEW: &str = "11111111-2222-3333-4444-555555555555";
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let stub = Stub::start(move |seen| {
        if seen.json()["profileId"] == NEW {
            return json_response(200, &json!({}));
        }
        // The first call is answered when the test says so.
        let held = held.lock().expect("no test panicked here").take();
        held.map(|held| tokio::task::block_in_place(|| held.recv_timeout(TIMEOUT)));
        json_response(400, &json!({ "message": "There is something about these employees" }))
    })
    .await;
    let of = |profile: &str| startexam(&stub.url(), "").replace(accounts::startexam::PROFILE_ID, profile);
    let mut gateway = start_gateway(|_| of(accounts::startexam::PROFILE_ID)).await;
    let operation = start_bulk(&gateway, 100).await;
    wait_until(&gateway, &operation, |_| !stub.seen().is_empty()).await;
    configure(&gateway, &of(NEW), &default_client());
    reload(&mut gateway).await;
    release.send(()).expect("a call is waiting");
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    assert_eq!(applied_count(&ended), 100, "{ended:?}");
    let with = |profile: &str| stub.seen().iter().filter(|seen| seen.json()["profileId"] == profile).count();
    let calls = (with(accounts::startexam::PROFILE_ID), with(NEW));
    assert_eq!(calls, (1, 2), "refused once, then each half with the new settings");
}

#[tokio::test]
async fn api_keys_are_added_and_removed_immediately() {
    let sandbox = sandbox().await;
    let connections = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let mut gateway = start_gateway(|_| connections.clone()).await;
    let status = async |gateway: &Gateway, who: &str| {
        gateway.request_as(&key(who), Method::GET, "/connections").send().await.status
    };
    assert_eq!((status(&gateway, "lms").await, status(&gateway, "hr").await), (200, 401));

    configure(&gateway, &connections, &(default_client() + &client("hr", "", "[\"*\"]")));
    assert_eq!(reload(&mut gateway).await["clients"], "hr");
    assert_eq!((status(&gateway, "lms").await, status(&gateway, "hr").await), (200, 200));

    configure(&gateway, &connections, &client_with("hr", "", "[\"*\"]", "[\"candidates:read\"]"));
    assert_eq!(reload(&mut gateway).await["clients"], "hr, lms");
    assert_eq!((status(&gateway, "lms").await, status(&gateway, "hr").await), (401, 403));
}

#[tokio::test]
async fn an_invalid_configuration_is_rejected_whole_and_service_continues() {
    let stub = Stub::start(accept_passwords(&passes(&["one"]))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    replace_file(folder.path(), "pass", "one");
    let connections = examtesting_with_file(&stub, folder.path(), "");
    let server = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"";
    let fine = configuration(folder.path(), &connections, &default_client(), server);
    replace_file(folder.path(), "examgate.toml", &fine);
    let mut gateway = Gateway::start_in(folder).await;
    let operators = gateway.admin_address().await;

    let new_client = client("hr", "", "[\"*\"]");
    let broken = [
        (format!("{fine}{new_client}\n= {PLANTED_SECRET}"), "is not valid TOML"),
        (format!("{fine}{new_client}[serber]\nx = \"{PLANTED_SECRET}\"\n"), "serber: unknown key"),
        (fine.replace("/pass\"", "/nowhere\"") + &new_client, "connections.examtesting-main.api_pass: file"),
        (fine.replace("/store.key", "/other.key") + &new_client, "store.encryption_key: file"),
    ];
    for (number, (text, expected)) in broken.iter().enumerate() {
        replace_file(gateway.folder.path(), "examgate.toml", text);
        let log = reload_until(&mut gateway, REFUSED).await;
        assert!(log.contains(expected) && !log.contains(PLANTED_SECRET), "{expected}\n{log}");
        assert_eq!(gateway.post("/candidates", &person(&format!("b{number}"))).await.status, 201);
        let newcomer = gateway.request_as(&key("hr"), Method::GET, "/connections").send().await;
        assert_eq!(newcomer.status, 401, "nothing of it is applied");
    }
    // A secret that is not text, an empty one, and a missing file.
    replace_file(gateway.folder.path(), "examgate.toml", &fine);
    std::fs::write(gateway.folder.path().join("pass"), [0xff, 0xfe]).expect("the file can be written");
    assert!(reload_until(&mut gateway, REFUSED).await.contains("cannot be read"));
    replace_file(gateway.folder.path(), "pass", "\n");
    assert!(reload_until(&mut gateway, REFUSED).await.contains("is empty"));
    std::fs::remove_file(gateway.folder.path().join("examgate.toml")).expect("the file can be removed");
    assert!(reload_until(&mut gateway, REFUSED).await.contains("examgate.toml: cannot be read"));
    assert!(!gateway.folder.path().join("other.key").exists(), "no key is generated");
    assert_eq!(gateway.post("/candidates", &person("c")).await.status, 201);

    replace_file(gateway.folder.path(), "pass", "one");
    replace_file(gateway.folder.path(), "examgate.toml", &(fine + &new_client));
    reload(&mut gateway).await;
    let newcomer = gateway.request_as(&key("hr"), Method::GET, "/connections").send().await;
    assert_eq!(newcomer.status, 200);
    // They are counted a moment after they are logged.
    let (began, counts) = (Instant::now(), [("refused", 7), ("applied", 1)]);
    loop {
        let metrics = http().get(format!("http://{operators}/metrics")).send().await.expect("metrics").text().await;
        let metrics = metrics.expect("text");
        let counted = |(result, count)| {
            let wanted = format!("examgate_config_reloads_total{{result=\"{result}\"}} {count}");
            metrics.lines().any(|line| line == wanted)
        };
        if counts.into_iter().all(counted) {
            break;
        }
        assert!(began.elapsed() < TIMEOUT, "{metrics}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn settings_that_need_a_restart_are_reported_and_the_rest_is_applied() {
    let sandbox = sandbox().await;
    let connections = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let mut gateway = start_gateway(|_| connections.clone()).await;
    let folder = gateway.folder.path().to_owned();
    let server = "listen = \"127.0.0.2:0\"\nadmin_listen = \"127.0.0.1:0\"\nreceiver_listen = \"127.0.0.1:0\"\nbase_path = \"/x\"\npublic_url = \
                  \"https://x.example\"\nshutdown_grace = \"1s\"\nbody_limit = \"1KiB\"";
    let text = configuration(&folder, &connections, &default_client(), server)
        .replace("store.db\"", "other.db\"\nretention = \"1d\"\nreport_retention = \"1d\"")
        .replace("store.key", "other.key")
        + "[auth]\nmode = \"none\"\n[console]\nidle = \"5m\"\n";
    replace_file(&folder, "examgate.toml", &text);
    let log = reload_until(&mut gateway, APPLIED).await;
    for expected in [
        "server.listen",
        "server.admin_listen",
        "server.receiver_listen",
        "server.base_path",
        "server.public_url",
        "server.shutdown_grace",
        "auth.mode",
        "console",
        "store.url",
        "store.encryption_key",
    ] {
        let line = log.lines().find(|line| line.contains(&format!("\"key\":\"{expected}\"")));
        assert!(line.is_some_and(|line| line.contains("restart")), "{expected}\n{log}");
    }
    let line: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(line["limits"], "server.body_limit, store.retention, store.report_retention", "{line}");
    for made in ["other.key", "other.db"] {
        assert!(!folder.join(made).exists(), "{made}");
    }
    // Keys are still required, at the previous address and path; the new limit applies.
    assert_eq!(gateway.anonymous(Method::GET, "/connections").send().await.status, 401);
    assert_eq!(gateway.post("/candidates", &person("a")).await.status, 201);
    let oversized = json!({ "externalId": "b", "email": "b@example.com", "custom": { "x": "y".repeat(2_000) } });
    assert_eq!(gateway.post("/candidates", &oversized).await.problem().0, 413);
    // It is reported on each reload, until the restart.
    assert!(reload_until(&mut gateway, APPLIED).await.contains("\"key\":\"server.listen\""));
}

/// Starts the program with its configuration in a pipe, so that the test decides when it is read.
async fn start_with_pipe(folder: &TempDir) -> tokio::process::Child {
    let pipe = folder.path().join("examgate.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.expect("mkfifo runs").success());
    Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(["serve", "--config"])
        .arg(&pipe)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

/// Opens the pipe for writing, which waits until the program reads it.
async fn open_pipe(pipe: &Path) -> std::fs::File {
    let pipe = pipe.to_owned();
    let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe)).await;
    opened.expect("no panic").expect("the pipe opens")
}

#[tokio::test]
async fn a_sighup_during_startup_is_handled_afterwards() {
    use std::io::Write as _;
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let connections = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let mut process = start_with_pipe(&folder).await;
    let pipe = folder.path().join("examgate.toml");
    let mut file = open_pipe(&pipe).await;
    let id = process.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().await.expect("kill runs").success());
    file.write_all(configuration(folder.path(), &connections, &default_client(), "").as_bytes()).expect("it reads");
    drop(file);

    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let line = lines.next_line().await.expect("readable").expect("a line");
    assert!(line.starts_with("examgate listening on "), "{line}");
    // It reads the configuration again because of the signal.
    let mut file = open_pipe(&pipe).await;
    let more = configuration(folder.path(), &connections, &(default_client() + &client("hr", "", "[\"*\"]")), "");
    file.write_all(more.as_bytes()).expect("it reads");
    drop(file);
    let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines();
    let line = loop {
        let line = log.next_line().await.expect("readable").expect("a line");
        if line.contains(APPLIED) {
            break line;
        }
    };
    assert!(line.contains("\"clients\":\"hr\""), "{line}");
}

#[tokio::test]
async fn a_sighup_during_shutdown_does_no_harm() {
    let sandbox = sandbox().await;
    set_faults(sandbox.examtesting(), json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 1500 }] })).await;
    let connections = examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let mut gateway = start_gateway(|_| connections.clone()).await;
    let callers = http().post(format!("http://{}/candidates", gateway.address)).bearer_auth(key("lms"));
    let waiting = tokio::spawn(callers.json(&person("a")).send());
    wait_for_calls(&sandbox, 1).await;
    gateway.signal("TERM").await;
    gateway.wait_for_log("stopping").await;
    configure(&gateway, "", &default_client());
    gateway.signal("HUP").await;
    gateway.signal("HUP").await;
    let response = waiting.await.expect("no panic").expect("a response");
    assert_eq!(response.status().as_u16(), 201);
    assert_eq!(gateway.wait_for_exit().await, Some(0));
}

/// Waits until this many calls have arrived. The pause only saves CPU; nothing depends on it.
pub async fn wait_for_calls(sandbox: &Sandbox, calls: usize) {
    let started = Instant::now();
    while crate::support::watch::call_count(sandbox.examtesting()).await < calls {
        assert!(started.elapsed() < TIMEOUT, "{calls} calls never arrived");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
