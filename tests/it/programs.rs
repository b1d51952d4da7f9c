//! Programs: who is enrolled, in how many calls, and what is reported when a part fails.

use examgate::sandbox::{Sandbox, accounts};
use serde_json::{Value, json};

use crate::support::connections::{startexam, thinkexam};
use crate::support::gateway::{Gateway, sandbox, set_faults};
use crate::support::vendor::{SeenRequest, Stub, build_response, json_response};
use crate::support::watch::{bodies, call_count, wait_for_state, warnings};

const PROGRAM: &str = accounts::startexam::PROGRAM_ID;
const TEST: &str = accounts::startexam::TESTS[0].0;

fn catalogue() -> String {
    format!(
        "[programs.onboarding]\nname = \"Onboarding\"\nconnection = \"startexam-main\"\nref = \"{PROGRAM}\"\n\
         [programs.by-own-id]\nname = \"The same\"\nconnection = \"startexam-main\"\nexternal_ref = \"{}\"\n\
         [assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-main\"\nref = \"{TEST}\"\n",
        accounts::startexam::PROGRAM_EXTERNAL_ID
    )
}

async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let connections = startexam(&format!("http://{}", sandbox.startexam()), "") + &catalogue();
    let gateway = Gateway::start(&connections).await;
    for id in ["e1", "e2", "e3"] {
        let body = json!({ "externalId": id, "name": { "givenName": "Ada", "familyName": "King" } });
        assert_eq!(gateway.post("/candidates", &body).await.status, 201);
    }
    (sandbox, gateway)
}

fn employees_path(program: &str) -> String {
    format!("/programs/{program}/employees")
}

fn enrolment(register: &[&str], unregister: &[&str]) -> Value {
    json!({ "scope": "all", "register": register, "unregister": unregister })
}

#[tokio::test]
async fn employees_are_enrolled_withdrawn_and_counted() {
    let (sandbox, gateway) = start().await;
    let enrolled = gateway.post(&employees_path("onboarding"), &enrolment(&["e1", "e2"], &[])).await;
    assert_eq!(enrolled.status, 200, "{enrolled:?}");
    assert_eq!(
        enrolled.body,
        json!({
            "employeesRegistered": 2, "attemptsRegistered": 8, "employeesUnregistered": 0, "attemptsUnregistered": 0,
            "totalEmployeesInProgram": 2, "outcome": "applied", "warnings": [],
        })
    );
    let changed = gateway.post(&employees_path("onboarding"), &enrolment(&["e3"], &["e1"])).await;
    let count = |name: &str| changed.body[name].as_u64().unwrap();
    assert_eq!(
        (count("employeesRegistered"), count("employeesUnregistered"), count("totalEmployeesInProgram")),
        (1, 1, 2)
    );
    let sent = bodies(sandbox.startexam(), "program_employees").await;
    assert_eq!((&sent[0]["programId"], &sent[0]["moduleTestsScope"]), (&json!(PROGRAM), &json!("all")));
    assert_eq!((&sent[1]["registerEmployees"], &sent[1]["unregisterEmployees"]), (&json!(["e3"]), &json!(["e1"])));
}

#[tokio::test]
async fn a_program_is_addressed_by_catalogue_name_guid_or_external_id() {
    let (sandbox, gateway) = start().await;
    let own = format!("ext:{}", accounts::startexam::PROGRAM_EXTERNAL_ID);
    let upper = PROGRAM.to_uppercase();
    for name in ["onboarding", "by-own-id", PROGRAM, &upper, &own] {
        let response = gateway.post(&employees_path(name), &enrolment(&["e1"], &[])).await;
        assert_eq!(
            (response.status, &response.body["totalEmployeesInProgram"]),
            (200, &json!(1)),
            "{name}: {response:?}"
        );
    }
    let sent = bodies(sandbox.startexam(), "program_employees").await;
    let named: Vec<(&Value, &Value)> =
        sent.iter().map(|body| (&body["programId"], &body["programExternalId"])).collect();
    let (id, external) = (json!(PROGRAM), json!(accounts::startexam::PROGRAM_EXTERNAL_ID));
    assert_eq!(named[0], (&id, &Value::Null));
    assert_eq!(named[1], (&Value::Null, &external));
    assert_eq!(named[3], (&id, &Value::Null));
    assert_eq!(named[4], (&Value::Null, &external));
}

