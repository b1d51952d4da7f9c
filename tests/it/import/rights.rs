//! What an import finds out before it sends anything.

use http::Method;
use serde_json::{Value, json};

use super::{ImportFolder, PEOPLE, access, applied_items, completed_gateway, posts, problem_body};
use crate::support::snapshots::assert_output;
use crate::support::vendor::{SeenRequest, Stub, build_response, json_response};

const ALL: [&str; 4] = ["candidates:write", "assignments:write", "operations:read", "catalogue:read"];

/// Returns a gateway that says this of the key and of the connection, and then imports three rows.
async fn gateway(access: Value, connection: (u16, Value)) -> Stub {
    let rest = completed_gateway(applied_items(3));
    Stub::start(move |seen: &SeenRequest| match seen.uri.path() {
        "/client" => json_response(200, &access),
        path if path.starts_with("/connections/") => json_response(connection.0, &connection.1),
        _ => rest(seen),
    })
    .await
}

fn status(status: &str) -> (u16, Value) {
    let detail = format!("Detail of {status}.");
    (200, json!({ "name": "startexam-main", "vendor": "startexam", "status": status, "detail": detail }))
}

#[tokio::test]
async fn nothing_is_sent_without_the_rights_for_it() {
    let (people, orders) =
        (ImportFolder::with(PEOPLE), ImportFolder::with("candidate.externalId,assessment\na,rust-101\n"));
    for (scopes, connections, more, messages) in [
        (&["candidates:read"][..], &["*"][..], &[][..], &["lacks the scope candidates:write", "operations:read"][..]),
        (&ALL[..1], &["*"], &[], &["lacks the scope operations:read, which reading their results needs"]),
        (&ALL[..3], &["*"], &["--retry"], &["lacks the scope operations:write, which --retry needs"]),
        (&ALL[..1], &["*"], &["--kind", "assignments"], &["lacks the scope assignments:write"]),
        (
            &ALL,
            &["startexam-mian", "other"],
            &[],
            &["may not use the connection startexam-main (did you mean startexam-mian?)"],
        ),
        (&ALL, &[], &[], &["may not use the connection", "it may use: none"]),
    ] {
        let stub = gateway(access(scopes, connections), status("ok")).await;
        let folder = if more.contains(&"assignments") { &orders } else { &people };
        let output = folder.import(&stub.url(), more).await;
        assert_eq!(output.code, Some(2), "{output:?}");
        for message in messages {
            assert!(output.err.contains(message), "{message}: {output:?}");
        }
        assert!(posts(&stub).is_empty() && !folder.path("people.result.csv").exists());
    }
    let stub = gateway(access(&["operations:read"], &["other"]), status("ok")).await;
    assert_output("import-without-rights", &people.output(&stub.url(), &[]).await);
}

#[tokio::test]
async fn an_unknown_connection_is_refused_before_anything_is_sent() {
    let folder = ImportFolder::with(PEOPLE);
    let stub = gateway(access(&ALL, &["*"]), (404, problem_body(404, "connection_not_found"))).await;
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.code == Some(2) && output.err.contains("404 connection_not_found"), "{output:?}");
    assert!(posts(&stub).is_empty());
}

#[tokio::test]
async fn a_connection_that_does_not_work_is_named_and_does_not_stop_the_import() {
    let folder = ImportFolder::with(PEOPLE);
    for (answer, warning) in [
        (status("ok"), None),
        (status("degraded"), None),
        (status("circuit_open"), Some("warning: connection startexam-main: circuit_open: Detail of circuit_open.")),
        (status("credentials_invalid"), Some("warning: connection startexam-main: credentials_invalid: ")),
        (status("clock_skew"), Some("warning: connection startexam-main: clock_skew: ")),
        ((500, problem_body(500, "internal")), Some("the status of connection startexam-main cannot be read: 500")),
    ] {
        let stub = gateway(access(&ALL, &["startexam-main"]), answer).await;
        let output = folder.import(&stub.url(), &[]).await;
        assert_eq!((output.code, posts(&stub).len()), (Some(0), 1), "{output:?}");
        match warning {
            Some(warning) => assert!(output.err.contains(warning), "{warning}: {output:?}"),
            None => assert!(!output.err.contains("connection startexam-main"), "{output:?}"),
        }
    }
    // Without the scope to read connections, their status is not shown.
    let stub = gateway(access(&ALL[..3], &["*"]), status("circuit_open")).await;
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.code == Some(0) && !output.err.contains("circuit_open"), "{output:?}");
    assert!(stub.seen().iter().all(|seen| !seen.uri.path().starts_with("/connections")));
}

#[tokio::test]
async fn a_key_that_is_refused_sends_nothing() {
    let folder = ImportFolder::with(PEOPLE);
    for (status, code, message) in [
        (401, "unauthenticated", "Is this a key of this gateway? (EXAMGATE_API_KEY or --key-file)"),
        (500, "internal", "500 internal"),
    ] {
        let stub = Stub::start(move |_| json_response(status, &problem_body(status, code))).await;
        let output = folder.import(&stub.url(), &[]).await;
        assert!(output.code == Some(2) && output.err.contains(message), "{output:?}");
        assert!(stub.seen().iter().all(|seen| seen.method == Method::GET));
    }
    let stub = Stub::start(|_| build_response(200, "text/html", "<h1>Welcome</h1>")).await;
    let output = folder.import(&stub.url(), &[]).await;
    assert!(output.code == Some(2) && output.err.contains("is this an examgate gateway?"), "{output:?}");
}
