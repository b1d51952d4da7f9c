//! What a request is told that names an assessment, a program or a connection by a mistyped id.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, sandbox_connections};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox};
use crate::support::people::{order, person, person_at, with};
use crate::support::watch::call_count;

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn post_as(gateway: &Gateway, who: &str, path: &str, body: &Value) -> ApiResponse {
    gateway.request_as(&key(who), Method::POST, path).json(body).send().await
}

fn catalogue() -> String {
    let program = accounts::startexam::PROGRAM_ID;
    format!(
        "[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-main\"\nref = \"{TEST}\"\n\
         [assessments.php-201]\nname = \"PHP 201\"\nconnection = \"thinkexam-main\"\nref = \"2415\"\n\
         [programs.onboarding-2026]\nname = \"Onboarding\"\nconnection = \"startexam-main\"\nref = \"{program}\"\n"
    )
}

#[tokio::test]
async fn a_mistyped_id_is_named_with_what_was_probably_meant() {
    let sandbox = sandbox().await;
    let clients = client("lms", "", "[\"*\"]") + &client("narrow", "", "[\"thinkexam-main\", \"examtesting-main\"]");
    let gateway = Gateway::start_with(&(sandbox_connections(&sandbox, "") + &catalogue()), &clients).await;
    let calls = async || call_count(sandbox.startexam()).await + call_count(sandbox.thinkexam()).await;
    for (assessment, meant) in
        [("rust-10", "rust-101"), ("Rust-101", "rust-101"), ("rsut-101", "rust-101"), ("php-2O1", "php-201")]
    {
        let refused = gateway.post("/assignments", &order("e1", assessment)).await;
        assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"), "{assessment}");
        assert_eq!(refused.text("/errors/0/pointer"), "/assessment");
        let suggestion = format!("(did you mean {meant}?)");
        assert!(refused.text("/errors/0/detail").contains(&suggestion), "{assessment}: {refused:?}");
        // Beside another error, too.
        let both = gateway.post("/assignments", &with(order("e1", assessment), "validFrom", json!(1))).await;
        let text = both.body["errors"].to_string();
        assert!(text.contains(&suggestion) && !text.contains("/connection"), "{both:?}");
    }
    // At a connection whose vendor has ids of another form, the suggestion is one of that connection.
    let at = |connection: &str, assessment: &str| with(order("e1", assessment), "connection", json!(connection));
    let refused = gateway.post("/assignments", &at("startexam-main", "rust-102")).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"));
    assert!(refused.text("/detail").contains("(did you mean rust-101?)"), "{refused:?}");
    // A client is told nothing of what it may not use.
    for (path, body) in [
        ("/assignments", order("e1", "rust-10")),
        ("/candidates", person_at("startexam-mian", "e1")),
        ("/programs/onboarding-2025/employees", json!({ "scope": "all", "register": ["e1"] })),
    ] {
        let refused = post_as(&gateway, "narrow", path, &body).await;
        assert!((400..500).contains(&refused.status), "{refused:?}");
        let text = refused.body.to_string();
        assert!(!text.contains("rust-101") && !text.contains("startexam-main") && !text.contains("2026"), "{text}");
    }
    // An id that may be a vendor's own still needs a connection, and is passed on with one.
    let unclear = gateway.post("/assignments", &order("e1", "9999")).await;
    assert_eq!(unclear.problem(), (422, "connection_required", "not_applied"), "{unclear:?}");
    assert_eq!(calls().await, 0);
    assert_eq!(gateway.post("/candidates", &person_at("thinkexam-main", "e1")).await.status, 201);
    let before = call_count(sandbox.thinkexam()).await;
    let passed_on = gateway.post("/assignments", &at("thinkexam-main", "php-202")).await;
    assert!(call_count(sandbox.thinkexam()).await > before, "{passed_on:?}");
}

#[tokio::test]
async fn a_mistyped_program_or_connection_is_named_with_what_was_probably_meant() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&(sandbox_connections(&sandbox, "") + &catalogue())).await;
    let enrolment = json!({ "scope": "all", "register": ["e1"] });
    for body in [enrolment.clone(), with(enrolment.clone(), "connection", json!("startexam-main"))] {
        let refused = gateway.post("/programs/onbaording-2026/employees", &body).await;
        assert_eq!(refused.problem(), (404, "program_not_found", "not_applied"), "{body}");
        assert!(refused.text("/detail").contains("(did you mean onboarding-2026?)"), "{refused:?}");
    }
    let mistyped = with(person("e1"), "connection", json!("startexam-mian"));
    for refused in [
        gateway.post("/candidates", &mistyped).await,
        gateway.get("/candidates?connection=startexam-mian").await,
        gateway.get("/assignments?connection=startexam_main").await,
        gateway.get("/connections/startexam-mai").await,
    ] {
        assert_eq!(refused.problem(), (404, "connection_not_found", "not_applied"), "{refused:?}");
        assert!(refused.text("/detail").contains("(did you mean startexam-main?)"), "{refused:?}");
    }
    let far = gateway.get("/candidates?connection=unheard-of").await;
    assert!(!far.text("/detail").contains("did you mean"), "{far:?}");
    assert_eq!(call_count(sandbox.startexam()).await, 0);
}

#[tokio::test]
async fn a_mistyped_assessment_in_a_bulk_fails_its_row_or_is_named_with_its_place() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&(sandbox_connections(&sandbox, "") + &catalogue())).await;
    assert_eq!(gateway.post("/candidates", &person_at("startexam-main", "e1")).await.status, 201);
    // A row that is right determines the connection; the other one fails alone.
    let bulk = json!({ "items": [order("e1", "rust-10"), order("e1", "rust-101")] });
    let response = gateway.post("/assignments/bulk", &bulk).await;
    assert_eq!(response.status, 207, "{response:?}");
    assert_eq!(response.text("/results/0/problem/code"), "invalid_reference", "{response:?}");
    assert!(response.text("/results/0/problem/detail").contains("(did you mean rust-101?)"), "{response:?}");
    assert_eq!(response.text("/results/1/outcome"), "applied", "{response:?}");
    let refused = gateway.post("/assignments/bulk", &json!({ "items": [{}, order("e1", "rust-10")] })).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"), "{refused:?}");
    assert_eq!(refused.text("/errors/0/pointer"), "/items/1/assessment");
    assert!(refused.text("/detail").contains("/items/1/assessment"), "{refused:?}");
}
