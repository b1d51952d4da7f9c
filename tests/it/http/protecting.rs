//! Who may ask, and how much.

use std::sync::Arc;

use examgate::config::Auth;
use reqwest::Method;
use serde_json::json;

use super::{FEW, face, listening, sent, served};

#[tokio::test]
async fn a_request_without_a_valid_key_is_unauthenticated() {
    let served = served(&face().await).await;
    for request in [
        served.anonymous(Method::GET, "/candidates?externalId=x"),
        served.anonymous(Method::GET, "/candidates?externalId=x").bearer_auth("wrong"),
        served.anonymous(Method::GET, "/candidates?externalId=x").header("x-api-key", "wrong"),
        served.anonymous(Method::POST, "/candidates/bulk").body("not even read"),
    ] {
        let answer = sent(request).await;
        assert_eq!(answer.problem(), (401, "unauthenticated"));
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn either_header_may_carry_the_key() {
    let served = served(&face().await).await;
    assert_eq!(served.get("/vendors").await.status, 200);
    assert_eq!(sent(served.anonymous(Method::GET, "/vendors").header("x-api-key", super::ALL)).await.status, 200);
}

#[tokio::test]
async fn a_missing_scope_is_rejected_before_the_body_is_read() {
    let served = served(&face().await).await;
    let answer = sent(served.anonymous(Method::POST, "/candidates").bearer_auth(FEW).body("no JSON")).await;
    assert_eq!(answer.problem(), (403, "insufficient_scope"));
    assert!(answer.body["detail"].as_str().unwrap().contains("candidates:write"));
}

#[tokio::test]
async fn an_exceeded_rate_limit_says_when_to_retry() {
    let served = served(&face().await).await;
    let ask = || sent(served.anonymous(Method::GET, "/candidates?externalId=x").bearer_auth(FEW));
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(ask().await);
    }
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!(answer.problem(), (429, "rate_limited"));
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(served.get("/vendors").await.status, 200, "another client's rate is its own");
}

#[tokio::test]
async fn overload_is_reported_immediately() {
    let mut face = face().await;
    face.limits.in_flight = 0;
    let served = served(&face).await;
    let answer = served.get("/vendors").await;
    assert_eq!(answer.problem(), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(served.get("/livez").await.status, 200);
}

#[tokio::test]
async fn routes_that_describe_the_gateway_need_no_key() {
    let served = served(&face().await).await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/openapi-3.0.json", "/problems/vendor_timeout"] {
        assert_eq!(sent(served.anonymous(Method::GET, path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_authentication_all_callers_are_one_client_with_all_scopes() {
    let mut face = face().await;
    face.auth = Auth::None;
    let served = served(&face).await;
    assert_eq!(sent(served.anonymous(Method::GET, "/connections")).await.status, 200);
    let answer = sent(served.anonymous(Method::POST, "/candidates").json(&json!({ "externalId": "x" }))).await;
    assert_eq!(answer.problem().0, 422, "there is no connection, but everything before was in order");
}

#[tokio::test]
async fn a_panic_becomes_a_problem_without_details() {
    let router = examgate::http::admin_router(&face().await, Some(Arc::new(|| panic!("with a secret"))));
    let served = listening(router).await;
    let answer = sent(served.anonymous(Method::GET, "/metrics")).await;
    assert_eq!(answer.problem(), (500, "internal"));
    assert!(!answer.body.to_string().contains("secret"));
    assert_eq!(served.get("/livez").await.status, 200, "and the next request is served");
}

#[tokio::test]
async fn the_admin_listener_serves_metrics_but_not_the_api() {
    let router = examgate::http::admin_router(&face().await, Some(Arc::new(|| "metric 1\n".to_owned())));
    let served = listening(router).await;
    let get = |path: &str| served.anonymous(Method::GET, path);
    let metrics = sent(get("/metrics")).await;
    assert_eq!((metrics.status, &metrics.body), (200, &json!("metric 1\n")));
    assert_eq!(sent(get("/livez")).await.status, 200);
    assert_eq!(sent(get("/readyz")).await.status, 200);
    assert_eq!(sent(get("/candidates")).await.problem(), (404, "not_found"));
}
