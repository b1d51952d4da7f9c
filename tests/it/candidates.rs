//! Single candidates: what the caller is told, and how a candidate is recognised.

use examgate::sandbox::accounts;
use http::Method;
use serde_json::{Value, json};

use crate::support::connections::{
    client, sandbox_connections, start_examtesting, start_startexam, startexam, thinkexam,
};
use crate::support::gateway::{Gateway, key, sandbox, set_faults};
use crate::support::people::{person, with};
use crate::support::vendor::{Stub, json_response};
use crate::support::watch::{bodies, call_count, changes, wait_for_state, wait_until, warnings};

#[tokio::test]
async fn timestamps_have_whole_milliseconds() {
    let (_sandbox, gateway) = start_startexam("").await;
    let created = gateway.post("/candidates", &person("e1")).await;
    let booking = json!({ "candidate": { "externalId": "e1" }, "assessment": accounts::startexam::TESTS[0].0 });
    let booked = gateway.post("/assignments", &booking).await;
    let connection = gateway.post("/connections/startexam-main/check", &json!({})).await;
    for (response, pointer) in [
        (&created, "/meta/created"),
        (&created, "/meta/lastModified"),
        (&booked, "/meta/created"),
        (&booked, "/meta/lastModified"),
        (&connection, "/since"),
    ] {
        let text = response.text(pointer);
        let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(form, "0000-00-00T00:00:00.000Z", "{pointer} {text}");
    }
}

#[tokio::test]
async fn a_candidate_is_created_once_read_back_and_returned_again() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port) in [
        ("startexam-main", sandbox.startexam()),
        ("thinkexam-main", sandbox.thinkexam()),
        ("examtesting-main", sandbox.examtesting()),
    ] {
        let body = with(person("p1"), "connection", json!(connection));
        let created = gateway.post("/candidates", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.text("/id");
        assert!(id.starts_with("cand_"), "{connection}");
        assert_eq!(created.header("location"), Some(format!("/candidates/{id}").as_str()), "{connection}");
        assert_eq!((created.text("/state"), created.text("/outcome")), ("registered", "applied"), "{connection}");
        assert_eq!((created.text("/connection"), created.text("/externalId")), (connection, "p1"), "{connection}");
        let read = gateway.get(&format!("/candidates/{id}")).await;
        let mut without_password = created.body.clone();
        without_password.as_object_mut().unwrap().remove("initialPassword");
        assert_eq!((read.status, &read.body), (200, &without_password), "{connection}");
        let again = gateway.post("/candidates", &body).await;
        assert_eq!((again.status, &again.body), (200, &without_password), "{connection}");
        assert_eq!(call_count(port).await, 1, "{connection}");
    }
}

#[tokio::test]
async fn an_existing_candidate_is_reused_rejected_or_updated_as_requested() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    let first = gateway.post("/candidates", &person("e1")).await;
    let other = with(person("e1"), "email", json!("new@example.com"));

    let found = gateway.post("/candidates", &other).await;
    assert_eq!((found.status, found.text("/email")), (200, "e1@example.com"));
    assert_eq!(warnings(&found), [("existing_differs".to_owned(), "/email".to_owned())]);
    let refused = gateway.post("/candidates", &with(other.clone(), "ifExists", json!("fail"))).await;
    assert_eq!(refused.problem(), (409, "candidate_already_exists", "not_applied"));
    // An asynchronous caller gets the conflict immediately, too: the existing record is not what it asked for.
    let body = with(other.clone(), "ifExists", json!("fail"));
    let early = gateway.request(Method::POST, "/candidates").header("prefer", "respond-async").json(&body).send().await;
    assert_eq!(early.problem(), (409, "candidate_already_exists", "not_applied"));
    assert_eq!(call_count(port).await, 1);

    let updated = gateway.post("/candidates", &with(other, "ifExists", json!("update"))).await;
    assert_eq!(
        (updated.status, updated.text("/email"), updated.text("/id")),
        (200, "new@example.com", first.text("/id"))
    );
    assert_eq!(changes(port, "employees", "updated").await, ["e1"]);
    // Nothing differs any more, so nothing is sent.
    let same = with(with(person("e1"), "email", json!("new@example.com")), "ifExists", json!("update"));
    assert_eq!(gateway.post("/candidates", &same).await.status, 200);
    assert_eq!(call_count(port).await, 2);
}

