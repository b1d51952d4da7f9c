//! Requests about existing records: how they are recognised, what is returned instead of being done again, and which
//! differences the caller is warned about.

use examgate::sandbox::{Sandbox, accounts};
use examgate::vendors::DESCRIPTORS;
use serde_json::{Value, json};

use crate::support::connections::{sandbox_connections, startexam};
use crate::support::gateway::{Gateway, TIMEOUT, read_effects, sandbox};
use crate::support::watch::{call_count, changes, warnings};

async fn start() -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    (sandbox, gateway)
}

fn person(connection: &str, id: &str, more: &Value) -> Value {
    let mut body = json!({
        "connection": connection, "externalId": id, "name": { "givenName": "Ada", "familyName": "King" },
        "email": format!("{id}@example.com"), "group": match connection {
            "thinkexam-main" => accounts::thinkexam::COURSES[0],
            "examtesting-main" => "Group A",
            _ => "any",
        },
    });
    if connection == "startexam-main" {
        body.as_object_mut().unwrap().remove("group");
    }
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn only_identities_the_vendor_uses_identify_a_person() {
    let (_sandbox, gateway) = start().await;
    for (connection, vendor) in
        [("startexam-main", "startexam"), ("thinkexam-main", "thinkexam"), ("examtesting-main", "examtesting")]
    {
        let shown = gateway.get(&format!("/vendors/{vendor}")).await;
        let by_name = shown.body["identities"].as_array().unwrap().contains(&json!("userName"));
        assert_eq!(by_name, vendor == "examtesting", "{shown:?}");
        let named = json!({ "userName": "ada" });
        let first = gateway.post("/candidates", &person(connection, "e1", &named)).await;
        assert_eq!(first.status, 201, "{first:?}");
        let second = gateway.post("/candidates", &person(connection, "e2", &named)).await;
        let same = second.text("/id") == first.text("/id");
        assert_eq!((second.status, same), if by_name { (200, true) } else { (201, false) }, "{connection} {second:?}");
    }
}

#[test]
fn no_vendor_identifies_people_by_a_field_it_ignores() {
    use examgate::domain::capability::WriteKind;
    for vendor in DESCRIPTORS {
        let ignored = vendor.capability(WriteKind::CandidatesCreate).ignored;
        for kind in vendor.identities {
            assert!(!ignored.contains(&format!("/{}", kind.as_str()).as_str()), "{} {kind:?}", vendor.kind);
        }
    }
}

const TEST: &str = accounts::startexam::TESTS[0].0;

fn pointers_of(list: &[(String, String)], code: &str) -> Vec<String> {
    list.iter().filter(|(found, _)| found == code).map(|(_, pointer)| pointer.clone()).collect()
}

#[tokio::test]
async fn a_password_for_a_known_person_is_reported_as_ignored() {
    let (sandbox, gateway) = start().await;
    for connection in ["startexam-main", "thinkexam-main", "examtesting-main"] {
        let first =
            gateway.post("/candidates", &person(connection, "e1", &json!({ "password": "first-s3cret" }))).await;
        assert_eq!((first.status, pointers_of(&warnings(&first), "password_ignored").len()), (201, 0), "{first:?}");
        for if_exists in ["reuse", "update"] {
            let more = json!({ "password": "other-s3cret", "ifExists": if_exists });
            let again = gateway.post("/candidates", &person(connection, "e1", &more)).await;
            assert_eq!(again.status, 200, "{again:?}");
            assert_eq!(
                pointers_of(&warnings(&again), "password_ignored"),
                ["/password"],
                "{connection} {if_exists} {again:?}"
            );
        }
        let without = gateway.post("/candidates", &person(connection, "e1", &json!({}))).await;
        assert_eq!(pointers_of(&warnings(&without), "password_ignored").len(), 0, "{without:?}");
    }
    let log = read_effects(sandbox.thinkexam()).await;
    assert!(!log.to_string().contains("other-s3cret"));
    let rows = json!({ "connection": "startexam-main", "items": [{ "externalId": "e1", "password": "x" }] });
    let bulk = gateway.post("/candidates/bulk", &rows).await;
    let log = bulk.body.pointer("/results/0/resource/warnings").and_then(Value::as_array).expect("warnings");
    assert!(log.iter().any(|warning| warning["code"] == "password_ignored"), "{bulk:?}");
}

#[tokio::test]
async fn an_update_without_changes_sends_nothing_and_has_a_warning() {
    let (sandbox, gateway) = start().await;
    let body = person("startexam-main", "e1", &json!({ "ifExists": "update" }));
    assert_eq!(gateway.post("/candidates", &body).await.status, 201);
    let before = call_count(sandbox.startexam()).await;
    let again = gateway.post("/candidates", &body).await;
    assert_eq!((again.status, again.text("/outcome")), (200, "applied"), "{again:?}");
    assert_eq!(warnings(&again), [("unchanged".to_owned(), String::new())]);
    assert_eq!(call_count(sandbox.startexam()).await, before);
    let changed = person("startexam-main", "e1", &json!({ "ifExists": "update", "email": "new@example.com" }));
    let changed = gateway.post("/candidates", &changed).await;
    assert_eq!((changed.status, warnings(&changed).len()), (200, 0), "{changed:?}");
    assert_eq!(warnings(&gateway.get(&format!("/candidates/{}", again.text("/id"))).await).len(), 0);
}

#[tokio::test]
async fn a_reused_booking_warns_that_its_reference_differs() {
    let (_sandbox, gateway) = start().await;
    assert_eq!(gateway.post("/candidates", &person("startexam-main", "e1", &json!({}))).await.status, 201);
    let order = |reference: Value| {
        let mut order =
            json!({ "connection": "startexam-main", "candidate": { "externalId": "e1" }, "assessment": TEST });
        if !reference.is_null() {
            order["reference"] = reference;
        }
        order
    };
    assert_eq!(gateway.post("/assignments", &order(json!("order-1"))).await.status, 201);
    for (reference, differs) in [(json!("order-1"), 0), (json!("order-2"), 1), (Value::Null, 0)] {
        let again = gateway.post("/assignments", &order(reference)).await;
        assert_eq!((again.status, again.text("/reference")), (200, "order-1"), "{again:?}");
        assert_eq!(pointers_of(&warnings(&again), "existing_differs"), vec!["/reference"; differs], "{again:?}");
    }
}

fn in_seconds(seconds: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    format!("{time:.0}")
}

#[tokio::test]
async fn a_past_validity_window_is_rejected_before_anything_is_sent() {
    let (sandbox, gateway) = start().await;
    assert_eq!(gateway.post("/candidates", &person("startexam-main", "e1", &json!({}))).await.status, 201);
    let before = call_count(sandbox.startexam()).await;
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": TEST, "connection": "startexam-main",
                        "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2020-02-01T00:00:00Z" });
    let refused = gateway.post("/assignments", &order).await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!((refused.text("/errors/0/pointer"), refused.text("/errors/0/code")), ("/validUntil", "invalid_field"));
    let bulk = gateway.post("/assignments/bulk", &json!({ "items": [order] })).await;
    assert_eq!(bulk.text("/results/0/problem/errors/0/pointer"), "/validUntil", "{bulk:?}");
    assert_eq!(call_count(sandbox.startexam()).await, before);
    let mut begun = order;
    begun["validUntil"] = json!(in_seconds(3600));
    assert_eq!(gateway.post("/assignments", &begun).await.status, 201, "one that has begun is not over");
}

