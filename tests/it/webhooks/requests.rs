//! What clients ask of webhooks.

use super::*;
use crate::reload;
use crate::support::connections::client_with;
use crate::support::vendor::{Stub, json_response};
use crate::support::watch::wait_until;

#[tokio::test]
async fn a_new_webhook_has_a_secret_an_address_and_the_answer_to_a_ping() {
    let (sandbox, gateway) = start("").await;
    // A receiver that refuses, since it does not know the secret that the gateway generates, is no error.
    let created = gateway.post("/webhooks", &json!({ "url": hook(&sandbox) })).await;
    assert_eq!((created.status, created.text("/state")), (201, "enabled"), "{created:?}");
    let secret = created.text("/secret");
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{created:?}");
    assert_eq!((&created.body["ping"]["delivered"], &created.body["ping"]["status"]), (&json!(false), &json!(401)));
    let path = path_of(&created.body);
    assert_eq!(created.header("location"), Some(path.as_str()));
    let read = gateway.get(&path).await;
    assert_eq!((read.status, read.text("/source")), (200, "api"), "{read:?}");
    assert!(read.body.get("secret").is_none() && read.body.get("ping").is_none(), "{read:?}");

    switch(&sandbox, json!({ "secrets": secret })).await;
    let pinged = gateway.post(&format!("{path}/ping"), &json!(null)).await;
    assert_eq!((pinged.status, &pinged.body["delivered"]), (200, &json!(true)), "{pinged:?}");
    let arrived = received(&sandbox).await.pop().expect("a ping");
    assert_eq!((&arrived["verified"], &arrived["body"]["type"]), (&json!(true), &json!("ping")), "{arrived}");
    assert_eq!(arrived["webhookId"], pinged.body["event"]);
    assert!(arrived["body"].get("sequence").is_none(), "a ping has no number: {arrived}");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_no_error() {
    let (_sandbox, gateway) = start("").await;
    let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}/", closed.local_addr().expect("an address"));
    drop(closed);
    let webhook = create(&gateway, &json!({ "url": url })).await;
    assert_eq!((&webhook["ping"]["delivered"], webhook["ping"].get("status")), (&json!(false), None), "{webhook}");
    assert!(webhook["ping"]["error"].as_str().is_some_and(|error| !error.is_empty()), "{webhook}");
}

#[tokio::test]
async fn only_allowed_addresses_are_accepted_and_nothing_is_sent_to_others() {
    let stub = Stub::accepting().await;
    let (_sandbox, gateway) = start("").await;
    let port = stub.address.port();
    for url in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://hooks.example.com/".to_owned(),
    ] {
        let refused = gateway.post("/webhooks", &json!({ "url": url })).await;
        assert_eq!(refused.problem(), (422, "webhook_not_allowed", "not_applied"), "{url}");
        assert_eq!(refused.text("/errors/0/pointer"), "/url", "{refused:?}");
    }
    // Another spelling of an allowed address is that address.
    let webhook = create(&gateway, &json!({ "url": format!("http://0x7f000001:{port}/") })).await;
    let moved = gateway.patch(&path_of(&webhook), &json!({ "url": "https://hooks.example.com/" })).await;
    assert_eq!(moved.problem(), (422, "webhook_not_allowed", "not_applied"));
    assert_eq!(stub.seen().len(), 1, "the ping of the allowed one");
}

#[tokio::test]
async fn without_a_section_no_address_is_allowed() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&startexam(&format!("http://{}", sandbox.startexam()), "")).await;
    for url in [hook(&sandbox), "https://hooks.example.com/".to_owned()] {
        let refused = gateway.post("/webhooks", &json!({ "url": url })).await;
        assert_eq!(refused.problem(), (422, "webhook_not_allowed", "not_applied"), "{url}");
    }
    assert!(received(&sandbox).await.is_empty());
}

