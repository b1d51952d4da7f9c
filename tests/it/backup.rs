//! `backup` and `restore` as an operator uses them: the program itself, beside a serving gateway and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::connections::startexam;
use crate::support::gateway::Gateway;
use crate::support::people::{person, person_at};
use crate::support::vendor::{Stub, json_response};
use crate::support::watch::wait_for_state;

async fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_examgate"))
        .args(arguments)
        .args(["--config", "examgate.toml"])
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program runs")
}

async fn back_up(folder: &Path, file: &str) -> String {
    let output = run(folder, &["backup", file]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn restore(folder: &Path, file: &str) -> String {
    let output = run(folder, &["restore", file]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Asserts that the command fails with this exit code and names this reason on one line of stderr.
async fn assert_refused(folder: &Path, arguments: &[&str], code: i32, reason: &str) {
    let output = run(folder, arguments).await;
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    assert!(text.contains(reason), "{arguments:?}: {reason}: {text}");
}

/// Returns the names of the files in this folder that begin so.
fn files(folder: &Path, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

async fn is_known(gateway: &Gateway, id: &str) -> bool {
    let page = gateway.get(&format!("/candidates?externalId={id}")).await;
    let items = page.body["items"].as_array().expect("a list");
    // A backup may hold the moment between a write's intent and its outcome: the write is then reconciled.
    let is_held = |item: &Value| ["registered", "pending", "unknown"].iter().any(|state| item["state"] == *state);
    assert!(items.iter().all(is_held), "{items:?}");
    items.len() == 1
}

async fn register(gateway: &Gateway, id: &str) {
    let response = gateway.post("/candidates", &person(id)).await;
    assert!([200, 201].contains(&response.status), "{response:?}");
}

async fn register_all(gateway: &Gateway, ids: &[String]) {
    stream::iter(ids).for_each_concurrent(32, async |id| register(gateway, id).await).await;
}

/// Starts a gateway with a vendor that accepts everything.
async fn start() -> (Stub, Gateway) {
    let vendor = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&vendor.url(), "")).await;
    (vendor, gateway)
}

/// Starts a gateway, registers `e1`, backs up to `copy.db`, registers `e2` and stops the gateway.
async fn backed_up() -> (Stub, TempDir) {
    let (vendor, gateway) = start().await;
    register(&gateway, "e1").await;
    back_up(gateway.folder.path(), "copy.db").await;
    register(&gateway, "e2").await;
    (vendor, gateway.finish().await.0)
}

#[tokio::test]
async fn a_backup_made_while_the_gateway_writes_holds_one_moment() {
    let vendor = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&vendor.url(), "max_in_flight = 64")).await;
    let before: Vec<String> = (0..20).map(|number| format!("before-{number}")).collect();
    let during: Vec<String> = (0..200).map(|number| format!("during-{number}")).collect();
    register_all(&gateway, &before).await;
    let path = gateway.folder.path().to_owned();
    let (shown, ()) = tokio::join!(back_up(&path, "copy.db"), register_all(&gateway, &during));
    assert!(shown.contains("bytes, a backup of ") && shown.contains("encryption key"), "{shown}");
    assert_eq!(fs::metadata(path.join("copy.db")).expect("a backup").permissions().mode() & 0o777, 0o600);
    assert_eq!(files(&path, "copy.db"), ["copy.db"], "nothing else is left");

    let (folder, _) = gateway.finish().await;
    let shown = restore(folder.path(), "copy.db").await;
    assert!(shown.contains("store.db: restored from copy.db"), "{shown}");
    let gateway = Gateway::start_in(folder).await;
    for id in &before {
        assert!(is_known(&gateway, id).await, "{id} was registered before the backup");
    }
    // Whatever else it holds is whole: `is_known` asserts that there is no half-written person.
    for id in &during {
        if !is_known(&gateway, id).await {
            register(&gateway, id).await;
        }
    }
}

#[tokio::test]
async fn a_backup_never_overwrites_a_file() {
    let (_vendor, gateway) = start().await;
    let folder = gateway.folder.path();
    fs::write(folder.join("mine.txt"), "mine").expect("a file");
    fs::write(folder.join("other.db.partial"), "another backup").expect("a file");
    std::os::unix::fs::symlink("nowhere", folder.join("link")).expect("a link");
    for (file, reason) in [
        ("mine.txt", "exists already, and a backup never overwrites a file"),
        ("link", "exists already"),
        ("store.db", "exists already"),
        ("other.db", "another backup is being written, or one was interrupted"),
        ("missing/copy.db", "its directory does not exist"),
    ] {
        assert_refused(folder, &["backup", file], 1, reason).await;
    }
    assert_eq!(fs::read(folder.join("mine.txt")).expect("a file"), b"mine");
    assert_eq!(fs::read(folder.join("other.db.partial")).expect("a file"), b"another backup");
    assert!(!folder.join("other.db").exists() && !folder.join("nowhere").exists());
}

#[tokio::test]
async fn a_restored_gateway_knows_what_the_backup_holds_and_the_replaced_database_is_kept() {
    let (vendor, folder) = backed_up().await;
    let shown = restore(folder.path(), "copy.db").await;
    for text in ["store.db.before-restore-1", "bookings_only_here = false", "docs/OPERATIONS.md"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(files(folder.path(), "store.db"), ["store.db", "store.db.before-restore-1", "store.db.lock"]);
    assert_eq!(fs::metadata(folder.path().join("store.db")).expect("a store").permissions().mode() & 0o777, 0o600);
    let gateway = Gateway::start_in(folder).await;
    assert!(is_known(&gateway, "e1").await && !is_known(&gateway, "e2").await);
    let calls = vendor.seen().len();
    register(&gateway, "e2").await;
    assert_eq!(vendor.seen().len(), calls + 1, "a request for someone registered since is the first one to it");

    let (folder, _) = gateway.finish().await;
    let shown = restore(folder.path(), "store.db.before-restore-1").await;
    assert!(shown.contains("store.db.before-restore-2"), "{shown}");
    let gateway = Gateway::start_in(folder).await;
    assert!(is_known(&gateway, "e1").await && is_known(&gateway, "e2").await, "the first one is as it was");
}

#[tokio::test]
async fn what_a_killed_gateway_left_in_its_log_is_in_the_database_that_is_kept() {
    let (_vendor, gateway) = start().await;
    register(&gateway, "e1").await;
    back_up(gateway.folder.path(), "copy.db").await;
    register(&gateway, "e2").await;
    let folder = gateway.kill().await;
    assert!(folder.path().join("store.db-wal").exists());
    restore(folder.path(), "copy.db").await;
    assert_eq!(files(folder.path(), "store.db"), ["store.db", "store.db.before-restore-1", "store.db.lock"]);
    restore(folder.path(), "store.db.before-restore-1").await;
    let gateway = Gateway::start_in(folder).await;
    assert!(is_known(&gateway, "e1").await && is_known(&gateway, "e2").await);
}

#[tokio::test]
async fn a_write_that_was_open_at_the_backup_is_reconciled_after_the_restore() {
    let vendor = Stub::start(|_| json_response(500, &json!({ "message": "down" }))).await;
    let gateway = Gateway::start(&startexam(&vendor.url(), "")).await;
    let unknown = gateway.post("/candidates", &person_at("startexam-main", "e1")).await;
    assert_eq!(unknown.body["outcome"], "unknown", "{unknown:?}");
    back_up(gateway.folder.path(), "copy.db").await;
    let folder = gateway.kill().await;
    restore(folder.path(), "copy.db").await;
    vendor.respond_with(|_| json_response(200, &json!({})));
    let gateway = Gateway::start_in(folder).await;
    let settled = wait_for_state(&gateway, unknown.text("/resource"), "registered").await;
    assert_eq!(settled.text("/outcome"), "applied");
}

#[tokio::test]
async fn a_restore_is_refused_while_a_gateway_serves() {
    let (_vendor, gateway) = start().await;
    register(&gateway, "e1").await;
    let folder = gateway.folder.path();
    back_up(folder, "copy.db").await;
    assert_refused(folder, &["restore", "copy.db"], 1, "another process is serving from this database; stop it first")
        .await;
    assert!(is_known(&gateway, "e1").await);
    register(&gateway, "e2").await;
}

#[tokio::test]
async fn a_file_that_is_no_backup_of_this_store_is_refused_and_nothing_changes() {
    let (_vendor, folder) = backed_up().await;
    let folder = folder.path();
    let changed = |name: &str, change: &dyn Fn(&Path)| -> PathBuf {
        let path = folder.join(name);
        fs::copy(folder.join("copy.db"), &path).expect("a copy");
        change(&path);
        path
    };
    let execute = |path: &Path, sql: &str| {
        let connection = rusqlite::Connection::open(path).expect("a database");
        connection.execute_batch(sql).expect("a change");
    };
    changed("newer.db", &|path| execute(path, "PRAGMA user_version = 999;"));
    changed("foreign.db", &|path| execute(path, "PRAGMA application_id = 7;"));
    changed("short.db", &|path| {
        let bytes = fs::read(path).expect("a file");
        fs::write(path, &bytes[..bytes.len() / 2]).expect("a file");
    });
    changed("in-use.db", &|path| fs::write(path.with_extension("db-wal"), "x").expect("a file"));
    changed("other-key.db", &|path| {
        execute(path, "INSERT INTO keys (id, first_used) VALUES (x'0102030405060708', 1);");
    });
    fs::write(folder.join("text.db"), "no database at all, and longer than a header of a hundred bytes".repeat(9))
        .expect("a file");
    fs::write(folder.join("empty.db"), "").expect("a file");

    let before = (fs::read(folder.join("store.db")).expect("a store"), files(folder, "store.db"));
    for (file, reason) in [
        ("newer.db", "newer examgate"),
        ("foreign.db", "belongs to another program"),
        ("short.db", "short.db: "),
        ("in-use.db", "is a database in use and not a backup"),
        ("other-key.db", "another encryption key"),
        ("text.db", "text.db: "),
        ("empty.db", "holds no data of examgate"),
        ("nowhere.db", "does not exist"),
        (".", "is not a file"),
        ("store.db", "is the database itself"),
    ] {
        assert_refused(folder, &["restore", file], 1, reason).await;
        let after = (fs::read(folder.join("store.db")).expect("a store"), files(folder, "store.db"));
        assert!(before == after, "{file}: the store is as it was");
    }
}

#[tokio::test]
async fn a_damaged_database_can_be_replaced() {
    let (_vendor, folder) = backed_up().await;
    let damage = "no database at all, and longer than a header of a hundred bytes".repeat(9);
    fs::write(folder.path().join("store.db"), &damage).expect("a file");
    restore(folder.path(), "copy.db").await;
    assert_eq!(fs::read(folder.path().join("store.db.before-restore-1")).expect("a file"), damage.as_bytes());
    let gateway = Gateway::start_in(folder).await;
    assert!(is_known(&gateway, "e1").await);
}

#[tokio::test]
async fn a_backup_is_restored_on_a_new_machine_only_with_the_key() {
    let (_vendor, folder) = backed_up().await;
    let (path, elsewhere) = (folder.path(), tempfile::tempdir().expect("a temporary folder"));
    fs::rename(path.join("store.key"), elsewhere.path().join("store.key")).expect("the key is elsewhere");
    for file in files(path, "store.db") {
        fs::remove_file(path.join(file)).expect("the store is gone");
    }
    assert_refused(path, &["restore", "copy.db"], 2, "put your copy of the key there first").await;
    assert_eq!(files(path, "store"), Vec::<String>::new(), "no key and no store was created");
    fs::copy(elsewhere.path().join("store.key"), path.join("store.key")).expect("the key is back");
    let shown = restore(path, "copy.db").await;
    assert!(!shown.contains("before-restore"), "{shown}");
    let gateway = Gateway::start_in(folder).await;
    assert!(is_known(&gateway, "e1").await);
}

#[tokio::test]
async fn for_postgresql_both_name_the_command_of_its_own_tools() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let configuration = format!(
        "[auth]\nmode = \"none\"\n[store]\nurl = \"postgres://examgate:hushhush@db.example.com:5433/exams\"\n\
         encryption_key = \"plain:{key}\"\n"
    );
    fs::write(folder.path().join("examgate.toml"), configuration).expect("a configuration");
    let database = "postgres://db.example.com:5433/exams";
    for (command, line) in [
        ("backup", format!("pg_dump --format=custom --no-owner --file='copy.dump' '{database}'")),
        (
            "restore",
            format!("pg_restore --clean --if-exists --no-owner --single-transaction --dbname='{database}' 'copy.dump'"),
        ),
    ] {
        assert_refused(folder.path(), &[command, "copy.dump"], 2, &line).await;
        let output = run(folder.path(), &[command, "copy.dump"]).await;
        assert!(!String::from_utf8_lossy(&output.stderr).contains("hushhush"), "{output:?}");
    }
}
