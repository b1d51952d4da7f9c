//! The command `import` as a user with a spreadsheet sees it: the program itself against a scripted gateway.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::support::vendor::{SeenRequest, Stub, json_response, json_response_with_headers};

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_examgate"));
        command
            .args(["import", "people.csv", "--connection", "startexam-main"])
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
        let output = CommandOutput::of(&self.command(address, more).output().await.expect("the program runs"));
        assert!(!output.out.contains(KEY) && !output.err.contains(KEY), "{output:?}");
        output
    }
}

/// Quotes every cell of a table whose cells are separated by `|`.
fn quoted(table: &str) -> String {
    table.lines().fold(String::new(), |text, line| text + "\"" + &line.replace('|', "\",\"") + "\"\n")
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

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn every_row_has_a_line_in_the_result_file() {
    let invalid = json!({
        "code": "validation_failed", "detail": "1 member is wrong",
        "errors": [{ "pointer": "/email", "code": "invalid_field", "detail": "is not an e-mail address" }] });
    let ignored = json!({ "code": "field_ignored", "pointer": "/group", "detail": "x" });
    let stub = Stub::start(completed_gateway(vec![
        applied_item(
            0,
            &json!({ "id": "cand_1", "externalId": "emp-1", "userName": "emp-1-x", "initialPassword": "pass,word1",
                           "warnings": [ignored] }),
        ),
        json!({ "index": 1, "itemId": "row-2", "status": 200, "outcome": "applied",
                "resource": { "id": "cand_2", "externalId": "=1+1", "userName": "@bo", "warnings": [] } }),
        json!({ "index": 2, "status": 422, "outcome": "not_applied", "problem": invalid }),
    ]))
    .await;
    let folder = ImportFolder::with(format!("\u{feff}{PEOPLE}"));
    let output = folder.import(&stub.url(), &["--fail-on-errors", "5"]).await;

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.ends_with("2 of 3 rows applied\n"), "{output:?}");
    for line in
        ["people.csv: 3 rows, op_7", "  applied           2", "  not applied       1", "result: people.result.csv"]
    {
        assert!(output.out.lines().any(|output| output == line), "{line}: {output:?}");
    }
    assert!(!format!("{output:?}").contains("pass,word1"), "{output:?}");
    assert_eq!(
        folder.result(),
        "\u{feff}".to_owned()
            + &quoted(
                "row|itemId|outcome|status|id|externalId|userName|initialPassword|problem|detail|errors|warnings\n\
                 1||applied|201|cand_1|emp-1|emp-1-x|pass,word1||||field_ignored\n\
                 2|row-2|applied|200|cand_2|'=1+1|'@bo|||||\n\
                 3||not_applied|422|||||validation_failed|1 member is wrong|/email: is not an e-mail address|\n"
            )
    );
    assert_eq!(mode(&folder.path("people.result.csv")), 0o600);
    assert_eq!(std::fs::read_dir(folder.folder.path()).expect("a folder").count(), 2, "nothing else is left");

    let seen = stub.seen();
    assert_eq!(seen[0].uri, "/candidates/bulk?connection=startexam-main&failOnErrors=5");
    assert_eq!(seen[0].body, PEOPLE, "the content without the byte order mark");
    assert_eq!(seen[0].headers["content-length"], PEOPLE.len().to_string());
    assert_eq!(seen[0].headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(seen[0].headers["prefer"], "respond-async");
    assert_eq!(seen.iter().filter(|seen| seen.uri.path().ends_with("/items")).count(), 2, "two pages");
}

#[tokio::test]
async fn booking_results_include_launch_links() {
    let launch = json!({ "url": "https://go.example.com/#participant/1", "expiresAt": "2027-01-01T00:00:00Z" });
    let items = vec![applied_item(0, &json!({ "id": "asg_1", "launch": launch, "warnings": [] }))];
    let stub = Stub::start(move |seen| match seen.uri.path().strip_prefix("/exam-api") {
        // Done before the response, as a gateway does with few rows if possible.
        Some("/assignments/bulk") => json_response(207, &json!({ "operation": "op_7", "summary": {}, "results": [] })),
        Some("/operations/op_7") => json_response(200, &operation_body("completed", &items)),
        Some("/operations/op_7/items") => item_page(&items, seen.uri.query().unwrap_or_default()),
        _ => json_response(404, &problem_body(404, "not_found")),
    })
    .await;
    let folder = ImportFolder::with("candidate.externalId,assessment\nemp-1,rust-101\n");
    std::fs::write(folder.path("key.txt"), format!("{KEY}\n")).expect("the key can be written");
    let address = format!("{}/exam-api/", stub.url());
    let more = ["--kind", "assignments", "--url", &address, "--key-file", "key.txt", "--output", "links.csv"];
    let output = folder.import("http://127.0.0.1:9", &more).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let result = std::fs::read_to_string(folder.path("links.csv")).expect("a result");
    assert_eq!(
        result,
        quoted(
            "row|itemId|outcome|status|id|launchUrl|launchExpiresAt|problem|detail|errors|warnings\n\
             1||applied|201|asg_1|https://go.example.com/#participant/1|2027-01-01T00:00:00Z||||\n"
        )
    );
    assert!(!folder.path("people.result.csv").exists());
}

#[tokio::test]
async fn the_same_file_is_the_same_import_and_a_changed_file_a_new_one() {
    let stub = Stub::start(completed_gateway(applied_items(3))).await;
    let folder = ImportFolder::with(PEOPLE);
    for _ in 0..2 {
        let output = folder.import(&stub.url(), &[]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
    }
    std::fs::write(folder.path("people.csv"), PEOPLE.replace("nobody", "cy@example.com"))
        .expect("the file can be written");
    assert_eq!(folder.import(&stub.url(), &[]).await.code, Some(0));
    let keys: Vec<String> = posts(&stub).iter().map(key).collect();
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    assert!(keys[0].starts_with("import-"), "{keys:?}");
}

#[tokio::test]
async fn an_unavailable_gateway_is_retried_with_the_same_key() {
    let request_count = AtomicUsize::new(0);
    let healthy = completed_gateway(applied_items(3));
    let stub = Stub::start(move |seen| match request_count.fetch_add(1, Ordering::SeqCst) {
        0 => json_response_with_headers(503, &[("retry-after", "0")], &problem_body(503, "draining")),
        1 => json_response_with_headers(429, &[("retry-after", "1")], &problem_body(429, "rate_limited")),
        2 => json_response_with_headers(409, &[("retry-after", "0")], &problem_body(409, "idempotency_in_progress")),
        // A proxy in front of a gateway that is being restarted; also while the operation is polled.
        3 | 5 => json_response_with_headers(502, &[("retry-after", "0")], &json!("Bad Gateway")),
        _ => healthy(seen),
    })
    .await;
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import(&stub.url(), &[]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    for message in [
        "503 draining: Title of draining\n  Detail of draining\nretrying in 0.5 s",
        "429 rate_limited",
        "retrying in 1.0 s",
    ] {
        assert!(output.err.contains(message), "{message}: {output:?}");
    }
    let posts = posts(&stub);
    assert_eq!(posts.len(), 5);
    assert!(posts.iter().all(|seen| key(seen) == key(&posts[0]) && seen.body == PEOPLE));
}

#[tokio::test]
async fn an_unreachable_gateway_is_given_up_when_patience_runs_out() {
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import("http://127.0.0.1:9", &["--patience", "1s"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.err.contains("http://127.0.0.1:9/: no response: ") && output.err.contains("\nretrying in 0.5 s"));
    assert!(output.err.contains("gave up after 1s (--patience); running the same command again is safe"));

    let stub =
        Stub::start(|_| json_response_with_headers(503, &[("retry-after", "3600")], &problem_body(503, "draining")))
            .await;
    let output = folder.import(&stub.url(), &[]).await;
    assert_eq!((output.code, stub.seen().len()), (Some(1), 1), "{output:?}");
    assert!(output.err.contains("asks to wait 3600 seconds"), "{output:?}");
}

#[tokio::test]
async fn a_rejection_is_shown_with_its_errors_and_advice() {
    let mut refused = problem_body(422, "validation_failed");
    refused["errors"] = json!([
        { "pointer": "?connection", "code": "invalid_field", "detail": "must not be\u{1b}[2J blank" },
        { "pointer": "/header/2", "code": "unknown_field", "detail": "is no member" }]);
    let folder = ImportFolder::with(PEOPLE);
    let stub = Stub::start(move |_| json_response(422, &refused)).await;
    let output = folder.import(&stub.url(), &[]).await;
    assert_eq!((output.code, stub.seen().len()), (Some(1), 1), "{output:?}");
    let lines = "422 validation_failed: Title of validation_failed\n  Detail of validation_failed\n  ?connection: must not \
                 be [2J blank\n  /header/2: is no member\n";
    assert!(output.err.contains(lines), "{output:?}");
    assert!(!folder.path("people.result.csv").exists());

    for (status, code, advice) in [
        (401, "unauthenticated", "EXAMGATE_API_KEY or --key-file"),
        (403, "connection_forbidden", "403 connection_forbidden"),
        (422, "idempotency_key_reused", "--fail-on-errors"),
    ] {
        stub.respond_with(move |_| json_response(status, &problem_body(status, code)));
        let output = folder.import(&stub.url(), &[]).await;
        assert!(output.code == Some(1) && output.err.contains(advice), "{output:?}");
    }
    stub.respond_with(|_| crate::support::vendor::build_response(404, "text/html", "<h1>Not here</h1>"));
    assert!(folder.import(&stub.url(), &[]).await.err.contains("is the address correct? (--url or EXAMGATE_URL)"));
}

#[tokio::test]
async fn a_rejection_before_a_long_file_is_sent_is_shown() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    // Responds after the headers alone and closes, as the gateway does with a wrong key.
    let refusing = tokio::spawn(async move {
        let body = problem_body(401, "unauthenticated").to_string();
        let response = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: \
             close\r\n\r\n{body}",
            body.len()
        );
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|count| count > 2) {
                line.clear();
            }
            drop(stream.write_all(response.as_bytes()).await);
        }
    });
    let folder = ImportFolder::with(format!("externalId\n{}", "0123456789\n".repeat(1 << 20)));
    let output = folder.import(&address, &[]).await;
    assert!(
        output.code == Some(1) && output.err.contains("401 unauthenticated: Title of unauthenticated"),
        "{output:?}"
    );
    refusing.abort();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Stub::start(completed_gateway(applied_items(3))).await;
    let location = format!("{}/candidates/bulk", other.url());
    let stub = Stub::start(move |_| json_response_with_headers(307, &[("location", &location)], &json!({}))).await;
    let output = ImportFolder::with(PEOPLE).import(&stub.url(), &[]).await;
    assert!(output.code == Some(1) && output.err.contains("which is not followed"), "{output:?}");
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn failed_rows_are_retried_on_request() {
    let stub = Stub::start(completed_gateway(applied_items(3))).await;
    let failed: Vec<Value> = (0..3)
        .map(|index| json!({ "index": index, "status": 503, "outcome": "not_applied", "problem": { "code": "skipped" } }))
        .collect();
    let retried = AtomicUsize::new(0);
    let (before, after) = (completed_gateway(failed), completed_gateway(applied_items(3)));
    stub.respond_with(move |seen| {
        if seen.uri.path() == "/operations/op_7/retry" {
            retried.fetch_add(1, Ordering::SeqCst);
            return json_response(202, &operation_body("running", &[]));
        }
        if retried.load(Ordering::SeqCst) == 0 { before(seen) } else { after(seen) }
    });
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import(&stub.url(), &[]).await;
    assert!(
        output.code == Some(1) && output.out.contains("skipped           3") && output.out.contains("--retry"),
        "{output:?}"
    );
    let output = folder.import(&stub.url(), &["--retry"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let output = folder.import(&stub.url(), &["--retry"]).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let request_count = posts(&stub).iter().filter(|seen| seen.uri.path().ends_with("/retry")).count();
    assert_eq!(request_count, 1, "nothing is left to try again");
}

#[tokio::test]
async fn missing_rows_are_a_failure() {
    let whole = completed_gateway(applied_items(3));
    let stub = Stub::start(move |seen| match seen.uri.path() {
        "/operations/op_7" => json_response(200, &operation_body("completed", &applied_items(4))),
        _ => whole(seen),
    })
    .await;
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.code == Some(1) && output.err.contains("returned 3 of 4 rows"), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.folder.path()).expect("a folder").count(), 1, "no result with gaps");
}

#[tokio::test]
async fn a_signal_stops_the_command_but_not_the_import() {
    let stub = Stub::start(|seen| match seen.method {
        Method::POST => json_response(202, &operation_body("queued", &[])),
        _ => json_response(200, &operation_body("running", &[])),
    })
    .await;
    let folder = ImportFolder::with(PEOPLE);
    let mut running = folder.command(&stub.url(), &[]).spawn().expect("the program starts");
    let mut lines = BufReader::new(running.stderr.take().expect("a pipe"));
    let mut output = String::new();
    while !output.contains("submitted as op_7") {
        assert!(lines.read_line(&mut output).await.expect("text") > 0, "{output}");
    }
    let id = running.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.expect("kill runs").success());
    let ended = tokio::time::timeout(Duration::from_mins(1), running.wait()).await.expect("it ends");
    assert_eq!(ended.expect("it ends").code(), Some(1));
    lines.read_to_string(&mut output).await.expect("text");
    assert!(
        output.contains(
            "the import continues on the gateway\nthe gateway has the import as op_7; run the same command again"
        ),
        "{output}"
    );
    assert_eq!(std::fs::read_dir(folder.folder.path()).expect("a folder").count(), 1, "nothing is left behind");
}

