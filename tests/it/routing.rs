//! The way of requests: routes, addresses, the connection chosen, and the ids by which a request is found again.

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::requests::{TEST, errors, person};
use crate::support::connections::{client, examtesting, startexam};
use crate::support::gateway::Gateway;
use crate::support::vendor::{Stub, json_response};

#[tokio::test]
async fn every_response_has_the_request_id_and_problems_repeat_it() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let long = "x".repeat(129);
    for (given, accepted) in
        [("a.b_c:d-1", true), (&long[..128], true), (&long, false), ("a b", false), ("a\u{e4}", false), ("<b>", false)]
    {
        for (method, path) in [
            (Method::GET, "/vendors"),
            (Method::GET, "/livez"),
            (Method::GET, "/nothing"),
            (Method::PUT, "/candidates"),
            (Method::POST, "/candidates"),
            (Method::GET, "/openapi.json"),
            (Method::GET, "/docs/"),
        ] {
            let request = gateway.request(method.clone(), path).header("x-request-id", given);
            let response = request.send().await;
            let named = response.header("x-request-id").unwrap_or_default().to_owned();
            assert_eq!(named == given, accepted, "{method} {path} {given:?}: {named}");
            assert!(named.starts_with("req_") || accepted, "{named}");
            if response.status >= 400 {
                response.problem();
                assert_eq!(response.text("/requestId"), named, "{method} {path}");
            }
        }
    }
    let one = gateway.get("/vendors").await;
    let other = gateway.get("/vendors").await;
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn traces_continue_at_the_vendor() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = gateway.request(Method::POST, "/candidates").json(&person("a"));
    let response = request.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).send().await;
    assert_eq!(response.status, 201, "{response:?}");
    let passed_on = stub.seen()[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert!(passed_on.starts_with(&format!("00-{trace}-")), "{passed_on}");
    let request = gateway.request(Method::POST, "/candidates").json(&person("b"));
    request.header("traceparent", "00-\u{e4}-x").send().await;
    let odd = stub.seen()[1].headers.get("traceparent").map(|value| value.as_bytes().to_vec());
    assert!(odd.is_none_or(|value| value.starts_with(b"00-") && value.is_ascii()));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_reported() {
    let stub = Stub::accepting_startexam().await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    for path in [
        "//",
        "/candidates/",
        "//candidates",
        "/Candidates",
        "/candidates/../vendors/x",
        "/v1/candidates",
        "/candidates/a/b/c",
    ] {
        assert_eq!(gateway.get(path).await.problem(), (404, "not_found", "not_applied"), "{path}");
    }
    for (method, path, allowed) in [
        ("PUT", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("DELETE", "/vendors", vec!["GET", "HEAD"]),
        ("POST", "/livez", vec!["GET", "HEAD"]),
        ("POST", "/openapi.json", vec!["GET", "HEAD"]),
        ("GET", "/candidates/bulk", vec!["POST"]),
        ("PURGE", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("TRACE", "/candidates", vec!["GET", "HEAD", "POST"]),
        ("OPTIONS", "/assignments", vec!["GET", "HEAD", "POST"]),
    ] {
        let response = gateway.request(Method::from_bytes(method.as_bytes()).unwrap(), path).send().await;
        // `/candidates/bulk` is also the path of a candidate named "bulk".
        if path == "/candidates/bulk" {
            assert!([404, 405].contains(&response.problem().0), "{response:?}");
            continue;
        }
        assert_eq!(response.problem(), (405, "method_not_allowed", "not_applied"), "{method} {path}");
        let mut methods: Vec<&str> = response.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        methods.sort_unstable();
        assert_eq!(methods, allowed, "{method} {path}");
    }
    let head = gateway.request(Method::HEAD, "/vendors").send().await;
    assert_eq!((head.status, head.body), (200, json!("")));
}

#[tokio::test]
async fn the_connection_is_chosen_by_field_then_catalogue_then_default() {
    let stub = Stub::accepting_startexam().await;
    let url = stub.url();
    let second = startexam(&url, "").replace("startexam-main", "startexam-two");
    let catalogue = format!(
        "[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-two\"\nref = \"{TEST}\"\n\
         [programs.onboarding]\nname = \"Onboarding\"\nconnection = \"startexam-two\"\nref = \"{}\"\n",
        accounts::startexam::PROGRAM_ID
    );
    let connections = startexam(&url, "") + &second + &examtesting(&url, "") + &catalogue;
    let with_default =
        client("defaulted", "", "[\"*\"]").replace("tenant = \"\"", "default_connection = \"startexam-main\"");
    let clients = client("lms", "", "[\"*\"]") + &with_default + &client("single", "", "[\"startexam-two\"]");
    let gateway = Gateway::start_with(&connections, &clients).await;
    let key = crate::support::gateway::key;
    let as_client =
        |name: &str, path: &str, body: Value| gateway.request_as(&key(name), Method::POST, path).json(&body).send();

    let named = as_client("lms", "/candidates", json!({ "connection": "startexam-two", "externalId": "a" })).await;
    assert_eq!((named.status, named.text("/connection")), (201, "startexam-two"), "{named:?}");
    let none = as_client("lms", "/candidates", person("b")).await;
    assert_eq!(
        (none.problem(), errors(&none)[0].0.as_str()),
        ((422, "connection_required", "not_applied"), "/connection")
    );
    let defaulted = as_client("defaulted", "/candidates", person("c")).await;
    assert_eq!((defaulted.status, defaulted.text("/connection")), (201, "startexam-main"), "{defaulted:?}");
    let only = as_client("single", "/candidates", person("d")).await;
    assert_eq!((only.status, only.text("/connection")), (201, "startexam-two"), "{only:?}");

    // Each client books its own people: those of another tenant are rejected.
    for (name, id) in [("lms", "a"), ("defaulted", "c")] {
        let order = json!({ "candidate": { "externalId": id }, "assessment": "rust-101" });
        let entry = as_client(name, "/assignments", order).await;
        assert_eq!((entry.status, entry.text("/connection")), (201, "startexam-two"), "{name}: {entry:?}");
    }
    let employees = json!({ "scope": "all", "register": ["c"] });
    stub.respond_with(|_| json_response(200, &json!({ "employeesRegistered": 1, "attemptsRegistered": 1, "employeesUnregistered": 0, "attemptsUnregistered": 0, "totalEmployeesInProgram": 1 })));
    let entry = as_client("defaulted", "/programs/onboarding/employees", employees.clone()).await;
    assert_eq!(entry.status, 200, "{entry:?}");

    let before = stub.seen().len();
    for (name, path, body, expected) in [
        ("lms", "/candidates", json!({ "connection": "odd", "externalId": "e" }), (404, "connection_not_found")),
        ("lms", "/candidates", json!({ "connection": "", "externalId": "e" }), (422, "validation_failed")),
        ("lms", "/candidates", json!({ "connection": "a\r\nb", "externalId": "e" }), (422, "validation_failed")),
        (
            "single",
            "/candidates",
            json!({ "connection": "startexam-main", "externalId": "e" }),
            (403, "connection_forbidden"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "examtesting-main", "candidate": { "externalId": "a" }, "assessment": "1" }),
            (422, "capability_unsupported"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "startexam-main", "candidate": { "externalId": "a" }, "assessment": "no-guid" }),
            (422, "invalid_reference"),
        ),
        (
            "lms",
            "/assignments",
            json!({ "connection": "startexam-main", "candidate": { "id": "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f" }, "assessment": TEST }),
            (422, "invalid_reference"),
        ),
        ("defaulted", "/programs/no-guid/employees", employees.clone(), (404, "program_not_found")),
        ("defaulted", "/programs/ext:/employees", employees.clone(), (404, "program_not_found")),
    ] {
        let response = as_client(name, path, body.clone()).await;
        assert_eq!(response.problem(), (expected.0, expected.1, "not_applied"), "{name} {path} {body} {response:?}");
    }
    let forbidden = gateway.request_as(&key("single"), Method::GET, "/connections/startexam-main").send().await;
    assert_eq!(forbidden.problem().1, "connection_forbidden");
    let forbidden = gateway
        .request_as(&key("single"), Method::GET, "/candidates?externalId=a&connection=startexam-main")
        .send()
        .await;
    assert_eq!(forbidden.problem().1, "connection_forbidden");
    assert_eq!(stub.seen().len(), before);
}

#[tokio::test]
async fn an_assessment_of_another_connection_is_rejected() {
    let stub = Stub::accepting_startexam().await;
    let second = startexam(&stub.url(), "").replace("startexam-main", "startexam-two");
    let catalogue =
        format!("[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-two\"\nref = \"{TEST}\"\n");
    let gateway = Gateway::start(&(startexam(&stub.url(), "") + &second + &catalogue)).await;
    let order = json!({ "connection": "startexam-main", "candidate": { "externalId": "a" }, "assessment": "rust-101" });
    let response = gateway.post("/assignments", &order).await;
    assert_eq!(response.problem(), (422, "invalid_reference", "not_applied"), "{response:?}");
    assert_eq!(errors(&response)[0].0, "/assessment");
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test]
async fn all_routes_move_below_the_base_path_and_none_remain_outside_it() {
    let stub = Stub::accepting_startexam().await;
    let environment = [("EXAMGATE__SERVER__BASE_PATH", "/exam-api")];
    let gateway =
        Gateway::start_with_env(&startexam(&stub.url(), ""), &client("lms", "", "[\"*\"]"), &environment).await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/openapi-3.0.json", "/vendors", "/problems/internal"]
    {
        assert_eq!(gateway.get(&format!("/exam-api{path}")).await.status, 200, "{path}");
        assert_eq!(gateway.get(path).await.problem().0, 404, "{path}");
    }
    let docs = gateway.get("/exam-api/docs").await;
    assert!((300..400).contains(&docs.status) || docs.status == 200, "{docs:?}");
    let created = gateway.post("/exam-api/candidates", &person("a")).await;
    let location = created.header("location").unwrap_or_default().to_owned();
    assert_eq!((created.status, location.clone()), (201, format!("/exam-api/candidates/{}", created.text("/id"))));
    assert_eq!(gateway.get(&location).await.status, 200);
    let slow = gateway
        .request(Method::POST, "/exam-api/candidates")
        .header("prefer", "respond-async")
        .json(&person("b"))
        .send()
        .await;
    assert!(slow.header("location").unwrap_or_default().starts_with("/exam-api/candidates/"), "{slow:?}");
}

#[tokio::test]
async fn location_headers_use_the_public_url() {
    let stub = Stub::accepting_startexam().await;
    for (base, public, expected) in [
        ("", "https://exams.example.com", "https://exams.example.com/candidates/"),
        ("/api", "https://exams.example.com/api/", "https://exams.example.com/api/candidates/"),
    ] {
        let environment = [("EXAMGATE__SERVER__PUBLIC_URL", public), ("EXAMGATE__SERVER__BASE_PATH", base)];
        let gateway =
            Gateway::start_with_env(&startexam(&stub.url(), ""), &client("lms", "", "[\"*\"]"), &environment).await;
        let created = gateway.post(&format!("{base}/candidates"), &person("a")).await;
        assert_eq!(
            created.header("location"),
            Some(format!("{expected}{}", created.text("/id")).as_str()),
            "{created:?}"
        );
    }
}
