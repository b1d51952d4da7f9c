//! The demo as a new user sees it: the program itself, started and read like any other.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
    command.arg("demo").args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Splits a command line into words as the shell would; only single quotes are supported.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("a word").push(other),
        }
    }
    assert!(!quoted, "{line}");
    words
}

/// Does what the curl command would do.
async fn curl(line: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let words = shell_words(line);
    let ["curl", url, options @ ..] = &words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        panic!("no curl line: {line}")
    };
    let body = options.chunks(2).find(|option| option[0] == "-d").map(|option| option[1].to_owned());
    let mut request = if let Some(body) = body { client.post(*url).body(body) } else { client.get(*url) };
    for header in options.chunks(2).filter(|option| option[0] == "-H") {
        let (name, value) = header[1].split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    let response = request.send().await.expect("a response");
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON"))
}

fn curl_lines(stdout: &str) -> Vec<&str> {
    stdout.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect()
}

fn key(stdout: &str) -> &str {
    let line = stdout.lines().find(|line| line.contains("API key")).expect("a line with the key");
    let key = line.split_whitespace().last().expect("a word");
    assert!(key.starts_with("egk_") && key.len() == 47, "{line}");
    key
}

#[test]
fn the_demo_completes_with_every_outcome_as_expected() {
    let Output { status, stdout, stderr } = demo(&["--exit", "--port", "0"]).output().expect("the program runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(0), "{stdout}\n{stderr}");

    let rows: Vec<&str> = stdout.lines().filter(|line| line.contains(" cand_")).collect();
    assert_eq!(rows.len(), 24, "{stdout}");
    assert!(rows.iter().all(|row| row.contains("applied")), "{stdout}");
    // Eight people at each of two vendors sat their tests, and the scores are there, each vendor's in its own way.
    let scores = |vendor: &str| rows.iter().filter(|row| row.contains(vendor) && row.contains("/100 ")).count();
    assert_eq!(["StartExam", "ThinkExam", "ExamTesting"].map(scores), [8, 8, 0], "{stdout}");
    assert!(
        ["88/100", "45/100"].iter().all(|score| rows.iter().filter(|row| row.contains(score)).count() == 2),
        "{stdout}"
    );
    // Each of these scores has arrived at the LMS, which has verified the signature.
    assert!(rows.iter().all(|row| row.contains("/100 ") == row.contains(" ✓ ")), "{stdout}");
    let links = |host: &str| rows.iter().filter(|row| row.contains(host)).count();
    assert_eq!(links("https://go.startexam.com/mycenter#participant/"), 8, "{stdout}");
    assert_eq!(links("https://exams.example.com/start?token="), 8, "{stdout}");
    assert_eq!(rows.iter().filter(|row| row.contains("ExamTesting")).count(), 8, "{stdout}");

    let summary = stdout.lines().find(|line| line.contains("outcomes as expected")).expect("a summary");
    let words: Vec<&str> = summary.split_whitespace().collect();
    assert!(words[0] == words[2] && words[0].parse::<usize>().expect("a number") > 100, "{summary}");
    assert_eq!(stdout.contains("\nThis is a development build"), cfg!(debug_assertions), "{stdout}");
    let before_table = stdout.lines().position(|line| line.contains("launch link ") || line.ends_with("launch link"));
    assert!(before_table.expect("a table") < 40, "{stdout}");

    assert!(stdout.contains("/console/ (in a browser; sign in with the key below)"), "{stdout}");
    assert_eq!(curl_lines(&stdout).len(), 4, "{stdout}");
    assert!(curl_lines(&stdout).iter().all(|line| line.contains(key(&stdout))), "{stdout}");
    assert!(!stdout.contains(['\u{1b}', '✗']), "colours and bars are for terminals: {stdout}");
    assert_eq!(stderr, "", "an ordinary run warns of nothing");
}

#[test]
fn the_demo_prints_one_document_for_programs() {
    let output = demo(&["--exit", "--output", "json"]).output().expect("the program runs");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else");
    assert_eq!(output.status.code(), Some(0), "{document}");
    let people = document["people"].as_array().expect("people");
    assert_eq!(people.len(), 24);
    assert!(people.iter().all(|person| person["outcome"] == "applied" && person["asExpected"] == true), "{document}");
    assert_eq!(people.iter().filter(|person| person["launchLink"].is_string()).count(), 16);
    let sat: Vec<_> = people.iter().filter(|person| person["score"].is_string()).collect();
    let passed = |wanted: bool| sat.iter().filter(|person| person["passed"] == wanted).count();
    assert_eq!((sat.len(), passed(true), passed(false)), (16, 12, 4), "{document}");
    assert_eq!(people.iter().filter(|person| person["webhookVerified"] == true).count(), 16, "{document}");
    let outcomes = &document["outcomes"];
    assert_eq!((&outcomes["planned"], &outcomes["differences"]), (&outcomes["asExpected"], &Value::Array(Vec::new())));
    assert!(document["apiKey"].as_str().is_some_and(|key| key.starts_with("egk_")), "{document}");
    assert_eq!(document["simulators"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(document["serving"], false);
    let console = format!("{}/console/", document["api"].as_str().expect("an address"));
    assert_eq!(document["console"], console);
}

#[test]
fn the_log_does_not_contain_the_key() {
    let run = demo(&["--exit"]).env("RUST_LOG", "debug").output().expect("the program runs");
    let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{stdout}");
    assert!(!stderr.is_empty(), "RUST_LOG is honoured");
    assert!(!stderr.contains(key(&stdout)), "{stderr}");
}

#[test]
fn a_port_in_use_is_reported_with_an_alternative() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let run = demo(&["--port", &port]).output().expect("the program runs");
    let stderr = text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&port) && stderr.contains("--port"), "{stderr}");
}

