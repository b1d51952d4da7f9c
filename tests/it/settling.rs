//! Writes without a response: they are unknown, they are reconciled as the vendor allows, and nothing happens twice.

use std::net::SocketAddr;

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::connections::{
    sandbox_connections, start_examtesting, start_startexam, start_thinkexam, startexam,
};
use crate::support::gateway::{ApiResponse, Gateway, sandbox, set_faults};
use crate::support::people::{order, person, with};
use crate::support::vendor::{Stub, build_response, json_response};
use crate::support::watch::{bodies, call_count, changes, wait_for_effect, warnings};

pub const TEST: &str = accounts::startexam::TESTS[0].0;

/// Makes the next call of this operation lose its response after the effect; then come these faults.
async fn lose_next_call(port: SocketAddr, operation: &str, then: &[Value]) {
    let mut list = vec![json!({ "name": "reset_after_effect", "operation": operation, "times": 1 })];
    list.extend(then.iter().cloned());
    set_faults(port, json!({ "faults": list })).await;
}

/// Asserts that the response is unknown and that the record agrees, unless the background was faster.
async fn assert_unknown(gateway: &Gateway, response: &ApiResponse) -> String {
    assert_eq!(response.problem(), (504, "vendor_timeout", "unknown"), "{response:?}");
    assert_eq!(response.body["retryable"], true);
    let resource = response.text("/resource").to_owned();
    let read = gateway.get(&resource).await;
    assert!(["unknown", "registered", "assigned", "cancelled"].contains(&read.text("/state")), "{read:?}");
    resource
}

#[tokio::test]
async fn a_registration_without_a_response_is_reconciled_by_resending_it() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    for (connection, port, operation) in [
        ("startexam-main", sandbox.startexam(), "employees"),
        ("thinkexam-main", sandbox.thinkexam(), "bulkCandidateRegister"),
        ("examtesting-main", sandbox.examtesting(), "add"),
    ] {
        for lost in ["reset_after_effect", "reset_before_effect"] {
            set_faults(port, json!({ "faults": [{ "name": lost, "operation": operation, "times": 1 }] })).await;
            let body = with(person(lost), "connection", json!(connection));
            let resource = assert_unknown(&gateway, &gateway.post("/candidates", &body).await).await;
            let settled = gateway.post("/candidates", &body).await;
            assert_eq!(
                (settled.status, settled.text("/state")),
                (200, "registered"),
                "{connection} {lost}: {settled:?}"
            );
            assert_eq!(resource, format!("/candidates/{}", settled.text("/id")), "{connection} {lost}");
            assert_eq!(settled.text("/outcome"), "applied", "{connection}");
        }
        assert_eq!(changes(port, operation, "created").await.len(), 2, "{connection}");
    }
}

#[tokio::test]
async fn a_generated_password_is_returned_when_a_lost_registration_is_reconciled() {
    let (sandbox, gateway) = start_examtesting("").await;
    // The reconciler may be first, once per second, and then there is no caller to return the password to.
    for number in 0.. {
        let body = person(&format!("x{number}"));
        lose_next_call(sandbox.examtesting(), "add", &[]).await;
        let unknown = gateway.post("/candidates", &body).await;
        assert_eq!(unknown.problem().2, "unknown");
        assert!(unknown.body.get("initialPassword").is_none());
        let settled = gateway.post("/candidates", &body).await;
        assert_eq!(settled.status, 200, "{settled:?}");
        let sent = bodies(sandbox.examtesting(), "add").await;
        let [.., first, second] = sent.as_slice() else { panic!("two calls: {sent:?}") };
        assert_eq!((&first["username"], &first["password"]), (&second["username"], &second["password"]));
        assert_eq!(settled.text("/userName"), first["username"]);
        if settled.body.get("initialPassword").is_some() {
            assert_eq!(settled.text("/initialPassword"), first["password"]);
            break;
        }
        assert!(number < 20, "the password is never returned");
    }
}

