//! Invalid requests and preferences, with the real program in front of a vendor that accepts everything: a rejected
//! request never reaches it.

use bytes::Bytes;
use examgate::sandbox::accounts;
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, examtesting, startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::vendor::{Stub, json_response};

const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";

fn person(id: &str) -> Value {
    json!({ "externalId": id, "email": "ada@example.com" })
}

/// Returns pointer and code of every invalid field, sorted.
fn errors(response: &ApiResponse) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = response.body["errors"].as_array().cloned().unwrap_or_default();
    let mut errors: Vec<_> = all.iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect();
    errors.sort();
    errors
}

async fn post_raw(gateway: &Gateway, path: &str, body: impl Into<Body>) -> ApiResponse {
    gateway.request(Method::POST, path).body("application/json", body).send().await
}

#[tokio::test]
async fn json_that_is_not_strict_is_malformed_and_the_error_says_where() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let deep = format!("{{\"custom\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let bottomless = "[".repeat(1_000_000);
    let bodies: [&[u8]; 17] = [
        b"",
        b"{",
        b"\xef\xbb\xbf\xef\xbb\xbf{\"externalId\":\"a\"}",
        b"{\"externalId\":\"a\"} x",
        b"{\"externalId\":\"a\"}{}",
        b"{\"externalId\":\"a\",\"externalId\":\"a\"}",
        b"{\"externalId\":\"a\",\"external\\u0049d\":\"b\"}",
        b"{\"externalId\":\"a\",\"custom\":{\"a\":{\"b\":1,\"b\":2}}}",
        b"{\"externalId\":\"a\",\"phoneNumbers\":[{\"type\":\"work\",\"type\":\"work\"}]}",
        b"{\"externalId\":NaN}",
        b"{\"externalId\":Infinity}",
        b"{\"externalId\":1e999}",
        b"{\"externalId\":\"\xff\xfe\"}",
        b"{\"externalId\":\"\\ud800\"}",
        b"{\"externalId\":\"a\",}",
        deep.as_bytes(),
        bottomless.as_bytes(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for path in ["/candidates", "/candidates/bulk", "/assignments", "/candidates/search"] {
            let response = post_raw(&gateway, path, body.to_vec()).await;
            assert_eq!(response.problem(), (400, "malformed_json", "not_applied"), "{path} {shown}");
            let detail = response.text("/detail");
            assert!(detail.contains("line ") && detail.contains("column "), "{path} {shown}: {detail}");
        }
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let body = json!({
        "externalId": "x".repeat(251), "userName": "  ", "emial": "typo", "email": "ada@", "active": "yes",
        "name": { "givenName": 7, "middleName": "B", "familyName": "a\u{7}b" }, "birthDate": "1990-02-30",
        "phoneNumbers": [{ "type": "work", "value": "1" }, { "type": "work", "value": " " }],
        "address": { "country": "x".repeat(201) }, "custom": { "a/b": " ", "c~d": "x".repeat(201), "ok": "fine" },
        "password": "", "ifExists": "never",
    });
    let response = gateway.post("/candidates", &body).await;
    assert_eq!(response.problem(), (422, "validation_failed", "not_applied"));
    let expected = [
        ("/active", "invalid_field"),
        ("/address/country", "invalid_field"),
        ("/birthDate", "invalid_field"),
        ("/custom/a~1b", "invalid_field"),
        ("/custom/c~0d", "invalid_field"),
        ("/email", "invalid_field"),
        ("/emial", "unknown_field"),
        ("/externalId", "invalid_field"),
        ("/ifExists", "invalid_field"),
        ("/name/familyName", "invalid_field"),
        ("/name/givenName", "invalid_field"),
        ("/name/middleName", "unknown_field"),
        ("/password", "invalid_field"),
        ("/phoneNumbers/1/type", "invalid_field"),
        ("/phoneNumbers/1/value", "invalid_field"),
        ("/userName", "invalid_field"),
    ]
    .map(|(pointer, code)| (pointer.to_owned(), code.to_owned()));
    assert_eq!(errors(&response), expected);

    for (body, pointer) in [
        (
            json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "validFrom": "2026-01-02T00:00:00Z", "validUntil": "2026-01-01T00:00:00Z" }),
            "/validUntil",
        ),
        (
            json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "validFrom": "2026-01-02T00:00:00Z", "validUntil": "2026-01-02T00:00:00Z" }),
            "/validUntil",
        ),
        (json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "validUntil": "2020-01-01" }), "/validUntil"),
        (json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "validFrom": "yesterday" }), "/validFrom"),
        (
            json!({ "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", "email": "a@example.com" }, "assessment": TEST }),
            "/candidate",
        ),
        (json!({ "candidate": {}, "assessment": TEST }), "/candidate"),
        (json!({ "assessment": TEST }), "/candidate"),
        (json!({ "candidate": { "externalId": "a" } }), "/assessment"),
        (json!({ "candidate": { "externalId": "a" }, "assessment": " " }), "/assessment"),
        (json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "reference": "x".repeat(201) }), "/reference"),
        (json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "notify": "sms" }), "/notify"),
        (
            json!({ "candidate": { "externalId": "a" }, "assessment": TEST, "proctoring": { "enabled": 1 } }),
            "/proctoring/enabled",
        ),
    ] {
        let response = gateway.post("/assignments", &body).await;
        assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{body}");
        assert_eq!(
            errors(&response).first().map(|(pointer, _)| pointer.as_str()),
            Some(pointer),
            "{body} {response:?}"
        );
    }

    let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    for (body, pointer) in [
        (json!({ "scope": "all" }), "/register"),
        (json!({ "scope": "all", "register": [], "unregister": [] }), "/register"),
        (json!({ "scope": "selected", "register": ["a"] }), "/assessments"),
        (json!({ "scope": "all", "assessments": [TEST], "register": ["a"] }), "/assessments"),
        (json!({ "scope": "all", "register": ["a", "b", "a"] }), "/register/2"),
        (json!({ "scope": "all", "register": ["a"], "unregister": ["b", "a"] }), "/unregister/1"),
        (json!({ "scope": "some", "register": ["a"] }), "/scope"),
        (json!({ "register": ["a"] }), "/scope"),
        (json!({ "scope": "all", "register": [1] }), "/register/0"),
    ] {
        let response = gateway.post(&path, &body).await;
        assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{body}");
        assert!(
            errors(&response).iter().any(|(reported, _)| reported.starts_with(pointer) || reported.is_empty()),
            "{body} {response:?}"
        );
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn unknown_query_parameters_and_invalid_pages_are_rejected() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for list in ["/assignments", "/vendors", "/connections", "/assessments", "/programs"] {
        for (query, name) in [
            ("limit=0", "?limit"),
            ("limit=201", "?limit"),
            ("limit=abc", "?limit"),
            ("limit=-1", "?limit"),
            ("limit=", "?limit"),
            ("cursor=bad", "?cursor"),
            ("cursor=%00", "?cursor"),
            ("pageSize=3", "?pageSize"),
            ("limit=1&limit=2", "?limit"),
        ] {
            let response = gateway.get(&format!("{list}?{query}")).await;
            assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{list}?{query}");
            assert_eq!(errors(&response)[0].0, name, "{list}?{query}");
        }
        for query in ["limit=1", "limit=200", ""] {
            let response = gateway.get(&format!("{list}?{query}")).await;
            assert_eq!(response.status, 200, "{list}?{query} {response:?}");
            assert!(response.body["items"].is_array() && response.body.get("nextCursor").is_some(), "{response:?}");
        }
    }
    let response = gateway.request(Method::POST, "/candidates?verbose=1").json(&person("a")).send().await;
    assert_eq!((response.problem().1, errors(&response)[0].0.as_str()), ("validation_failed", "?verbose"));
    assert_eq!(stub.seen().len(), 0);
    let response = gateway.get("/vendors/startexam?").await;
    assert_eq!(response.status, 200, "an empty query names no parameter that could be unknown: {response:?}");
}

