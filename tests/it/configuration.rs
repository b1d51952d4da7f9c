//! What the program reports about a configuration.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::support::postgres::Server;
use crate::support::snapshots::assert_output;

const EVERY_KEY: &str = include_str!("../fixtures/every-key.toml");
/// A secret that must never be printed.
const PLANTED_SECRET: &str = "hushhushdonttellthis";
const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

fn config_folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("examgate.toml"), text).expect("the configuration can be written");
    folder
}

/// Runs `examgate check` in this folder, with only these variables in its environment.
fn check(folder: &Path, variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_examgate"))
        .arg("check")
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Starts `examgate serve` in this folder and stops it gracefully.
fn serve(folder: &Path, variables: &[(&str, &str)]) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_examgate"))
        .arg("serve")
        .current_dir(folder)
        .env_clear()
        .envs([("EXAMGATE__SERVER__LISTEN", "127.0.0.1:0"), ("EXAMGATE__SERVER__ADMIN_LISTEN", "")])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("examgate listening on "), "{line}");
    let stopped = Command::new("kill").args(["-INT", &process.id().to_string()]).status().expect("kill runs");
    assert!(stopped.success() && process.wait().expect("it ends").success());
}

/// Returns the names of the files in this folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Starts a server that answers every request with 404, as a vendor may at its root.
fn not_found_server() -> SocketAddr {
    static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Each on its own: a reachability check sends nothing, and a process may be gone by the response.
                std::thread::spawn(move || {
                    if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                        let response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                        _ = stream.write_all(response);
                    }
                });
            }
        });
        address
    });
    *ADDRESS
}

fn minimal() -> String {
    format!(
        "[auth.clients.lms]\nkey_sha256 = [\"{HASH}\"]\nscopes = [\"candidates:write\"]\n\
         [connections.main]\nvendor = \"examtesting\"\nbase_url = \"http://{}\"\ninstitution_id = \"1\"\napi_key = \"env:KEY\"\napi_pass = \"plain:{PLANTED_SECRET}\"\n",
        not_found_server()
    )
}

#[test]
fn every_documented_key_is_accepted() {
    let folder = config_folder(EVERY_KEY);
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let lines = text(&output.stderr);
    // Only the eight secrets that the example reads from the environment are missing.
    assert_eq!(lines.lines().count(), 8, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("examgate.toml:") && line.ends_with(" is not set")), "{lines}");
}

/// Returns what `examgate config example` prints, and the environment variables it asks for.
fn example() -> (String, Vec<String>) {
    let printed = Command::new(env!("CARGO_BIN_EXE_examgate")).args(["config", "example"]).output().expect("it runs");
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let example = text(&printed.stdout);
    let (_, listed) = example.split_once("# Set before you start it:\n").expect("a list of variables");
    let names = listed.lines().map_while(|line| line.strip_prefix("#   ")).map(str::to_owned).collect();
    (example, names)
}

