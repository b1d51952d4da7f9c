//! What `POST /_sessions` makes of participants, and how their sessions look.

use super::sessions::{FILTER, create_session, get, read_page};
use super::*;

const TEST: &str = accounts::startexam::TESTS[0].0;
const OTHER_TEST: &str = accounts::startexam::TESTS[1].0;

/// Lets a participant sit a test and returns the response, which must be a success.
async fn sit(bench: &Bench, order: Value) -> Value {
    let response = create_session(bench, &order).await;
    assert_eq!(response.status, Some(200), "{order}: {}", response.text());
    response.json()
}

/// Returns why an order is refused.
async fn refusal(bench: &Bench, order: Value) -> String {
    let response = create_session(bench, &order).await;
    assert_eq!(response.status, Some(400), "{order}");
    response.json()["error"].as_str().expect("text").to_owned()
}

async fn report(bench: &Bench, participant: &Value) -> Value {
    let query = format!("participantId={}", participant.as_str().expect("an id"));
    get(bench, "/v2/session", &query).await.json()
}

/// Returns what the feed shows since a time.
async fn feed_since(bench: &Bench, since: &str) -> Value {
    get(bench, "/v2/sessions", &format!("center=mycenter&modifiedSince={since}")).await.json()
}

/// Registers employee 1 for the first test and returns the participant.
async fn participant(bench: &Bench) -> Value {
    bench.startexam("/v1/employees", &employees(&["1"])).await;
    let registered = bench.startexam("/v2/employees-participants", &registration(&["1"], false)).await.json();
    registered["participantIds"][0].clone()
}

#[tokio::test]
async fn a_session_shows_sections_levels_and_decimal_points() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let sections = json!([
        { "title": "Section #1", "score": 2.25, "maxScore": 2.5, "level": "passed" },
        { "title": "Section #2", "score": null, "maxScore": 4 },
    ]);
    sit(&bench, json!({
        "participantId": id, "finished": true, "autoClosed": true, "score": 4.5, "maxScore": 6.5, "scaleLevel": "High",
        "sections": sections, "questions": 2, "started": "2026-03-01T10:00:00Z",
    }))
    .await;
    let shown = report(&bench, &id).await;
    assert_eq!(
        (&shown["score"], &shown["maxScore"], &shown["percent"], &shown["scaleLevel"], &shown["autoClosed"]),
        (&json!(4.5), &json!(6.5), &json!(69.23), &json!("High"), &json!(true))
    );
    assert_eq!(shown["sections"][0], json!({ "title": "Section #1", "score": 2.25, "max": 2.5, "level": "passed" }));
    assert_eq!((&shown["sections"][1]["score"], &shown["sections"][1]["max"]), (&Value::Null, &json!(4.0)));
    assert_eq!((shown["questions"].as_array().map(Vec::len), &shown["questions"][1]["number"]), (Some(2), &json!(2)));
    assert_eq!((&shown["started"], &shown["elapsedTime"]), (&json!("2026-03-01T10:00:00Z"), &json!("00:12:34")));
    assert_eq!(read_page(&bench, &Value::Null).await.json()["sessions"], json!([shown]));
}

#[tokio::test]
async fn a_psychological_test_has_outcomes_and_neither_score_nor_level() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let outcomes = json!([{ "name": "Openness", "score": 1, "maxScore": 1.5, "level": "high" }, { "name": "Calm" }]);
    sit(
        &bench,
        json!({ "participantId": id, "finished": true, "score": null, "maxScore": null, "outcomes": outcomes }),
    )
    .await;
    let shown = report(&bench, &id).await;
    let scale = json!({ "id": 914, "score": 1.0, "max": 1.5, "name": "Openness", "level": "high" });
    assert_eq!((&shown["outcomes"][0], &shown["outcomes"][1]["id"]), (&scale, &json!(915)));
    for figure in ["score", "maxScore", "percent", "scaleLevel"] {
        assert_eq!((&shown[figure], &shown["isFinished"]), (&Value::Null, &json!(true)), "{figure}");
    }
}