#[tokio::test]
async fn invalid_input_is_reported_before_anything_is_sent() {
    let stub = Stub::start(completed_gateway(applied_items(3))).await;
    let assert_usage_error = async |folder: &ImportFolder, more: &[&str], message: &str| {
        let output = folder.import(&stub.url(), more).await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.err.contains(message), "{message}: {output:?}");
    };
    assert_usage_error(&ImportFolder::with(""), &[], "people.csv: is empty").await;
    assert_usage_error(&ImportFolder::with("externalId,email\n"), &[], "people.csv: has no row").await;
    assert_usage_error(&ImportFolder::with("externalId,Shoe Size\na,b\n"), &[], "column B \"Shoe Size\" is unknown")
        .await;

    let folder = ImportFolder::with(PEOPLE);
    assert_usage_error(&folder, &["--url", "exams.example.com"], "--url: ").await;
    assert_usage_error(&folder, &["--url", "ftp://exams.example.com"], "neither http nor https").await;
    assert_usage_error(&folder, &["--key-file", "nowhere.txt"], "file nowhere.txt cannot be read").await;
    assert_usage_error(&folder, &["--output", "people.csv"], "is the file to import itself").await;
    assert_usage_error(&folder, &["--kind", "programs"], "--kind").await;
    assert_usage_error(&folder, &["--fail-on-errors", "0"], "--fail-on-errors").await;
    std::fs::write(folder.path("people.result.csv"), "my,own,notes\n").expect("the file can be written");
    assert_usage_error(&folder, &[], "people.result.csv: exists and is not the result of an import").await;
    std::fs::remove_file(folder.path("people.csv")).expect("the file can be removed");
    assert_usage_error(&folder, &[], "people.csv: cannot be read: No such file").await;
    std::fs::create_dir(folder.path("people.csv")).expect("a folder");
    assert_usage_error(&folder, &[], "people.csv: is a directory").await;

    let keyless = ImportFolder::with("");
    let output = keyless.command(&stub.url(), &[]).env_remove("EXAMGATE_API_KEY").output().await.expect("it runs");
    let both = CommandOutput::of(&output);
    assert!(both.code == Some(2) && both.err.contains("people.csv: is empty"), "{both:?}");
    assert!(both.err.contains("EXAMGATE_API_KEY is not set") && both.err.contains("--key-file"), "{both:?}");
    let output =
        folder.command(&stub.url(), &[]).env("EXAMGATE_API_KEY", "two\nlines").output().await.expect("it runs");
    let broken = CommandOutput::of(&output);
    assert!(broken.code == Some(2) && !broken.err.contains("lines\n"), "{broken:?}");
    assert!(stub.seen().is_empty());
}

