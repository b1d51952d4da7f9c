//! Writes that return before they have ended: the first response, and what the record says about the outcome.

use examgate::sandbox::accounts;
use http::Method;
use serde_json::{Value, json};

use crate::support::connections::{client, examtesting, start_startexam, startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::people::{order_if_exists, person};
use crate::support::watch::{bodies, wait_for_state, wait_until};

const TEST: &str = accounts::startexam::TESTS[0].0;

async fn inject_fault(port: std::net::SocketAddr, fault: Value) {
    set_faults(port, json!({ "faults": [fault] })).await;
}

async fn send_async(gateway: &Gateway, method: Method, path: &str, body: Option<&Value>) -> ApiResponse {
    let request = gateway.request(method, path).header("prefer", "respond-async");
    let request = if let Some(body) = body { request.json(body) } else { request };
    request.send().await
}

fn location(response: &ApiResponse) -> String {
    response.header("location").expect("a location").to_owned()
}

#[tokio::test]
async fn respond_async_returns_202_however_fast_the_vendor_is() {
    let (sandbox, gateway) = start_startexam("").await;
    for number in 0..20 {
        for preference in ["respond-async", "wait=0"] {
            let body = person(&format!("{preference}-{number}"));
            let request = gateway.request(Method::POST, "/candidates").header("prefer", preference);
            let response = request.json(&body).send().await;
            assert_eq!((response.status, response.text("/state")), (202, "pending"), "{response:?}");
        }
    }
    inject_fault(sandbox.startexam(), json!({ "name": "bad_request", "times": 5 })).await;
    for number in 0..5 {
        let refused =
            send_async(&gateway, Method::POST, "/candidates", Some(&person(&format!("refused-{number}")))).await;
        assert_eq!(refused.status, 202, "{refused:?}");
        wait_for_state(&gateway, &location(&refused), "failed").await;
    }
    let rows = json!({ "items": [person("row-1")] });
    let program = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let enrolment = json!({ "scope": "all", "register": ["wait=0-1"] });
    for (path, body) in [("/candidates/bulk", rows), (&*program, enrolment)] {
        let accepted = send_async(&gateway, Method::POST, path, Some(&body)).await;
        assert_eq!((accepted.status, accepted.text("/state")), (202, "queued"), "{accepted:?}");
        assert_eq!(accepted.body["progress"]["pending"], 1, "{accepted:?}");
        wait_for_state(&gateway, &location(&accepted), "completed").await;
    }
    let wrong = send_async(&gateway, Method::POST, "/candidates", Some(&json!({ "externalId": "" }))).await;
    assert_eq!(wrong.status, 422, "an error found before acceptance is returned as usual");
}

#[tokio::test]
async fn an_asynchronous_deletion_returns_the_pending_record() {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "")
        + &thinkexam(&format!("http://{}", sandbox.thinkexam()), "");
    let gateway = Gateway::start(&connections).await;
    let created = gateway.post("/candidates?connection=startexam-main", &person("e1")).await;
    let path = location(&created);
    let removal = send_async(&gateway, Method::DELETE, &path, None).await;
    assert_eq!((removal.status, removal.text("/state"), location(&removal)), (202, "pending", path.clone()));
    wait_until(&gateway, &path, |response| response.status == 404).await;

    let mut body = person("e2");
    body["group"] = json!(accounts::thinkexam::COURSES[0]);
    assert_eq!(gateway.post("/candidates?connection=thinkexam-main", &body).await.status, 201);
    let order = json!({ "candidate": { "externalId": "e2" }, "assessment": accounts::thinkexam::TESTS[0].0 });
    let booked = gateway.post("/assignments?connection=thinkexam-main", &order).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    let withdrawal = send_async(&gateway, Method::DELETE, &location(&booked), None).await;
    assert_eq!((withdrawal.status, withdrawal.text("/state")), (202, "pending"), "{withdrawal:?}");
    wait_for_state(&gateway, &location(&booked), "cancelled").await;
}