#[tokio::test]
async fn an_expired_booking_is_marked_or_made_again() {
    for rebook in [false, true] {
        let sandbox = sandbox().await;
        let more = format!("rebook_expired = {rebook}");
        let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), &more)).await;
        let body = json!({ "externalId": "e1", "name": { "givenName": "Ada", "familyName": "King" } });
        assert_eq!(gateway.post("/candidates", &body).await.status, 201, "{rebook}");
        let order = |until: Option<String>| {
            let mut order = json!({ "candidate": { "externalId": "e1" }, "assessment": TEST });
            if let Some(until) = until {
                order["validUntil"] = json!(until);
            }
            order
        };
        let mut first = gateway.post("/assignments", &order(Some(in_seconds(2)))).await;
        // On a slow machine the window may be over before the gateway has read it.
        while first.status == 422 && first.text("/errors/0/pointer") == "/validUntil" {
            first = gateway.post("/assignments", &order(Some(in_seconds(2)))).await;
        }
        assert_eq!(first.status, 201, "{first:?}");
        // The gateway's own clock decides when the window is over; repeat until then.
        let started = tokio::time::Instant::now();
        let again = loop {
            let again = gateway.post("/assignments", &order(None)).await;
            let over =
                again.text("/id") != first.text("/id") || !pointers_of(&warnings(&again), "window_over").is_empty();
            if over {
                break again;
            }
            assert!(started.elapsed() < TIMEOUT, "{again:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        let made = changes(sandbox.startexam(), "employees_participants", "created").await;
        if rebook {
            assert_eq!((again.status, made.len()), (201, 2), "{again:?}");
            assert_ne!(again.text("/launch/url"), first.text("/launch/url"), "{rebook}");
            let third = gateway.post("/assignments", &order(None)).await;
            assert_eq!((third.status, third.text("/id")), (200, again.text("/id")), "the valid one is returned");
            assert_eq!(pointers_of(&warnings(&third), "window_over").len(), 0, "{third:?}");
        } else {
            assert_eq!((again.status, again.text("/id"), made.len()), (200, first.text("/id"), 1), "{again:?}");
        }
    }
}

#[tokio::test]
async fn the_query_of_a_single_post_may_name_the_connection() {
    let (sandbox, gateway) = start().await;
    let mut body = person("startexam-main", "e1", &json!({}));
    body.as_object_mut().unwrap().remove("connection");
    assert_eq!(gateway.post("/candidates", &body).await.problem().1, "connection_required");
    let created = gateway.post("/candidates?connection=startexam-main", &body).await;
    assert_eq!((created.status, created.text("/connection")), (201, "startexam-main"), "{created:?}");
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": TEST });
    assert_eq!(gateway.post("/assignments?connection=startexam-main", &order).await.status, 201);
    let path = format!("/programs/{}/employees", accounts::startexam::PROGRAM_ID);
    let enrolment = json!({ "scope": "all", "register": ["e1"] });
    assert_eq!(gateway.post(&format!("{path}?connection=startexam-main"), &enrolment).await.status, 200);
    let found = gateway.post("/candidates/search?connection=thinkexam-main", &json!({ "externalId": "e1" })).await;
    assert_eq!(found.body["items"], json!([]), "{found:?}");

    let before = call_count(sandbox.startexam()).await;
    body["connection"] = json!("startexam-main");
    for (path, pointer) in [
        ("/candidates?connection=thinkexam-main", "?connection"),
        ("/candidates?connection=startexam-main&connection=startexam-main", "?connection"),
        ("/candidates?conection=startexam-main", "?conection"),
    ] {
        let refused = gateway.post(path, &body).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{path}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{refused:?}");
    }
    assert_eq!(call_count(sandbox.startexam()).await, before);
}
