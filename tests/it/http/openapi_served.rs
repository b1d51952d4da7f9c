//! What the gateway says about itself, and that it can be read wherever it is mounted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{face, sent, served};

#[tokio::test]
async fn every_problem_code_has_a_description() {
    let served = served(&face().await).await;
    let answer = sent(served.anonymous(Method::GET, "/problems/vendor_timeout")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!((&answer.body["origin"], &answer.body["status"]), (&json!("vendor"), &json!(504)));
    for code in examgate::domain::error::Code::ALL {
        let answer = served.get(&format!("/problems/{}", code.as_str())).await;
        assert_eq!(answer.body["status"], examgate::http::status(*code).as_u16());
        assert!(!answer.body["meaning"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_vendor_lists_its_capabilities() {
    let served = served(&face().await).await;
    let answer = served.get("/vendors").await;
    assert_eq!(answer.body["nextCursor"], Value::Null);
    assert_eq!(answer.body["items"].as_array().unwrap().len(), 3);
    for vendor in answer.body["items"].as_array().unwrap() {
        assert_eq!(vendor["operations"].as_array().unwrap().len(), 6);
        let alone = served.get(&format!("/vendors/{}", vendor["vendor"].as_str().unwrap())).await;
        assert_eq!(&alone.body, vendor);
    }
}

#[tokio::test]
async fn lists_are_paginated() {
    let served = served(&face().await).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let answer = served.get(&format!("/vendors?limit=1{cursor}")).await;
        seen.push(answer.body["items"][0]["vendor"].clone());
        cursor = answer.body["nextCursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert!(cursor.is_empty(), "three vendors, three parts");
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn the_whole_api_moves_below_its_base_path() {
    let mut face = face().await;
    face.server.base_path = "/exam-api".to_owned();
    let served = served(&face).await;
    for path in ["/exam-api/livez", "/exam-api/docs/", "/exam-api/openapi.json", "/exam-api/vendors"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    for path in ["/livez", "/vendors", "/exam-api", "/exam-api/", "/exam-apivendors"] {
        assert_eq!(served.get(path).await.problem(), (404, "not_found"), "{path}");
    }
    let answer = sent(served.request(Method::DELETE, "/exam-api/vendors")).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn the_documentation_needs_no_external_host_and_no_fixed_path() {
    let mut face = face().await;
    face.server.base_path = "/exam-api".to_owned();
    let served = served(&face).await;
    let answer = served.get("/exam-api/docs").await;
    assert_eq!((answer.status, answer.header("location")), (307, "docs/"));
    let page = served.get("/exam-api/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    let text = page.body.as_str().unwrap().to_owned();
    let links = text.split("src=\"").skip(1).chain(text.split("href=\"").skip(1));
    let links: Vec<&str> = links.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        assert!(!link.starts_with('/') && !link.contains("://"), "{link}");
        let part = served.get(&format!("/exam-api/docs/{}", link.trim_start_matches("./"))).await;
        assert_eq!(part.status, 200, "{link}");
    }
    let start = served.get("/exam-api/docs/swagger-initializer.js").await;
    let start = start.body.as_str().unwrap();
    assert!(start.contains("\"../openapi.json\"") && start.contains("validatorUrl: null") && !start.contains("://"));
    assert!(start.contains("persistAuthorization: false"), "a key in the browser's storage would outlive its reader");
}

#[tokio::test]
async fn the_openapi_document_lists_the_public_url() {
    let mut face = face().await;
    face.server.public_url = Some("https://exams.example.com/api".parse().unwrap());
    let served = served(&face).await;
    for path in ["/openapi.json", "/openapi-3.0.json"] {
        let answer = served.get(path).await;
        assert_eq!(answer.body["servers"][0]["url"], "https://exams.example.com/api", "{path}");
        assert_eq!(answer.body["servers"][1]["url"], "./", "{path}");
    }
}