#[tokio::test]
async fn a_user_name_chosen_by_the_caller_proves_nothing() {
    let (sandbox, gateway) = start_examtesting("").await;
    lose_next_call(sandbox.examtesting(), "add", &[]).await;
    let body = with(person("x1"), "userName", json!("ada"));
    let unknown = gateway.post("/candidates", &body).await;
    let resource = unknown.text("/resource").to_owned();
    let again = gateway.post("/candidates", &body).await;
    assert_eq!((again.status, again.text("/outcome")), (409, "unknown"), "{again:?}");
    assert!(again.body.to_string().contains("account_exists_unverified"), "{again:?}");
    assert_eq!(again.text("/resource"), resource);
    assert_eq!(gateway.get(&resource).await.text("/state"), "unknown");
    // A person settles it; then all is well.
    let settled = gateway.post(&format!("{resource}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.status, settled.text("/state"), settled.text("/outcome")), (200, "registered", "applied"));
    assert_eq!(gateway.post("/candidates", &body).await.status, 200);
    assert_eq!(changes(sandbox.examtesting(), "add", "created").await.len(), 1);
    // If the first attempt did nothing, the success of the resend proves it.
    set_faults(sandbox.examtesting(), json!({ "faults": [{ "name": "reset_before_effect", "times": 1 }] })).await;
    let body = with(person("x2"), "userName", json!("bob"));
    assert_eq!(gateway.post("/candidates", &body).await.problem().2, "unknown");
    assert_eq!(gateway.post("/candidates", &body).await.status, 200);
}

#[tokio::test]
async fn a_rejected_resend_proves_an_outcome_only_for_conclusive_errors() {
    // A busy vendor says nothing about the earlier attempt.
    let (sandbox, gateway) = start_startexam("").await;
    lose_next_call(sandbox.startexam(), "employees", &[json!({ "name": "rate_limited", "retryAfter": 0 })]).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    let resource = unknown.text("/resource").to_owned();
    let busy = gateway.post("/candidates", &person("e1")).await;
    assert_eq!((busy.text("/outcome"), busy.text("/resource")), ("unknown", resource.as_str()), "{busy:?}");
    assert_eq!(gateway.get(&resource).await.text("/state"), "unknown");
    set_faults(sandbox.startexam(), json!({ "faults": [] })).await;
    assert_eq!(changes(sandbox.startexam(), "employees", "created").await, ["e1"]);

    for (fault, state) in [("bad_request", "unknown"), ("not_found", "failed"), ("unauthorized", "unknown")] {
        let (sandbox, gateway) = start_startexam("").await;
        let refusals = [
            json!({ "name": "reset_before_effect", "operation": "employees", "times": 1 }),
            json!({ "name": fault, "operation": "employees" }),
        ];
        set_faults(sandbox.startexam(), json!({ "faults": refusals })).await;
        let resource = gateway.post("/candidates", &person("e1")).await.text("/resource").to_owned();
        let patched = gateway.patch(&resource, &json!({ "email": "new@example.com" })).await;
        assert!(patched.status >= 400, "{patched:?}");
        let read = gateway.get(&resource).await;
        assert_eq!(read.text("/state"), state, "{fault}: {read:?}");
        // Whatever became of the registration, the change was not sent, and never gets the registration's error.
        assert_eq!(patched.text("/outcome"), "not_applied", "{patched:?}");
        if state == "unknown" {
            assert_eq!(patched.problem(), (409, "subject_unsettled", "not_applied"), "{patched:?}");
            assert_eq!(patched.text("/resource"), resource, "{patched:?}");
        }
    }
}

#[tokio::test]
async fn error_codes_that_prove_a_rejection_reconcile_it_as_not_applied() {
    for (code, proves) in
        [("1004", true), ("1005", true), ("1006", true), ("1008", false), ("1003", false), ("1099", false)]
    {
        let (sandbox, gateway) = start_examtesting("").await;
        let refusal = json!({ "name": "vendor_error", "code": code });
        let lost = json!({ "name": "reset_before_effect", "times": 1 });
        set_faults(sandbox.examtesting(), json!({ "faults": [lost, refusal] })).await;
        let resource = gateway.post("/candidates", &person("x1")).await.text("/resource").to_owned();
        let repeat = gateway.post("/candidates", &person("x1")).await;
        let read = gateway.get(&resource).await;
        if proves {
            // Proved not applied, so the retry was a new attempt under a new record, and was rejected for itself.
            assert_eq!((repeat.status, repeat.text("/outcome")), (422, "not_applied"), "{code}: {repeat:?}");
            assert_eq!((read.text("/state"), read.text("/outcome")), ("failed", "not_applied"), "{code}");
        } else {
            assert_eq!((repeat.text("/outcome"), repeat.text("/resource")), ("unknown", resource.as_str()), "{code}");
            assert_eq!((read.text("/state"), read.text("/outcome")), ("unknown", "unknown"), "{code}");
        }
    }
}

#[tokio::test]
async fn an_update_or_deletion_without_a_response_is_reconciled_by_resending_it() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    let created = gateway.post("/candidates", &person("e1")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    for lost in ["reset_before_effect", "reset_after_effect"] {
        set_faults(port, json!({ "faults": [{ "name": lost, "operation": "employees", "times": 1 }] })).await;
        let change = json!({ "email": format!("{lost}@example.com") });
        assert_unknown(&gateway, &gateway.patch(&path, &change).await).await;
        let again = gateway.patch(&path, &change).await;
        assert_eq!((again.status, again.text("/state")), (200, "registered"), "{again:?}");
        assert_eq!(again.text("/email"), change["email"]);
    }
    lose_next_call(port, "employees", &[]).await;
    assert_unknown_deletion(&gateway, &path).await;
    let deleted = gateway.delete(&path).await;
    assert!(matches!(deleted.status, 204 | 404), "{deleted:?}");
    assert_eq!(gateway.get(&path).await.status, 404);

    let (sandbox, gateway) = start_thinkexam("").await;
    let created = gateway.post("/candidates", &person("t1")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    lose_next_call(sandbox.thinkexam(), "bulkCandidateRegister", &[]).await;
    let change = json!({ "group": "CE104" });
    assert_unknown(&gateway, &gateway.patch(&path, &change).await).await;
    let settled = gateway.patch(&path, &change).await;
    assert_eq!((settled.status, settled.text("/group")), (200, "CE104"));
    assert_eq!(changes(sandbox.thinkexam(), "bulkCandidateRegister", "updated").await.len(), 1);

    let (sandbox, gateway) = start_examtesting("update_enabled = true").await;
    let created = gateway.post("/candidates", &person("x1")).await;
    let path = format!("/candidates/{}", created.text("/id"));
    lose_next_call(sandbox.examtesting(), "update", &[]).await;
    let change = json!({ "email": "new@example.com" });
    assert_unknown(&gateway, &gateway.patch(&path, &change).await).await;
    let settled = gateway.patch(&path, &change).await;
    assert_eq!((settled.status, settled.text("/email")), (200, "new@example.com"));
}

async fn assert_unknown_deletion(gateway: &Gateway, path: &str) {
    let response = gateway.delete(path).await;
    assert_eq!(response.problem(), (504, "vendor_timeout", "unknown"), "{response:?}");
    assert_eq!(response.text("/resource"), path);
}

#[tokio::test]
async fn a_later_write_reconciles_the_earlier_one_first() {
    let (sandbox, gateway) = start_startexam("").await;
    lose_next_call(sandbox.startexam(), "employees", &[]).await;
    let resource = gateway.post("/candidates", &person("e1")).await.text("/resource").to_owned();
    let patched = gateway.patch(&resource, &json!({ "email": "new@example.com" })).await;
    assert_eq!((patched.status, patched.text("/email")), (200, "new@example.com"), "{patched:?}");
    let sent = bodies(sandbox.startexam(), "employees").await;
    let email = |body: &Value| body.to_string().contains("new@example.com");
    assert_eq!(sent.iter().map(email).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test]
async fn a_startexam_booking_without_a_response_is_reconciled_with_the_flag() {
    for (vendor, launch) in [("repeated", true), ("left_out", false), ("null", false)] {
        let (sandbox, gateway) = start_startexam("bookings_only_here = true").await;
        let port = sandbox.startexam();
        set_faults(port, json!({ "switches": { "existing_registration": vendor } })).await;
        for (number, if_exists) in ["reuse", "create_new", "fail"].into_iter().enumerate() {
            let id = format!("e{number}");
            assert_eq!(gateway.post("/candidates", &person(&id)).await.status, 201);
            lose_next_call(port, "employees_participants", &[]).await;
            let body = with(order(&id, TEST), "ifExists", json!(if_exists));
            let resource = assert_unknown(&gateway, &gateway.post("/assignments", &body).await).await;
            let settled = gateway.post("/assignments", &order(&id, TEST)).await;
            let what = format!("{vendor} {if_exists}: {settled:?}");
            assert_eq!((settled.status, settled.text("/state")), (200, "assigned"), "{what}");
            assert_eq!(resource, format!("/assignments/{}", settled.text("/id")), "{what}");
            assert_eq!(settled.body["launch"].is_object(), launch, "{what}");
            let has_warning = warnings(&settled).iter().any(|(code, _)| code == "launch_unknown");
            assert_eq!(has_warning, !launch, "{what}");
            let sent = bodies(port, "employees_participants").await;
            assert_eq!(sent.last().unwrap()["doNotCreateIfExist"], true, "{what}");
        }
        assert_eq!(changes(port, "employees_participants", "created").await.len(), 3, "{vendor}");
    }
}

#[tokio::test]
async fn an_earlier_booking_made_elsewhere_does_not_reconcile_a_new_one() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    for (number, if_exists) in ["create_new", "fail"].into_iter().enumerate() {
        let id = format!("e{number}");
        assert_eq!(gateway.post("/candidates", &person(&id)).await.status, 201);
        lose_next_call(port, "employees_participants", &[]).await;
        let body = with(order(&id, TEST), "ifExists", json!(if_exists));
        let resource = assert_unknown(&gateway, &gateway.post("/assignments", &body).await).await;
        let before = call_count(port).await;
        let again = gateway.post("/assignments", &body).await;
        assert_eq!((again.status, again.text("/code")), (409, "subject_unsettled"), "{again:?}");
        assert_eq!((gateway.get(&resource).await.text("/state"), call_count(port).await), ("unknown", before));
    }
}

#[tokio::test]
async fn a_write_is_not_reconciled_while_the_vendor_may_still_process_it() {
    // A proxy's response, a vendor's own 5xx and a reset connection say nothing about what the vendor does next; a
    // redirect does.
    for (fault, waits) in
        [("gateway_timeout", true), ("server_error", true), ("reset_before_effect", true), ("redirect", false)]
    {
        let sandbox = sandbox().await;
        let port = sandbox.startexam();
        let connection = startexam(&format!("http://{port}"), "bookings_only_here = true")
            .replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
        let gateway = Gateway::start(&connection).await;
        assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
        let mut failure = json!({ "name": fault, "operation": "employees_participants", "times": 1 });
        if fault == "gateway_timeout" {
            failure["effectDelayMs"] = json!(300);
        }
        set_faults(port, json!({ "faults": [failure] })).await;
        let body = with(order("e1", TEST), "ifExists", json!("create_new"));
        let unknown = gateway.post("/assignments", &body).await;
        assert_eq!(unknown.text("/outcome"), "unknown", "{fault}: {unknown:?}");
        let again = gateway.post("/assignments", &order("e1", TEST)).await;
        if waits {
            assert_eq!(again.problem().1, "subject_unsettled", "{fault}: {again:?}");
            assert_eq!(again.text("/resource"), unknown.text("/resource"), "{fault}");
        } else {
            assert_eq!((again.status, again.text("/state")), (200, "assigned"), "{fault}: {again:?}");
        }
        if fault == "gateway_timeout" {
            wait_for_effect(port, "employees_participants", "e1").await;
        }
        let booked = changes(port, "employees_participants", "created").await.len();
        assert_eq!(booked, usize::from(fault == "gateway_timeout" || !waits), "{fault}");
        assert_eq!(bodies(port, "employees_participants").await.len(), if waits { 1 } else { 2 }, "{fault}");
    }
}

#[tokio::test]
async fn a_second_booking_without_a_response_is_never_resent() {
    let (sandbox, gateway) = start_startexam("").await;
    let port = sandbox.startexam();
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    assert_eq!(gateway.post("/assignments", &order("e1", TEST)).await.status, 201);
    lose_next_call(port, "employees_participants", &[]).await;
    let body = with(order("e1", TEST), "ifExists", json!("create_new"));
    let resource = gateway.post("/assignments", &body).await.text("/resource").to_owned();
    let before = call_count(port).await;
    let again = gateway.post("/assignments", &body).await;
    assert_eq!((again.status, again.text("/code")), (409, "subject_unsettled"), "{again:?}");
    assert_eq!(again.text("/resource"), resource);
    assert_eq!(call_count(port).await, before);
    let settled = gateway.post(&format!("{resource}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.status, settled.text("/state")), (200, "assigned"), "{settled:?}");
    assert_eq!(gateway.post("/assignments", &body).await.status, 201, "the way is free again");
    assert_eq!(changes(port, "employees_participants", "created").await.len(), 3);
}

#[tokio::test]
async fn a_thinkexam_booking_or_withdrawal_without_a_response_is_reconciled_by_a_resend() {
    let (sandbox, gateway) = start_thinkexam("").await;
    let port = sandbox.thinkexam();
    assert_eq!(gateway.post("/candidates", &person("t1")).await.status, 201);
    lose_next_call(port, "assignTest", &[]).await;
    let body = with(order("t1", "2415"), "notify", json!("vendor_email"));
    let resource = assert_unknown(&gateway, &gateway.post("/assignments", &body).await).await;
    let settled = gateway.post("/assignments", &body).await;
    assert_eq!((settled.status, settled.text("/state")), (200, "assigned"), "{settled:?}");
    assert_eq!(resource, format!("/assignments/{}", settled.text("/id")));
    assert_eq!(warnings(&settled), [("mail_uncertain".to_owned(), "/notify".to_owned())]);
    let sent = bodies(port, "assignTest").await;
    assert_eq!((&sent[0]["isMailEnable"], &sent[1]["isMailEnable"]), (&json!("1"), &json!("0")));
    assert_eq!(changes(port, "assignTest", "mail_sent").await.len(), 1);

    // A withdrawal that did nothing is done by its resend.
    set_faults(port, json!({ "faults": [{ "name": "reset_before_effect", "operation": "deassignTest", "times": 1 }] }))
        .await;
    assert_eq!(gateway.delete(&resource).await.problem(), (504, "vendor_timeout", "unknown"));
    let repeated = gateway.delete(&resource).await;
    assert_eq!(repeated.status, 204, "{repeated:?}");
    assert_eq!(gateway.get(&resource).await.text("/state"), "cancelled");
    assert_eq!(changes(port, "deassignTest", "unregistered").await.len(), 1);

    // One that was done and is rejected on the resend stays unknown: nothing can verify it.
    let body = order("t1", "2416");
    let booked = gateway.post("/assignments", &body).await;
    let path = format!("/assignments/{}", booked.text("/id"));
    lose_next_call(port, "deassignTest", &[]).await;
    assert_eq!(gateway.delete(&path).await.problem().2, "unknown");
    let repeated = gateway.delete(&path).await;
    assert_eq!(repeated.text("/outcome"), "unknown", "{repeated:?}");
    assert_eq!(gateway.get(&path).await.text("/state"), "unknown");
    // A booking does not resolve the unknown withdrawal either.
    let booking = gateway.post("/assignments", &body).await;
    assert!(booking.status >= 400, "{booking:?}");
    let settled = gateway.post(&format!("{path}/settle"), &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.status, settled.text("/state")), (200, "cancelled"), "{settled:?}");
}

#[tokio::test]
async fn a_manual_settlement_concludes_only_unknown_writes() {
    let stub = Stub::start(|_| build_response(500, "text/plain", "")).await;
    // The grace period keeps the reconciler away.
    let connections = startexam(&stub.url(), "").replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
    let gateway = Gateway::start(&connections).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    let path = format!("{}/settle", unknown.text("/resource"));
    for body in [
        json!({ "outcome": "unknown" }),
        json!({ "outcome": "done" }),
        json!({}),
        json!({ "outcome": "applied", "odd": 1 }),
    ] {
        assert_eq!(gateway.post(&path, &body).await.problem(), (422, "validation_failed", "not_applied"), "{body}");
    }
    let settled = gateway.post(&path, &json!({ "outcome": "not_applied" })).await;
    assert_eq!((settled.status, settled.text("/state"), settled.text("/outcome")), (200, "failed", "not_applied"));
    for outcome in ["applied", "not_applied"] {
        let again = gateway.post(&path, &json!({ "outcome": outcome })).await;
        assert_eq!(again.problem(), (422, "validation_failed", "not_applied"));
    }
    // The person can be registered again, and the earlier record stays failed.
    stub.respond_with(|_| json_response(200, &json!({})));
    let created = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(created.status, 201, "{created:?}");
    let known = format!("/candidates/{}/settle", created.text("/id"));
    assert_eq!(gateway.post(&known, &json!({ "outcome": "not_applied" })).await.problem().0, 422);
    assert_eq!(gateway.get(&format!("/candidates/{}", created.text("/id"))).await.text("/state"), "registered");

    // A change that was not made leaves the person unchanged.
    stub.respond_with(|_| build_response(500, "text/plain", ""));
    let candidate = format!("/candidates/{}", created.text("/id"));
    assert_eq!(gateway.patch(&candidate, &json!({ "email": "new@example.com" })).await.problem().2, "unknown");
    let settled = gateway.post(&known, &json!({ "outcome": "not_applied" })).await;
    assert_eq!((settled.text("/state"), settled.text("/email")), ("registered", "e1@example.com"), "{settled:?}");
    assert_eq!(gateway.patch(&candidate, &json!({ "email": "new@example.com" })).await.problem().2, "unknown");
    let settled = gateway.post(&known, &json!({ "outcome": "applied" })).await;
    assert_eq!((settled.text("/state"), settled.text("/email")), ("registered", "new@example.com"), "{settled:?}");
    // A deletion that was made deletes the record.
    assert_eq!(gateway.delete(&candidate).await.problem().2, "unknown");
    assert_eq!(gateway.post(&known, &json!({ "outcome": "applied" })).await.status, 200);
    assert_eq!(gateway.get(&candidate).await.status, 404);
}

#[tokio::test]
async fn a_timed_out_write_is_not_resent_before_its_grace_period_ends() {
    let (sandbox, connections) = {
        let sandbox = sandbox().await;
        let connections = startexam(&format!("http://{}", sandbox.startexam()), "timeout = \"2s\"")
            .replace("settle_grace = \"0s\"", "settle_grace = \"1h\"");
        (sandbox, connections)
    };
    let gateway = Gateway::start(&connections).await;
    let port = sandbox.startexam();
    assert_eq!(gateway.post("/candidates", &person("e2")).await.status, 201);
    set_faults(port, json!({ "faults": [{ "name": "delay_after_effect", "delayMs": 10_000 }] })).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    let resource = unknown.text("/resource");
    let id = resource.trim_start_matches("/candidates/");
    let lost = gateway.post("/assignments", &order("e2", TEST)).await;
    assert_eq!(lost.problem(), (504, "vendor_timeout", "unknown"));
    let before = call_count(port).await;
    let booking = json!({ "candidate": { "id": id }, "assessment": TEST });
    let attempts = [
        gateway.post("/candidates", &person("e1")).await,
        gateway.patch(resource, &json!({ "email": "new@example.com" })).await,
        gateway.delete(resource).await,
        gateway.post("/assignments", &booking).await,
        gateway.post("/assignments", &order("e2", TEST)).await,
    ];
    for attempt in attempts {
        assert_eq!((attempt.status, attempt.text("/code")), (409, "subject_unsettled"), "{attempt:?}");
        assert_eq!(attempt.body["retryable"], true);
        let wait: u64 = attempt.header("retry-after").expect("a Retry-After").parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
    }
    let bulk = gateway.post("/candidates/bulk", &json!({ "items": [person("e1")] })).await;
    assert_eq!(bulk.text("/results/0/problem/code"), "subject_unsettled");
    assert_eq!(call_count(port).await, before, "nothing may be sent while the vendor may still be at work");
    assert_eq!(gateway.get(resource).await.text("/state"), "unknown");
}

#[tokio::test]
async fn a_bulk_booking_waits_until_its_candidate_is_reconciled() {
    let sandbox = sandbox().await;
    let port = sandbox.startexam();
    let gateway = Gateway::start(&startexam(&format!("http://{port}"), "")).await;
    // Neither the registration nor the first two attempts to reconcile it get a response; one of them may be the
    // background's.
    let fault = json!({ "name": "close_after_effect", "operation": "employees", "times": 3 });
    set_faults(port, json!({ "faults": [fault] })).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    let id = unknown.text("/resource").trim_start_matches("/candidates/");
    let order = json!({ "candidate": { "id": id }, "assessment": TEST });
    let alone = gateway.request(Method::POST, "/assignments").json(&order);
    let rows = json!({ "connection": "startexam-main", "items": [order] });
    let request = gateway.request(Method::POST, "/assignments/bulk").header("Prefer", "wait=60").json(&rows);
    let bulk = request.send().await;
    assert_eq!((bulk.status, bulk.text("/results/0/outcome")), (207, "applied"), "{bulk:?}");
    assert_eq!(alone.send().await.status, 200);
    assert_eq!(gateway.get(unknown.text("/resource")).await.text("/state"), "registered");
}