#[tokio::test]
async fn employees_are_named_by_external_or_candidate_id_and_assessments_by_catalogue() {
    let (sandbox, gateway) = start().await;
    let found = gateway.get("/candidates?externalId=e2").await;
    let body = json!({
        "scope": "selected", "assessments": ["rust-101", accounts::startexam::TESTS[1].0.to_uppercase()],
        "register": ["e1", { "id": found.text("/items/0/id") }],
    });
    let response = gateway.post(&employees_path(PROGRAM), &body).await;
    assert_eq!((response.status, &response.body["attemptsRegistered"]), (200, &json!(4)), "{response:?}");
    let sent = bodies(sandbox.startexam(), "program_employees").await;
    assert_eq!(sent[0]["registerEmployees"], json!(["e1", "e2"]));
    assert_eq!(sent[0]["moduleTests"], json!([TEST, accounts::startexam::TESTS[1].0]));
    assert_eq!(sent[0]["moduleTestsScope"], "selected");
}

#[tokio::test]
async fn invalid_enrolments_are_rejected_before_anything_is_sent() {
    let (sandbox, gateway) = start().await;
    let before = call_count(sandbox.startexam()).await;
    let found = gateway.get("/candidates?externalId=e1").await;
    let e1 = json!({ "id": found.text("/items/0/id") });
    let cases = [
        ("both lists empty", json!({ "scope": "all" })),
        ("both lists empty", enrolment(&[], &[])),
        ("in both lists", enrolment(&["e1"], &["e2", "e1"])),
        ("in both lists, named differently", json!({ "scope": "all", "register": ["e1"], "unregister": [e1] })),
        ("twice", enrolment(&["e1", "e1"], &[])),
        ("twice, named differently", json!({ "scope": "all", "register": ["e1", e1] })),
        ("selected without", json!({ "scope": "selected", "register": ["e1"] })),
        ("selected of none", json!({ "scope": "selected", "assessments": [], "register": ["e1"] })),
        ("all with", json!({ "scope": "all", "assessments": ["rust-101"], "register": ["e1"] })),
        ("no scope", json!({ "register": ["e1"] })),
        ("odd scope", json!({ "scope": "some", "register": ["e1"] })),
        ("unknown field", json!({ "scope": "all", "register": ["e1"], "odd": 1 })),
        ("blank id", enrolment(&[" "], &[])),
        ("too long an id", enrolment(&[&"e".repeat(251)], &[])),
    ];
    for (what, body) in cases {
        let refused = gateway.post(&employees_path("onboarding"), &body).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{what}");
        assert!(refused.text("/errors/0/pointer").starts_with('/'), "{what}: {refused:?}");
    }
    let unknown = json!({ "id": format!("cand_{}", "0".repeat(32)) });
    let refused = gateway.post(&employees_path("onboarding"), &json!({ "scope": "all", "register": [unknown] })).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"));
    assert_eq!(refused.text("/errors/0/pointer"), "/register/0/id");
    let body = json!({ "scope": "selected", "assessments": ["nothing"], "register": ["e1"] });
    assert_eq!(
        gateway.post(&employees_path("onboarding"), &body).await.problem(),
        (422, "invalid_reference", "not_applied")
    );
    let many: Vec<String> = (0..10_001).map(|number| format!("m{number}")).collect();
    let refused = gateway.post(&employees_path("onboarding"), &json!({ "scope": "all", "register": many })).await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(call_count(sandbox.startexam()).await, before);
}