#[tokio::test]
async fn any_identity_finds_the_same_candidate() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let examtesting = |id: &str, user: &str| json!({ "connection": "examtesting-main", "externalId": id, "userName": user, "email": "x@example.com" });
    let a = gateway.post("/candidates", &examtesting("a", "ua")).await;
    assert_eq!(a.status, 201, "{a:?}");
    let by_user = json!({ "connection": "examtesting-main", "userName": "UA", "email": "x@example.com" });
    assert_eq!(gateway.post("/candidates", &by_user).await.text("/id"), a.text("/id"));
    assert_eq!(gateway.post("/candidates", &examtesting("b", "ub")).await.status, 201);
    let torn = gateway.post("/candidates", &examtesting("a", "ub")).await;
    assert_eq!(torn.problem(), (409, "candidate_conflict", "not_applied"));
    assert_eq!(call_count(sandbox.examtesting()).await, 2);

    let thinkexam = |id: Option<&str>, email: &str| {
        let mut body = json!({ "connection": "thinkexam-main", "name": { "formatted": "Ada" }, "email": email });
        if let Some(id) = id {
            body["externalId"] = json!(id);
        }
        body
    };
    let c = gateway.post("/candidates", &thinkexam(Some("c"), "Ada@Example.com")).await;
    assert_eq!(c.status, 201, "{c:?}");
    let folded = gateway.post("/candidates", &thinkexam(None, "aDA@example.COM")).await;
    assert_eq!((folded.status, folded.text("/id")), (200, c.text("/id")));
    let other = gateway.post("/candidates", &thinkexam(Some("d"), "ada@example.com")).await;
    assert_eq!(other.problem(), (409, "candidate_conflict", "not_applied"));
    assert_eq!(call_count(sandbox.thinkexam()).await, 1);
    // The same person at another connection is another candidate.
    let mut elsewhere = person("c");
    elsewhere["connection"] = json!("startexam-main");
    assert_eq!(gateway.post("/candidates", &elsewhere).await.status, 201);
}

#[tokio::test]
async fn another_tenants_candidate_is_neither_shown_nor_taken_over() {
    let sandbox = sandbox().await;
    let clients =
        client("lms", "one", "[\"*\"]") + &client("colleague", "one", "[\"*\"]") + &client("rival", "two", "[\"*\"]");
    let connections = thinkexam(&format!("http://{}", sandbox.thinkexam()), "");
    let gateway = Gateway::start_with(&connections, &clients).await;
    let created = gateway.post("/candidates", &person("p1")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let rival = |method: Method, path: &str| gateway.request_as(&key("rival"), method, path);
    for body in [person("p1"), with(person("other"), "email", json!("P1@example.com"))] {
        let refused = rival(Method::POST, "/candidates").json(&body).send().await;
        assert_eq!(refused.problem(), (409, "candidate_conflict", "not_applied"), "{body}");
        assert!(!refused.body.to_string().contains("cand_"), "{refused:?}");
    }
    let path = format!("/candidates/{}", created.text("/id"));
    assert_eq!(rival(Method::GET, &path).send().await.problem(), (404, "not_found", "not_applied"));
    assert_eq!(rival(Method::DELETE, &path).send().await.problem(), (404, "not_found", "not_applied"));
    let change = rival(Method::PATCH, &path).json(&json!({ "group": "CE104" })).send().await;
    assert_eq!(change.problem(), (404, "not_found", "not_applied"));
    let order = json!({ "candidate": { "id": created.text("/id") }, "assessment": "2415" });
    let booking = rival(Method::POST, "/assignments").json(&order).send().await;
    assert_eq!(booking.problem(), (422, "invalid_reference", "not_applied"));
    assert_eq!(rival(Method::GET, "/candidates?externalId=p1").send().await.body["items"], json!([]));
    let search = rival(Method::POST, "/candidates/search").json(&json!({ "email": "p1@example.com" })).send().await;
    assert_eq!(search.body["items"], json!([]));
    assert_eq!(call_count(sandbox.thinkexam()).await, 1);
    let colleague = gateway.request_as(&key("colleague"), Method::GET, &path).send().await;
    assert_eq!(colleague.status, 200);
}

#[tokio::test]
async fn identical_concurrent_posts_make_one_vendor_call_and_equal_responses() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port) in [
        ("startexam-main", sandbox.startexam()),
        ("thinkexam-main", sandbox.thinkexam()),
        ("examtesting-main", sandbox.examtesting()),
    ] {
        set_faults(port, json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 100 }] })).await;
        let body = with(person("p1"), "connection", json!(connection));
        let responses = futures_util::future::join_all((0..32).map(|_| gateway.post("/candidates", &body))).await;
        assert_eq!(call_count(port).await, 1, "{connection}");
        let mut statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        statuses.sort_unstable();
        assert_eq!((statuses[31], &statuses[..31]), (201, &[200; 31][..]), "{connection}");
        let without_password = |body: &Value| {
            let mut body = body.clone();
            body.as_object_mut().unwrap().remove("initialPassword");
            body
        };
        assert!(
            responses.iter().all(|response| without_password(&response.body) == without_password(&responses[0].body)),
            "{connection}"
        );
    }
}