#[test]
fn the_example_is_accepted_with_the_variables_it_lists() {
    let (example, names) = example();
    assert_eq!(names.len(), 5, "{names:?}");
    let folder = config_folder(&example);
    let missing = text(&check(folder.path(), &[]).stderr);
    assert_eq!(missing.lines().count(), names.len(), "{missing}");
    assert!(names.iter().all(|name| missing.contains(&format!("environment variable {name} is not set"))), "{missing}");

    let vendor = format!("http://{}", not_found_server());
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "c2VjcmV0")).collect();
    for connection in ["STARTEXAM_MAIN", "THINKEXAM_MAIN", "EXAMTESTING_MAIN"] {
        let name: &str = Box::leak(format!("EXAMGATE__CONNECTIONS__{connection}__BASE_URL").into_boxed_str());
        variables.push((name, &vendor));
    }
    let signature = format!("{vendor}/signature");
    variables.push(("EXAMGATE__CONNECTIONS__THINKEXAM_MAIN__SIGNATURE__URL", &signature));
    let output = check(folder.path(), &variables);
    assert!(text(&output.stdout).starts_with("configuration: ok\nstore: ok: "), "{output:?}");
    assert_ne!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_example_names_every_key_and_its_comments_are_the_defaults() {
    let (example, _) = example();
    let keys = |text: &str| -> std::collections::BTreeSet<String> {
        let lines = text.lines().map(|line| line.trim_start_matches('#').trim());
        let names = lines.filter_map(|line| line.split_once(" = ").map(|(name, _)| name).or(Some(line)));
        names.filter(|name| name.starts_with('[') || !name.contains(' ')).map(str::to_owned).collect()
    };
    let defaults = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/default.toml")).expect("a file");
    let missing: Vec<_> = keys(&defaults).difference(&keys(&example)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Uncommented, a section of the program itself is the default: nothing changes.
    assert!(example.contains("\n# request_timeout = \"60s\"\n") && example.contains("\nlisten = \"127.0.0.1:8080\"\n"));
}

#[test]
fn check_prints_a_document_for_programs() {
    let folder = config_folder(&minimal());
    let json = |variables: &[(&str, &str)]| -> (Option<i32>, serde_json::Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_examgate"))
            .args(["check", "--output", "json"])
            .current_dir(folder.path())
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .expect("the program runs");
        (output.status.code(), serde_json::from_slice(&output.stdout).expect("JSON"))
    };
    let (code, good) = json(&[("KEY", PLANTED_SECRET)]);
    assert_eq!((code, &good["configuration"], &good["faults"]), (Some(0), &"ok".into(), &0.into()), "{good}");
    assert_eq!(good["store"]["result"], "ok");
    assert_eq!(good["store"]["changes"].as_array().map(Vec::len), Some(2), "{good}");
    let connection = &good["connections"][0];
    assert_eq!((&connection["name"], &connection["result"]), (&"connection main".into(), &"unchecked".into()));
    let steps: Vec<_> = connection["checks"].as_array().expect("steps").iter().map(|step| &step["name"]).collect();
    assert_eq!(steps, ["address", "reachability", "tls", "clock", "credentials"]);
    assert!(!good.to_string().contains(PLANTED_SECRET));

    let closed = ("EXAMGATE__CONNECTIONS__MAIN__BASE_URL", "http://127.0.0.1:1");
    let (code, faulty) = json(&[("KEY", PLANTED_SECRET), closed]);
    assert_eq!((code, &faulty["faults"]), (Some(1), &1.into()), "{faulty}");
    let (code, invalid) = json(&[]);
    assert_eq!((code, &invalid["configuration"]), (Some(2), &"fault".into()));
    let error = invalid["errors"][0].as_str().expect("an error");
    assert_eq!(error, "examgate.toml:8: connections.main.api_key: environment variable KEY is not set");
}

#[test]
fn all_errors_are_reported_together_with_key_and_line() {
    let folder = config_folder(&(minimal() + "timeout = 5\nbase_ulr = \"x\"\n[store]\nretention = \"soon\"\n"));
    let output = check(folder.path(), &[("EXAMGATE__SERVER__LISTEN", PLANTED_SECRET)]);
    assert_eq!(output.status.code(), Some(2));
    let lines = text(&output.stderr);
    for expected in [
        "examgate.toml:8: connections.main.api_key: environment variable KEY is not set",
        "examgate.toml:10: connections.main.timeout: expected a duration such as",
        "examgate.toml:11: connections.main.base_ulr: unknown key (did you mean base_url?)",
        "examgate.toml:13: store.retention: expected a duration such as",
        "environment variable EXAMGATE__SERVER__LISTEN: server.listen: expected an address and a port",
    ] {
        assert!(lines.lines().any(|line| line.starts_with(expected)), "{expected}\n{lines}");
    }
    assert!(!lines.contains(PLANTED_SECRET), "{lines}");
    assert_output("check-broken", &output);
}

#[test]
fn a_valid_configuration_is_checked_to_the_end() {
    let folder = config_folder(&minimal());
    let output = check(folder.path(), &[("KEY", PLANTED_SECRET)]);
    let (lines, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{lines}{stderr}");
    assert!(
        lines.contains("configuration: ok")
            && lines.contains("store: ok")
            && lines.contains("connection main: unchecked: ")
            && lines.contains("  reachability: ok: ")
    );
    assert!(!lines.contains(PLANTED_SECRET) && !stderr.contains(PLANTED_SECRET), "{lines}{stderr}");
    assert_eq!(files(folder.path()), ["examgate.toml"]);
    let changes = "store: ok: examgate.db: serve would create the database and create its key in examgate.key\n";
    assert!(lines.contains(changes), "{lines}");
    assert_output("check-good", &output);
}

#[test]
fn check_changes_no_store_file() {
    let folder = config_folder(&minimal());
    serve(folder.path(), &[("KEY", "aaaa")]);
    let database = folder.path().join("examgate.db");
    let run_check = |variables: &[(&str, &str)]| {
        let before = (fs::read(&database).expect("a database"), files(folder.path()));
        let output = check(folder.path(), &[&[("KEY", "aaaa")], variables].concat());
        assert!((fs::read(&database).expect("a database"), files(folder.path())) == before, "it is as it was");
        (output.status.code(), text(&output.stdout))
    };
    let (code, output_text) = run_check(&[]);
    assert!(code == Some(0) && output_text.contains("store: ok: examgate.db\n"), "{output_text}");

    let (code, output_text) = run_check(&[
        ("EXAMGATE__STORE__ENCRYPTION_KEY", "plain:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="),
        ("EXAMGATE__STORE__DECRYPTION_KEYS", "[\"file:examgate.key\"]"),
    ]);
    let change = "store: ok: examgate.db: serve would register a new encryption key\n";
    assert!(code == Some(0) && output_text.contains(change), "{output_text}");

    let latest: i64 = {
        let connection = rusqlite::Connection::open(&database).expect("a database");
        let latest = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
        connection.pragma_update(None, "user_version", 4).expect("an older version");
        latest
    };
    let (code, output_text) = run_check(&[]);
    let change = format!("store: ok: examgate.db: serve would migrate the schema 4 → {latest}\n");
    assert!(code == Some(0) && output_text.contains(&change), "{output_text}");
}

#[test]
fn a_store_that_cannot_be_created_is_an_error() {
    let folder = config_folder(&minimal());
    for (url, key) in [("sqlite:missing/a.db", "file:a.key"), ("sqlite:a.db", "file:missing/a.key")] {
        let store = [("EXAMGATE__STORE__URL", url), ("EXAMGATE__STORE__ENCRYPTION_KEY", key)];
        let output = check(folder.path(), &[&[("KEY", "aaaa")], &store[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{url} {key}");
        assert!(text(&output.stdout).contains("its directory does not exist"), "{output:?}");
    }
    assert_eq!(files(folder.path()), ["examgate.toml"]);
}

#[cfg(unix)]
#[test]
fn the_generated_key_is_readable_only_by_its_owner_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = config_folder(&minimal());
    serve(folder.path(), &[("KEY", "aaaa")]);
    let key = folder.path().join("examgate.key");
    assert_eq!(fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    fs::remove_file(&key).expect("the key can be lost");
    let output = check(folder.path(), &[("KEY", "aaaa")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("store.encryption_key: file examgate.key is missing, but the database"));
    assert!(!key.exists());
}

#[test]
fn a_wrong_key_is_reported_as_a_store_error() {
    let folder = config_folder(&minimal());
    serve(folder.path(), &[("KEY", "aaaa")]);
    fs::write(folder.path().join("examgate.key"), data_encoding::BASE64.encode(&[9; 32])).expect("another key");
    let output = check(folder.path(), &[("KEY", "aaaa")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("store: fault: "), "{output:?}");
}

#[test]
fn environment_variables_override_the_file() {
    let folder = config_folder(&minimal());
    let store = folder.path().join("elsewhere.db");
    let url = format!("sqlite:{}", store.display());
    let variables = [
        ("EXAMGATE__STORE__URL", url.as_str()),
        ("EXAMGATE__CONNECTIONS__MAIN__API_KEY", "plain:007"),
        ("EXAMGATE__CONNECTIONS__MAIN__MAX_IN_FLIGHT", "2"),
    ];
    let output = check(folder.path(), &variables);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains(&format!("store: ok: {}: ", store.display())), "{output:?}");
}

#[test]
fn the_file_is_found_by_option_variable_or_working_directory() {
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let output = check(nowhere.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let output_text = text(&output.stderr);
    let looked_at = nowhere.path().canonicalize().expect("a folder").join("examgate.toml").display().to_string();
    for text in ["--config", "EXAMGATE_CONFIG", &looked_at, "examgate config example > examgate.toml"] {
        assert!(output_text.contains(text), "{text}: {output_text}");
    }

    let elsewhere = config_folder("[server]\nlisten = \"x\"\n");
    let file = elsewhere.path().join("examgate.toml").display().to_string();
    let output = check(nowhere.path(), &[("EXAMGATE_CONFIG", &file)]);
    assert!(text(&output.stderr).starts_with(&format!("{file}:2: server.listen: ")), "{output:?}");
}

#[tokio::test]
async fn check_reads_postgresql_and_shows_neither_user_nor_password() {
    let url = Server::shared().schema().await.replace("examgate@", &format!("examgate:{PLANTED_SECRET}@"));
    let folder = config_folder(&(minimal() + "[store]\nurl = \"env:STORE\"\nencryption_key = \"env:SEAL\"\n"));
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let run_check = |url: &str| {
        let output = check(folder.path(), &[("KEY", "k"), ("SEAL", key), ("STORE", url)]);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (_, output_text) = run_check(&url);
    assert!(
        output_text.contains("store: ok: postgres://127.0.0.1:")
            && output_text.contains("/postgres: serve would create the schema"),
        "{output_text}"
    );
    assert!(!output_text.contains(PLANTED_SECRET) && !output_text.contains("examgate@"), "{output_text}");

    let (code, output_text) = run_check(&url.replace("/postgres?", "/missing?"));
    assert_eq!(code, Some(1), "{output_text}");
    assert!(
        output_text.contains("store: fault: postgres://127.0.0.1:") && output_text.contains("does not exist"),
        "{output_text}"
    );
    assert!(!output_text.contains(PLANTED_SECRET), "{output_text}");
}