#[tokio::test]
async fn hostile_program_ids_are_not_found() {
    let (sandbox, gateway) = start().await;
    let before = call_count(sandbox.startexam()).await;
    let long = "x".repeat(3000);
    let long_own = format!("ext:{}", "x".repeat(251));
    let hostile = [
        "..%2f..",
        "..%2Fv1%2Femployees",
        "%00",
        "ext:%00",
        "ext:..%2fa",
        "ext:a%2fb",
        "ext:a%5cb",
        "ext:",
        "ext:%20",
        "%E2%80%AE",
        "%F0%9F%92%A5",
        "ext:%0d%0aHost:%20x",
        "onboarding%20",
        "ONBOARDING",
        "'%20OR%201=1",
        &long,
        &long_own,
    ];
    for program in hostile {
        let response = gateway.post(&employees_path(program), &enrolment(&["e1"], &[])).await;
        assert_eq!(response.problem(), (404, "program_not_found", "not_applied"), "{program:.40}");
    }
    let not_text = gateway.post(&employees_path("%ff%fe"), &enrolment(&["e1"], &[])).await;
    assert!(matches!(not_text.status, 400 | 404), "{not_text:?}");
    assert_eq!(call_count(sandbox.startexam()).await, before);
}

#[tokio::test]
async fn a_vendor_without_programs_rejects_enrolments() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&thinkexam(&format!("http://{}", sandbox.thinkexam()), "")).await;
    let response = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await;
    assert_eq!(response.problem(), (422, "capability_unsupported", "not_applied"));
}

/// Starts a vendor that counts the employees it receives.
async fn start_counting_stub(failure_at: Option<(usize, u16)>) -> (Stub, Gateway) {
    let number = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::start(move |seen| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some((_, status)) = failure_at.filter(|(at, _)| *at == number) {
            return build_response(status, "application/json", "{\"message\":\"no\"}");
        }
        let body = seen.json();
        let (register, unregister) =
            (body["registerEmployees"].as_array().map_or(0, Vec::len), body["unregisterEmployees"].as_array().map_or(0, Vec::len));
        json_response(
            200,
            &json!({
                "employeesRegistered": register, "attemptsRegistered": register * 2, "employeesUnregistered": unregister,
                "attemptsUnregistered": unregister * 3, "totalEmployeesInProgram": 1000 + number,
            }),
        )
    })
    .await;
    let gateway = Gateway::start(&startexam(&stub.url(), "")).await;
    (stub, gateway)
}

fn many_employees() -> Value {
    let ids = |head: &str, count: usize| (0..count).map(|n| format!("{head}{n}")).collect::<Vec<_>>();
    json!({ "scope": "all", "register": ids("r", 1201), "unregister": ids("u", 501) })
}

#[tokio::test]
async fn long_lists_are_sent_in_several_calls_and_summed_up() {
    let (stub, gateway) = start_counting_stub(None).await;
    let response = gateway.post(&employees_path(PROGRAM), &many_employees()).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        response.body,
        json!({
            "employeesRegistered": 1201, "attemptsRegistered": 2402, "employeesUnregistered": 501,
            "attemptsUnregistered": 1503, "totalEmployeesInProgram": 1002, "outcome": "applied", "warnings": [],
        })
    );
    let mut registered = Vec::new();
    let mut unregistered = Vec::new();
    for seen in stub.seen() {
        let body = seen.json();
        for (list, all) in [("registerEmployees", &mut registered), ("unregisterEmployees", &mut unregistered)] {
            let ids = body[list].as_array().cloned().unwrap_or_default();
            assert!(ids.len() <= 500);
            all.extend(ids);
        }
    }
    assert_eq!(stub.seen().len(), 3);
    assert_eq!(
        (json!(registered), json!(unregistered)),
        (many_employees()["register"].clone(), many_employees()["unregister"].clone())
    );
}