#[tokio::test]
async fn a_percentage_may_contradict_the_score() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    for (order, percent) in [
        (json!({ "score": -1 }), json!(-14.29)),
        (json!({ "score": 9, "percent": 12.5 }), json!(12.5)),
        (json!({ "score": 3, "maxScore": 0 }), json!(0.0)),
        (json!({ "score": 3, "maxScore": null }), Value::Null),
    ] {
        let mut whole = order.clone();
        whole["participantId"] = id.clone();
        whole["finished"] = json!(true);
        sit(&bench, whole).await;
        assert_eq!(report(&bench, &id).await["percent"], percent, "{order}");
    }
}

#[tokio::test]
async fn a_correction_moves_the_session_and_keeps_its_start() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let order = |score: i64, modified: &str| json!({ "participantId": id, "finished": true, "score": score, "modified": modified });
    let first = sit(&bench, order(4, "2026-03-01T10:12:34Z")).await;
    assert_eq!(first["started"], "2026-03-01T10:00:00Z");
    assert_eq!(feed_since(&bench, "2026-03-01T10:12:35Z").await["sessions"], json!([]));
    let second = sit(&bench, order(6, "2026-03-02T09:00:00Z")).await;
    assert_eq!((&second["started"], &second["modified"]), (&first["started"], &json!("2026-03-02T09:00:00Z")));
    let sessions = feed_since(&bench, "2026-03-01T00:00:00Z").await["sessions"].clone();
    assert_eq!((sessions.as_array().map(Vec::len), &sessions[0]["score"]), (Some(1), &json!(6.0)));
    assert_eq!(feed_since(&bench, "2026-03-02T09:00:00Z").await["sessions"], sessions);
}

#[tokio::test]
async fn a_reopened_session_is_unfinished_again() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let sections = json!([{ "title": "S", "score": 1, "maxScore": 2 }]);
    let done = sit(&bench, json!({ "participantId": id, "finished": true, "sections": sections })).await;
    let open = sit(&bench, json!({ "participantId": id, "finished": false, "sections": sections })).await;
    assert_eq!((&open["started"], &open["finished"]), (&done["started"], &json!(false)));
    let shown = report(&bench, &id).await;
    assert_eq!((&shown["isFinished"], &shown["score"], &shown["sections"]), (&json!(false), &Value::Null, &json!([])));
}

#[tokio::test]
async fn a_second_start_is_kept_beside_the_first_or_replaces_it() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    sit(&bench, json!({ "participantId": id, "finished": true, "score": 1, "modified": "2026-03-01T10:00:00Z" })).await;
    sit(&bench, json!({ "participantId": id, "restart": true, "modified": "2026-03-03T10:00:00Z" })).await;
    // Without restart it is the latest that changes.
    sit(&bench, json!({ "participantId": id, "finished": true, "score": 6, "modified": "2026-03-03T11:00:00Z" })).await;
    let starts = |feed: &Value| -> Vec<Value> {
        feed["sessions"].as_array().expect("a list").iter().map(|one| one["started"].clone()).collect()
    };
    let feed = feed_since(&bench, "2026-03-01T00:00:00Z").await;
    assert_eq!(starts(&feed), ["2026-03-01T09:47:26Z", "2026-03-03T10:00:00Z"]);
    assert_eq!(report(&bench, &id).await["score"], 6.0);

    bench.set_switch(bench.sandbox.startexam(), "restarted_session", "replaced").await;
    sit(&bench, json!({ "participantId": id, "restart": true, "modified": "2026-03-04T10:00:00Z" })).await;
    let feed = feed_since(&bench, "2026-03-01T00:00:00Z").await;
    assert_eq!(starts(&feed), ["2026-03-01T09:47:26Z", "2026-03-04T10:00:00Z"]);
}

