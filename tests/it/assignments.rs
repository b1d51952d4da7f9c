//! Single assignments: what is booked at the vendor, how often, and what the caller is told.

use examgate::sandbox::{Sandbox, accounts};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::connections::{client, examtesting, start_thinkexam, startexam, thinkexam};
use crate::support::gateway::{ApiResponse, Gateway, key, sandbox, set_faults};
use crate::support::people::{order_for, person, with};
use crate::support::watch::{bodies, call_count, changes, wait_until, warnings};

const TEST: &str = accounts::startexam::TESTS[0].0;
const OTHER_TEST: &str = accounts::startexam::TESTS[1].0;

fn startexam_with_catalogue(sandbox: &Sandbox, more: &str) -> String {
    // Upper case in the configuration: GUIDs are compared without case.
    let catalogue = format!(
        "[assessments.rust-101]\nname = \"Rust 101\"\nconnection = \"startexam-main\"\nref = \"{}\"\n",
        TEST.to_uppercase()
    );
    startexam(&format!("http://{}", sandbox.startexam()), more) + &catalogue
}

async fn start_with_catalogue(more: &str) -> (Sandbox, Gateway) {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam_with_catalogue(&sandbox, more)).await;
    (sandbox, gateway)
}

fn parse_time(response: &ApiResponse, pointer: &str) -> Timestamp {
    response.text(pointer).parse().unwrap_or_else(|_| panic!("no time at {pointer}: {response:?}"))
}

#[tokio::test]
async fn a_booking_is_the_same_whichever_way_candidate_and_assessment_are_named() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    let ada = gateway.post("/candidates", &person("e1")).await;
    let id = json!({ "id": ada.text("/id") });
    let created = gateway.post("/assignments", &with(order_for(&id, "rust-101"), "reference", json!("order-7"))).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(created.text("/id").starts_with("asg_"));
    let path = format!("/assignments/{}", created.text("/id"));
    assert_eq!(created.header("location"), Some(path.as_str()));
    assert_eq!((created.text("/state"), created.text("/outcome")), ("assigned", "applied"));
    assert_eq!(created.text("/reference"), "order-7");
    assert_eq!(gateway.get(&path).await.body, created.body);
    for candidate in [id, json!({ "externalId": "e1" }), json!({ "email": "E1@example.com" })] {
        for assessment in ["rust-101", TEST, &TEST.to_uppercase()] {
            let again = gateway.post("/assignments", &order_for(&candidate, assessment)).await;
            assert_eq!((again.status, again.text("/id")), (200, created.text("/id")), "{candidate} {assessment}");
        }
    }
    let sent = bodies(sandbox.startexam(), "employees_participants").await;
    assert_eq!(sent.len(), 1);
    assert_eq!((&sent[0]["tests"], &sent[0]["employees"]), (&json!([TEST]), &json!([{ "id": "e1" }])));
    assert_eq!((&sent[0]["center"], &sent[0]["doNotCreateIfExist"]), (&json!("mycenter"), &json!(true)));
}

#[tokio::test]
async fn a_booking_is_valid_for_thirty_days_unless_the_request_says_otherwise() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    for id in ["e1", "e2", "e3"] {
        assert_eq!(gateway.post("/candidates", &person(id)).await.status, 201);
    }
    let before = Timestamp::now() - SignedDuration::from_secs(1);
    let response = gateway.post("/assignments", &order_for(&json!({ "externalId": "e1" }), TEST)).await;
    let (from, until) = (parse_time(&response, "/validFrom"), parse_time(&response, "/validUntil"));
    assert!(before <= from && from <= Timestamp::now(), "{response:?}");
    assert_eq!(until.duration_since(from), SignedDuration::from_hours(720));
    assert_eq!(response.text("/launch/expiresAt"), response.text("/validUntil"));
    let id = response.text("/vendorRef/id");
    assert_eq!(response.text("/launch/url"), format!("https://go.startexam.com/mycenter#participant/{id}"));

    let mut dated = order_for(&json!({ "externalId": "e2" }), TEST);
    dated["validFrom"] = json!("2030-01-02T03:04:05+02:00");
    dated["validUntil"] = json!("2030-02-01T00:00:00Z");
    dated["proctoring"] = json!({ "enabled": false });
    let response = gateway.post("/assignments", &dated).await;
    assert_eq!((response.status, response.text("/validFrom")), (201, "2030-01-02T01:04:05Z"), "{response:?}");
    let sent = bodies(sandbox.startexam(), "employees_participants").await;
    assert_eq!(
        (&sent[1]["validFrom"], &sent[1]["validTill"]),
        (&json!("2030-01-02T01:04:05Z"), &json!("2030-02-01T00:00:00Z"))
    );

    let candidate = json!({ "externalId": "e3" });
    let mut backwards = order_for(&candidate, TEST);
    backwards["validFrom"] = json!("2030-02-01T00:00:00Z");
    backwards["validUntil"] = json!("2030-02-01T00:00:00Z");
    let refused = gateway.post("/assignments", &backwards).await;
    assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(refused.text("/errors/0/pointer"), "/validUntil");
    let past = with(order_for(&candidate, TEST), "validUntil", json!("2020-01-01T00:00:00Z"));
    assert_eq!(gateway.post("/assignments", &past).await.problem(), (422, "validation_failed", "not_applied"));
    assert_eq!(bodies(sandbox.startexam(), "employees_participants").await.len(), 2);
}

