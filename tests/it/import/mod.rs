//! The command `import` as a user with a spreadsheet sees it: the program itself against a scripted gateway, and against
//! the real one.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::vendor::{SeenRequest, Stub, json_response, json_response_with_headers};

mod end_to_end;
mod reports;
mod results;
mod rights;
mod sending;

const KEY: &str = "egk_the-key-nobody-may-see";
const PEOPLE: &str = "externalId,name.givenName,email\nemp-1,Ann,ann@example.com\nemp-2,Bo,bo@example.com\n\
                      emp-3,Cy,nobody\n";

/// A folder with a spreadsheet.
struct ImportFolder {
    folder: TempDir,
}

impl ImportFolder {
    fn with(content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("people.csv"), content).expect("the file can be written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn result(&self) -> String {
        std::fs::read_to_string(self.path("people.result.csv")).expect("a result")
    }

    fn command(&self, address: &str, more: &[&str]) -> Command {
        self.command_for("people.csv", address, more)
    }

    fn command_for(&self, file: &str, address: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
        command
            .args(["import", file, "--connection", "startexam-main"])
            .args(more)
            .current_dir(self.folder.path())
            .env_clear()
            .env("EXAMGATE_API_KEY", KEY)
            .env("EXAMGATE_URL", address)
            .env("RUST_LOG", "trace")
            // This proxy has no listener: a request through it would fail.
            .env("http_proxy", "http://127.0.0.1:9")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn import(&self, address: &str, more: &[&str]) -> CommandOutput {
        CommandOutput::of(&self.output(address, more).await)
    }

    async fn output(&self, address: &str, more: &[&str]) -> Output {
        let output = self.command(address, more).output().await.expect("the program runs");
        let shown = CommandOutput::of(&output);
        assert!(!shown.out.contains(KEY) && !shown.err.contains(KEY), "{shown:?}");
        output
    }
}

/// The result sheet of a table whose cells are separated by `|`.
fn sheet(table: &str) -> String {
    table.lines().fold("\u{feff}".to_owned(), |text, line| text + "\"" + &line.replace('|', "\",\"") + "\"\r\n")
}

/// Returns the cells of a column of a result.
fn column(result: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(result.as_bytes());
    let at = reader.headers().expect("a header").iter().position(|column| column == name).expect("the column");
    reader.records().map(|record| record.expect("a record")[at].to_owned()).collect()
}

/// Exit code and output of the program.
#[derive(Debug)]
struct CommandOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandOutput {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Returns a gateway that has completed these rows immediately; two items per page.
fn completed_gateway(items: Vec<Value>) -> impl Fn(&SeenRequest) -> Response + Send + Sync + 'static {
    move |seen| {
        assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
        let path = seen.uri.path();
        if seen.method == Method::POST && path.ends_with("/bulk") {
            let location = [("location", "http://elsewhere.example/operations/op_7")];
            return json_response_with_headers(202, &location, &operation_body("queued", &[]));
        }
        match path {
            "/operations/op_7" => json_response(200, &operation_body("completed", &items)),
            "/operations/op_7/items" => item_page(&items, seen.uri.query().unwrap_or_default()),
            _ => json_response(404, &problem_body(404, "not_found")),
        }
    }
}

fn operation_body(state: &str, items: &[Value]) -> Value {
    let applied = items.iter().filter(|item| item["outcome"] == "applied").count();
    json!({ "id": "op_7", "kind": "candidates", "state": state, "createdAt": "2026-11-22T13:42:21.024Z",
            "progress": { "total": items.len(), "applied": applied, "notApplied": items.len() - applied,
                          "unknown": 0, "skipped": 0, "pending": 0 } })
}

fn item_page(items: &[Value], query: &str) -> Response {
    let value = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|it| it.1);
    assert_eq!(value("limit").as_deref(), Some("200"));
    let from = value("cursor").map_or(0, |cursor| cursor.strip_prefix("c&").expect("the cursor").parse().unwrap());
    let end = items.len().min(from + 2);
    let next = (end < items.len()).then(|| format!("c&{end}"));
    json_response(200, &json!({ "items": items[from..end], "nextCursor": next }))
}

fn problem_body(status: u16, code: &str) -> Value {
    json!({ "type": format!("/problems/{code}"), "title": format!("Title of {code}"), "status": status, "code": code,
            "detail": format!("Detail of {code}"), "origin": "request", "outcome": "not_applied",
            "retryable": matches!(status, 429 | 503), "instance": "/exchanges/exc_1", "requestId": "r" })
}

fn applied_item(index: usize, resource: &Value) -> Value {
    json!({ "index": index, "status": 201, "outcome": "applied", "resource": resource })
}

fn applied_items(rows: usize) -> Vec<Value> {
    (0..rows).map(|index| applied_item(index, &json!({ "id": format!("cand_{index}"), "warnings": [] }))).collect()
}

fn posts(stub: &Stub) -> Vec<SeenRequest> {
    stub.seen().into_iter().filter(|seen| seen.method == Method::POST).collect()
}

fn key(seen: &SeenRequest) -> String {
    seen.headers["idempotency-key"].to_str().expect("text").to_owned()
}

/// What a gateway says of a key (`GET /client`).
fn access(scopes: &[&str], connections: &[&str]) -> Value {
    json!({ "client": "lms", "tenant": "lms", "scopes": scopes, "connections": connections, "key": "0123abcd" })
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}