#[tokio::test]
async fn requests_and_responses_have_the_agreed_media_types() {
    let stub = Stub::accepting_startexam().await;
    let connection = startexam(&stub.url(), "");
    let limits = [("EXAMGATE__SERVER__BODY_LIMIT", "1KiB"), ("EXAMGATE__SERVER__BULK_BODY_LIMIT", "4KiB")];
    let gateway = Gateway::start_with_env(&connection, &client("lms", "", "[\"*\"]"), &limits).await;
    for content_type in
        ["text/plain", "application/xml", "application/json; charset=latin1", "application/x-www-form-urlencoded"]
    {
        let response = gateway.request(Method::POST, "/candidates").body(content_type, "{}").send().await;
        assert_eq!(response.problem(), (415, "unsupported_media_type", "not_applied"), "{content_type}");
    }
    let coded = gateway.request(Method::POST, "/candidates").header("content-encoding", "br");
    let coded = coded.body("application/json", "{}").send().await;
    assert_eq!((coded.problem().0, coded.header("accept-encoding")), (415, Some("gzip")));
    for accept in ["text/html", "application/xml", "application/json;q=0", "image/*, text/*"] {
        let response = gateway.request(Method::GET, "/vendors").header("accept", accept).send().await;
        assert_eq!(response.problem(), (406, "not_acceptable", "not_applied"), "{accept}");
    }
    for accept in [
        "*/*",
        "application/*",
        "application/problem+json",
        "text/html, application/json;q=0.1",
        "Application/JSON; charset=utf-8",
    ] {
        let response = gateway.request(Method::GET, "/vendors").header("accept", accept).send().await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{accept}");
    }
    for (path, size) in [("/candidates", 1025), ("/candidates/bulk", 4097)] {
        let body = vec![b' '; size];
        let response = post_raw(&gateway, path, body.clone()).await;
        assert_eq!(response.problem(), (413, "payload_too_large", "not_applied"), "{path}");
        let pieces = body.chunks(100).map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece))));
        let pieces: Vec<_> = pieces.collect();
        let response = post_raw(&gateway, path, Body::wrap(StreamBody::new(futures_util::stream::iter(pieces)))).await;
        assert_eq!(response.problem(), (413, "payload_too_large", "not_applied"), "{path} in chunks");
    }
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn every_response_has_the_request_id_and_problems_repeat_it() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let long = "x".repeat(129);
    for (given, accepted) in
        [("a.b_c:d-1", true), (&long[..128], true), (&long, false), ("a b", false), ("a\u{e4}", false), ("<b>", false)]
    {
        for (method, path) in [
            (Method::GET, "/vendors"),
            (Method::GET, "/livez"),
            (Method::GET, "/nothing"),
            (Method::PUT, "/candidates"),
            (Method::POST, "/candidates"),
            (Method::GET, "/openapi.json"),
            (Method::GET, "/docs/"),
        ] {
            let request = gateway.request(method.clone(), path).header("x-request-id", given);
            let response = request.send().await;
            let named = response.header("x-request-id").unwrap_or_default().to_owned();
            assert_eq!(named == given, accepted, "{method} {path} {given:?}: {named}");
            assert!(named.starts_with("req_") || accepted, "{named}");
            if response.status >= 400 {
                response.problem();
                assert_eq!(response.text("/requestId"), named, "{method} {path}");
            }
        }
    }
    let one = gateway.get("/vendors").await;
    let other = gateway.get("/vendors").await;
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn traces_continue_at_the_vendor() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = gateway.request(Method::POST, "/candidates").json(&person("a"));
    let response = request.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).send().await;
    assert_eq!(response.status, 201, "{response:?}");
    let passed_on = stub.seen()[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert!(passed_on.starts_with(&format!("00-{trace}-")), "{passed_on}");
    let request = gateway.request(Method::POST, "/candidates").json(&person("b"));
    request.header("traceparent", "00-\u{e4}-x").send().await;
    let odd = stub.seen()[1].headers.get("traceparent").map(|value| value.as_bytes().to_vec());
    assert!(odd.is_none_or(|value| value.starts_with(b"00-") && value.is_ascii()));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_reported() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for path in [
        "//",
        "/candidates/",
        "//candidates",
        "/Candidates",
        "/candidates/../vendors/x",
        "/v1/candidates",
        "/candidates/a/b/c",
    ] {
        assert_eq!(gateway.get(path).await.problem(), (404, "not_found", "not_applied"), "{path}");
    }
    for (method, path, allowed) in [
        ("PUT", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("DELETE", "/vendors", vec!["GET", "HEAD"]),
        ("POST", "/livez", vec!["GET", "HEAD"]),
        ("POST", "/openapi.json", vec!["GET", "HEAD"]),
        ("GET", "/candidates/bulk", vec!["POST"]),
        ("PURGE", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("TRACE", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("OPTIONS", "/assignments", vec!["GET", "HEAD", "POST"]),
    ] {
        let response = gateway.request(Method::from_bytes(method.as_bytes()).unwrap(), path).send().await;
        // `/candidates/bulk` is also the path of a candidate named "bulk".
        if path == "/candidates/bulk" {
            assert!([404, 405].contains(&response.problem().0), "{response:?}");
            continue;
        }
        assert_eq!(response.problem(), (405, "method_not_allowed", "not_applied"), "{method} {path}");
        let mut methods: Vec<&str> = response.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        methods.sort_unstable();
        assert_eq!(methods, allowed, "{method} {path}");
    }
    let head = gateway.request(Method::HEAD, "/vendors").send().await;
    assert_eq!((head.status, head.body), (200, json!("")));
}

#[tokio::test]
async fn preferences_are_honoured_and_acknowledged() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let prefer = |id: &str, preference: &str| {
        gateway
            .request(Method::POST, "/candidates")
            .header("prefer", preference)
            .json(&json!({ "externalId": id, "gender": "F" }))
            .send()
    };
    let lenient = prefer("a", "handling=lenient").await;
    assert_eq!((lenient.status, lenient.header("preference-applied")), (201, Some("handling=lenient")), "{lenient:?}");
    assert_eq!((lenient.text("/warnings/0/code"), lenient.text("/warnings/0/pointer")), ("field_ignored", "/gender"));
    let strict = prefer("b", "Handling=\"strict\", wait=50").await;
    assert_eq!(strict.problem().0, 422, "{strict:?}");
    assert_eq!(errors(&strict)[0].0, "/gender");
    for odd in ["wait=-1", "wait=abc", "wait=", "handling=odd", "", ",,;=", "unheard-of; a=\"b,c\""] {
        let response = prefer(&format!("odd{odd}"), odd).await;
        assert_eq!((response.status, response.header("preference-applied")), (201, None), "{odd:?} {response:?}");
    }
    let accepted = prefer("c", "respond-async").await;
    assert_eq!((accepted.status, accepted.header("preference-applied")), (202, Some("respond-async")), "{accepted:?}");
    assert_eq!(accepted.text("/state"), "pending");
    assert_eq!(accepted.header("location"), Some(format!("/candidates/{}", accepted.text("/id")).as_str()));
}

#[tokio::test]
async fn the_connection_is_chosen_by_field_then_catalogue_then_default() {
    let stub = Stub::accepting_startexam().await;
    let url = stub.url();
    let second = startexam(&url, "").replace("startexam-main", "startexam-two");
    let catalogue = format!(
        "[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-two\"\nref = \"{TEST}\"\n\
         [programs.onboarding]\nname = \"Onboarding\"\nconnection = \"startexam-two\"\nref = \"{}\"\n",
        accounts::startexam::PROGRAM_ID
    );
    let connections = startexam(&url, "") + &second + &examtesting(&url, "") + &catalogue;
    let with_default =
        client("defaulted", "", "[\"*\"]").replace("tenant = \"\"", "default_connection = \"startexam-main\"");
    let clients = client("lms", "", "[\"*\"]") + &with_default + &client("single", "", "[\"startexam-two\"]");
    let gateway = Gateway::start_with(&connections, &clients).await;
    let key = crate::support::gateway::key;
    let as_client =
        |name: &str, path: &str, body: Value| gateway.request_as(&key(name), Method::POST, path).json(&body).send();

    let named = as_client("lms", "/candidates", json!({ "connection": "startexam-two", "externalId": "a" })).await;
    assert_eq!((named.status, named.text("/connection")), (201, "startexam-two"), "{named:?}");
    let none = as_client("lms", "/candidates", person("b")).await;
    assert_eq!(
        (none.problem(), errors(&none)[0].0.as_str()),
        ((422, "connection_required", "not_applied"), "/connection")
    );
    let defaulted = as_client("defaulted", "/candidates", person("c")).await;
    assert_eq!((defaulted.status, defaulted.text("/connection")), (201, "startexam-main"), "{defaulted:?}");
    let only = as_client("single", "/candidates", person("d")).await;
    assert_eq!((only.status, only.text("/connection")), (201, "startexam-two"), "{only:?}");

    // Each client books its own people: those of another tenant are rejected.
    for (name, id) in [("lms", "a"), ("defaulted", "c")] {
        let order = json!({ "candidate": { "externalId": id }, "assessment": "rust-101" });
        let entry = as_client(name, "/assignments", order).await;
        assert_eq!((entry.status, entry.text("/connection")), (201, "startexam-two"), "{name}: {entry:?}");
    }
    let employees = json!({ "scope": "all", "register": ["c"] });
    stub.respond_with(|_| json_response(200, &json!({ "employeesRegistered": 1, "attemptsRegistered": 1, "employeesUnregistered": 0, "attemptsUnregistered": 0, "totalEmployeesInProgram": 1 })));
    let entry = as_client("defaulted", "/programs/onboarding/employees", employees.clone()).await;
    assert_eq!(entry.status, 200, "{entry:?}");

    let before = stub.seen().len();
    for (name, path, body, expected) in [
        ("lms", "/candidates", json!({ "connection": "odd", "externalId": "e" }), (404, "connection_not_found")),
        ("lms", "/candidates", json!({ "connection": "", "externalId": "e" }), (422, "validation_failed")),
        ("lms", "/candidates", json!({ "connection": "a\r\nb", "externalId": "e" }), (422, "validation_failed")),
        (
            "single",
            "/candidates",
            json!({ "connection": "startexam-main", "externalId": "e" }),
            (403, "connection_forbidden"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "examtesting-main", "candidate": { "externalId": "a" }, "assessment": "1" }),
            (422, "capability_unsupported"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "startexam-main", "candidate": { "externalId": "a" }, "assessment": "no-guid" }),
            (422, "invalid_reference"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "startexam-main", "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" }, "assessment": TEST }),
            (422, "invalid_reference"),
        ),
        ("defaulted", "/programs/no-guid/employees", employees.clone(), (404, "program_not_found")),
        ("defaulted", "/programs/ext:/employees", employees.clone(), (404, "program_not_found")),
    ] {
        let response = as_client(name, path, body.clone()).await;
        assert_eq!(response.problem(), (expected.0, expected.1, "not_applied"), "{name} {path} {body} {response:?}");
    }
    let forbidden = gateway.request_as(&key("single"), Method::GET, "/connections/startexam-main").send().await;
    assert_eq!(forbidden.problem().1, "connection_forbidden");
    let forbidden = gateway
        .request_as(&key("single"), Method::GET, "/candidates?externalId=a&connection=startexam-main")
        .send()
        .await;
    assert_eq!(forbidden.problem().1, "connection_forbidden");
    assert_eq!(stub.seen().len(), before);
}