#[tokio::test]
async fn a_list_is_sat_as_a_whole_or_not_at_all() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let unknown = json!([{ "participantId": id }, { "participantId": "nobody" }]);
    assert!(refusal(&bench, unknown).await.contains("session 1 of the list"));
    let too_many: Vec<_> = (0..1001).map(|_| json!({ "unregistered": true })).collect();
    assert!(refusal(&bench, json!(too_many)).await.contains("1 to 1000"));
    assert!(refusal(&bench, json!([])).await.contains("1 to 1000"));
    assert!(refusal(&bench, json!("all")).await.contains("a list of sessions"));
    assert_eq!(read_page(&bench, &Value::Null).await.json()["sessions"], json!([]));

    let many: Vec<_> = (0..1000).map(|_| json!({ "unregistered": true, "finished": true })).collect();
    let told = sit(&bench, json!(many)).await;
    let ids: std::collections::BTreeSet<_> =
        told["sessions"].as_array().expect("a list").iter().map(|one| one["participantId"].as_str()).collect();
    assert_eq!(ids.len(), 1000);
    let state = bench.effects(bench.sandbox.startexam(), "?calls=false").await["state"]["sessions"].clone();
    assert_eq!((state.as_array().map(Vec::len), &state[0]["score"]), (Some(1000), &json!(4.0)));
}

#[tokio::test]
async fn many_sessions_are_made_for_registered_or_made_up_participants() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    assert!(refusal(&bench, json!({ "count": 2, "participants": "registered" })).await.contains("only 1 registered"));
    let told = sit(&bench, json!({ "count": 1, "participants": "registered", "finished": true })).await;
    assert_eq!(told["participantIds"], json!([id]));
    assert!(refusal(&bench, json!({ "count": 1, "participants": "registered" })).await.contains("only 0 registered"));
    assert!(refusal(&bench, json!({ "count": 1, "participantId": id })).await.contains("does not go with count"));

    let data = json!([{ "name": "Email", "value": "load{n}@example.com" }]);
    let order = json!({
        "count": 1100, "finished": true, "testId": OTHER_TEST, "modified": "2026-03-01T10:00:00Z", "spreadSeconds": 3600,
        "data": data,
    });
    let told = sit(&bench, order).await;
    let page = feed_since(&bench, "2026-03-01T09:00:00Z").await;
    let (first, ids) = (&page["sessions"][0], told["participantIds"].as_array().expect("ids"));
    assert_eq!((ids.len(), &first["participantId"], &first["testId"]), (1100, &ids[0], &json!(OTHER_TEST)));
    assert_eq!(first["participantData"], json!([{ "name": "Email", "value": "load1@example.com" }]));
    let late = feed_since(&bench, "2026-03-01T09:59:59Z").await["sessions"].clone();
    assert_eq!(late[0]["participantData"][0]["value"], "load1100@example.com");
}