#[tokio::test]
async fn different_concurrent_posts_all_succeed() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let bodies = (0..32).flat_map(|number| {
        ["startexam-main", "thinkexam-main", "examtesting-main"]
            .map(|connection| with(person(&format!("p{number}")), "connection", json!(connection)))
    });
    let posts = bodies.map(|body| {
        let gateway = &gateway;
        async move { gateway.post("/candidates", &body).await }
    });
    for response in futures_util::future::join_all(posts).await {
        assert_eq!(response.status, 201, "{response:?}");
    }
    for port in [sandbox.startexam(), sandbox.thinkexam(), sandbox.examtesting()] {
        assert_eq!(call_count(port).await, 32);
    }
}

#[tokio::test]
async fn generated_passwords_and_user_names_are_the_ones_sent_and_returned_once() {
    let (sandbox, gateway) = start_examtesting("").await;
    let created = gateway.post("/candidates", &person("p1")).await;
    let nameless = gateway.post("/candidates", &json!({ "email": "x@example.com" })).await;
    let sent = bodies(sandbox.examtesting(), "add").await;
    for (response, sent, head) in [(&created, &sent[0], "p1"), (&nameless, &sent[1], "c")] {
        assert_eq!(response.status, 201, "{response:?}");
        let id = response.text("/id");
        assert_eq!(response.text("/userName"), format!("{head}-{}", &id[id.len() - 8..]), "{head}");
        assert_eq!(response.text("/userName"), sent["username"], "{head}");
        assert!(response.text("/initialPassword").len() >= 12, "{head}");
        assert_eq!(response.text("/initialPassword"), sent["password"], "{head}");
    }
    assert_ne!(created.text("/initialPassword"), nameless.text("/initialPassword"));
    let again = gateway.post("/candidates", &person("p1")).await;
    assert_eq!((again.status, again.body.get("initialPassword")), (200, None));
    let read = gateway.get(&format!("/candidates/{}", created.text("/id"))).await;
    assert!(!read.body.to_string().contains(created.text("/initialPassword")));
}

#[tokio::test]
async fn deletion_hides_the_person_if_the_vendor_can_and_always_removes_the_record() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port, more) in [
        ("startexam-main", sandbox.startexam(), 1),
        ("thinkexam-main", sandbox.thinkexam(), 0),
        ("examtesting-main", sandbox.examtesting(), 0),
    ] {
        let body = with(person("p1"), "connection", json!(connection));
        let created = gateway.post("/candidates", &body).await;
        let path = format!("/candidates/{}", created.text("/id"));
        let before = call_count(port).await;
        let deleted = gateway.delete(&path).await;
        assert_eq!((deleted.status, call_count(port).await), (204, before + more), "{connection}");
        assert_eq!(gateway.get(&path).await.problem(), (404, "not_found", "not_applied"), "{connection}");
        assert_eq!(gateway.delete(&path).await.problem(), (404, "not_found", "not_applied"), "{connection}");
        assert_eq!(gateway.get("/candidates?externalId=p1").await.body["items"], json!([]), "{connection}");
        // The identities are available again.
        let again = gateway.post("/candidates", &body).await;
        assert_eq!(again.status, 201, "{again:?}");
        assert_ne!(again.text("/id"), created.text("/id"), "{connection}");
        assert_eq!(gateway.delete(&format!("/candidates/{}", again.text("/id"))).await.status, 204, "{connection}");
    }
    let sent = bodies(sandbox.startexam(), "employees").await;
    assert_eq!((&sent[1]["employees"][0]["id"], &sent[1]["employees"][0]["status"]), (&json!("p1"), &json!("hidden")));
}

