//! The command line: help, exit codes and output.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};

use sha2::{Digest, Sha256};

use crate::support::snapshots::assert_output;

fn examgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    examgate(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A process that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"))
}

fn signal(running: &Running, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(running.0.id().to_string()).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [&["serve"][..], &["check"], &["sandbox"], &["import"], &["openapi"], &["key", "new"], &["probe"]] {
        let output = run(&[command, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Usage: ") && help.contains("examgate ") && help.contains("Example"), "{help}");
    }
    let help = text(&run(&["--help"]).stdout);
    for command in ["serve", "check", "sandbox", "import", "openapi", "key"] {
        assert!(help.contains(&format!("\n  {command}")), "{help}");
    }
    assert!(!help.contains("probe"), "{help}");
}

#[test]
fn help_is_as_stored() {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help-import", &["import", "--help"]),
        ("help-key", &["key", "--help"]),
        ("help-key-new", &["key", "new", "--help"]),
    ] {
        assert_output(name, &run(arguments));
    }
}

#[test]
fn an_invalid_command_line_exits_with_code_2() {
    for arguments in [&[][..], &["srve"], &["serve", "--port", "1"], &["key"], &["sandbox", "--host", "nowhere"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&["serve", "--config", "/nowhere/examgate.toml"]).status.code(), Some(2));
}

#[test]
fn key_new_prints_a_new_key_and_its_hash() {
    let (one, other) = (text(&run(&["key", "new"]).stdout), text(&run(&["key", "new"]).stdout));
    assert_ne!(one, other);
    let mut lines = one.lines();
    let key = lines.next().expect("the key");
    let random = key.strip_prefix("egk_").expect("the prefix");
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(random.as_bytes()).expect("base64url").len(), 32);
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
    assert_eq!(lines.next(), Some(format!("key_sha256 = [\"{hash}\"]").as_str()));
    assert_eq!(lines.next(), None);
}

#[test]
fn openapi_needs_neither_configuration_nor_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = examgate(&["openapi"]).current_dir(folder.path()).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn the_sandbox_prints_addresses_and_accounts_and_stops_on_a_signal() {
    let mut sandbox = start(&mut examgate(&["sandbox", "--port-base", "0"]));
    let mut lines = BufReader::new(sandbox.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut shown = String::new();
    while !shown.contains("Stop with") {
        shown.push_str(&lines.next().expect("a further line"));
        shown.push('\n');
    }
    assert_eq!(shown.matches("http://127.0.0.1:").count(), 7, "{shown}");
    for word in ["startexam", "thinkexam", "examtesting", "account_id = 99", "sandbox-thinkexam-key", "_faults"] {
        assert!(shown.contains(word), "{shown}");
    }
    signal(&sandbox, "TERM");
    assert_eq!(sandbox.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_port_in_use_exits_with_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(&["sandbox", "--port-base", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("the sandbox cannot start: "));
}

#[test]
fn serve_prints_its_address_passes_the_probe_and_stops_gracefully() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configuration = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[auth]\nmode = \"none\"\n";
    std::fs::write(folder.path().join("examgate.toml"), configuration).expect("the configuration can be written");
    let mut serving = start(examgate(&["serve"]).current_dir(folder.path()));
    let mut lines = BufReader::new(serving.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let line = lines.next().expect("the address");
    let address = line.strip_prefix("examgate listening on ").expect("the address").to_owned();

    let probe = |path: &str| run(&["probe", "--url", &format!("{address}{path}")]);
    assert_eq!(probe("/livez").status.code(), Some(0));
    assert_eq!(probe("/readyz").status.code(), Some(0));
    assert_eq!(probe("/nowhere").status.code(), Some(1));

    signal(&serving, "TERM");
    assert_eq!(serving.0.wait().expect("it ends").code(), Some(0));
    let mut log = String::new();
    serving.0.stderr.take().expect("a pipe").read_to_string(&mut log).expect("text");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    assert!(log.contains("\"message\":\"stopped\""), "{log}");
    assert_eq!(probe("/livez").status.code(), Some(1), "the gateway has stopped");
}