#[tokio::test]
async fn a_participant_of_several_tests_sits_one_of_them_at_a_time() {
    let bench = Bench::start().await;
    let person = json!({ "data": [{ "name": "Email", "value": "jo@example.com" }] });
    let body = json!({ "center": "mycenter", "tests": [TEST, OTHER_TEST], "participants": [person] });
    let id = bench.startexam("/v2/participants", &body).await.json()["participantIds"][0].clone();
    assert_eq!(sit(&bench, json!({ "participantId": id })).await["testId"], TEST);
    assert_eq!(sit(&bench, json!({ "participantId": id, "testId": OTHER_TEST })).await["testId"], OTHER_TEST);
    let third = accounts::startexam::TESTS[2].0;
    assert!(refusal(&bench, json!({ "participantId": id, "testId": third })).await.contains("not registered for test"));
    let page = read_page(&bench, &Value::Null).await.json();
    assert_eq!(page["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["sessions"][1]["participantData"], person["data"]);
}

#[tokio::test]
async fn an_employee_sits_a_test_of_a_program_under_an_id_no_response_showed() {
    let bench = Bench::start().await;
    bench.startexam("/v1/employees", &employees(&["1", "2"])).await;
    let order = json!({ "employee": "1", "testId": TEST, "program": accounts::startexam::PROGRAM_EXTERNAL_ID });
    assert!(refusal(&bench, order.clone()).await.contains("nor in such a program"));
    let program = json!({
        "programId": accounts::startexam::PROGRAM_ID, "moduleTestsScope": "selected", "moduleTests": [TEST],
        "registerEmployees": ["1"], "unregisterEmployees": [],
    });
    bench.startexam("/v1/program/employees", &program).await;
    let begun = sit(&bench, order.clone()).await;
    assert_eq!(sit(&bench, order).await["participantId"], begun["participantId"]);
    assert!(refusal(&bench, json!({ "employee": "1", "testId": OTHER_TEST })).await.contains("not registered"));
    assert!(refusal(&bench, json!({ "employee": "2", "testId": TEST })).await.contains("not registered"));
    assert!(refusal(&bench, json!({ "employee": "1" })).await.contains("with testId"));

    bench.set_switch(bench.sandbox.startexam(), "employee_id_field", "Employee ID").await;
    let data = report(&bench, &begun["participantId"]).await["participantData"].clone();
    assert_eq!(data[1], json!({ "name": "Employee ID", "value": "1" }));

    // An employee who is registered for the test sits that, unless a program is named.
    let registered = participant(&bench).await;
    assert_eq!(sit(&bench, json!({ "employee": "1", "testId": TEST })).await["participantId"], registered);
}

#[tokio::test]
async fn a_participant_registered_nowhere_sits_a_test_only_if_requested() {
    let bench = Bench::start().await;
    let foreign = "11111111-2222-4333-8444-555555555555";
    assert!(refusal(&bench, json!({ "participantId": foreign })).await.contains("unregistered: true"));
    assert!(refusal(&bench, json!({})).await.contains("unregistered: true"));
    let data = json!([{ "name": "Email", "value": "al@example.com" }]);
    sit(&bench, json!({ "participantId": foreign, "unregistered": true, "data": data })).await;
    assert_eq!(report(&bench, &json!(foreign)).await["participantData"], data);
    let made_up = sit(&bench, json!({ "unregistered": true })).await["participantId"].clone();
    assert_ne!(made_up, foreign);
    assert_eq!(report(&bench, &made_up).await["testId"], TEST);
}

#[tokio::test]
async fn a_session_is_spelt_as_the_switches_say() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    let sections = json!([{ "title": "S", "score": 1, "maxScore": 2 }]);
    let data = json!([{ "name": "First Name", "value": "Joanna" }, { "name": "Shoe size", "value": "38" }]);
    let order = json!({
        "participantId": id, "finished": true, "sections": sections, "data": data, "omit": "percent, outcomes",
    });
    sit(&bench, order).await;
    let switches = json!({ "test_id_name": "testID", "data_name": "key", "section_maximum": "maxScore" });
    bench.configure(bench.sandbox.startexam(), json!({ "switches": switches })).await;
    let shown = get(&bench, "/v2/sessions", FILTER).await.json()["sessions"][0].clone();
    assert_eq!((&shown["testID"], shown.get("testId")), (&json!(TEST), None));
    assert_eq!((&shown["sections"][0]["maxScore"], shown["sections"][0].get("max")), (&json!(2.0), None));
    assert_eq!(shown["participantData"][0], json!({ "key": "First Name", "value": "Joanna" }));
    assert_eq!(shown["participantData"].as_array().map(Vec::len), Some(2));
    assert_eq!((shown.get("percent"), shown.get("outcomes"), &shown["score"]), (None, None, &json!(4.0)));
}

#[tokio::test]
async fn misspelt_sessions_are_refused() {
    let bench = Bench::start().await;
    let id = participant(&bench).await;
    for (name, value, hint) in [
        ("scores", json!(1), "known names"),
        ("score", json!("4"), "a number or null"),
        ("sections", json!({}), "must be a list"),
        ("sections", json!([1]), "list of objects"),
        ("sections", json!([{ "name": "S" }]), "title"),
        ("outcomes", json!([{ "title": "S" }]), "name"),
        ("modified", json!("yesterday"), "2026-01-12T09:00:00Z"),
        ("questions", json!(1001), "from 0 to 1000"),
    ] {
        let mut order = json!({ "participantId": id });
        order[name] = value;
        let why = refusal(&bench, order).await;
        assert!(why.contains(hint), "{name}: {why}");
    }
}