#[tokio::test]
async fn a_failure_in_the_middle_reports_which_part_was_applied() {
    for (status, code, outcome, http) in
        [(400, "vendor_rejected_request", "not_applied", 422), (500, "vendor_internal_error", "unknown", 502)]
    {
        let (stub, gateway) = start_counting_stub(Some((1, status))).await;
        let response = gateway.post(&employees_path(PROGRAM), &many_employees()).await;
        assert_eq!((response.status, response.text("/code")), (http, code), "{response:?}");
        assert_eq!(
            response.body["chunks"],
            json!([
                { "from": 0, "to": 500, "outcome": "applied" },
                { "from": 500, "to": 1000, "outcome": outcome },
                { "from": 1000, "to": 1201, "outcome": "not_applied" },
            ])
        );
        assert_ne!(response.text("/outcome"), "not_applied", "a part was applied");
        // The reconciliation may have sent the second part again.
        let last_part = |seen: &SeenRequest| String::from_utf8_lossy(&seen.body).contains("\"r1200\"");
        assert!(!stub.seen().iter().any(last_part), "nothing is sent after the failure");
        // The same request again is harmless and completes it.
        let again = gateway.post(&employees_path(PROGRAM), &many_employees()).await;
        assert_eq!(again.status, 200, "{again:?}");
    }
}

#[tokio::test]
async fn a_rejected_enrolment_is_not_applied_and_a_lost_one_is_unknown() {
    let (sandbox, gateway) = start().await;
    let nobody = gateway.post(&employees_path(PROGRAM), &enrolment(&["nobody"], &[])).await;
    assert_eq!(nobody.problem(), (422, "invalid_reference", "not_applied"));
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "reset_after_effect", "times": 1 }] })).await;
    let lost = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    assert!(lost.body["resource"].is_string(), "{lost:?}");
    let again = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await;
    assert_eq!((again.status, &again.body["totalEmployeesInProgram"]), (200, &json!(1)), "{again:?}");
}