#[tokio::test]
async fn candidates_are_found_by_every_identity() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let mut ids = Vec::new();
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let response = gateway.post("/candidates", &with(person("p1"), "connection", json!(connection))).await;
        ids.push(response.text("/id").to_owned());
    }
    let found = |response: crate::support::gateway::ApiResponse| {
        assert_eq!(response.status, 200, "{response:?}");
        let items = response.body["items"].as_array().unwrap().iter();
        let mut ids: Vec<String> = items.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let mut all = ids.clone();
    all.sort();
    assert_eq!(found(gateway.get("/candidates?externalId=p1").await), all);
    assert_eq!(found(gateway.get("/candidates?externalId=p1&connection=thinkexam-main").await), [ids[1].clone()]);
    assert_eq!(found(gateway.get("/candidates?externalId=P1").await), Vec::<String>::new());
    assert_eq!(found(gateway.post("/candidates/search", &json!({ "email": "P1@EXAMPLE.com" })).await), all);
    let at_one = json!({ "externalId": "p1", "connection": "examtesting-main" });
    assert_eq!(found(gateway.post("/candidates/search", &at_one).await), [ids[2].clone()]);
    let two = json!({ "email": "a@example.com", "externalId": "p1" });
    assert_eq!(gateway.post("/candidates/search", &two).await.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(found(gateway.get("/candidates").await), all);
}

#[tokio::test]
async fn an_asynchronous_caller_gets_the_pending_record_and_later_its_outcome() {
    let (sandbox, gateway) = start_startexam("").await;
    let delay = json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 400 }] });
    set_faults(sandbox.startexam(), delay).await;
    for (number, preference) in ["respond-async", "wait=0"].into_iter().enumerate() {
        let body = person(&format!("e{number}"));
        let request = gateway.request(Method::POST, "/candidates").header("prefer", preference);
        let response = request.json(&body).send().await;
        assert_eq!((response.status, response.text("/state")), (202, "pending"), "{response:?}");
        let path = format!("/candidates/{}", response.text("/id"));
        assert_eq!(response.header("location"), Some(path.as_str()), "{preference}");
        let ended = wait_for_state(&gateway, &path, "registered").await;
        assert_eq!(ended.text("/outcome"), "applied", "{preference}");
    }
    // A deletion continues in the background, too, and leaves no record.
    let found = gateway.get("/candidates?externalId=e0").await;
    let path = format!("/candidates/{}", found.text("/items/0/id"));
    let response = gateway.request(Method::DELETE, &path).header("prefer", "wait=0").send().await;
    assert_eq!(response.status, 202, "{response:?}");
    wait_until(&gateway, &path, |response| response.status == 404).await;
    assert_eq!(call_count(sandbox.startexam()).await, 3);
}

#[tokio::test]
async fn a_rejected_person_can_be_registered_immediately_afterwards() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port, fault, status) in [
        ("startexam-main", sandbox.startexam(), json!({ "name": "bad_request", "times": 1 }), 422),
        ("thinkexam-main", sandbox.thinkexam(), json!({ "name": "vendor_error", "code": "3084", "times": 1 }), 422),
        ("examtesting-main", sandbox.examtesting(), json!({ "name": "vendor_error", "code": "1005", "times": 1 }), 422),
    ] {
        set_faults(port, json!({ "faults": [fault] })).await;
        let body = with(person("p1"), "connection", json!(connection));
        let refused = gateway.post("/candidates", &body).await;
        assert_eq!((refused.status, refused.problem().2), (status, "not_applied"), "{refused:?}");
        let created = gateway.post("/candidates", &body).await;
        assert_eq!((created.status, created.text("/state")), (201, "registered"), "{created:?}");
    }
}

#[tokio::test]
async fn a_rejected_update_leaves_the_candidate_unchanged() {
    let stub = Stub::start(|_| json_response(200, &json!({}))).await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let created = gateway.post("/candidates", &person("e1")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    stub.respond_with(|_| json_response(400, &json!({ "message": "no" })));
    let refused = gateway.patch(&path, &json!({ "email": "new@example.com" })).await;
    assert_eq!(refused.problem(), (422, "vendor_rejected_request", "not_applied"));
    let read = gateway.get(&path).await;
    assert_eq!((read.text("/state"), read.text("/email")), ("registered", "e1@example.com"));
    let refused = gateway.patch(&path, &json!({ "group": "A", "email": "new@example.com" })).await;
    assert_eq!(refused.status, 422);
    let read = gateway.get(&path).await;
    assert_eq!((read.body.get("group"), warnings(&read)), (None, vec![]), "a refused change leaves no trace");
}

#[tokio::test]
async fn a_rejected_candidate_is_not_found_by_its_released_identity() {
    let stub = Stub::start(|_| json_response(400, &json!({ "message": "no" }))).await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let person = json!({ "externalId": "e1", "email": "ada@example.com" });
    let refused = gateway.post("/candidates", &person).await;
    assert_eq!(refused.problem(), (422, "vendor_rejected_request", "not_applied"));
    let found = gateway.get("/candidates?externalId=e1").await;
    assert_eq!(found.body["items"], json!([]));
    stub.respond_with(|_| json_response(200, &json!({})));
    let registered = gateway.post("/candidates", &person).await;
    assert_eq!(registered.status, 201);
    let found = gateway.get("/candidates?externalId=e1").await;
    assert_eq!(found.body["items"].as_array().map(Vec::len), Some(1), "{found:?}");
}