#[tokio::test]
async fn an_assessment_of_another_connection_is_rejected() {
    let stub = Stub::accepting_startexam().await;
    let second = startexam(&stub.url(), "").replace("startexam-main", "startexam-two");
    let catalogue =
        format!("[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-two\"\nref = \"{TEST}\"\n");
    let gateway = Gateway::start(&(startexam(&stub.url(), "") + &second + &catalogue)).await;
    let order = json!({ "connection": "startexam-main", "candidate": { "externalId": "a" }, "assessment": "rust-101" });
    let response = gateway.post("/assignments", &order).await;
    assert_eq!(response.problem(), (422, "invalid_reference", "not_applied"), "{response:?}");
    assert_eq!(errors(&response)[0].0, "/assessment");
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn all_routes_move_below_the_base_path_and_none_remain_outside_it() {
    let stub = Stub::accepting_startexam().await;
    let environment = [("EXAMGATE__SERVER__BASE_PATH", "/exam-api")];
    let gateway =
        Gateway::start_with_env(&startexam(&stub.url(), ""), &client("lms", "", "[\"*\"]"), &environment).await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/openapi-3.0.json", "/vendors", "/problems/internal"]
    {
        assert_eq!(gateway.get(&format!("/exam-api{path}")).await.status, 200, "{path}");
        assert_eq!(gateway.get(path).await.problem().0, 404, "{path}");
    }
    let docs = gateway.get("/exam-api/docs").await;
    assert!((300..400).contains(&docs.status) || docs.status == 200, "{docs:?}");
    let created = gateway.post("/exam-api/candidates", &person("a")).await;
    let location = created.header("location").unwrap_or_default().to_owned();
    assert_eq!((created.status, location.clone()), (201, format!("/exam-api/candidates/{}", created.text("/id"))));
    assert_eq!(gateway.get(&location).await.status, 200);
    let slow = gateway
        .request(Method::POST, "/exam-api/candidates")
        .header("prefer", "respond-async")
        .json(&person("b"))
        .send()
        .await;
    assert!(slow.header("location").unwrap_or_default().starts_with("/exam-api/candidates/"), "{slow:?}");
}

#[tokio::test]
async fn location_headers_use_the_public_url() {
    let stub = Stub::accepting_startexam().await;
    for (base, public, expected) in [
        ("", "https://exams.example.com", "https://exams.example.com/candidates/"),
        ("/api", "https://exams.example.com/api/", "https://exams.example.com/api/candidates/"),
    ] {
        let environment = [("EXAMGATE__SERVER__PUBLIC_URL", public), ("EXAMGATE__SERVER__BASE_PATH", base)];
        let gateway =
            Gateway::start_with_env(&startexam(&stub.url(), ""), &client("lms", "", "[\"*\"]"), &environment).await;
        let created = gateway.post(&format!("{base}/candidates"), &person("a")).await;
        assert_eq!(
            created.header("location"),
            Some(format!("{expected}{}", created.text("/id")).as_str()),
            "{created:?}"
        );
    }
}

#[tokio::test]
async fn every_problem_description_matches_the_problem_returned() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&thinkexam(&stub.url(), "")).await;
    for code in examgate::domain::error::Code::ALL {
        let response = gateway.anonymous(Method::GET, &format!("/problems/{}", code.as_str())).send().await;
        assert_eq!((response.status, response.text("/code")), (200, code.as_str()), "{response:?}");
        let status = response.body["status"].as_u64().unwrap();
        let origin = response.text("/origin");
        let expected = match status {
            429 | 503 => true,
            _ => ["idempotency_in_progress", "subject_unsettled", "vendor_internal_error", "vendor_timeout"]
                .contains(&code.as_str()),
        };
        assert_eq!(response.body["retryable"], expected, "{response:?}");
        match status {
            424 => assert!(origin == "connection" || code.as_str() == "skipped", "{response:?}"),
            400..=499 => assert!(origin == "request" || code.as_str() == "vendor_seat_limit_reached", "{response:?}"),
            _ => assert!(["gateway", "vendor"].contains(&origin), "{response:?}"),
        }
        assert!(!response.text("/title").is_empty() && !response.text("/meaning").is_empty(), "{response:?}");
    }
    assert_eq!(gateway.get("/problems/odd").await.problem().0, 404);
    let refused = gateway.anonymous(Method::GET, "/vendors").send().await;
    let explained = gateway.get(refused.text("/type")).await;
    for field in ["code", "status", "title", "origin", "retryable"] {
        assert_eq!(explained.body[field], refused.body[field], "{field}");
    }
}

