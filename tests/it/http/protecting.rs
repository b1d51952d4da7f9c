//! Authentication, authorization and limits.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use examgate::config::Auth;
use examgate::domain::scope::Scope;
use examgate::service::ConnectionAccess;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{FEW, api_parts, send, serve_api, serve_router};

#[tokio::test]
async fn a_request_without_a_valid_key_is_unauthenticated() {
    let server = serve_api(&api_parts().await).await;
    for request in [
        server.anonymous(Method::GET, "/candidates?externalId=x"),
        server.anonymous(Method::GET, "/candidates?externalId=x").bearer_auth("wrong"),
        server.anonymous(Method::GET, "/candidates?externalId=x").header("x-api-key", "wrong"),
        server.anonymous(Method::POST, "/candidates/bulk").body("not even read"),
    ] {
        let response = send(request).await;
        assert_eq!(response.problem(), (401, "unauthenticated"));
    }
}

#[tokio::test]
async fn a_challenge_says_whether_credentials_are_missing_invalid_or_insufficient() {
    const NONE: &str = "Bearer realm=\"examgate\"";
    const INVALID: &str = "Bearer realm=\"examgate\", error=\"invalid_token\", error_description=\"The API key or token is not valid here.\"";
    let server = serve_api(&api_parts().await).await;
    let ask = || server.anonymous(Method::GET, "/candidates?externalId=x");
    for (request, expected) in [
        (ask(), NONE),
        (ask().header("authorization", "Basic dXNlcjpwYXNz"), NONE),
        (ask().bearer_auth("wrong"), INVALID),
        (ask().header("authorization", "Bearer"), INVALID),
        (ask().header("x-api-key", "wrong"), INVALID),
        (ask().header("authorization", "Basic dXNlcjpwYXNz").header("x-api-key", "wrong"), INVALID),
    ] {
        let response = send(request).await;
        assert_eq!(response.problem(), (401, "unauthenticated"));
        assert_eq!(response.header("www-authenticate"), expected);
        assert_eq!(response.headers.get_all("www-authenticate").iter().count(), 1);
    }
    for (path, scope) in [("/vendors", "catalogue:read"), ("/operations", "operations:read")] {
        let response = send(server.anonymous(Method::GET, path).bearer_auth(FEW)).await;
        if response.status != 429 {
            assert_eq!(response.problem(), (403, "insufficient_scope"));
            let expected = format!("Bearer realm=\"examgate\", error=\"insufficient_scope\", scope=\"{scope}\"");
            assert_eq!(response.header("www-authenticate"), expected);
        }
    }
    assert_eq!(server.get("/nowhere").await.header("www-authenticate"), "");
}

#[tokio::test]
async fn credentials_of_a_proxy_do_not_hide_the_key() {
    let server = serve_api(&api_parts().await).await;
    let ask = || server.anonymous(Method::GET, "/vendors").header("x-api-key", super::ALL);
    for foreign in ["Basic dXNlcjpwYXNz", "Negotiate YII=", "Digest username=\"u\"", "Anything"] {
        assert_eq!(send(ask().header("authorization", foreign)).await.status, 200, "{foreign}");
    }
    assert_eq!(send(ask().header("authorization", "Bearer wrong")).await.problem(), (401, "unauthenticated"));
    assert_eq!(send(ask().header("x-api-key", super::ALL)).await.problem(), (401, "unauthenticated"), "two keys");
}

#[tokio::test]
async fn a_client_can_ask_what_its_key_permits() {
    let mut api_parts = api_parts().await;
    let Auth::Keys(clients) = &mut api_parts.auth else { panic!("keys") };
    let few = clients.get_mut("few").expect("a client");
    few.connections = ConnectionAccess::Named(["b", "a"].map(str::to_owned).into());
    few.default_connection = Some("a".to_owned());
    let server = serve_api(&api_parts).await;
    let response = send(server.anonymous(Method::GET, "/client").bearer_auth(FEW)).await;
    let expected = json!({
        "client": "few", "tenant": "few", "scopes": ["candidates:read"], "connections": ["a", "b"],
        "defaultConnection": "a", "key": &HEXLOWER.encode(&Sha256::digest(FEW))[..8],
    });
    assert_eq!((response.status, &response.body), (200, &expected));
    let all = server.get("/client").await;
    assert_eq!((&all.body["connections"], all.body.get("defaultConnection")), (&json!(["*"]), None));
    assert_eq!(all.body["scopes"].as_array().map(Vec::len), Some(Scope::ALL.len()));
    assert_eq!(send(server.anonymous(Method::GET, "/client")).await.problem(), (401, "unauthenticated"));
    assert_eq!(server.get("/client?x=1").await.problem(), (422, "validation_failed"));
}

