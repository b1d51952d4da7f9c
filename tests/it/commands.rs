//! The command line: help, exit codes and output.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

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
    for command in [
        &["serve"][..],
        &["check"],
        &["sandbox"],
        &["demo"],
        &["import"],
        &["results"],
        &["events"],
        &["receivers"],
        &["listen"],
        &["backup"],
        &["restore"],
        &["config", "example"],
        &["key", "new"],
        &["openapi"],
        &["completions"],
        &["man"],
        &["probe"],
    ] {
        let output = run(&[command, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Usage: ") && help.contains("examgate ") && help.contains("Example"), "{help}");
    }
    let help = text(&run(&["--help"]).stdout);
    for command in [
        "serve",
        "check",
        "sandbox",
        "import",
        "results",
        "events",
        "receivers",
        "listen",
        "openapi",
        "key",
        "backup",
        "restore",
        "config",
        "man",
    ] {
        assert!(help.contains(&format!("\n  {command}")), "{help}");
    }
    assert!(!help.contains("probe"), "{help}");
}

#[test]
fn help_is_as_stored() {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help-import", &["import", "--help"]),
        ("help-results", &["results", "--help"]),
        ("help-events", &["events", "--help"]),
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
fn key_new_prints_a_document_for_programs() {
    let output: serde_json::Value =
        serde_json::from_slice(&run(&["key", "new", "--output", "json"]).stdout).expect("JSON");
    let key = output["key"].as_str().expect("a key");
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
    assert_eq!(output["keySha256"], hash.as_str());
    assert!(key.starts_with("egk_"), "{output}");
}

/// Runs the program with a pipe for stdout that no process reads.
fn run_unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).expect("the program runs")
}

#[test]
fn a_command_whose_reader_has_gone_ends_in_silence_like_any_other_program() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configuration = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[auth]\nmode = \"none\"\n";
    std::fs::write(folder.path().join("examgate.toml"), configuration).expect("the configuration can be written");
    for arguments in [
        &["openapi"][..],
        &["config", "example"],
        &["sandbox", "--print-config"],
        &["sandbox", "--port-base", "0"],
        &["completions", "bash"],
        &["man"],
        &["key", "new"],
        &["key", "new", "--output", "json"],
        &["check"],
        &["check", "--output", "json"],
        &["receivers", "--output", "json"],
        &["demo", "--exit"],
        &["demo", "--exit", "--output", "json"],
        &["--help"],
        &["import", "--help"],
        &["--version"],
    ] {
        let output = run_unread(examgate(arguments).current_dir(folder.path()));
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""), "{arguments:?}");
    }
}

#[test]
fn errors_without_a_reader_still_set_the_exit_code() {
    for (arguments, code) in [(&["srve"][..], 2), (&["check", "--config", "/nowhere/examgate.toml"], 2)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = examgate(arguments).stderr(writer).stdout(Stdio::null()).status().expect("the program runs");
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for word in
            ["serve", "check", "import", "results", "receivers", "backup", "restore", "print-config", "completions"]
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    // A shell that reads the script offers the commands.
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("examgate.bash"), run(&["completions", "bash"]).stdout).expect("a file");
    let script = "source examgate.bash; COMP_WORDS=(examgate ba); COMP_CWORD=1; _examgate examgate ba examgate; \
                  echo \"${COMPREPLY[@]}\"";
    let offered = Command::new("bash").args(["-c", script]).current_dir(folder.path()).output().expect("a shell");
    assert_eq!(text(&offered.stdout).trim(), "backup", "{offered:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = examgate(&["man", "--dir", "."]).current_dir(folder.path()).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    let mut pages: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    pages.sort();
    for command in ["", "-serve", "-check", "-import", "-backup", "-restore", "-config-example", "-key-new", "-sandbox"]
    {
        assert!(pages.contains(&format!("examgate{command}.1")), "{command}: {pages:?}");
    }
    for page in &pages {
        let page = std::fs::read_to_string(folder.path().join(page)).expect("text");
        assert!(page.contains(".TH examgate") && page.contains(".SH SYNOPSIS"), "{page}");
    }
    let main = text(&run(&["man"]).stdout);
    assert!(main.contains(".TH examgate 1") && main.contains("examgate\\-serve(1)"), "{main}");
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
    assert_eq!(shown.matches("http://127.0.0.1:").count(), 9, "{shown}");
    for word in [
        "startexam",
        "thinkexam",
        "examtesting",
        "account_id = 99",
        "sandbox-thinkexam-key",
        "_faults",
        "whsec_",
        "_ledger",
    ] {
        assert!(shown.contains(word), "{shown}");
    }
    signal(&sandbox, "TERM");
    assert_eq!(sandbox.0.wait().expect("it ends").code(), Some(0));
}

/// Returns the first of four free consecutive ports.
fn free_ports() -> u16 {
    (0..100)
        .find_map(|_| {
            let first = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = first.local_addr().expect("an address").port();
            let others = [port.checked_add(1)?, port.checked_add(2)?, port.checked_add(3)?];
            let others: Vec<_> =
                others.into_iter().filter_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok()).collect();
            (others.len() == 3).then_some(port)
        })
        .expect("four free ports in a row")
}