#[tokio::test]
async fn a_webhook_is_changed_by_a_merge_patch_and_deleted() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": ["result.*"], "description": "LMS" }))).await;
    let path = path_of(&webhook);
    let changed = gateway.patch(&path, &json!({ "types": null, "maxInFlight": 9 })).await;
    assert_eq!((changed.status, &changed.body["maxInFlight"]), (200, &json!(9)), "{changed:?}");
    assert!(changed.body.get("types").is_none() && changed.text("/description") == "LMS", "{changed:?}");
    assert_ne!(changed.text("/meta/lastModified"), webhook["meta"]["lastModified"]);
    for (patch, pointer) in [
        (json!({ "state": "paused" }), "/state"),
        (json!({ "secret": SECRET }), "/secret"),
        (json!({ "url": null }), "/url"),
        (json!({ "types": ["result.done"] }), "/types/0"),
        (json!({ "assessments": ["unknown"] }), "/assessments/0"),
        (json!({ "connections": ["startexam"] }), "/connections/0"),
    ] {
        let refused = gateway.patch(&path, &patch).await;
        assert_eq!((refused.problem().1, refused.text("/errors/0/pointer")), ("validation_failed", pointer), "{patch}");
    }
    assert_eq!(gateway.get(&path).await.body["maxInFlight"], 9);
    assert_eq!(gateway.delete(&path).await.status, 204);
    for response in
        [gateway.get(&path).await, gateway.delete(&path).await, gateway.get(&format!("{path}/deliveries")).await]
    {
        assert_eq!(response.problem(), (404, "not_found", "not_applied"));
    }
}

#[tokio::test]
async fn a_list_has_pages_newest_first() {
    let (sandbox, gateway) = start("").await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "description": number.to_string() }))).await;
        ids.push(webhook["id"].clone());
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/webhooks?limit=2".to_owned());
    loop {
        let page = gateway.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(page.body["items"].as_array().expect("a list").iter().map(|webhook| webhook["id"].clone()));
        let Some(cursor) = page.body["nextCursor"].as_str() else { break };
        path = format!("/webhooks?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    let foreign = gateway.get("/webhooks?cursor=res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73").await;
    assert_eq!((foreign.problem().0, foreign.text("/errors/0/pointer")), (422, "?cursor"));
}

#[tokio::test]
async fn a_retry_under_its_key_gets_the_same_secret_and_makes_no_second_webhook() {
    let (sandbox, gateway) = start("").await;
    let order = json!({ "url": hook(&sandbox) });
    let first = gateway.post_with_key("/webhooks", "k-1", &order).await;
    let again = gateway.post_with_key("/webhooks", "k-1", &order).await;
    assert_eq!((first.status, again.status, again.header("idempotent-replayed")), (201, 201, Some("true")));
    assert_eq!(first.body, again.body);
    assert!(first.text("/secret").starts_with("whsec_"), "{first:?}");
    assert_eq!(again.header("location"), first.header("location"));
    let other =
        gateway.post_with_key("/webhooks", "k-1", &json!({ "url": hook(&sandbox), "types": ["result.*"] })).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused", "not_applied"));
    assert_eq!(gateway.get("/webhooks").await.body["items"].as_array().map(Vec::len), Some(1));

    let path = path_of(&first.body);
    for (action, body) in
        [("rotate", json!({})), ("ping", json!(null)), ("pause", json!(null)), ("resume", json!(null))]
    {
        let path = format!("{path}/{action}");
        let first = gateway.post_with_key(&path, "k-2", &body).await;
        let again = gateway.post_with_key(&path, "k-2", &body).await;
        assert_eq!((first.status, again.header("idempotent-replayed")), (200, Some("true")), "{action}: {again:?}");
        assert_eq!(first.body, again.body, "{action}");
    }
    // The replies of rotation and creation are sealed like everything else.
    let (folder, log) = gateway.finish().await;
    for name in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"whsec_"), "{name}");
    }
    assert!(!log.contains("whsec_"), "a secret is in the log");
}