#[tokio::test]
async fn either_header_may_carry_the_key() {
    let server = serve_api(&api_parts().await).await;
    assert_eq!(server.get("/vendors").await.status, 200);
    assert_eq!(send(server.anonymous(Method::GET, "/vendors").header("x-api-key", super::ALL)).await.status, 200);
}

#[tokio::test]
async fn a_missing_scope_is_rejected_before_the_body_is_read() {
    let server = serve_api(&api_parts().await).await;
    let response = send(server.anonymous(Method::POST, "/candidates").bearer_auth(FEW).body("no JSON")).await;
    assert_eq!(response.problem(), (403, "insufficient_scope"));
    assert!(response.body["detail"].as_str().unwrap().contains("candidates:write"));
}

#[tokio::test]
async fn an_exceeded_rate_limit_says_when_to_retry() {
    let server = serve_api(&api_parts().await).await;
    let ask = || send(server.anonymous(Method::GET, "/candidates?externalId=x").bearer_auth(FEW));
    let mut responses = Vec::new();
    for _ in 0..20 {
        responses.push(ask().await);
    }
    let refused: Vec<_> = responses.iter().filter(|response| response.status == 429).collect();
    assert!(!refused.is_empty());
    for response in refused {
        assert_eq!(response.problem(), (429, "rate_limited"));
        assert_eq!(response.header("retry-after"), "1");
    }
    assert_eq!(server.get("/vendors").await.status, 200, "another client's rate is its own");
}

#[tokio::test]
async fn overload_is_reported_immediately() {
    let mut api_parts = api_parts().await;
    api_parts.limits.in_flight = 0;
    let server = serve_api(&api_parts).await;
    let response = server.get("/vendors").await;
    assert_eq!(response.problem(), (503, "overloaded"));
    assert_eq!(response.header("retry-after"), "1");
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn routes_that_describe_the_gateway_need_no_key() {
    let server = serve_api(&api_parts().await).await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/openapi-3.0.json", "/problems/vendor_timeout"] {
        assert_eq!(send(server.anonymous(Method::GET, path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_authentication_all_callers_are_one_client_with_all_scopes() {
    let mut api_parts = api_parts().await;
    api_parts.auth = Auth::None;
    let server = serve_api(&api_parts).await;
    assert_eq!(send(server.anonymous(Method::GET, "/connections")).await.status, 200);
    let client = send(server.anonymous(Method::GET, "/client")).await;
    assert_eq!((&client.body["client"], client.body.get("key")), (&json!("default"), None), "{client:?}");
    let response = send(server.anonymous(Method::POST, "/candidates").json(&json!({ "externalId": "x" }))).await;
    assert_eq!(response.problem().0, 422, "only the connection is missing");
}

#[tokio::test]
async fn a_panic_becomes_a_problem_without_details() {
    let router = examgate::http::admin_router(&api_parts().await, Some(Arc::new(|| panic!("with a secret"))));
    let server = serve_router(router).await;
    let response = send(server.anonymous(Method::GET, "/metrics")).await;
    assert_eq!(response.problem(), (500, "internal"));
    assert!(!response.body.to_string().contains("secret"));
    assert_eq!(server.get("/livez").await.status, 200, "and the next request is served");
}

#[tokio::test]
async fn the_admin_listener_serves_metrics_but_not_the_api() {
    let router = examgate::http::admin_router(&api_parts().await, Some(Arc::new(|| "metric 1\n".to_owned())));
    let server = serve_router(router).await;
    let get = |path: &str| server.anonymous(Method::GET, path);
    let metrics = send(get("/metrics")).await;
    assert_eq!((metrics.status, &metrics.body), (200, &json!("metric 1\n")));
    assert_eq!(send(get("/livez")).await.status, 200);
    assert_eq!(send(get("/readyz")).await.status, 200);
    assert_eq!(send(get("/candidates")).await.problem(), (404, "not_found"));
}