#[tokio::test]
async fn a_late_retry_never_undoes_a_later_change() {
    for lost in ["reset_before_effect", "reset_after_effect"] {
        let (sandbox, gateway) = start().await;
        let port = sandbox.startexam();
        set_faults(port, json!({ "faults": [{ "name": lost, "operation": "program_employees", "times": 1 }] })).await;
        let unknown = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await;
        assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"), "{lost}");
        let operation = unknown.text("/resource").to_owned();
        let later = gateway.post(&employees_path(PROGRAM), &enrolment(&[], &["e1"])).await;
        assert_eq!((later.status, &later.body["totalEmployeesInProgram"]), (200, &json!(0)), "{lost}: {later:?}");
        // The first one was reconciled before the second was sent, and nothing is left to send.
        let sent = bodies(port, "program_employees").await;
        let registers: Vec<usize> =
            sent.iter().map(|body| body["registerEmployees"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(registers, [1, 1, 0], "{lost}");
        let items = gateway.get(&format!("{operation}/items")).await;
        assert_eq!(items.text("/items/0/outcome"), "applied", "{items:?}");
        assert_eq!(gateway.get(&operation).await.text("/state"), "completed", "{lost}");
    }
}

#[tokio::test]
async fn writes_to_a_program_named_in_two_ways_are_serialised() {
    let own = format!("ext:{}", accounts::startexam::PROGRAM_EXTERNAL_ID);
    for (first, then) in [(PROGRAM, own.as_str()), (&own, PROGRAM)] {
        let (sandbox, gateway) = start().await;
        let port = sandbox.startexam();
        let lost = json!({ "name": "reset_before_effect", "operation": "program_employees", "times": 1 });
        set_faults(port, json!({ "faults": [lost] })).await;
        let unknown = gateway.post(&employees_path(first), &enrolment(&["e1"], &[])).await;
        assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"), "{first} {then}");
        let later = gateway.post(&employees_path(then), &enrolment(&[], &["e1"])).await;
        assert_eq!((later.status, &later.body["totalEmployeesInProgram"]), (200, &json!(0)), "{later:?}");
        let sent = bodies(port, "program_employees").await;
        let registers: Vec<usize> =
            sent.iter().map(|body| body["registerEmployees"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(registers, [1, 1, 0], "the first is settled before the second is sent");
    }
}

/// Starts a vendor that fails every call about `ghost`.
async fn start_failing_stub() -> (Stub, Gateway) {
    let (stub, gateway) = start_counting_stub(None).await;
    stub.respond_with(|seen| {
        let body = seen.json().to_string();
        if body.contains("ghost") {
            build_response(500, "application/json", "{}")
        } else {
            json_response(200, &one_registration())
        }
    });
    (stub, gateway)
}

fn one_registration() -> Value {
    json!({
        "employeesRegistered": 1, "attemptsRegistered": 1, "employeesUnregistered": 0, "attemptsUnregistered": 0,
        "totalEmployeesInProgram": 1,
    })
}

#[tokio::test]
async fn a_lost_call_blocks_only_its_own_employees_until_it_is_settled_manually() {
    let (stub, gateway) = start_failing_stub().await;
    let unknown = gateway.post(&employees_path(PROGRAM), &enrolment(&["ghost"], &[])).await;
    assert_eq!(unknown.problem(), (502, "vendor_internal_error", "unknown"));
    let operation = unknown.text("/resource").to_owned();
    assert_eq!(gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await.status, 200, "others proceed");

    let held = gateway.post(&employees_path("ext:other"), &enrolment(&["e2"], &["ghost"])).await;
    assert_eq!(held.problem(), (409, "subject_unsettled", "not_applied"), "{held:?}");
    assert_eq!(held.text("/resource"), operation, "what is unsettled: {held:?}");
    let settlement = json!({ "outcome": "not_applied", "items": [0] });
    let settled = gateway.post(&format!("{operation}/settle"), &settlement).await;
    assert_eq!((settled.status, &settled.body["progress"]["notApplied"]), (200, &json!(1)), "{settled:?}");
    assert_eq!(gateway.get(&format!("{operation}/items")).await.text("/items/0/outcome"), "not_applied");
    let entry = gateway.get("/audit?limit=200").await;
    let entries = entry.body["items"].as_array().expect("lines");
    let entry = entries.iter().find(|entry| entry["action"] == "operations.settle").expect("a line");
    assert_eq!((&entry["status"], &entry["object"]), (&json!(200), &json!(operation)), "{entry}");

    stub.respond_with(|_| json_response(200, &one_registration()));
    let before = stub.seen().len();
    assert_eq!(
        gateway.post(&employees_path(PROGRAM), &enrolment(&["e2"], &["ghost"])).await.status,
        200,
        "the next one proceeds"
    );
    assert_eq!(stub.seen().len(), before + 1, "and nothing of the first is sent again");
}

#[tokio::test]
async fn a_retry_replays_an_enrolment_that_was_settled_manually_as_applied() {
    let (stub, gateway) = start_failing_stub().await;
    let send = async || {
        let request =
            gateway.request(reqwest::Method::POST, &employees_path(PROGRAM)).header("Idempotency-Key", "enrol-1");
        request.json(&enrolment(&["ghost"], &[])).send().await
    };
    let operation = send().await.text("/resource").to_owned();
    let settled = gateway.post(&format!("{operation}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.status, &settled.body["progress"]["applied"]), (200, &json!(1)), "{settled:?}");
    let before = stub.seen().len();
    let repeated = send().await;
    assert_eq!((repeated.status, repeated.text("/outcome")), (200, "applied"), "{repeated:?}");
    let codes: Vec<String> = warnings(&repeated).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["settled_by_hand", "counts_lower_bound"], "{repeated:?}");
    assert_eq!(stub.seen().len(), before, "nothing is sent again");
}

#[tokio::test]
async fn only_unknown_enrolment_calls_can_be_settled_manually() {
    let (_stub, gateway) = start_failing_stub().await;
    let done = gateway.request(reqwest::Method::POST, &employees_path(PROGRAM)).header("Prefer", "respond-async");
    let done = format!("/operations/{}", done.json(&enrolment(&["e1"], &[])).send().await.text("/id"));
    wait_for_state(&gateway, &done, "completed").await;
    let unknown =
        gateway.post(&employees_path(PROGRAM), &enrolment(&["ghost"], &[])).await.text("/resource").to_owned();
    let bulk = json!({ "items": [{ "externalId": "e9" }] });
    let bulk = format!("/operations/{}", gateway.post("/candidates/bulk", &bulk).await.text("/operation"));
    for (operation, body, pointer) in [
        (&done, json!({ "outcome": "applied" }), "/outcome"),
        (&unknown, json!({ "outcome": "applied", "items": [1] }), "/items/0"),
        (&unknown, json!({ "outcome": "applied", "items": [] }), "/items"),
        (&unknown, json!({ "outcome": "unknown" }), "/outcome"),
        (&unknown, json!({}), "/outcome"),
        (&bulk, json!({ "outcome": "applied" }), "/outcome"),
    ] {
        let refused = gateway.post(&format!("{operation}/settle"), &body).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{body}: {refused:?}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn the_next_request_proceeds_if_reconciliation_proves_nothing_was_done() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.startexam();
    let lost = json!({ "name": "reset_before_effect", "operation": "program_employees", "times": 1 });
    set_faults(port, json!({ "faults": [lost] })).await;
    let unknown = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1", "nobody"], &[])).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    // The vendor's 404 about `nobody` proves it.
    let later = gateway.post(&employees_path(PROGRAM), &enrolment(&["e1"], &[])).await;
    assert_eq!((later.status, &later.body["totalEmployeesInProgram"]), (200, &json!(1)), "{later:?}");
    let items = gateway.get(&format!("{}/items", unknown.text("/resource"))).await;
    assert_eq!(items.text("/items/0/outcome"), "not_applied", "{items:?}");
}

#[tokio::test]
async fn an_enrolment_interrupted_by_a_kill_is_finished_by_the_next_process() {
    let (sandbox, gateway) = start().await;
    let port = sandbox.startexam();
    let delay =
        json!({ "name": "delay_after_effect", "operation": "program_employees", "delayMs": 60_000, "times": 1 });
    set_faults(port, json!({ "faults": [delay] })).await;
    let request = gateway.request(reqwest::Method::POST, &employees_path(PROGRAM)).header("Prefer", "respond-async");
    let accepted = request.json(&enrolment(&["e1", "e2"], &[])).send().await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = format!("/operations/{}", accepted.text("/id"));
    wait_for_enrolment(port).await;
    let gateway = Gateway::start_in(gateway.kill().await).await;
    let ended = wait_for_state(&gateway, &operation, "completed").await;
    assert_eq!(ended.body["progress"]["applied"], 1, "{ended:?}");
    let items = gateway.get(&format!("{operation}/items")).await;
    assert_eq!(items.body["items"][0]["resource"]["totalEmployeesInProgram"], 2, "{items:?}");
    assert!(items.body.to_string().contains("counts_lower_bound"), "{items:?}");
}

#[tokio::test]
async fn a_retry_under_a_key_reconciles_an_enrolment_and_later_retries_replay_it() {
    let (sandbox, gateway) = start().await;
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "reset_after_effect", "times": 1 }] })).await;
    let send = async || {
        let request =
            gateway.request(reqwest::Method::POST, &employees_path(PROGRAM)).header("Idempotency-Key", "enrol-1");
        request.json(&enrolment(&["e1"], &[])).send().await
    };
    assert_eq!(send().await.problem(), (504, "vendor_timeout", "unknown"));
    let settled = send().await;
    assert_eq!((settled.status, &settled.body["totalEmployeesInProgram"]), (200, &json!(1)), "{settled:?}");
    let replayed = send().await;
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!((replayed.status, &replayed.body), (200, &settled.body));
    assert_eq!(bodies(sandbox.startexam(), "program_employees").await.len(), 2);
}

/// Waits until an enrolment has arrived at the vendor. The pause only saves CPU.
async fn wait_for_enrolment(port: std::net::SocketAddr) {
    while bodies(port, "program_employees").await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