#[tokio::test]
async fn a_rotation_signs_with_both_secrets_for_its_overlap() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({}))).await;
    assert!(webhook.get("secret").is_none(), "a secret that the caller brought is not returned: {webhook}");
    let path = path_of(&webhook);
    switch(&sandbox, json!({ "secrets": format!("{SECRET},{OTHER_SECRET}") })).await;
    let signed_by = async || {
        let pinged = gateway.post(&format!("{path}/ping"), &json!(null)).await;
        assert_eq!(pinged.body["delivered"], true, "{pinged:?}");
        received(&sandbox).await.pop().expect("a ping")["signedBy"].clone()
    };
    assert_eq!(signed_by().await, json!([0]));
    let rotated = gateway.post(&format!("{path}/rotate"), &json!({ "secret": OTHER_SECRET, "overlap": "1h" })).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(signed_by().await, json!([0, 1]));
    // The end of an overlap.
    let leaked = gateway.post(&format!("{path}/rotate"), &json!({ "secret": SECRET, "overlap": "0s" })).await;
    assert_eq!(leaked.status, 200, "{leaked:?}");
    assert_eq!(signed_by().await, json!([0]));
}

#[tokio::test]
async fn a_paused_webhook_keeps_its_place() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": ["operation.completed"] }))).await;
    let path = path_of(&webhook);
    let paused = gateway.post(&format!("{path}/pause"), &json!(null)).await;
    assert_eq!((paused.status, paused.text("/state")), (200, "paused"), "{paused:?}");
    let operation = complete_operation(&gateway, "a").await;
    let behind = wait_until(&gateway, &path, |response| response.body["position"]["oldestPending"].is_u64()).await;
    assert_eq!(behind.body["position"]["latest"], behind.body["position"]["oldestPending"], "{behind:?}");
    assert_eq!(received(&sandbox).await.len(), 1, "the ping");
    let resumed = gateway.post(&format!("{path}/resume"), &json!(null)).await;
    assert_eq!((resumed.status, resumed.text("/state")), (200, "enabled"), "{resumed:?}");
    let event = wait_for_webhook(&sandbox, |webhook| webhook["body"]["type"] == "operation.completed").await;
    assert_eq!(
        (&event["verified"], event["body"]["data"]["resource"].as_str()),
        (&json!(true), Some(operation.as_str()))
    );
    wait_until(&gateway, &path, |response| response.body["position"].get("oldestPending").is_none()).await;
}

