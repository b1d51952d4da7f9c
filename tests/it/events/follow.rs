//! The command `examgate events`.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::*;

fn command(address: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.args(["events", "--follow", "--url", address]).args(more).env_clear();
    command.env("EXAMGATE_API_KEY", key("lms")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn it_prints_each_event_once_over_a_restart_of_the_gateway() {
    let sandbox = sandbox().await;
    // A port that the next process can have as well.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    let folder = gateway.kill().await;
    let path = folder.path().join("examgate.toml");
    let configured = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, configured.replace("127.0.0.1:0", &address)).expect("written");
    let gateway = Gateway::start_in(folder).await;
    complete_operation(&gateway, "e1").await;
    let mut follower = command(&format!("http://{address}"), &[]).spawn().expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut next = async || {
        let line = lines.next_line().await.expect("readable").expect("a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        event["sequence"].as_u64().expect("a number")
    };
    assert_eq!(next().await, 1);
    complete_operation(&gateway, "e2").await;
    assert_eq!(next().await, 2);
    let gateway = Gateway::start_in(gateway.kill().await).await;
    complete_operation(&gateway, "e3").await;
    assert_eq!(next().await, 3);
}

#[tokio::test]
async fn a_request_that_is_refused_ends_it_with_code_2() {
    let (_sandbox, gateway) = start().await;
    let address = format!("http://{}", gateway.address);
    for (more, reason) in [(["--types", "x"], "?types"), (["--after", "99"], "?after")] {
        let output = command(&address, &more).output().await.expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(output.stdout.is_empty() && errors.contains(reason), "{errors}");
    }
}
