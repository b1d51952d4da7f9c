//! Invalid requests and preferences, with the real program in front of a vendor that accepts everything: a rejected
//! request never reaches it.

use bytes::Bytes;
use examgate::sandbox::accounts;
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::support::connections::{client, client_with, startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::vendor::Stub;

pub const TEST: &str = "fa19e351-36d0-49c0-be92-66d640b17878";

pub fn person(id: &str) -> Value {
    json!({ "externalId": id, "email": "ada@example.com" })
}

/// Returns pointer and code of every invalid field, sorted.
pub fn errors(response: &ApiResponse) -> Vec<(String, String)> {
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
