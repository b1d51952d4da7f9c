use super::*;

pub async fn get(bench: &Bench, path: &str, query: &str) -> SimulatorResponse {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let signature = startexam_signature(&format!("GET {path} {date} 0"));
    let request = bench.client.get(format!("http://{}{path}?{query}", bench.sandbox.startexam()));
    bench.send(request.header("Date", date).header("Authorization", format!("SharedKey 99:{signature}"))).await
}

pub async fn create_session(bench: &Bench, order: &Value) -> SimulatorResponse {
    bench.control(bench.sandbox.startexam(), "/_sessions", order).await
}

#[tokio::test]
async fn session_results_are_null_until_the_session_is_finished() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let id = bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await.json()["participantIds"]
        [0]
    .clone();
    let query = format!("participantId={}", id.as_str().expect("an id"));
    assert_eq!(get(&bench, "/v2/session", &query).await.status, Some(404));
    assert_eq!(create_session(&bench, &json!({ "participantId": id })).await.status, Some(200));
    let open = get(&bench, "/v2/session", &query).await.json();
    assert_eq!(
        (&open["isFinished"], &open["score"], &open["elapsedTime"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    create_session(&bench, &json!({ "participantId": id, "finished": true, "elapsedSeconds": 93_784 })).await;
    let done = get(&bench, "/v2/session", &query).await.json();
    assert_eq!(
        (&done["percent"], &done["score"], &done["elapsedTime"]),
        (&json!(57.14), &json!(4.0), &json!("1.02:03:04"))
    );
    assert_eq!(done["participantData"], json!([{ "name": "First Name", "value": "Jo" }]));
    assert_eq!(create_session(&bench, &json!({ "participantId": "nobody" })).await.status, Some(400));
    assert_eq!(create_session(&bench, &json!({ "participantId": id, "done": true })).await.status, Some(400));
}

#[tokio::test]
async fn the_session_feed_has_pages_of_500_and_repeats_a_page_for_a_used_token() {
    let bench = Bench::start().await;
    let people: Vec<_> = (0..501).map(|_| json!({ "data": [] })).collect();
    let body = json!({ "center": "mycenter", "tests": [accounts::startexam::TESTS[0].0], "participants": people });
    let ids = bench.startexam("/v2/participants", &body).await.json()["participantIds"].clone();
    for id in ids.as_array().expect("ids") {
        create_session(&bench, &json!({ "participantId": id, "finished": true })).await;
    }
    let filter = "center=mycenter&modifiedSince=2026-01-01T00:00:00Z";
    let first = get(&bench, "/v2/sessions", filter).await.json();
    assert_eq!((first["sessions"].as_array().map(Vec::len), first.get("modifiedUntil")), (Some(500), None));
    let next = format!("{filter}&continuationToken={}", first["continuationToken"].as_str().expect("a token"));
    for _ in 0..2 {
        let last = get(&bench, "/v2/sessions", &next).await.json();
        assert_eq!((last["sessions"].as_array().map(Vec::len), last.get("continuationToken")), (Some(1), None));
        assert!(last["modifiedUntil"].is_string());
    }
    for wrong in
        ["center=mycenter", "center=mycenter&modifiedSince=2999-01-01T00:00:00Z", "center=mycenter&modifiedSince=today"]
    {
        assert_eq!(get(&bench, "/v2/sessions", wrong).await.status, Some(400), "{wrong}");
    }
}

pub async fn create_finished_sessions(bench: &Bench, people: usize) -> Vec<String> {
    let people: Vec<_> = (0..people).map(|_| json!({ "data": [] })).collect();
    let body = json!({ "center": "mycenter", "tests": [accounts::startexam::TESTS[0].0], "participants": people });
    let ids = bench.startexam("/v2/participants", &body).await.json()["participantIds"].clone();
    for id in ids.as_array().expect("ids") {
        create_session(bench, &json!({ "participantId": id, "finished": true })).await;
    }
    ids.as_array().expect("ids").iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

pub const FILTER: &str = "center=mycenter&modifiedSince=2026-01-01T00:00:00Z";

pub async fn read_page(bench: &Bench, token: &Value) -> SimulatorResponse {
    let token = token.as_str().map(|token| format!("&continuationToken={token}")).unwrap_or_default();
    get(bench, "/v2/sessions", &format!("{FILTER}{token}")).await
}

#[tokio::test]
async fn smaller_pages_still_return_every_session_once() {
    let bench = Bench::start().await;
    let mut expected = create_finished_sessions(&bench, 5).await;
    bench.set_switch(bench.sandbox.startexam(), "session_page_size", 2).await;
    let (mut token, mut received, mut sizes) = (Value::Null, Vec::new(), Vec::new());
    loop {
        let response = read_page(&bench, &token).await.json();
        let sessions = response["sessions"].as_array().expect("a list");
        sizes.push(sessions.len());
        received.extend(sessions.iter().map(|session| session["participantId"].as_str().expect("an id").to_owned()));
        token = response["continuationToken"].clone();
        assert_eq!(token.is_null(), response["modifiedUntil"].is_string());
        if token.is_null() {
            break;
        }
    }
    received.sort();
    expected.sort();
    assert_eq!((sizes, received), (vec![2, 2, 1], expected));
}

#[tokio::test]
async fn a_used_token_responds_as_configured() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 3).await;
    bench.set_switch(address, "session_page_size", 1).await;
    let token = read_page(&bench, &Value::Null).await.json()["continuationToken"].clone();
    let second = read_page(&bench, &token).await;
    assert_eq!(read_page(&bench, &token).await.text(), second.text());
    bench.set_switch(address, "used_token", "loop").await;
    let again = read_page(&bench, &token).await.json();
    assert_eq!((&again["sessions"], &again["continuationToken"]), (&second.json()["sessions"], &token));
    bench.set_switch(address, "used_token", "refused").await;
    assert_eq!(read_page(&bench, &token).await.status, Some(400));
}

#[tokio::test]
async fn a_token_is_bound_to_its_filters_and_may_expire() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 2).await;
    bench.set_switch(address, "session_page_size", 1).await;
    let token = read_page(&bench, &Value::Null).await.json()["continuationToken"].clone();
    let other = format!(
        "center=mycenter&modifiedSince=2026-01-02T00:00:00Z&continuationToken={}",
        token.as_str().expect("a token")
    );
    assert_eq!(get(&bench, "/v2/sessions", &other).await.status, Some(400));
    bench.set_switch(address, "token_ttl_seconds", 0).await;
    assert_eq!(read_page(&bench, &token).await.status, Some(400));
    bench.set_switch(address, "token_ttl_seconds", 3600).await;
    assert_eq!(read_page(&bench, &token).await.status, Some(200));
    let foreign = json!("se00000000000000000000");
    assert_eq!(read_page(&bench, &foreign).await.status, Some(400));
}

#[tokio::test]
async fn an_endless_feed_always_returns_another_token() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    create_finished_sessions(&bench, 1).await;
    bench.inject_fault(address, json!({ "name": "endless_feed" })).await;
    let mut token = Value::Null;
    for _ in 0..5 {
        let response = read_page(&bench, &token).await.json();
        assert_eq!((response["sessions"].as_array().map(Vec::len), response.get("modifiedUntil")), (Some(1), None));
        assert_ne!(response["continuationToken"], token);
        token = response["continuationToken"].clone();
    }
}

#[tokio::test]
async fn undocumented_session_fields_are_configurable() {
    let bench = Bench::start().await;
    let address = bench.sandbox.startexam();
    let id = create_finished_sessions(&bench, 1).await.remove(0);
    create_session(&bench, &json!({ "participantId": id })).await;
    bench.configure(address, json!({ "switches": { "unfinished_figures": "absent", "session_list_name": "items", "proctoring_allowed": true } })).await;
    let response = read_page(&bench, &Value::Null).await.json();
    let session = &response["items"][0];
    assert_eq!(
        (session.get("score"), session.get("elapsedTime"), session["isFinished"].as_bool()),
        (None, None, Some(false))
    );
    assert!(session["proctoring"].is_object());
}
