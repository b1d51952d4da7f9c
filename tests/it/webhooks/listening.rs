//! `examgate listen`: receives, verifies and prints.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::*;

/// The command, killed when dropped.
struct Listener {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
    secret: String,
}

impl Listener {
    async fn start(more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_examgate"))
            .args(["listen", "--port", "0", "--output", "json"])
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let first = next(&mut lines).await;
        let text = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
        let (url, secret) = (text("url"), text("secret"));
        Self { _process: process, lines, url, secret }
    }

    async fn next(&mut self) -> Value {
        next(&mut self.lines).await
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = tokio::time::timeout(std::time::Duration::from_mins(5), lines.next_line()).await;
    let line = line.expect("a line in time").expect("text").expect("a line");
    serde_json::from_str(&line).expect("JSON")
}

#[tokio::test]
async fn a_listener_verifies_and_prints_what_a_gateway_delivers() {
    let (_sandbox, gateway) = start("").await;
    let mut listener = Listener::start(&[]).await;
    let order = json!({ "url": listener.url, "secret": listener.secret, "types": ["operation.completed"] });
    let webhook = create(&gateway, &order).await;
    assert_eq!((&webhook["ping"]["delivered"], &webhook["ping"]["status"]), (&json!(true), &json!(204)), "{webhook}");
    let ping = listener.next().await;
    assert_eq!((&ping["verified"], &ping["event"]["type"]), (&json!(true), &json!("ping")), "{ping}");
    let operation = complete_operation(&gateway, "a").await;
    let event = listener.next().await;
    assert_eq!((&event["verified"], &event["event"]["data"]["resource"]), (&json!(true), &json!(operation)), "{event}");
    assert_eq!(event["id"], event["event"]["id"]);

    // What is not signed is shown and refused.
    let forged = http().post(&listener.url).json(&json!({ "type": "ping" })).send().await.expect("a response");
    assert_eq!(forged.status(), 401);
    let forged = listener.next().await;
    assert_eq!((&forged["verified"], &forged["problem"]), (&json!(false), &json!("webhook-id is missing")), "{forged}");
}

#[tokio::test]
async fn a_listener_answers_with_the_status_it_is_told_and_knows_several_secrets() {
    let (_sandbox, gateway) = start("").await;
    let (first, second) = (format!("plain:{SECRET}"), format!("plain:{OTHER_SECRET}"));
    let mut listener = Listener::start(&["--status", "503", "--secret", &first, "--secret", &second]).await;
    let webhook = create(&gateway, &json!({ "url": listener.url, "secret": OTHER_SECRET })).await;
    assert_eq!((&webhook["ping"]["delivered"], &webhook["ping"]["status"]), (&json!(false), &json!(503)), "{webhook}");
    assert_eq!(listener.secret, "", "one that was given is not printed");
    let ping = listener.next().await;
    assert_eq!((&ping["verified"], &ping["secret"]), (&json!(true), &json!(2)), "{ping}");
}

#[tokio::test]
async fn a_secret_that_was_given_is_not_printed() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(["listen", "--port", "0", "--secret", &format!("plain:{SECRET}")])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let mut said = String::new();
    while !said.contains("Ctrl-C") {
        said.push_str(&lines.next_line().await.expect("text").expect("a line"));
    }
    assert!(said.contains("with the secret that you gave") && !said.contains(SECRET), "{said}");
}

#[test]
fn what_is_no_secret_or_status_is_refused() {
    for (arguments, told) in [
        (&["--secret", "plain:hushhush"][..], "must begin with `whsec_`"),
        (&["--secret", "hushhush"], "expected a secret reference"),
        (&["--secret", "env:NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (&["--status", "100"], "100"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_examgate"))
            .arg("listen")
            .args(arguments)
            .env_clear()
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
}