#[tokio::test]
async fn a_record_shows_why_its_last_write_failed_until_the_next_one() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    inject_fault(port, json!({ "name": "bad_request", "times": 1 })).await;
    let accepted = send_async(&gateway, Method::POST, "/candidates", Some(&person("e1"))).await;
    let failed = wait_for_state(&gateway, &location(&accepted), "failed").await;
    let problem = |response: &ApiResponse, pointer: &str| response.body.pointer(&format!("/problem{pointer}")).cloned();
    let text = |response: &ApiResponse, pointer: &str| {
        problem(response, pointer).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    assert_eq!(text(&failed, "/code"), "vendor_rejected_request", "{failed:?}");
    assert_eq!(text(&failed, "/type"), "/problems/vendor_rejected_request");
    assert_eq!(text(&failed, "/outcome"), "not_applied");
    assert_eq!(problem(&failed, "/status"), Some(json!(422)));
    assert_eq!(problem(&failed, "/retryable"), Some(json!(false)));
    assert_eq!(problem(&failed, "/vendor/httpStatus"), Some(json!(400)));
    assert_eq!(text(&failed, "/vendor/connection"), "startexam-main");
    assert!(!text(&failed, "/vendor/message").is_empty() && !text(&failed, "/title").is_empty(), "{failed:?}");
    assert_eq!(gateway.get(&text(&failed, "/instance")).await.status, 200, "{failed:?}");

    let created = gateway.post("/candidates", &person("e1")).await;
    assert_eq!((created.status, problem(&created, "")), (201, None), "{created:?}");
    let path = location(&created);
    inject_fault(port, json!({ "name": "bad_request", "times": 1 })).await;
    let change = json!({ "name": { "familyName": "Lovelace" } });
    let change = send_async(&gateway, Method::PATCH, &path, Some(&change)).await;
    assert_eq!((change.status, problem(&change, "")), (202, None), "{change:?}");
    let refused = wait_for_state(&gateway, &path, "registered").await;
    assert_eq!(text(&refused, "/code"), "vendor_rejected_request", "{refused:?}");
    let listed = gateway.get("/candidates?externalId=e1").await;
    assert_eq!(listed.text("/items/0/problem/code"), "vendor_rejected_request", "{listed:?}");
    assert_eq!(gateway.patch(&path, &json!({ "problem": null })).await.status, 422, "it is not the caller's to change");
    let changed = gateway.patch(&path, &json!({ "email": "new@example.com" })).await;
    assert_eq!((changed.status, problem(&changed, "")), (200, None), "{changed:?}");

    inject_fault(port, json!({ "name": "not_found", "operation": "employees_participants", "times": 1 })).await;
    let booking = send_async(&gateway, Method::POST, "/assignments", Some(&order_if_exists("e1", TEST, "reuse"))).await;
    let failed = wait_for_state(&gateway, &location(&booking), "failed").await;
    assert_eq!((text(&failed, "/code"), text(&failed, "/outcome")), ("invalid_reference".into(), "not_applied".into()));
}

#[tokio::test]
async fn a_record_shows_why_its_last_write_is_unknown() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let lost = |operation: &str| json!({ "name": "reset_before_effect", "operation": operation, "times": 1 });
    // A write that the background reconciles is reported as unknown until then.
    inject_fault(port, lost("employees")).await;
    let accepted = send_async(&gateway, Method::POST, "/candidates", Some(&person("e2"))).await;
    let path = location(&accepted);
    let unknown = wait_until(&gateway, &path, |response| response.text("/state") != "pending").await;
    if unknown.text("/state") == "unknown" {
        let reported = (unknown.text("/problem/code"), unknown.text("/problem/outcome"));
        assert_eq!(reported, ("vendor_timeout", "unknown"), "{unknown:?}");
    }
    let settled = wait_for_state(&gateway, &path, "registered").await;
    assert_eq!(settled.body.get("problem"), None, "{settled:?}");
    // What only a person can settle keeps its reason, also after the manual settlement.
    inject_fault(port, lost("employees_participants")).await;
    let booking =
        send_async(&gateway, Method::POST, "/assignments", Some(&order_if_exists("e1", TEST, "create_new"))).await;
    let path = location(&booking);
    let unknown = wait_for_state(&gateway, &path, "unknown").await;
    let reported = (unknown.text("/problem/code"), unknown.text("/problem/outcome"));
    assert_eq!(reported, ("vendor_timeout", "unknown"), "{unknown:?}");
    let settled = gateway.post(&format!("{path}/settle"), &json!({ "outcome": "not_applied" })).await;
    assert_eq!(settled.text("/state"), "failed", "{settled:?}");
    let reported = (settled.text("/problem/code"), settled.text("/problem/outcome"));
    assert_eq!(reported, ("vendor_timeout", "not_applied"), "{settled:?}");
    assert!(settled.text("/problem/detail").contains("An operator confirmed"), "{settled:?}");
    // So does a write whose process was killed.
    inject_fault(
        port,
        json!({ "name": "delay_after_effect", "operation": "employees_participants", "delayMs": 60_000, "times": 1 }),
    )
    .await;
    let booking =
        send_async(&gateway, Method::POST, "/assignments", Some(&order_if_exists("e1", TEST, "create_new"))).await;
    let path = location(&booking);
    while bodies(port, "employees_participants").await.len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let gateway = Gateway::start_in(gateway.kill().await).await;
    let unknown = wait_for_state(&gateway, &path, "unknown").await;
    assert_eq!(unknown.text("/problem/outcome"), "unknown", "{unknown:?}");
    assert!(unknown.text("/problem/detail").contains("process"), "{unknown:?}");
}

