//! The LMS: what it verifies, what its ledger tells, and how it misbehaves.

use super::*;

const SECRET: &str = accounts::lms::SECRET;
const OTHER_SECRET: &str = "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI=";
const BODY: &str = r#"{"type":"result.published","data":{"version":1}}"#;

/// A webhook as a sender makes it.
struct Webhook<'a> {
    path: &'a str,
    id: &'a str,
    timestamp: u64,
    signature: String,
    body: &'a str,
}

impl<'a> Webhook<'a> {
    fn signed(id: &'a str, secret: &str) -> Self {
        let timestamp = unix_now();
        Webhook { path: "/hook", id, timestamp, signature: webhook_signature(secret, id, timestamp, BODY), body: BODY }
    }

    fn request(&self, bench: &Bench) -> reqwest::RequestBuilder {
        let request = bench.client.post(format!("http://{}{}", bench.sandbox.lms(), self.path));
        request
            .header("Content-Type", "application/json")
            .header("webhook-id", self.id)
            .header("webhook-timestamp", self.timestamp.to_string())
            .header("webhook-signature", &self.signature)
            .body(self.body.to_owned())
    }

    async fn send(&self, bench: &Bench) -> SimulatorResponse {
        bench.send(self.request(bench)).await
    }
}

/// Delivers a webhook with a valid signature.
pub async fn deliver(bench: &Bench, id: &str) -> SimulatorResponse {
    Webhook::signed(id, SECRET).send(bench).await
}

async fn ledger(bench: &Bench, query: &str) -> Value {
    let url = format!("http://{}/_ledger{query}", bench.sandbox.lms());
    let response = bench.send(bench.client.get(url)).await;
    assert_eq!(response.status, Some(200), "{}", response.text());
    response.json()
}

/// Returns received, verified, accepted and duplicates.
async fn totals(bench: &Bench) -> [u64; 4] {
    let ledger = ledger(bench, "?bodies=false").await;
    ["received", "verified", "accepted", "duplicates"].map(|name| ledger[name].as_u64().expect("a number"))
}

#[tokio::test]
async fn the_ledger_lists_webhooks_in_the_order_of_their_arrival() {
    let bench = Bench::start().await;
    assert_eq!(deliver(&bench, "evt_1").await.json(), json!({ "received": true }));
    Webhook { path: "/hook/results/rust", ..Webhook::signed("evt_2", SECRET) }.send(&bench).await;
    deliver(&bench, "evt_1").await;
    assert_eq!(totals(&bench).await, [3, 3, 3, 1]);
    let webhooks = ledger(&bench, "").await["webhooks"].clone();
    let columns =
        |one: &Value| (one["webhookId"].clone(), one["path"].clone(), one["attempt"].clone(), one["duplicate"].clone());
    let rows: Vec<_> = webhooks.as_array().expect("a list").iter().map(columns).collect();
    let expected =
        [("evt_1", "/hook", 1, false), ("evt_2", "/hook/results/rust", 1, false), ("evt_1", "/hook", 2, true)];
    assert_eq!(rows, expected.map(|(id, path, attempt, again)| (json!(id), json!(path), json!(attempt), json!(again))));
    assert_eq!((&webhooks[0]["body"]["type"], &webhooks[0]["signedBy"]), (&json!("result.published"), &json!([0])));
    let later = ledger(&bench, &format!("?since={}&bodies=false", webhooks[1]["sequence"])).await;
    assert_eq!((later["webhooks"].as_array().map(Vec::len), later["webhooks"][0].get("body")), (Some(1), None));
    assert_eq!(bench.changes(bench.sandbox.lms()).await, ["accepted evt_1", "accepted evt_2", "repeated evt_1"]);
}