#[tokio::test]
async fn malformed_idempotency_keys_are_rejected() {
    let stub = Stub::accepting_startexam().await;
    let clients = client_with("lms", "", "[\"*\"]", "[\"candidates:write\"]");
    let gateway = Gateway::start_with(&startexam(&stub.url(), ""), &clients).await;
    let long = "k".repeat(256);
    for key in ["a b", "", "\"\"", "\"open", "k\u{e9}y", &long] {
        let response =
            gateway.request(Method::POST, "/candidates").header("idempotency-key", key).json(&person("a")).send().await;
        assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{key:?}");
    }
    let twice =
        gateway.request(Method::POST, "/candidates").header("idempotency-key", "a").header("idempotency-key", "b");
    assert_eq!(twice.json(&person("a")).send().await.problem().0, 422);
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn a_patch_is_validated_as_strictly_as_a_whole_candidate() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let created = gateway.post("/candidates", &person("a")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    let before = stub.seen().len();
    for (patch, pointer, code) in [
        (json!({ "emial": "x" }), "/emial", "unknown_field"),
        (json!({ "externalId": "b" }), "/externalId", "invalid_field"),
        (json!({ "password": "secret word" }), "/password", "invalid_field"),
        (json!({ "id": "cand_1" }), "/id", "invalid_field"),
        (json!({ "state": "failed" }), "/state", "invalid_field"),
        (json!({ "email": "nobody" }), "/email", "invalid_field"),
        (json!({ "email": 7 }), "/email", "invalid_field"),
        (json!({ "name": { "givenName": "" } }), "/name/givenName", "invalid_field"),
        (json!({ "name": { "nick": "a" } }), "/name/nick", "unknown_field"),
        (json!({ "birthDate": "1990-13-01" }), "/birthDate", "invalid_field"),
        (json!({ "custom": { "a/b": "" } }), "/custom/a~1b", "invalid_field"),
        (json!({ "phoneNumbers": [{ "type": "work" }] }), "/phoneNumbers/0/value", "missing_field"),
        (json!([]), "", "invalid_field"),
    ] {
        let response = gateway.patch(&path, &patch).await;
        assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{patch} {response:?}");
        assert_eq!(errors(&response), [(pointer.to_owned(), code.to_owned())], "{patch}");
    }
    let several = json!({ "emial": "x", "id": "cand_1", "email": "nobody", "birthDate": "soon" });
    let several = gateway.patch(&path, &several).await;
    let pointers: Vec<_> = errors(&several).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(pointers, ["/birthDate", "/email", "/emial", "/id"], "{several:?}");
    let both = gateway.patch(&path, &json!({ "emial": "x", "email": "nobody", "birthDate": "soon" })).await;
    assert_eq!(errors(&both).len(), 3, "{both:?}");
    let text = gateway.request(Method::PATCH, &path).body("text/plain", "{}").send().await;
    assert_eq!(text.problem().0, 415);
    assert_eq!(stub.seen().len(), before);
    let merge =
        gateway.request(Method::PATCH, &path).body("application/merge-patch+json", r#"{"email":"b@example.com"}"#);
    let changed = merge.send().await;
    assert_eq!((changed.status, changed.text("/email")), (200, "b@example.com"), "{changed:?}");
}

#[tokio::test]
async fn a_bad_envelope_rejects_the_bulk_and_a_bad_row_only_that_row() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let many: Vec<Value> = (0..10_001).map(|row| json!({ "externalId": row.to_string() })).collect();
    for (body, pointer) in [
        (json!({}), "/items"),
        (json!({ "items": [] }), "/items"),
        (json!({ "items": {} }), "/items"),
        (json!({ "items": many }), "/items"),
        (json!({ "items": [person("a")], "failOnErrors": -1 }), "/failOnErrors"),
        (json!({ "items": [person("a")], "failOnErrors": "1" }), "/failOnErrors"),
        (json!({ "items": [person("a")], "faliOnErrors": 1 }), "/faliOnErrors"),
        (json!({ "items": [person("a")], "connection": " " }), "/connection"),
    ] {
        let response = gateway.post("/candidates/bulk", &body).await;
        assert_eq!(response.problem(), (422, "validation_failed", "not_applied"), "{pointer} {response:?}");
        assert_eq!(errors(&response)[0].0, pointer, "{response:?}");
    }
    let forbidden = gateway.post("/candidates/bulk", &json!({ "items": [person("a")], "connection": "odd" })).await;
    assert_eq!(forbidden.problem().1, "connection_not_found");
    assert_eq!(stub.seen().len(), 0);

    let rows = json!([
        { "itemId": "first", "externalId": "a" },
        { "externalId": "b", "emial": "x", "email": "nobody" },
        7,
        { "externalId": "a" },
        { "itemId": "last", "externalId": "c" },
    ]);
    let response = gateway.post("/candidates/bulk", &json!({ "items": rows })).await;
    assert_eq!(response.status, 207, "{response:?}");
    let summary = &response.body["summary"];
    assert_eq!(
        (&summary["total"], &summary["applied"], &summary["notApplied"]),
        (&json!(5), &json!(2), &json!(3)),
        "{response:?}"
    );
    let results = response.body["results"].as_array().unwrap();
    let codes: Vec<_> = results.iter().map(|row| (row["index"].as_u64(), row["problem"]["code"].as_str())).collect();
    let expected = [
        (0, None),
        (1, Some("validation_failed")),
        (2, Some("validation_failed")),
        (3, Some("duplicate_item")),
        (4, None),
    ];
    assert_eq!(codes, expected.map(|(index, code)| (Some(index), code)), "{response:?}");
    assert_eq!(results[1]["problem"]["errors"].as_array().map(Vec::len), Some(2), "{response:?}");
    assert_eq!((&results[0]["itemId"], &results[4]["itemId"]), (&json!("first"), &json!("last")));
    assert_eq!(stub.seen().len(), 1, "the valid rows were sent together");
}
