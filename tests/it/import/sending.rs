//! How an import sends a spreadsheet: once, through restarts of the gateway, and with an exit code that says whether
//! anything was sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::{
    CommandOutput, ImportFolder, PEOPLE, applied_items, completed_gateway, key, operation_body, posts, problem_body,
};
use crate::support::gateway::TIMEOUT;
use crate::support::vendor::{SeenRequest, Stub, json_response, json_response_with_headers};

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
        // The first request asks for the rights of the key, the second one is the upload.
        0 => json_response(404, &problem_body(404, "not_found")),
        1 => json_response_with_headers(503, &[("retry-after", "0")], &problem_body(503, "draining")),
        2 => json_response_with_headers(429, &[("retry-after", "1")], &problem_body(429, "rate_limited")),
        3 => json_response_with_headers(409, &[("retry-after", "0")], &problem_body(409, "idempotency_in_progress")),
        // A proxy in front of a gateway that is being restarted; also while the operation is polled.
        4 | 6 => json_response_with_headers(502, &[("retry-after", "0")], &json!("Bad Gateway")),
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
    let output = folder.import("http://127.0.0.1:9", &["--patience", "3s"]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.err.contains("http://127.0.0.1:9/: no response: ") && output.err.contains("\nretrying in 0.5 s"));
    assert!(
        output.err.contains("gave up after 3s (--patience); running the same command again is safe\nnothing was sent;")
    );

    // Once the file may have arrived, the exit code no longer says that nothing was sent.
    for (code, refusing) in [(2, "/client"), (1, "/candidates/bulk")] {
        let stub = Stub::start(move |seen| match seen.uri.path() {
            path if path == refusing => {
                json_response_with_headers(503, &[("retry-after", "3600")], &problem_body(503, "draining"))
            }
            _ => json_response(404, &problem_body(404, "not_found")),
        })
        .await;
        let output = folder.import(&stub.url(), &[]).await;
        assert_eq!(output.code, Some(code), "{refusing}: {output:?}");
        assert!(output.err.contains("asks to wait 3600 seconds"), "{output:?}");
        assert_eq!(stub.seen().iter().filter(|seen| seen.uri.path() == refusing).count(), 1);
    }
}

#[tokio::test]
async fn a_rejection_is_shown_with_its_errors_and_advice() {
    let mut refused = problem_body(422, "validation_failed");
    refused["errors"] = json!([
        { "pointer": "?connection", "code": "invalid_field", "detail": "must not be\u{1b}[2J blank" },
        { "pointer": "/header/2", "code": "unknown_field", "detail": "is no member" }]);
    let folder = ImportFolder::with(PEOPLE);
    let refuse_upload = |status: u16, body: Value| {
        move |seen: &SeenRequest| match seen.method {
            Method::POST => json_response(status, &body),
            _ => json_response(404, &problem_body(404, "not_found")),
        }
    };
    let stub = Stub::start(refuse_upload(422, refused)).await;
    let output = folder.import(&stub.url(), &[]).await;
    assert_eq!((output.code, posts(&stub).len()), (Some(2), 1), "{output:?}");
    let lines = "422 validation_failed: Title of validation_failed\n  Detail of validation_failed\n  ?connection: must not \
                 be [2J blank\n  /header/2: is no member\n";
    assert!(output.err.contains(lines), "{output:?}");
    assert!(!folder.path("people.result.csv").exists());

    for (status, code, advice) in [
        (401, "unauthenticated", "EXAMGATE_API_KEY or --key-file"),
        (403, "connection_forbidden", "403 connection_forbidden"),
        (403, "insufficient_scope", "403 insufficient_scope"),
        (404, "connection_not_found", "404 connection_not_found"),
        (413, "payload_too_large", "413 payload_too_large"),
        (415, "unsupported_media_type", "415 unsupported_media_type"),
        (422, "idempotency_key_reused", "--fail-on-errors"),
    ] {
        stub.respond_with(refuse_upload(status, problem_body(status, code)));
        let output = folder.import(&stub.url(), &[]).await;
        assert!(output.code == Some(2) && output.err.contains(advice), "{output:?}");
    }
    stub.respond_with(|_| crate::support::vendor::build_response(404, "text/html", "<h1>Not here</h1>"));
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.err.contains("is the address correct? (--url or EXAMGATE_URL)"), "{output:?}");
    assert_eq!(output.code, Some(2));
}

