//! What a report says of a person is in the answers of the API and nowhere else: names, answers and scores are planted in
//! every report, and then everything the process logged, measured, traced and stored is searched.

use serde_json::{Value, json};

use super::*;
use crate::redaction::{assert_absent, decode_all, operator_views, start_verbose, store_files};
use crate::support::watch::{calls_of, wait_for_calls};

/// Contained in every name, level, title and answer here.
const PLANTED: &str = "plmark";
/// The digits of every score here.
const FIGURES: &str = "73117";
/// What only the body of a report has.
const ANSWERS: [&str; 4] = ["SingleChoice", "IS_ATTEMPT", "questions", "participantData"];

fn person(connection: &str, id: &str) -> Value {
    json!({
        "connection": connection, "externalId": format!("{PLANTED}-{id}"), "email": format!("{PLANTED}.{id}@example.com"),
        "name": { "givenName": format!("Given{PLANTED}"), "familyName": format!("Family{PLANTED}") },
    })
}

async fn book_planted(gateway: &Gateway, connection: &str, id: &str) -> Value {
    let registered = gateway.post("/candidates", &person(connection, id)).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    book_registered(gateway, connection, &format!("{PLANTED}-{id}")).await
}

fn planted_session(participant: &str, score: f64) -> Value {
    json!({
        "participantId": participant, "finished": true, "score": score, "maxScore": 99999, "scaleLevel": format!("Level{PLANTED}"),
        "sections": [{ "title": format!("Section{PLANTED}"), "score": score, "maxScore": 99999, "level": PLANTED }],
        "outcomes": [{ "name": format!("Scale{PLANTED}"), "score": score, "maxScore": 99999, "level": PLANTED }],
        "questions": 3, "data": [{ "name": "City", "value": format!("City{PLANTED}") }],
    })
}

fn planted_webhook(id: &str, more: &Value) -> Value {
    let mut result = json!({
        "email": format!("{PLANTED}.{id}@example.com"), "testId": THINK_TEST, "marks": 73117, "totalMarks": 99999,
        "subjectNames": [format!("Subject{PLANTED}")], "subjectMarks": [73117], "enrollmentNo": format!("{PLANTED}-no"),
        "unassigned": true,
    });
    result.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    result
}

#[tokio::test]
async fn nothing_an_exam_told_of_a_person_is_logged_measured_traced_or_stored_in_clear() {
    let sandbox = sandbox().await;
    let (mut gateway, collector) =
        start_verbose(&connections(&sandbox, "", "older_score_member = \"CORRECT_MARKS\"")).await;
    let start = book_planted(&gateway, START, "e1").await;
    let think = book_planted(&gateway, THINK, "t1").await;
    let participant = text(&start, "/vendorRef/id").to_owned();
    sit(&sandbox, &planted_session(&participant, 73117.0)).await;
    let unknown = with(planted_session("", 73117.0), "unregistered", json!(true));
    sit(&sandbox, &with(unknown, "data", json!([{ "name": "Email", "value": format!("{PLANTED}.x@example.com") }])))
        .await;
    read_feed(&gateway).await;
    let result = wait_for_version(&gateway, &start, 1).await;
    assert!(
        result.to_string().contains(PLANTED) && result.to_string().contains(FIGURES),
        "the answer has it: {result}"
    );

    let url = receiver(&gateway, &format!("/{APTITUDE}"));
    for more in [json!({}), json!({ "form": "older" }), json!({ "key": "wrong-key-plmark", "attempts": 1 })] {
        deliver_to(&sandbox, &url, &[planted_webhook("t1", &more), planted_webhook("stranger", &more)]).await;
    }
    let wrong = format!("http://{}/receivers/{THINK}/wrong-token-{PLANTED}", gateway.address);
    deliver_to(&sandbox, &wrong, &[planted_webhook("t1", &json!({ "attempts": 1 }))]).await;
    let unreadable = gateway.anonymous(Method::POST, &format!("/receivers/{THINK}/{TOKEN}"));
    let unreadable = unreadable.header("x-webhook_key", accounts::thinkexam::WEBHOOK_KEY);
    unreadable.body("application/json", format!("{{\"result\": {{\"name\": \"{PLANTED}\", ")).send().await;
    wait_for_count(&gateway, "/reports?limit=100&state=rejected", 1).await;
    wait_for_activity(&gateway, &think, "completed").await;

    // A feed and a report that fail in ways that quote what they hold.
    for name in ["truncated_body", "truncated_json", "text_before", "json_in_string", "other_status", "latin1"] {
        set_faults(
            sandbox.startexam(),
            json!({ "faults": [{ "name": name, "operation": "sessions" }, { "name": name, "operation": "session" }] }),
        )
        .await;
        sit(&sandbox, &planted_session(&participant, 73117.5)).await;
        let calls = calls_of(sandbox.startexam(), "sessions").await;
        read_feed(&gateway).await;
        wait_for_calls(sandbox.startexam(), "sessions", calls).await;
        gateway.post(&format!("{}/refresh", path_of(&start)), &json!({})).await;
    }
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    gateway.post(&format!("/connections/{START}/reread"), &json!({})).await;
    let parked = wait_until(&gateway, "/reports?state=parked", |page| !page.text("/items/0/id").is_empty()).await;
    let path = format!("/reports/{}", parked.text("/items/0/id"));
    let whole = gateway.get(&format!("{path}?include=body")).await;
    assert!(whole.body.to_string().contains(PLANTED), "the answer has it: {whole:?}");
    gateway.post(&format!("{path}/dismiss"), &json!({})).await;
    gateway.request(Method::GET, "/results").header("accept", "text/csv").send().await;
    gateway.get(&format!("/results?externalId={PLANTED}-e1")).await;

    let private = [
        &[PLANTED, FIGURES, TOKEN, "wrong-token", "wrong-key", accounts::thinkexam::WEBHOOK_KEY, &participant],
        &ANSWERS[..],
    ]
    .concat();
    for (what, shown) in operator_views(&mut gateway).await {
        assert_absent(what, &decode_all(&shown), &private);
    }
    let (folder, log) = gateway.finish().await;
    assert!(log.contains("DEBUG") && !log.contains("panicked"), "the log is verbose");
    assert_absent("the log", &log, &private);
    let files = store_files(folder.path());
    assert!(files.iter().any(|(name, _)| name.ends_with("store.db")), "there is a store to search");
    for (name, content) in files {
        assert_absent(&name, &content, &private);
    }
    assert!(collector.spans().len() > 20, "there are spans to search");
    for sent in collector.0.seen() {
        assert_absent("a trace", &String::from_utf8_lossy(&sent.body), &private);
    }
}