#[tokio::test]
async fn an_existing_booking_is_reused_duplicated_or_rejected_as_requested() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let body = order_for(&json!({ "externalId": "e1" }), TEST);
    // There is nothing the first "fail" could fail on.
    let first = gateway.post("/assignments", &with(body.clone(), "ifExists", json!("fail"))).await;
    assert_eq!(first.status, 201, "{first:?}");
    let refused = gateway.post("/assignments", &with(body.clone(), "ifExists", json!("fail"))).await;
    assert_eq!(refused.problem(), (409, "assignment_already_exists", "not_applied"));
    let request = gateway.request(Method::POST, "/assignments").header("prefer", "wait=0");
    let early = request.json(&with(body.clone(), "ifExists", json!("fail"))).send().await;
    assert_eq!(early.problem(), (409, "assignment_already_exists", "not_applied"));
    let other = gateway.post("/assignments", &with(body.clone(), "ifExists", json!("create_new"))).await;
    assert_eq!(other.status, 201, "{other:?}");
    assert_ne!((other.text("/id"), other.text("/launch/url")), (first.text("/id"), first.text("/launch/url")));
    let differing = with(body.clone(), "validUntil", json!("2040-01-01T00:00:00Z"));
    let found = gateway.post("/assignments", &differing).await;
    assert_eq!((found.status, found.text("/id")), (200, other.text("/id")), "the newest is returned");
    assert_eq!(warnings(&found), [("existing_differs".to_owned(), "/validUntil".to_owned())]);
    // Another centre is another booking; the vendor does not know this centre.
    let elsewhere = gateway.post("/assignments", &with(body, "center", json!("elsewhere"))).await;
    assert_eq!(elsewhere.problem(), (422, "invalid_reference", "not_applied"));
    let sent = bodies(sandbox.startexam(), "employees_participants").await;
    let flags: Vec<&Value> = sent.iter().map(|body| &body["doNotCreateIfExist"]).collect();
    assert_eq!(flags, [&json!(false), &json!(false), &json!(true)]);
    assert_eq!(sent[2]["center"], "elsewhere");
    assert_eq!(changes(sandbox.startexam(), "employees_participants", "created").await.len(), 2);
}