#[tokio::test]
async fn enrolment_items_have_the_status_of_the_single_request() {
    let (sandbox, gateway) = start_startexam("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    inject_fault(
        sandbox.startexam(),
        json!({ "name": "reset_after_effect", "operation": "program_employees", "times": 1 }),
    )
    .await;
    let program = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let enrolment = json!({ "scope": "all", "register": ["e1"] });
    let accepted = send_async(&gateway, Method::POST, &program, Some(&enrolment)).await;
    let operation = location(&accepted);
    let applied = |response: &ApiResponse| response.body["progress"]["applied"] == 1;
    wait_until(&gateway, &operation, applied).await;
    let items = gateway.get(&format!("{operation}/items")).await;
    assert_eq!(items.body["items"][0]["status"], 200, "{items:?}");
    let warnings = items.body["items"][0]["resource"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{items:?}");
    assert_eq!(warnings[0]["code"], "counts_lower_bound");
}

#[tokio::test]
async fn a_password_generated_for_a_request_without_a_key_is_not_lost() {
    let sandbox = sandbox().await;
    let port = sandbox.examtesting();
    let connections = examtesting(&format!("http://{port}"), "");
    let clients = client("lms", "", "[\"*\"]") + &client("other", "", "[\"*\"]");
    let gateway = Gateway::start_with(&connections, &clients).await;
    let request_password =
        async |path: &str| gateway.request(Method::POST, &format!("{path}/initial-password")).send().await;
    let sent_password = async |id: &str| {
        let calls = bodies(port, "add").await;
        let call = calls.iter().find(|call| call["email"] == format!("{id}@example.com")).expect("a call");
        call["password"].as_str().expect("a password").to_owned()
    };
    // A response sent before the end, and a response that was lost.
    let accepted = send_async(&gateway, Method::POST, "/candidates", Some(&person("e1"))).await;
    assert_eq!((accepted.status, accepted.body.get("initialPassword")), (202, None), "{accepted:?}");
    let first = location(&accepted);
    wait_for_state(&gateway, &first, "registered").await;
    inject_fault(port, json!({ "name": "reset_after_effect", "times": 1 })).await;
    let lost = gateway.post("/candidates", &person("e2")).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    let second = lost.text("/resource").to_owned();
    wait_for_state(&gateway, &second, "registered").await;
    for (path, id) in [(&first, "e1"), (&second, "e2")] {
        for _ in 0..2 {
            let response = request_password(path).await;
            assert_eq!(
                (response.status, response.text("/initialPassword")),
                (200, &*sent_password(id).await),
                "{response:?}"
            );
        }
        assert_eq!(gateway.get(path).await.body.get("initialPassword"), None, "{path}");
        let other = gateway.request_as(&key("other"), Method::POST, &format!("{path}/initial-password")).send().await;
        assert_eq!(other.problem().1, "not_found", "{path}");
    }
    // Only generated passwords, and only as long as the candidate exists.
    let mut given = person("e3");
    given["password"] = json!("a-s3cret-of-mine");
    let given = gateway.post("/candidates", &given).await;
    assert_eq!((given.status, request_password(&location(&given)).await.status), (201, 404), "{given:?}");
    let again = gateway.post("/candidates", &person("e1")).await;
    assert_eq!((again.status, again.body.get("initialPassword")), (200, None), "{again:?}");
    assert_eq!(request_password(&first).await.status, 200);
    assert_eq!(gateway.delete(&first).await.status, 204);
    assert_eq!(request_password(&first).await.status, 404);
}