#[tokio::test]
async fn a_webhook_whose_signature_is_not_valid_is_refused_and_listed() {
    let bench = Bench::start().await;
    let old = unix_now() - 310;
    let cases = [
        (Webhook::signed("evt_1", OTHER_SECRET), "no signature matches"),
        (Webhook { body: "{}", ..Webhook::signed("evt_1", SECRET) }, "no signature matches"),
        (Webhook { id: "evt_2", ..Webhook::signed("evt_1", SECRET) }, "no signature matches"),
        (
            Webhook {
                timestamp: old,
                signature: webhook_signature(SECRET, "evt_1", old, BODY),
                ..Webhook::signed("evt_1", SECRET)
            },
            "webhook-timestamp is too old",
        ),
        (Webhook { signature: String::new(), ..Webhook::signed("evt_1", SECRET) }, "webhook-signature is missing"),
    ];
    for (webhook, why) in &cases {
        let response = webhook.send(&bench).await;
        assert_eq!((response.status, response.json()), (Some(401), json!({ "error": why })));
    }
    let webhooks = ledger(&bench, "").await["webhooks"].clone();
    for (at, (_, why)) in cases.iter().enumerate() {
        let one = &webhooks[at];
        assert_eq!((&one["problem"], &one["verified"], &one["accepted"]), (&json!(why), &json!(false), &json!(false)));
    }
    assert_eq!(totals(&bench).await, [5, 0, 0, 0]);
    // A forged webhook does not use up the id.
    assert_eq!(deliver(&bench, "evt_1").await.status, Some(200));
    assert_eq!(ledger(&bench, "").await["webhooks"][5]["duplicate"], false);
}

#[tokio::test]
async fn either_secret_is_valid_while_one_is_replaced() {
    let bench = Bench::start().await;
    bench.set_switch(bench.sandbox.lms(), "secrets", format!("{OTHER_SECRET}, {SECRET}")).await;
    let mut both = Webhook::signed("evt_1", SECRET);
    both.signature =
        [both.signature.as_str(), " ", &webhook_signature(OTHER_SECRET, both.id, both.timestamp, BODY)].concat();
    assert_eq!(both.send(&bench).await.status, Some(200));
    deliver(&bench, "evt_2").await;
    bench.set_switch(bench.sandbox.lms(), "secrets", OTHER_SECRET).await;
    assert_eq!(deliver(&bench, "evt_3").await.status, Some(401));
    let webhooks = ledger(&bench, "").await["webhooks"].clone();
    assert_eq!((&webhooks[0]["signedBy"], &webhooks[1]["signedBy"]), (&json!([0, 1]), &json!([1])));
}

#[tokio::test]
async fn a_retry_of_what_was_not_accepted_is_no_duplicate() {
    let bench = Bench::start().await;
    let address = bench.sandbox.lms();
    bench.inject_fault(address, json!({ "name": "server_error", "times": 1 })).await;
    assert_eq!(deliver(&bench, "evt_1").await.status, Some(500));
    assert_eq!(totals(&bench).await, [1, 1, 0, 0]);
    assert_eq!(deliver(&bench, "evt_1").await.status, Some(200));
    assert_eq!(totals(&bench).await, [2, 2, 1, 0]);
    // The response to what was accepted is lost.
    bench.inject_fault(address, json!({ "name": "reset_after_effect", "times": 1 })).await;
    assert_eq!(deliver(&bench, "evt_2").await.status, None);
    assert_eq!(deliver(&bench, "evt_2").await.status, Some(200));
    assert_eq!(totals(&bench).await, [4, 4, 3, 1]);
    // It is read, and then neither accepted nor answered.
    bench.inject_fault(address, json!({ "name": "reset_before_effect", "times": 1 })).await;
    assert_eq!(deliver(&bench, "evt_3").await.status, None);
    assert_eq!(totals(&bench).await, [5, 5, 3, 1]);
}