#[tokio::test]
async fn unsupported_capabilities_are_rejected_with_a_pointer_before_sending() {
    let sandbox = sandbox().await;
    let (start, think) = (sandbox.startexam(), sandbox.thinkexam());
    let connections = startexam(&format!("http://{start}"), "")
        + &thinkexam(&format!("http://{think}"), "")
        + &examtesting(&format!("http://{}", sandbox.examtesting()), "");
    let gateway = Gateway::start(&connections).await;
    let cases = [
        ("startexam-main", TEST, "notify", json!("vendor_email"), "/notify"),
        ("startexam-main", TEST, "passwordless", json!(true), "/passwordless"),
        ("thinkexam-main", "2415", "validFrom", json!("2030-01-01T00:00:00Z"), "/validFrom"),
        ("thinkexam-main", "2415", "validUntil", json!("2030-01-01T00:00:00Z"), "/validUntil"),
        ("thinkexam-main", "2415", "center", json!("c"), "/center"),
        ("thinkexam-main", "2415", "proctoring", json!({ "enabled": true }), "/proctoring/enabled"),
        ("thinkexam-main", "2415", "ifExists", json!("create_new"), "/ifExists"),
    ];
    for (connection, assessment, name, value, pointer) in cases {
        let key = if connection == "startexam-main" {
            json!({ "externalId": "e1" })
        } else {
            json!({ "email": "a@example.com" })
        };
        let body = with(with(order_for(&key, assessment), "connection", json!(connection)), name, value);
        let refused = gateway.post("/assignments", &body).await;
        assert_eq!(refused.problem(), (422, "capability_unsupported", "not_applied"), "{body}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{refused:?}");
    }
    let body = with(order_for(&json!({ "externalId": "e1" }), "any"), "connection", json!("examtesting-main"));
    assert_eq!(gateway.post("/assignments", &body).await.problem(), (422, "capability_unsupported", "not_applied"));
    for port in [start, think, sandbox.examtesting()] {
        assert_eq!(call_count(port).await, 0);
    }
}

#[tokio::test]
async fn unknown_references_are_rejected() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    let unknown = format!("cand_{}", "0".repeat(32));
    for (body, pointer) in [
        (order_for(&json!({ "id": unknown }), TEST), "/candidate/id"),
        (order_for(&json!({ "email": "nobody@example.com" }), TEST), "/candidate/email"),
        (order_for(&json!({ "externalId": "e1" }), "not-a-guid"), "/assessment"),
    ] {
        let refused = gateway.post("/assignments", &body).await;
        assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"), "{body}");
        assert_eq!(refused.text("/errors/0/pointer"), pointer, "{body}");
    }
    assert_eq!(call_count(sandbox.startexam()).await, 0);
    // The vendor's own key is passed on; this vendor does not know it either.
    let refused = gateway.post("/assignments", &order_for(&json!({ "externalId": "nobody" }), TEST)).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"));
    assert_eq!(call_count(sandbox.startexam()).await, 1);
    for candidate in [json!({}), json!({ "externalId": "a", "email": "a@example.com" }), json!("e1")] {
        let refused = gateway.post("/assignments", &order_for(&candidate, TEST)).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{candidate}");
    }
    let long = with(order_for(&json!({ "externalId": "e1" }), TEST), "reference", json!("r".repeat(201)));
    assert_eq!(gateway.post("/assignments", &long).await.problem(), (422, "validation_failed", "not_applied"));

    let (sandbox, gateway) = start_thinkexam("").await;
    let refused = gateway.post("/assignments", &order_for(&json!({ "externalId": "nobody" }), "2415")).await;
    assert_eq!(refused.problem(), (422, "invalid_reference", "not_applied"));
    assert_eq!(call_count(sandbox.thinkexam()).await, 0);
}

#[tokio::test]
async fn a_rejected_booking_can_be_made_immediately_afterwards() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let body = order_for(&json!({ "externalId": "e1" }), TEST);
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "bad_request", "times": 1 }] })).await;
    let refused = gateway.post("/assignments", &body).await;
    assert_eq!(refused.problem(), (422, "vendor_rejected_request", "not_applied"));
    assert_eq!(gateway.get("/assignments?state=failed").await.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.post("/assignments", &body).await.status, 201);
}

#[tokio::test]
async fn thinkexam_receives_the_requested_mail_and_password_flags() {
    let (sandbox, gateway) = start_thinkexam("").await;
    for id in ["t1", "t2"] {
        assert_eq!(gateway.post("/candidates", &person(id)).await.status, 201);
    }
    let plain = gateway.post("/assignments", &order_for(&json!({ "externalId": "t1" }), "2415")).await;
    assert_eq!(plain.status, 201, "{plain:?}");
    let mut notifying = order_for(&json!({ "email": "T2@Example.com" }), "2415");
    notifying["notify"] = json!("vendor_email");
    notifying["passwordless"] = json!(true);
    let notifying = gateway.post("/assignments", &notifying).await;
    assert_eq!(
        (notifying.status, notifying.text("/notify"), &notifying.body["passwordless"]),
        (201, "vendor_email", &json!(true))
    );
    assert_eq!(
        bodies(sandbox.thinkexam(), "assignTest").await,
        [
            json!({ "email": "t1@example.com", "testId": "2415", "isMailEnable": "0", "isPasswordSkip": "0" }),
            json!({ "email": "t2@example.com", "testId": "2415", "isMailEnable": "1", "isPasswordSkip": "1" }),
        ]
    );
    assert_eq!(changes(sandbox.thinkexam(), "assignTest", "mail_sent").await, ["t2@example.com/2415"]);
    // A person the gateway never registered is booked by the vendor's own key, in any case.
    let again = gateway.post("/assignments", &order_for(&json!({ "email": "T2@EXAMPLE.COM" }), "2415")).await;
    assert_eq!((again.status, again.text("/id")), (200, notifying.text("/id")));
}

