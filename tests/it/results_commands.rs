//! The commands `results` and `receivers`: what they print, and how they end.

use std::process::{Command, Output, Stdio};

use tokio::net::TcpListener;

use crate::http::{api_parts, serve_api};
use crate::support::connections::thinkexam;

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
    command.arg("receivers").args(more).env_clear().env("HOOK_TOKEN", TOKEN);
    command.current_dir(folder.path()).stdin(Stdio::null()).output().expect("the program runs")
}

const WITHOUT: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"none\"\n";

/// The token of the receiver's address.
const TOKEN: &str = "token-of-tests.0123456789_abcdef~";

/// Returns a configuration with a receiver; `server` holds further keys of its section.
fn with_receiver(server: &str) -> String {
    let results = "[connections.thinkexam-main.results]\nmode = \"webhook\"\npath_token = \"env:HOOK_TOKEN\"\n\
                   [assessments.aptitude]\nname = \"Aptitude\"\nconnection = \"thinkexam-main\"\nref = \"2415\"\n";
    WITHOUT.replace("[auth]", &format!("{server}\n[auth]")) + &thinkexam("http://127.0.0.1:1", "") + results
}

#[test]
fn receivers_prints_the_addresses_for_the_vendors_panel() {
    let output = receivers(&with_receiver("public_url = \"https://exams.example.com/api/\""), &[]);
    let expected = format!(
        "thinkexam-main: https://exams.example.com/api/receivers/thinkexam-main/{TOKEN}\nthinkexam-main aptitude: \
         https://exams.example.com/api/receivers/thinkexam-main/{TOKEN}/aptitude\n"
    );
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected), "{output:?}");
    assert_eq!(text(&output.stderr), "");

    let output = receivers(&with_receiver("base_path = \"/api\""), &["--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let path = format!("/api/receivers/thinkexam-main/{TOKEN}");
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