#[tokio::test]
async fn a_failure_after_the_upload_names_the_operation_and_how_to_go_on() {
    let whole = completed_gateway(applied_items(3));
    let stub = Stub::start(move |seen| match seen.uri.path() {
        "/operations/op_7" => json_response(403, &problem_body(403, "insufficient_scope")),
        _ => whole(seen),
    })
    .await;
    let folder = ImportFolder::with(PEOPLE);
    let output = folder.import(&stub.url(), &[]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.err.ends_with(
            "the gateway has the import as op_7; run the same command again to resume watching it:\n  \
             examgate import people.csv --connection startexam-main\n"
        ),
        "{output:?}"
    );
    let output = folder.import(&stub.url(), &["--output", "json"]).await;
    let told: Value = serde_json::from_str(&output.out).expect("one JSON document");
    assert_eq!((output.code, &told["operation"]), (Some(1), &json!("op_7")), "{output:?}");
    assert!(told["error"].as_str().is_some_and(|error| error.contains("insufficient_scope")), "{output:?}");
}

#[tokio::test]
async fn a_rejection_before_a_long_file_is_sent_is_shown() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    // Responds after the headers alone and closes, as the gateway does with a wrong key.
    let refusing = tokio::spawn(async move {
        let response = |status: u16, code: &str| {
            let body = problem_body(status, code).to_string();
            format!(
                "HTTP/1.1 {status} Refused\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            )
        };
        let (refused, unknown) = (response(401, "unauthenticated"), response(404, "not_found"));
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut head, mut line) = (String::new(), String::new());
            while stream.read_line(&mut line).await.is_ok_and(|count| count > 2) {
                head.push_str(&line);
                line.clear();
            }
            let response = if head.starts_with("POST ") { &refused } else { &unknown };
            drop(stream.write_all(response.as_bytes()).await);
        }
    });
    let rows = ("0123456789".repeat(20) + "\n").repeat(1 << 16);
    let folder = ImportFolder::with(format!("externalId\n{rows}"));
    let output = folder.import(&address, &[]).await;
    assert!(
        output.code == Some(2) && output.err.contains("401 unauthenticated: Title of unauthenticated"),
        "{output:?}"
    );
    refusing.abort();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Stub::start(completed_gateway(applied_items(3))).await;
    let location = format!("{}/elsewhere", other.url());
    let stub = Stub::start(move |_| json_response_with_headers(307, &[("location", &location)], &json!({}))).await;
    let output = ImportFolder::with(PEOPLE).import(&stub.url(), &[]).await;
    assert!(output.code == Some(2) && output.err.contains("which is not followed"), "{output:?}");
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
    let folder = ImportFolder::with(format!("{PEOPLE}emp-4,Di,di@example.com\n"));
    let mut gap = applied_items(4);
    gap.remove(1);
    for (counted, items, message) in [
        (4, applied_items(3), "returned 3 of 4 rows; no result was written"),
        (4, gap, "the rows out of order or with gaps; no result was written"),
        (3, applied_items(3), "counts 3 rows in people.csv, not 4; no result was written"),
    ] {
        let whole = completed_gateway(items);
        let stub = Stub::start(move |seen| match seen.uri.path() {
            "/operations/op_7" => json_response(200, &operation_body("completed", &applied_items(counted))),
            _ => whole(seen),
        })
        .await;
        let output = folder.import(&stub.url(), &[]).await;
        assert!(output.code == Some(1) && output.err.contains(message), "{output:?}");
        assert_eq!(std::fs::read_dir(folder.folder.path()).expect("a folder").count(), 1, "no result with gaps");
    }
}

#[tokio::test]
async fn a_signal_stops_the_command_but_not_the_import() {
    let stub = Stub::start(|seen| match seen.method {
        Method::POST => json_response(202, &operation_body("queued", &[])),
        _ if seen.uri.path() == "/client" => json_response(404, &problem_body(404, "not_found")),
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
    let ended = tokio::time::timeout(TIMEOUT, running.wait()).await.expect("it ends");
    assert_eq!(ended.expect("it ends").code(), Some(1));
    lines.read_to_string(&mut output).await.expect("text");
    assert!(
        output.contains(
            "the import continues on the gateway\nthe gateway has the import as op_7; run the same command again to \
             resume watching it:\n  examgate import people.csv --connection startexam-main\n"
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
    assert_usage_error(&folder, &["--result", "people.csv"], "is the file to import itself").await;
    assert_usage_error(&folder, &["--only-failed"], "is not the result of an import").await;
    assert_usage_error(&folder, &["--if-exists", "create_new"], "candidates have reuse, update or fail").await;
    let update = ["--kind", "assignments", "--if-exists", "update"];
    assert_usage_error(&folder, &update, "assignments have reuse, create_new or fail").await;
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