#[tokio::test]
async fn a_thinkexam_booking_is_cancelled_once_and_can_be_made_again() {
    let (sandbox, gateway) = start_thinkexam("").await;
    assert_eq!(gateway.post("/candidates", &person("t1")).await.status, 201);
    let body = order_for(&json!({ "externalId": "t1" }), "2415");
    let booked = gateway.post("/assignments", &body).await;
    let path = format!("/assignments/{}", booked.text("/id"));
    for _ in 0..2 {
        let cancelled = gateway.delete(&path).await;
        assert_eq!(cancelled.status, 204, "{cancelled:?}");
    }
    let read = gateway.get(&path).await;
    assert_eq!((read.text("/state"), read.text("/outcome")), ("cancelled", "applied"));
    assert_eq!(
        bodies(sandbox.thinkexam(), "deassignTest").await,
        [json!({ "email": "t1@example.com", "testId": "2415" })]
    );
    let anew = gateway.post("/assignments", &body).await;
    assert_eq!(anew.status, 201, "{anew:?}");
    assert_ne!(anew.text("/id"), booked.text("/id"));
    assert_eq!(changes(sandbox.thinkexam(), "assignTest", "created").await.len(), 2);
}

#[tokio::test]
async fn a_startexam_booking_cannot_be_cancelled() {
    let (_sandbox, gateway) = start_with_catalogue("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let booked = gateway.post("/assignments", &order_for(&json!({ "externalId": "e1" }), TEST)).await;
    let path = format!("/assignments/{}", booked.text("/id"));
    assert_eq!(gateway.delete(&path).await.problem(), (422, "capability_unsupported", "not_applied"));
    assert_eq!(gateway.get(&path).await.text("/state"), "assigned");
    let unknown = format!("/assignments/asg_{}", "0".repeat(32));
    assert_eq!(gateway.delete(&unknown).await.problem(), (404, "not_found", "not_applied"));
}

#[tokio::test]
async fn a_previously_booked_person_is_assigned_whatever_the_vendor_responds() {
    for vendor in ["repeated", "left_out", "null"] {
        let sandbox = sandbox().await;
        let port = sandbox.startexam();
        set_faults(port, json!({ "switches": { "existing_registration": vendor } })).await;
        let outside = Gateway::start(&startexam_with_catalogue(&sandbox, "")).await;
        for setting in ["unknown", vendor] {
            let more = format!("existing_registration = \"{setting}\"");
            let gateway = Gateway::start(&startexam_with_catalogue(&sandbox, &more)).await;
            let (old, new) = (format!("old-{setting}"), format!("new-{setting}"));
            for id in [&old, &new] {
                assert_eq!(outside.post("/candidates", &person(id)).await.status, 201);
            }
            let booked = outside.post("/assignments", &order_for(&json!({ "externalId": old }), TEST)).await;
            assert_eq!(booked.status, 201, "{booked:?}");
            let what = format!("vendor {vendor}, setting {setting}");

            let again = gateway.post("/assignments", &order_for(&json!({ "externalId": old }), TEST)).await;
            assert_eq!((again.text("/state"), again.text("/outcome")), ("assigned", "applied"), "{what}: {again:?}");
            if vendor == "repeated" {
                assert_eq!(again.text("/launch/url"), booked.text("/launch/url"), "{what}");
            } else {
                assert_eq!((again.status, again.body.get("launch")), (200, None), "{what}: {again:?}");
                assert_eq!(warnings(&again), [("launch_unknown".to_owned(), String::new())], "{what}");
            }
            let fresh = gateway.post("/assignments", &order_for(&json!({ "externalId": new }), TEST)).await;
            assert_eq!(fresh.status, 201, "{what}: {fresh:?}");
            assert!(fresh.text("/launch/url").starts_with("https://"), "{what}: {fresh:?}");
        }
        assert_eq!(changes(port, "employees_participants", "created").await.len(), 4);
    }
}

#[tokio::test]
async fn booking_a_candidate_reconciles_an_unknown_registration_first() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    let lost = json!({ "faults": [{ "name": "reset_after_effect", "operation": "employees", "times": 1 }] });
    set_faults(sandbox.startexam(), lost.clone()).await;
    let unknown = gateway.post("/candidates", &person("e1")).await;
    assert_eq!(unknown.problem(), (504, "vendor_timeout", "unknown"));
    let resource = unknown.text("/resource").to_owned();
    let id = resource.trim_start_matches("/candidates/");
    let booked = gateway.post("/assignments", &order_for(&json!({ "id": id }), TEST)).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    assert_eq!(gateway.get(&resource).await.text("/state"), "registered");
    assert_eq!(bodies(sandbox.startexam(), "employees").await.len(), 2);

    // Nothing is booked until the registration can be reconciled.
    set_faults(
        sandbox.startexam(),
        json!({ "faults": [
        { "name": "reset_before_effect", "operation": "employees", "times": null },
    ] }),
    )
    .await;
    let unknown = gateway.post("/candidates", &person("e2")).await;
    let id = unknown.text("/resource").trim_start_matches("/candidates/").to_owned();
    let refused = gateway.post("/assignments", &order_for(&json!({ "id": id }), TEST)).await;
    assert_eq!(refused.problem(), (409, "subject_unsettled", "not_applied"));
    assert_eq!(refused.body["retryable"], true);
    assert_eq!(bodies(sandbox.startexam(), "employees_participants").await.len(), 1);
}

