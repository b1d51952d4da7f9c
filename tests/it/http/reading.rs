//! Invalid requests, and that each is reported as the right problem.

use bytes::Bytes;
use http_body::Frame;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::{ApiResponse, TestServer, api_parts, send, serve_api};

async fn post_raw(server: &TestServer, path: &str, content_type: &str, body: impl Into<Body>) -> ApiResponse {
    send(server.request(Method::POST, path).header("content-type", content_type).body(body)).await
}

#[tokio::test]
async fn unknown_paths_and_methods_return_problems() {
    let server = serve_api(&api_parts().await).await;
    for path in ["/candidate", "/candidates/", "/candidates/x/y", "/problems/odd", "/docs/odd.js", "/docs/%ff", "/%ff"]
    {
        assert_eq!(server.get(path).await.problem(), (404, "not_found"), "{path}");
    }
    let response = send(server.request(Method::PUT, "/candidates")).await;
    assert_eq!(response.problem(), (405, "method_not_allowed"));
    let mut allowed: Vec<&str> = response.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn malformed_ids_are_not_found() {
    let server = serve_api(&api_parts().await).await;
    for path in [
        "/candidates/cand_1",
        "/candidates/%00",
        "/candidates/%ff",
        "/candidates/asg_00000000000000000000000000000000",
        "/candidates/cand_00000000000000000000000000000000",
        "/assignments/..%2f..%2fetc",
        "/vendors/odd",
    ] {
        assert_eq!(server.get(path).await.problem(), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_query_is_rejected_only_for_parameters_it_contains() {
    let server = serve_api(&api_parts().await).await;
    for empty in ["?", "?&", "?&&"] {
        assert_eq!(server.get(&format!("/vendors/startexam{empty}")).await.status, 200, "{empty}");
        assert_eq!(server.get(&format!("/vendors{empty}")).await.status, 200, "{empty}");
    }
    let response = server.get("/vendors/startexam?&odd=1&=").await;
    assert_eq!(response.problem(), (422, "validation_failed"));
    assert_eq!(response.errors(), [("?odd", "unknown_field"), ("?", "unknown_field")]);
}

#[tokio::test]
async fn bodies_must_be_strict_json() {
    let server = serve_api(&api_parts().await).await;
    for (content_type, body, status, code) in [
        ("text/plain", "{}", 415, "unsupported_media_type"),
        ("application/json; charset=utf-16", "{}", 415, "unsupported_media_type"),
        ("application/json", "", 400, "malformed_json"),
        ("application/json", "{", 400, "malformed_json"),
        ("application/json", "{} {}", 400, "malformed_json"),
        ("application/json", r#"{"name":{"givenName":"a","givenName":"b"}}"#, 400, "malformed_json"),
        ("application/json", "[]", 422, "validation_failed"),
        ("application/json", "null", 422, "validation_failed"),
    ] {
        let response = post_raw(&server, "/candidates", content_type, body).await;
        assert_eq!(response.problem(), (status, code), "{content_type} {body}");
    }
    for content_type in ["text/plain", "application/xml", "text/csv; charset=latin1", "application/merge-patch+json"] {
        let response = post_raw(&server, "/candidates/bulk", content_type, "{}\n").await;
        assert_eq!(response.problem(), (415, "unsupported_media_type"), "{content_type}");
    }
}

#[tokio::test]
async fn body_size_is_limited_with_and_without_a_content_length() {
    let server = serve_api(&api_parts().await).await;
    let long = format!("{{\"externalId\":\"{}\"}}", "x".repeat(1000));
    let response = post_raw(&server, "/candidates", "application/json", long.clone()).await;
    assert_eq!(response.problem(), (413, "payload_too_large"));
    let pieces: Vec<_> = long.as_bytes().chunks(100).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>));
    let chunked = Body::wrap(http_body_util::StreamBody::new(pieces));
    let response = post_raw(&server, "/candidates", "application/json", chunked).await;
    assert_eq!(response.problem(), (413, "payload_too_large"));
    let bulk = json!({ "items": [{ "externalId": "x".repeat(2000) }] });
    assert_ne!(server.post("/candidates/bulk", &bulk).await.status, 413, "bulks have a limit of their own");
}

#[tokio::test]
async fn an_invalid_date_time_is_reported_with_the_expected_format() {
    let server = serve_api(&api_parts().await).await;
    let form = "expected a date-time of the form 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00";
    let other = || "is not a date-time of the form 2026-11-22T10:00:00Z".to_owned();
    for (wrong, expected) in [
        (json!("tomorrow"), other()),
        (json!("2026-11-22"), format!("is a date without time and UTC offset; {form}")),
        (json!("2026-11-22T10:00:00"), format!("has no UTC offset; {form}")),
        (json!("2026-02-30T10:00:00Z"), format!("names a day or time that does not exist; {form}")),
        (json!("9999-12-31T23:59:59Z"), "is too late; the latest date-time is 9999-12-30T22:00:00Z".to_owned()),
        (json!("-000001-01-01T00:00:00Z"), "is too early; the earliest date-time is 0000-01-01T00:00:00Z".to_owned()),
        (json!(""), other()),
        (json!(1_790_000_000), other()),
    ] {
        let body = json!({ "candidate": { "externalId": "a" }, "assessment": "b", "validUntil": wrong });
        let response = server.post("/assignments", &body).await;
        assert_eq!(response.errors()[0], ("/validUntil", "invalid_field"), "{wrong}");
        let detail = &response.body["errors"][0]["detail"];
        assert_eq!(detail, &expected, "{wrong}");
    }
}

#[tokio::test]
async fn every_invalid_field_is_reported() {
    let server = serve_api(&api_parts().await).await;
    let body = json!({
        "externalId": "", "emial": "x", "email": "nobody", "name": ["Jane"], "active": "yes",
        "phoneNumbers": [{ "type": "fax", "value": "1" }], "ifExists": "replace", "password": 12,
    });
    let response = server.post("/candidates", &body).await;
    assert_eq!(response.problem(), (422, "validation_failed"));
    let mut errors = response.errors();
    errors.sort_unstable();
    let expected = [
        ("/active", "invalid_field"),
        ("/email", "invalid_field"),
        ("/emial", "unknown_field"),
        ("/externalId", "invalid_field"),
        ("/ifExists", "invalid_field"),
        ("/name", "invalid_field"),
        ("/password", "invalid_field"),
        ("/phoneNumbers/0/type", "invalid_field"),
    ];
    assert_eq!(errors, expected);

    let response = server.post("/assignments", &json!({ "validFrom": "soon", "candidate": {} })).await;
    let mut errors = response.errors();
    errors.sort_unstable();
    let expected = [("/assessment", "missing_field"), ("/candidate", "invalid_field"), ("/validFrom", "invalid_field")];
    assert_eq!(errors, expected);
}

#[tokio::test]
async fn the_list_of_field_errors_is_bounded() {
    let mut api_parts = api_parts().await;
    api_parts.server.body_limit.0 = 1 << 20;
    let server = serve_api(&api_parts).await;
    let fields: serde_json::Map<String, Value> = (0..20_000).map(|index| (format!("m{index}"), json!(1))).collect();
    let response = server.post("/candidates", &Value::Object(fields)).await;
    assert_eq!(response.errors().len(), 200);
    let response = server.post("/candidates", &json!({ "phoneNumbers": vec![1; 20_000] })).await;
    assert_eq!(response.problem(), (422, "validation_failed"));
    assert!(response.errors().len() <= 200);
}

#[tokio::test]
async fn query_parameters_are_read_strictly() {
    let server = serve_api(&api_parts().await).await;
    for (path, errors) in [
        ("/candidates?state=odd&group=", vec![("?group", "invalid_field"), ("?state", "invalid_field")]),
        ("/candidates?externalId=x&externalID=y", vec![("?externalID", "unknown_field")]),
        ("/assignments?limit=201&state=odd", vec![("?state", "invalid_field"), ("?limit", "invalid_field")]),
        ("/assignments?candidate=x", vec![("?candidate", "invalid_field")]),
        ("/vendors?cursor=odd", vec![("?cursor", "invalid_field")]),
        ("/vendors/startexam?verbose=1", vec![("?verbose", "unknown_field")]),
    ] {
        let response = server.get(path).await;
        assert_eq!(response.problem(), (422, "validation_failed"), "{path}");
        assert_eq!(response.errors(), errors, "{path}");
    }
}

#[tokio::test]
async fn only_callers_that_accept_json_are_served() {
    let server = serve_api(&api_parts().await).await;
    let response = send(server.request(Method::GET, "/vendors").header("accept", "text/html")).await;
    assert_eq!(response.problem(), (406, "not_acceptable"));
    let response = send(server.request(Method::GET, "/vendors").header("accept", "text/html, */*;q=0.1")).await;
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn a_request_without_a_known_connection_is_rejected() {
    let server = serve_api(&api_parts().await).await;
    let response = server.post("/candidates", &json!({ "externalId": "x" })).await;
    assert_eq!(response.problem(), (422, "connection_required"));
    let response = server.post("/candidates", &json!({ "externalId": "x", "connection": "odd" })).await;
    assert_eq!(response.problem(), (404, "connection_not_found"));
    assert_eq!(server.get("/connections/odd").await.problem(), (404, "connection_not_found"));
    let body = json!({ "email": "jane.doe@example.com" });
    let response = server.post("/candidates/search", &body).await;
    assert_eq!((response.status, response.body), (200, json!({ "items": [], "nextCursor": null })));
}

#[tokio::test]
async fn idempotency_keys_must_be_well_formed() {
    let server = serve_api(&api_parts().await).await;
    let write = |key: &str| {
        let request = server.request(Method::POST, "/candidates").json(&json!({ "connection": "odd" }));
        send(request.header("idempotency-key", key.to_owned()))
    };
    assert_eq!(write("a b").await.errors(), [("Idempotency-Key", "invalid_field")]);
    assert_eq!(write("8e03978e").await.problem(), (404, "connection_not_found"));
}

#[tokio::test]
async fn request_ids_are_accepted_or_generated() {
    let server = serve_api(&api_parts().await).await;
    let named = |id: &'static str| send(server.request(Method::GET, "/vendors").header("x-request-id", id));
    assert_eq!(named("abc-1:2.3_4").await.header("x-request-id"), "abc-1:2.3_4");
    for unfit in ["a b", "", "<script>"] {
        let response = named(unfit).await;
        assert!(response.header("x-request-id").starts_with("req_"), "{unfit}");
    }
    let response = server.get("/odd").await;
    assert_eq!(response.body["requestId"], response.header("x-request-id"));
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(response.header("x-content-type-options"), "nosniff");
}