/// End to end, against the real gateway and the simulators: people, then their bookings, then both again.
#[tokio::test]
async fn a_real_gateway_imports_people_and_bookings_once() {
    use crate::support::connections::sandbox_connections;
    use crate::support::gateway::{Gateway, key, sandbox};
    use crate::support::watch::changes;

    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let address = format!("http://{}", gateway.address);
    let import = async |folder: &ImportFolder, more: &[&str]| {
        let output = folder.command(&address, more).env("EXAMGATE_API_KEY", key("lms")).output().await;
        CommandOutput::of(&output.expect("the program runs"))
    };
    let people =
        ImportFolder::with("externalId,name.givenName,email\nemp-1,Ann,ann@example.com\nemp-2,Bo,nobody\nemp-3,Cy,\n");
    for _ in 0..2 {
        let output = import(&people, &[]).await;
        assert_eq!(output.code, Some(1), "{output:?}");
        let result = people.result();
        let outcomes: Vec<&str> =
            result.lines().skip(1).map(|line| line.split(',').nth(2).unwrap_or("").trim_matches('"')).collect();
        assert_eq!(outcomes, ["applied", "not_applied", "applied"], "{result}");
        assert!(result.contains("/email"), "{result}");
    }
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["emp-1", "emp-3"]);

    let test = examgate::sandbox::accounts::startexam::TESTS[0].0;
    let bookings = ImportFolder::with(format!("candidate.externalId,assessment\nemp-1,{test}\nemp-3,{test}\n"));
    for _ in 0..2 {
        let output = import(&bookings, &["--kind", "assignments"]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(bookings.result().matches("#participant/").count(), 2, "{}", bookings.result());
    }
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 2);
}