#[tokio::test]
async fn identical_concurrent_bookings_book_once() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 100 }] })).await;
    let body = order_for(&json!({ "externalId": "e1" }), TEST);
    let responses = futures_util::future::join_all((0..32).map(|_| gateway.post("/assignments", &body))).await;
    assert!(responses.iter().all(|response| response.body == responses[0].body), "{responses:?}");
    assert_eq!(responses.iter().filter(|response| response.status == 201).count(), 1);
    assert_eq!(bodies(sandbox.startexam(), "employees_participants").await.len(), 1);
}

#[tokio::test]
async fn a_booking_with_respond_async_completes_in_the_background() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "delay_before_effect", "delayMs": 300 }] })).await;
    let body = order_for(&json!({ "externalId": "e1" }), TEST);
    let response =
        gateway.request(Method::POST, "/assignments").header("prefer", "respond-async").json(&body).send().await;
    assert_eq!((response.status, response.text("/state")), (202, "pending"), "{response:?}");
    let path = response.header("location").expect("a location").to_owned();
    let ended = wait_until(&gateway, &path, |response| response.text("/state") != "pending").await;
    assert_eq!(ended.text("/state"), "assigned");
    assert!(ended.text("/launch/url").starts_with("https://"));
}

#[tokio::test]
async fn tenants_do_not_see_each_others_bookings() {
    let sandbox = sandbox().await;
    let clients = client("lms", "one", "[\"*\"]") + &client("rival", "two", "[\"*\"]");
    let gateway = Gateway::start_with(&startexam_with_catalogue(&sandbox, ""), &clients).await;
    assert_eq!(gateway.post("/candidates", &person("e1")).await.status, 201);
    let body = order_for(&json!({ "externalId": "e1" }), TEST);
    let booked = gateway.post("/assignments", &body).await;
    assert_eq!(booked.status, 201);
    let path = format!("/assignments/{}", booked.text("/id"));
    let rival = |method: Method, path: &str| gateway.request_as(&key("rival"), method, path);
    assert_eq!(rival(Method::GET, &path).send().await.problem(), (404, "not_found", "not_applied"));
    assert_eq!(rival(Method::DELETE, &path).send().await.problem(), (404, "not_found", "not_applied"));
    let settle = rival(Method::POST, &format!("{path}/settle")).json(&json!({ "outcome": "applied" })).send().await;
    assert_eq!(settle.problem(), (404, "not_found", "not_applied"));
    assert_eq!(rival(Method::GET, "/assignments").send().await.body["items"], json!([]));
    let own = rival(Method::POST, "/assignments").json(&body).send().await;
    assert_ne!(own.text("/id"), booked.text("/id"), "{own:?}");
}

