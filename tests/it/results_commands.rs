//! The commands `results` and `receivers`: what they print, and how they end.

use std::process::{Command, Output, Stdio};

use tokio::net::TcpListener;

use crate::http::{api_parts, serve_api};

/// The key of the in-process API's client that has all scopes, and of the one that may read candidates only.
const ALL: &str = "key-of-all";
const FEW: &str = "key-of-few";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn results(address: &str, key: &str, more: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.args(["results", "--csv", "--url", address, "--patience", "0s"]).args(more).env_clear();
    command.env("EXAMGATE_API_KEY", key).stdin(Stdio::null()).output().await.expect("the program runs")
}

#[tokio::test]
async fn a_gateway_without_results_prints_the_header() {
    let server = serve_api(&api_parts().await).await;
    let output = results(&format!("http://{}", server.address), ALL, &["--activity", "completed"]).await;
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.starts_with("\u{feff}\"candidate.externalId\",\"assessment\","), "{table}");
    assert!(table.lines().count() == 1 && table.ends_with("\r\n"), "{table}");
}

#[tokio::test]
async fn a_request_that_is_refused_ends_with_code_2_and_one_that_is_not_answered_with_1() {
    let server = serve_api(&api_parts().await).await;
    let address = format!("http://{}", server.address);
    for (key, more, told) in [
        ("key-of-nobody", &[][..], "401 unauthenticated"),
        (FEW, &[][..], "403 insufficient_scope"),
        (ALL, &["--modified-since", "yesterday"][..], "?modifiedSince: "),
        (ALL, &["--connection", "nowhere"][..], "404 connection_not_found"),
    ] {
        let output = results(&address, key, more).await;
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{told}: {said}");
        assert!(said.contains(told), "{told}: {said}");
    }
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let output = results(&address, ALL, &[]).await;
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{output:?}");
}

#[test]
fn the_command_line_of_results_is_checked() {
    for arguments in
        [&["results"][..], &["results", "--csv", "--activity", "done"], &["results", "--csv", "--counts", "1"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_examgate")).args(arguments).env_clear().output();
        assert_eq!(output.expect("the program runs").status.code(), Some(2), "{arguments:?}");
    }
}

fn receivers(configuration: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("examgate.toml"), configuration).expect("the configuration can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.arg("receivers").args(more).env_clear().env("HOOK_TOKEN", "a token/of the address, long enough");
    command.current_dir(folder.path()).stdin(Stdio::null()).output().expect("the program runs")
}

const WITHOUT: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"none\"\n";

const WITH: &str = r#"
[connections.thinkexam-main]
vendor = "thinkexam"
signature = { mode = "static", access_key = "plain:key-of-tests", signature = "plain:signature-of-tests", timestamp = "1" }
course_name = "course"
[connections.thinkexam-main.results]
mode = "webhook"
path_token = "env:HOOK_TOKEN"
[assessments.aptitude]
name = "Aptitude"
connection = "thinkexam-main"
ref = "2415"
"#;

#[test]
fn receivers_prints_the_addresses_for_the_vendors_panel() {
    let token = "a%20token%2Fof%20the%20address%2C%20long%20enough";
    let public = WITHOUT.replace("[auth]", "public_url = \"https://exams.example.com/api/\"\n[auth]") + WITH;
    let output = receivers(&public, &[]);
    let expected = format!(
        "thinkexam-main: https://exams.example.com/api/receivers/thinkexam-main/{token}\nthinkexam-main aptitude: \
         https://exams.example.com/api/receivers/thinkexam-main/{token}/aptitude\n"
    );
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected), "{output:?}");
    assert_eq!(text(&output.stderr), "");

    let output = receivers(&(WITHOUT.to_owned() + WITH), &["--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let path = format!("/receivers/thinkexam-main/{token}");
    assert_eq!(document["receivers"][0]["address"], path, "{document}");
    assert_eq!(document["receivers"][1]["assessment"], "aptitude", "{document}");
    assert!(text(&output.stderr).contains("server.public_url"), "{output:?}");
}

#[test]
fn receivers_without_a_receiver_says_how_to_have_one() {
    let output = receivers(WITHOUT, &[]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(0), true), "{output:?}");
    assert!(text(&output.stderr).contains("results.mode"), "{output:?}");
    assert_eq!(receivers("[server]\nport = 1\n", &[]).status.code(), Some(2));
}