#[test]
fn the_printed_configuration_of_the_sandbox_is_checked_and_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Another program may take one of the ports between finding and using them.
    let (mut sandbox, port) = (0..10)
        .find_map(|_| {
            let port = free_ports();
            let mut sandbox = start(&mut examgate(&["sandbox", "--port-base", &port.to_string()]));
            let mut line = String::new();
            let mut stdout = BufReader::new(sandbox.0.stdout.take().expect("a pipe"));
            (stdout.read_line(&mut line).expect("text") > 0).then_some(((sandbox, stdout), port))
        })
        .expect("a sandbox starts");
    let printed = run(&["sandbox", "--port-base", &port.to_string(), "--print-config"]);
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    std::fs::write(folder.path().join("examgate.toml"), &printed.stdout).expect("a configuration");

    let checked = examgate(&["check"]).current_dir(folder.path()).output().expect("the program runs");
    let shown = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{shown}");
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        assert!(shown.contains(&format!("connection {connection}: ")), "{shown}");
    }

    let free = [("EXAMGATE__SERVER__LISTEN", "127.0.0.1:0"), ("EXAMGATE__SERVER__ADMIN_LISTEN", "")];
    let mut serving = start(examgate(&["serve"]).current_dir(folder.path()).envs(free));
    let mut lines = BufReader::new(serving.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let line = lines.next().expect("the address");
    let address = line.strip_prefix("examgate listening on ").expect("the address").to_owned();
    let printed = text(&printed.stdout);
    let header =
        printed.lines().find_map(|line| line.split_once("-H '")).expect("a curl line").1.trim_end_matches('\'');
    let body =
        r#"{"connection":"thinkexam-main","externalId":"e1","name":{"givenName":"Ann"},"email":"a@example.com"}"#;
    let curl = Command::new("curl")
        .args(["-s", "--noproxy", "*", "-H", header, "--json", body, &format!("{address}/candidates")])
        .output()
        .expect("curl runs");
    let created: serde_json::Value = serde_json::from_slice(&curl.stdout).expect("JSON");
    assert_eq!((&created["state"], &created["outcome"]), (&"registered".into(), &"applied".into()), "{created}");
    for running in [&serving, &sandbox.0] {
        signal(running, "TERM");
    }
    assert_eq!(serving.0.wait().expect("it ends").code(), Some(0));
    assert_eq!(sandbox.0.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn serve_outlives_the_readers_of_its_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configuration = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[auth]\nmode = \"none\"\n";
    std::fs::write(folder.path().join("examgate.toml"), configuration).expect("the configuration can be written");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = examgate(&["serve"]);
    command.current_dir(folder.path()).env("RUST_LOG", "debug").stdout(writer).stderr(Stdio::piped());
    let mut serving = Running(command.spawn().expect("the program starts"));
    let mut log = BufReader::new(serving.0.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let ready = log.find(|line| line.contains("API listener ready")).expect("it listens");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let address = ready["address"].as_str().expect("an address").to_owned();
    log.find(|line| line.contains("stdout cannot be written to")).expect("a warning");
    drop(log);
    let probe = || run(&["probe", "--url", &format!("http://{address}/readyz")]).status.code();
    // Each answered request writes to the log, which has no reader.
    let mut answered = 0;
    while answered < 5 {
        assert_eq!(serving.0.try_wait().expect("it can be waited for"), None, "it serves");
        answered += usize::from(probe() == Some(0));
    }
    signal(&serving, "TERM");
    assert_eq!(serving.0.wait().expect("it ends").code(), Some(0));
}

/// Returns an output that has no room, and its reader.
fn full_output() -> (UnixStream, UnixStream) {
    let (mut output, reader) = UnixStream::pair().expect("sockets");
    // The flag belongs to the socket, which the process shares.
    output.set_nonblocking(true).expect("a flag");
    while output.write(&[b'\n'; 4096]).is_ok() {}
    output.set_nonblocking(false).expect("a flag");
    (output, reader)
}

/// Returns whether the process handles SIGTERM itself.
fn handles_term(running: &Running) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).expect("a proc file");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a line");
    u64::from_str_radix(caught.trim(), 16).expect("a mask") & (1 << 14) != 0
}

#[test]
fn a_second_signal_ends_a_process_whose_log_has_no_room() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configuration = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[auth]\nmode = \"none\"\n";
    std::fs::write(folder.path().join("examgate.toml"), configuration).expect("the configuration can be written");
    let (output, reader) = full_output();
    let mut command = examgate(&["serve"]);
    command.current_dir(folder.path()).stdout(Stdio::null()).stderr(OwnedFd::from(output));
    let mut serving = Running(command.spawn().expect("the program starts"));
    let pause = || std::thread::sleep(Duration::from_millis(10));
    let mut polls = 0..6_000;
    while !handles_term(&serving) && polls.next().is_some() {
        pause();
    }
    // It says nowhere when it has seen a signal, and takes two in a row for one.
    let code = polls.find_map(|_| {
        signal(&serving, "TERM");
        pause();
        serving.0.try_wait().expect("it can be waited for").map(|status| status.code())
    });
    assert_eq!(code, Some(Some(1)));
    drop(reader);
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
