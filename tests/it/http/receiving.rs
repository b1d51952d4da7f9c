//! Results, reports and receivers, over a gateway that has none.

use examgate::http::{LiveSettings, receiver_router};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ApiResponse, TestServer, api_parts, send, serve_api, serve_router};

/// Returns what a problem says, apart from what each request has of its own.
fn said(response: &ApiResponse) -> Value {
    let mut body = response.body.clone();
    for own in ["instance", "requestId"] {
        body.as_object_mut().expect("a problem").remove(own);
    }
    body
}

async fn post_webhook(server: &TestServer, path: &str, body: Vec<u8>) -> ApiResponse {
    send(server.anonymous(Method::POST, path).body(body)).await
}

#[tokio::test]
async fn an_unknown_receiver_is_not_found_whatever_is_sent_there() {
    let server = serve_api(&api_parts().await).await;
    let expected = post_webhook(&server, "/receivers/nowhere/token", b"{}".to_vec()).await;
    assert_eq!(expected.problem(), (404, "not_found"));
    for (path, body) in [
        ("/receivers/nowhere/token/test", b"{}".to_vec()),
        ("/receivers/%ff/token", b"{}".to_vec()),
        ("/receivers/nowhere/%ff", b"{}".to_vec()),
        ("/receivers/nowhere/token", vec![b'x'; 2 << 20]),
    ] {
        let response = post_webhook(&server, path, body).await;
        assert_eq!(response.problem(), (404, "not_found"), "{path}");
        assert_eq!(said(&response), said(&expected), "{path}");
        assert!(!response.body.to_string().contains("token"), "{response:?}");
    }
    let response = send(server.anonymous(Method::GET, "/receivers/nowhere/token")).await;
    assert_eq!(response.problem(), (405, "method_not_allowed"));
    for path in ["/receivers", "/receivers/nowhere", "/receivers/nowhere/token/test/more"] {
        let response = post_webhook(&server, path, Vec::new()).await;
        assert_eq!(response.problem(), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn receivers_with_a_listener_of_their_own_are_there_only() {
    let mut parts = api_parts().await;
    parts.server.base_path = "/exam-api".to_owned();
    parts.server.receiver_listen = Some(([127, 0, 0, 1], 0).into());
    let api = serve_api(&parts).await;
    let vendors = serve_router(receiver_router(&parts, &LiveSettings::of(&parts))).await;
    let path = "/exam-api/receivers/nowhere/token";
    let detail = |response: &ApiResponse| response.body["detail"].as_str().expect("a detail").to_owned();
    assert_eq!(detail(&post_webhook(&vendors, path, Vec::new()).await), "There is no such receiver.");
    assert_eq!(detail(&post_webhook(&api, path, Vec::new()).await), "No such path.");
    for path in
        ["/exam-api/livez", "/exam-api/results", "/exam-api/openapi.json", "/exam-api/docs/", "/", "/livez", "/metrics"]
    {
        assert_eq!(vendors.get(path).await.problem(), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn results_are_listed_as_json_or_as_a_table() {
    let server = serve_api(&api_parts().await).await;
    let response = server.get("/results").await;
    assert_eq!((response.status, &response.body), (200, &json!({ "items": [], "nextCursor": null })));
    let asked = async |accept: &str, query: &str| {
        send(server.request(Method::GET, &format!("/results{query}")).header("accept", accept)).await
    };
    let table = asked("text/csv", "?counts=true").await;
    assert_eq!(table.status, 200, "{table:?}");
    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(table.header("content-disposition"), "attachment; filename=\"results.csv\"");
    assert_eq!(table.body.as_str().map(|text| text.lines().count()), Some(1), "{table:?}");
    assert_eq!(asked("text/csv;q=0.5, */*", "").await.header("content-type"), table.header("content-type"));
    assert_eq!(asked("*/*", "").await.header("content-type"), "application/json");
    assert_eq!(asked("text/html", "").await.problem(), (406, "not_acceptable"));
    let refused = asked("text/csv", "?limit=10&cursor=x").await;
    assert_eq!(refused.errors(), [("?limit", "invalid_field"), ("?cursor", "invalid_field")]);
    for (query, pointer) in
        [("?cursor=x", "?cursor"), ("?counts=yes", "?counts"), ("?modifiedSince=now", "?modifiedSince")]
    {
        let refused = server.get(&format!("/results{query}")).await;
        assert_eq!(
            (refused.problem(), refused.errors()),
            ((422, "validation_failed"), vec![(pointer, "invalid_field")])
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = serve_api(&api_parts().await).await;
    let (result, report) = ("res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73", "rep_0192f0c1a3b47c8d9e0f1a2b3c4d5e74");
    for path in [
        format!("/results/{result}"),
        format!("/results/{result}/versions"),
        format!("/results/{report}"),
        format!("/reports/{report}"),
        format!("/reports/{report}?include=body"),
    ] {
        assert_eq!(server.get(&path).await.problem(), (404, "not_found"), "{path}");
    }
    let target = json!({ "candidate": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" });
    let response = server.post(&format!("/reports/{report}/match"), &target).await;
    assert_eq!(response.problem(), (404, "not_found"));
    for path in
        [format!("/reports/{report}/dismiss"), "/assignments/asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70/refresh".to_owned()]
    {
        assert_eq!(send(server.request(Method::POST, &path)).await.problem(), (404, "not_found"), "{path}");
    }
    let response = server.get(&format!("/reports/{report}?include=answers")).await;
    assert_eq!(response.errors(), [("?include", "invalid_field")]);
}

#[tokio::test]
async fn a_body_that_may_be_left_out_is_checked_if_there_is_one() {
    let server = serve_api(&api_parts().await).await;
    let path = "/connections/nowhere/reread";
    let response = send(server.request(Method::POST, path)).await;
    assert_eq!(response.problem(), (404, "connection_not_found"));
    assert_eq!(server.post(path, &json!({})).await.problem(), (404, "connection_not_found"));
    assert_eq!(server.post(path, &json!({ "since": "2026" })).await.errors(), [("/since", "invalid_field")]);
    let response = send(server.request(Method::POST, path).body("since=2026")).await;
    assert_eq!(response.problem(), (415, "unsupported_media_type"));
    let response = send(server.request(Method::POST, "/connections/nowhere/read")).await;
    assert_eq!(response.problem(), (404, "connection_not_found"));
}