#[tokio::test]
async fn deliveries_are_listed_retried_and_replayed() {
    let (sandbox, gateway) = start("schedule = [\"0s\"]").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": ["operation.completed"] }))).await;
    let path = path_of(&webhook);
    set_faults(sandbox.lms(), json!({ "faults": [{ "name": "status", "status": 500 }] })).await;
    complete_operation(&gateway, "a").await;
    let failed = format!("{path}/deliveries?state=failed");
    let page =
        wait_until(&gateway, &failed, |response| response.body["items"].as_array().is_some_and(|all| all.len() == 1))
            .await;
    let delivery = page.body["items"][0].clone();
    assert_eq!(
        (&delivery["type"], &delivery["attempts"][0]["status"]),
        (&json!("operation.completed"), &json!(500)),
        "{page:?}"
    );
    assert!(
        delivery["attempts"][0]["error"].is_string() && delivery["attempts"][0]["durationMs"].is_u64(),
        "{delivery}"
    );
    let event = delivery["event"].as_str().expect("an id").to_owned();
    let by_event = gateway.get(&format!("{path}/deliveries?event={event}&state=delivered")).await;
    assert_eq!(by_event.body, json!({ "items": [], "nextCursor": null }));
    let by_event = gateway.get(&format!("{path}/deliveries?event={event}")).await;
    assert_eq!(by_event.body["items"][0]["id"], delivery["id"]);
    for query in ["event=evt_1", "state=lost", "cursor=wh_1", "limit=0"] {
        assert_eq!(gateway.get(&format!("{path}/deliveries?{query}")).await.problem().0, 422, "{query}");
    }

    set_faults(sandbox.lms(), json!({ "faults": [] })).await;
    let own = format!("/deliveries/{}", delivery["id"].as_str().expect("an id"));
    let retried = gateway.post_with_key(&format!("{own}/retry"), "k", &json!(null)).await;
    assert_eq!(retried.status, 200, "{retried:?}");
    let delivered = wait_until(&gateway, &own, |response| response.text("/state") == "delivered").await;
    assert_eq!(delivered.body["attempts"].as_array().map(Vec::len), Some(2), "{delivered:?}");
    let again = gateway.post(&format!("{own}/retry"), &json!(null)).await;
    assert_eq!(again.problem(), (409, "delivery_delivered", "not_applied"));
    assert_eq!(again.text("/resource"), own);

    // A replay of everything delivers it once more, under the same id.
    let order = json!({ "after": 0, "only": "all" });
    let replay = gateway.post_with_key(&format!("{path}/replay"), "r", &order).await;
    assert_eq!((replay.status, replay.text("/kind")), (202, "replay"), "{replay:?}");
    let operation = replay.header("location").expect("a location").to_owned();
    let same = gateway.post_with_key(&format!("{path}/replay"), "r", &order).await;
    assert_eq!((same.status, same.header("idempotent-replayed")), (202, Some("true")), "{same:?}");
    assert_eq!(same.header("location"), Some(operation.as_str()));
    wait_until(&gateway, &operation, |response| response.text("/state") == "completed").await;
    let twice = async || {
        received(&sandbox)
            .await
            .iter()
            .filter(|webhook| webhook["webhookId"] == event && webhook["accepted"] == true)
            .count()
    };
    let started = std::time::Instant::now();
    while twice().await < 2 {
        assert!(started.elapsed().as_secs() < 300, "{:#?}", received(&sandbox).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_payload_holds_the_resource_as_its_owner_reads_it() {
    let sandbox = sandbox().await;
    let with = |more: &str| {
        let scopes = format!("[\"webhooks:write\", \"webhooks:read\"{more}]");
        lms() + &client_with("poor", "lms", "[\"*\"]", &scopes)
    };
    let sections = startexam(&format!("http://{}", sandbox.startexam()), "") + &delivery("");
    let mut gateway = reload::start_gateway(|_| sections.clone()).await;
    reload::configure(&gateway, &sections, &with(", \"operations:read\""));
    reload::reload(&mut gateway).await;
    let full = to_lms(&sandbox, &json!({ "types": ["operation.completed"], "payload": "full" }));
    create(&gateway, &full).await;
    let of_poor = ask(&gateway, "poor", Method::POST, "/webhooks", Some(full.clone())).await;
    assert_eq!(of_poor.status, 201, "{of_poor:?}");
    // The operator takes the scope back.
    reload::configure(&gateway, &sections, &with(""));
    reload::reload(&mut gateway).await;
    let refused = ask(&gateway, "poor", Method::POST, "/webhooks", Some(full)).await;
    assert_eq!(refused.problem(), (403, "insufficient_scope", "not_applied"), "{refused:?}");
    let operation = complete_operation(&gateway, "a").await;
    let is_about = |webhook: &Value| webhook["body"]["data"]["resource"] == operation.as_str();
    let with =
        wait_for_webhook(&sandbox, |webhook| is_about(webhook) && webhook["body"]["data"]["object"].is_object()).await;
    assert_eq!(with["body"]["data"]["object"], gateway.get(&operation).await.body);
    let without =
        wait_for_webhook(&sandbox, |webhook| is_about(webhook) && webhook["body"]["data"].get("object").is_none())
            .await;
    assert_eq!(without["verified"], true, "the owner lacks the scope: {without}");
}

#[tokio::test]
async fn clients_see_the_webhooks_of_their_tenant_that_get_no_more_than_they_may_see() {
    let sandbox = sandbox().await;
    let address = format!("http://{}", sandbox.startexam());
    let connections = startexam(&address, "") + &startexam(&address, "").replace("startexam-main", "startexam-two");
    let clients = lms() + &client("narrow", "lms", "[\"startexam-two\"]") + &client("stranger", "", "[\"*\"]");
    let gateway = Gateway::start_with(&(connections + &delivery("")), &clients).await;
    let all = create(&gateway, &to_lms(&sandbox, &json!({}))).await;
    let main = create(&gateway, &to_lms(&sandbox, &json!({ "connections": ["startexam-main"] }))).await;
    let two = create(&gateway, &to_lms(&sandbox, &json!({ "connections": ["startexam-two"] }))).await;
    let own = ask(&gateway, "narrow", Method::POST, "/webhooks", Some(to_lms(&sandbox, &json!({})))).await;
    assert_eq!(own.status, 201, "{own:?}");
    let forbidden = to_lms(&sandbox, &json!({ "connections": ["startexam-main"] }));
    let forbidden = ask(&gateway, "narrow", Method::POST, "/webhooks", Some(forbidden)).await;
    assert_eq!((forbidden.status, forbidden.text("/errors/0/code")), (422, "connection_forbidden"), "{forbidden:?}");

    let seen = async |client: &str| -> Vec<Value> {
        let list = ask(&gateway, client, Method::GET, "/webhooks", None).await;
        list.body["items"].as_array().expect("a list").iter().map(|webhook| webhook["id"].clone()).collect()
    };
    assert_eq!(seen("narrow").await, [own.body["id"].clone(), two["id"].clone()]);
    assert_eq!(seen("lms").await.len(), 4);
    assert_eq!(seen("stranger").await, Vec::<Value>::new());
    for (client, webhook) in [("narrow", &all), ("narrow", &main), ("stranger", &two), ("stranger", &own.body)] {
        let path = path_of(webhook);
        for (method, path, body) in [
            (Method::GET, path.clone(), None),
            (Method::PATCH, path.clone(), Some(json!({ "description": "x" }))),
            (Method::DELETE, path.clone(), None),
            (Method::POST, format!("{path}/rotate"), Some(json!({}))),
            (Method::POST, format!("{path}/replay"), Some(json!({ "after": 0 }))),
            (Method::POST, format!("{path}/ping"), None),
            (Method::POST, format!("{path}/pause"), None),
            (Method::GET, format!("{path}/deliveries"), None),
        ] {
            let response = ask(&gateway, client, method.clone(), &path, body).await;
            assert_eq!(response.problem(), (404, "not_found", "not_applied"), "{client} {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_tenant_has_at_most_a_hundred_webhooks() {
    let stub = Stub::start(|_| json_response(200, &json!({}))).await;
    let (_sandbox, gateway) = start("").await;
    let order = json!({ "url": stub.url(), "types": ["result.*"] });
    for _ in 0..100 {
        create(&gateway, &order).await;
    }
    let one_more = gateway.post("/webhooks", &order).await;
    assert_eq!(one_more.problem(), (422, "validation_failed", "not_applied"), "{one_more:?}");
    let first = gateway.get("/webhooks?limit=1").await.body["items"][0].clone();
    assert_eq!(gateway.delete(&path_of(&first)).await.status, 204);
    create(&gateway, &order).await;
}

#[tokio::test]
async fn every_write_has_its_line_in_the_audit_log() {
    let (sandbox, gateway) = start("").await;
    let webhook = create(&gateway, &to_lms(&sandbox, &json!({ "types": ["operation.completed"] }))).await;
    let path = path_of(&webhook);
    gateway.patch(&path, &json!({ "maxInFlight": 9 })).await;
    for (action, body) in [
        ("ping", json!(null)),
        ("rotate", json!({})),
        ("pause", json!(null)),
        ("resume", json!(null)),
        ("replay", json!({ "after": 0 })),
    ] {
        let response = gateway.post(&format!("{path}/{action}"), &body).await;
        assert!([200, 202].contains(&response.status), "{action}: {response:?}");
    }
    gateway.delete(&path).await;
    let entries = gateway.get("/audit?limit=200").await.body["items"].clone();
    let entries = entries.as_array().expect("a list");
    for (action, status) in [
        ("webhooks.create", 201),
        ("webhooks.update", 200),
        ("webhooks.ping", 200),
        ("webhooks.rotate", 200),
        ("webhooks.pause", 200),
        ("webhooks.resume", 200),
        ("webhooks.replay", 202),
        ("webhooks.delete", 204),
    ] {
        let found: Vec<_> =
            entries.iter().filter(|entry| entry["action"] == action && entry["event"] == "answered").collect();
        assert_eq!(found.len(), 1, "{action}: {entries:#?}");
        assert_eq!((&found[0]["object"], &found[0]["status"]), (&json!(path), &json!(status)), "{}", found[0]);
    }
    let text = serde_json::to_string(entries).expect("JSON");
    assert!(!text.contains("whsec_") && !text.contains(&hook(&sandbox)), "{text}");
}