#[tokio::test]
async fn the_lms_misbehaves_like_the_other_simulators() {
    let bench = Bench::start().await;
    let address = bench.sandbox.lms();
    for (fault, status, retry_after, location) in [
        (json!({ "name": "gone" }), 410, "", ""),
        (json!({ "name": "rate_limited", "retryAfter": 90 }), 429, "90", ""),
        (json!({ "name": "unavailable", "retryAfter": 5, "format": "vendor" }), 503, "5", ""),
        (json!({ "name": "redirect", "location": "http://127.0.0.1:1/" }), 302, "", "http://127.0.0.1:1/"),
        (json!({ "name": "status", "status": 400, "body": "no" }), 400, "", ""),
    ] {
        bench.inject_fault(address, fault.clone()).await;
        let response = deliver(&bench, "evt_1").await;
        assert_eq!(
            (response.status, &*response.retry_after, &*response.location),
            (Some(status), retry_after, location),
            "{fault}"
        );
    }
    assert_eq!(totals(&bench).await, [5, 5, 0, 0]);
    bench.inject_fault(address, json!({ "name": "huge_body", "bytes": 100_000 })).await;
    assert_eq!(deliver(&bench, "evt_1").await.text().len(), 100_000);
    bench.inject_fault(address, json!({ "name": "delay_after_effect", "delayMs": 3_600_000 })).await;
    let waiting = tokio::spawn(Webhook::signed("evt_2", SECRET).request(&bench).send());
    while totals(&bench).await[2] < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn statuses_tolerance_and_clock_are_switches() {
    let bench = Bench::start().await;
    let address = bench.sandbox.lms();
    bench.configure(address, json!({ "switches": { "success_status": 202, "unverified_status": 200 } })).await;
    assert_eq!(deliver(&bench, "evt_1").await.status, Some(202));
    assert_eq!(Webhook::signed("evt_2", OTHER_SECRET).send(&bench).await.status, Some(200));
    bench.configure(address, json!({ "switches": { "clock_offset_seconds": 600, "unverified_status": null } })).await;
    let early = deliver(&bench, "evt_3").await;
    assert_eq!((early.status, early.json()), (Some(401), json!({ "error": "webhook-timestamp is too old" })));
    bench.set_switch(address, "tolerance_seconds", 700).await;
    assert_eq!(deliver(&bench, "evt_3").await.status, Some(202));
    assert_eq!(totals(&bench).await, [4, 2, 2, 0]);
    // A clock that no Date can show is not moved.
    for beyond in [-(1_i64 << 40), 1 << 40] {
        bench.set_switch(address, "clock_offset_seconds", beyond).await;
        assert_eq!(deliver(&bench, "evt_4").await.status, Some(202), "{beyond}");
    }
}

#[tokio::test]
async fn only_a_post_to_the_hook_is_a_webhook() {
    let bench = Bench::start().await;
    let url = |path: &str| format!("http://{}{path}", bench.sandbox.lms());
    assert_eq!(bench.send(bench.client.get(url("/hook"))).await.status, Some(405));
    for path in ["/", "/hooks", "/other/hook"] {
        assert_eq!(bench.send(bench.client.post(url(path))).await.status, Some(404), "{path}");
    }
    for wrong in ["/_ledger?from=1", "/_ledger?since=x", "/_ledger?bodies=1"] {
        assert_eq!(bench.send(bench.client.get(url(wrong))).await.status, Some(400), "{wrong}");
    }
    assert_eq!(bench.send(bench.client.post(url("/_ledger"))).await.status, Some(404));
    assert_eq!(totals(&bench).await, [0, 0, 0, 0]);
    // Not even JSON: it is kept as it came.
    let (id, timestamp) = ("evt_1", unix_now());
    let signature = webhook_signature(SECRET, id, timestamp, "plain");
    Webhook { path: "/hook/", id, timestamp, signature, body: "plain" }.send(&bench).await;
    assert_eq!(ledger(&bench, "").await["webhooks"][0]["body"], "plain");
    assert_eq!(bench.effects(bench.sandbox.lms(), "").await["state"]["accepted"], 1);
    bench.send(bench.client.post(url("/_reset"))).await;
    assert_eq!(totals(&bench).await, [0, 0, 0, 0]);
}