#[tokio::test]
async fn assignments_are_listed_newest_first_with_filters_and_pages() {
    let (sandbox, gateway) = start_with_catalogue("").await;
    let mut ids = Vec::new();
    let mut candidates = Vec::new();
    for person_id in ["e1", "e2"] {
        let candidate = gateway.post("/candidates", &person(person_id)).await;
        candidates.push(candidate.text("/id").to_owned());
        for test in ["rust-101", OTHER_TEST] {
            let booked = gateway.post("/assignments", &order_for(&json!({ "externalId": person_id }), test)).await;
            ids.push(booked.text("/id").to_owned());
        }
    }
    set_faults(sandbox.startexam(), json!({ "faults": [{ "name": "bad_request", "times": 1 }] })).await;
    let failed =
        gateway.post("/assignments", &order_for(&json!({ "externalId": "e1" }), accounts::startexam::TESTS[2].0)).await;
    assert_eq!(failed.status, 422);
    let listed = |response: &ApiResponse| -> Vec<String> {
        assert_eq!(response.status, 200, "{response:?}");
        let items = response.body["items"].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(&gateway.get("/assignments?state=assigned").await), newest_first);
    assert_eq!(listed(&gateway.get("/assignments").await)[1..], newest_first);
    assert_eq!(listed(&gateway.get("/assignments?state=failed").await).len(), 1);
    let of_one = gateway.get(&format!("/assignments?candidate={}&state=assigned", candidates[0])).await;
    assert_eq!(listed(&of_one), [ids[1].clone(), ids[0].clone()]);
    for name in ["rust-101", TEST] {
        let of_test = gateway.get(&format!("/assignments?assessment={name}")).await;
        assert_eq!(listed(&of_test), [ids[2].clone(), ids[0].clone()], "{name}");
    }
    assert_eq!(
        listed(&gateway.get("/assignments?connection=startexam-main&state=cancelled").await),
        Vec::<String>::new()
    );

    let mut seen = Vec::new();
    let mut query = "/assignments?state=assigned&limit=3".to_owned();
    loop {
        let part = gateway.get(&query).await;
        seen.extend(listed(&part));
        let Some(cursor) = part.body["nextCursor"].as_str() else { break };
        query = format!("/assignments?state=assigned&limit=3&cursor={cursor}");
    }
    assert_eq!(seen, newest_first);
    for bad in ["limit=0", "limit=201", "limit=x", "cursor=made-up", "state=odd", "odd=1", "candidate=x"] {
        let refused = gateway.get(&format!("/assignments?{bad}")).await;
        assert_eq!(refused.problem(), (422, "validation_failed", "not_applied"), "{bad}");
    }
    let elsewhere = gateway.get("/assignments?connection=nowhere").await;
    assert_eq!(elsewhere.problem(), (404, "connection_not_found", "not_applied"));
}

#[tokio::test]
async fn assignments_are_found_by_assessment_id_in_any_case() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    assert_eq!(gateway.post("/candidates", &json!({ "externalId": "e1" })).await.status, 201);
    let test = accounts::startexam::TESTS[0].0;
    let order = json!({ "candidate": { "externalId": "e1" }, "assessment": test.to_uppercase() });
    let booked = gateway.post("/assignments", &order).await;
    assert_eq!(booked.status, 201, "{booked:?}");
    for spelt in [test.to_owned(), test.to_uppercase()] {
        for more in ["", "&connection=startexam-main"] {
            let found = gateway.get(&format!("/assignments?assessment={spelt}{more}")).await;
            assert_eq!(found.text("/items/0/id"), booked.text("/id"), "{spelt}{more}: {found:?}");
        }
    }
    let other = gateway.get(&format!("/assignments?assessment={}", accounts::startexam::TESTS[1].0)).await;
    assert_eq!(other.body["items"], json!([]));
}