/// A running demo, killed at the end of the test.
struct RunningDemo {
    child: Child,
    stdout: String,
}

impl RunningDemo {
    fn start() -> Self {
        let mut child = demo(&["--port", "0"]).stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut demo = Self { child, stdout: String::new() };
        while !demo.stdout.contains("Serving until") {
            let read = lines.read_line(&mut demo.stdout).expect("text");
            assert!(read > 0, "ended too early:\n{}", demo.stdout);
        }
        demo
    }

    fn terminate(mut self) -> Option<i32> {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        self.child.wait().expect("an end").code()
    }
}

impl Drop for RunningDemo {
    fn drop(&mut self) {
        // It has usually exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn the_printed_curl_commands_work_and_a_signal_stops_the_demo_cleanly() {
    let demo = RunningDemo::start();
    let lines = curl_lines(&demo.stdout);
    let [register, assign, list, results] = lines[..] else { panic!("{}", demo.stdout) };
    for status in [201, 200] {
        let (returned, candidate) = curl(register).await;
        assert_eq!((returned, candidate["state"].as_str()), (status, Some("registered")), "{candidate}");
    }
    let (status, assignment) = curl(assign).await;
    assert_eq!((status, assignment["state"].as_str()), (201, Some("assigned")), "{assignment}");
    let (status, page) = curl(list).await;
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(3)), "{page}");
    let (status, page) = curl(results).await;
    let graded = page["items"].as_array().into_iter().flatten().filter(|result| result["grading"] == "fully_graded");
    assert_eq!((status, graded.count()), (200, 3), "{page}");
    let (status, problem) = curl(&register.replace("egk_", "egk_x")).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("unauthenticated")), "{problem}");
    assert_eq!(demo.terminate(), Some(0));
}

#[tokio::test]
async fn the_demo_serves_its_console_and_leaves_something_to_do_there() {
    let demo = RunningDemo::start();
    let line = demo.stdout.lines().find(|line| line.trim().starts_with("Console ")).expect("a line");
    let console = line.split_whitespace().nth(1).expect("an address");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let page = client.get(console).send().await.expect("a page");
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/console/sign-in"), "{page:?}");
    assert!(page.text().await.expect("text").contains("name=\"apiKey\""));

    let api = console.strip_suffix("/console/").expect("an address below the gateway's");
    let list = async |path: &str| {
        let (status, page) =
            curl(&format!("curl '{api}{path}' -H 'Authorization: Bearer {}'", key(&demo.stdout))).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("a list").clone()
    };
    let unknown = list("/assignments?state=unknown").await;
    assert!(unknown.len() == 1 && unknown[0]["problem"]["code"] == "vendor_timeout", "{unknown:?}");
    let parked = list("/reports?state=parked").await;
    let reasons: BTreeSet<&str> = parked.iter().filter_map(|report| report["parkedFor"].as_str()).collect();
    assert_eq!(reasons, BTreeSet::from(["several_open_bookings", "unknown_candidate"]), "{parked:?}");
    let webhooks = list("/webhooks").await;
    assert!(webhooks.iter().any(|webhook| webhook["state"] == "failing"), "{webhooks:?}");
    assert!(webhooks.iter().any(|webhook| webhook["state"] == "enabled"), "{webhooks:?}");
    let operations = list("/operations").await;
    assert!(operations.iter().any(|operation| operation["progress"]["notApplied"] == 2), "{operations:?}");
}
