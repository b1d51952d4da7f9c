use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::actions::{ReplayRequest, SecretRotation};
use super::changes::{IMMUTABLE, webhook_patch};
use super::input::NewWebhook;
use super::*;
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{EventId, WebhookId};
use crate::domain::webhook::DeliveryAttempt;
use crate::http::extract::validate::parse;
use crate::secret::Secret;
use crate::service::{NewWebhook as NewWebhookOrder, ReplayScope, ReplayStart};

fn settings() -> WebhookSettings {
    parse::<NewWebhook>(&json!({
        "url": "https://lms.example.com/examgate", "types": ["result.*"], "description": "the LMS", "maxInFlight": 9,
    }))
    .unwrap()
    .settings
}

fn view(settings: WebhookSettings, source: WebhookSource) -> WebhookView {
    let time: Timestamp = "2026-11-22T09:30:21.024Z".parse().unwrap();
    let webhook = domain::Webhook {
        id: WebhookId::parse("wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75").unwrap(),
        tenant: "lms".to_owned(),
        owner: "portal".to_owned(),
        source,
        settings,
        secrets: vec![domain::WebhookSecret { value: Secret::new("whsec_hush"), expires: None }],
        state: WebhookState::Enabled,
        reason: None,
        scanned: 4711,
        failures: 0,
        failing_since: None,
        resume_at: None,
        created: time,
        last_modified: time,
        version: 1,
    };
    let position = domain::WebhookPosition { delivered: 4709, latest: 4711, oldest_pending: Some(4711) };
    WebhookView { webhook, position }
}

#[test]
fn a_webhook_is_shown_as_its_example() {
    let order = json!({ "url": "https://lms.example.com/examgate", "types": ["result.*", "assignment.*"] });
    let NewWebhookOrder { settings, secret } = parse::<NewWebhook>(&order).unwrap();
    assert!(secret.is_none());
    let shown = serde_json::to_value(Webhook::from(view(settings, WebhookSource::Api))).unwrap();
    assert_eq!(shown, webhook_example());
}

#[test]
fn only_the_reply_to_a_creation_or_rotation_holds_a_secret() {
    let time: Timestamp = "2026-11-22T09:30:21.024Z".parse().unwrap();
    let attempt = DeliveryAttempt { at: time, status: Some(204), duration_ms: 87, error: None };
    let event = EventId::parse("evt_0192f0c1a3b47c8d9e0f1a2b3c4d5e76").unwrap();
    let ping = Some(domain::PingResult { event, delivered: true, attempt });
    let reply =
        WebhookReply { view: view(settings(), WebhookSource::Api), secret: Some(Secret::new("whsec_new")), ping };
    let shown = serde_json::to_value(Webhook::from(reply)).unwrap();
    assert_eq!((&shown["secret"], &shown["ping"]), (&json!("whsec_new"), &webhook_ping_example()));
    let read = serde_json::to_value(Webhook::from(view(settings(), WebhookSource::Api))).unwrap();
    assert!(!read.to_string().contains("whsec_"), "{read}");
}

#[test]
fn a_configured_webhook_has_a_name() {
    let shown = |source| serde_json::to_value(Webhook::from(view(settings(), source))).unwrap();
    assert_eq!(shown(WebhookSource::Configuration)["name"], "portal");
    assert!(shown(WebhookSource::Api).get("name").is_none(), "its owner is not shown");
}

#[test]
fn a_new_webhook_has_defaults() {
    let WebhookSettings { types, connections, assessments, payload, order, max_in_flight, requests_per_second, .. } =
        parse::<NewWebhook>(&json!({ "url": "http://a.example/" })).unwrap().settings;
    assert!(types.is_empty() && connections.is_empty() && assessments.is_empty());
    assert_eq!((payload, order), (WebhookPayload::Thin, DeliveryOrder::Resource));
    assert_eq!((max_in_flight, requests_per_second), (4, 0));
}

#[test]
fn every_fault_is_named_and_no_secret_is_quoted() {
    let hush = "whsec_hushhush";
    let error = parse::<NewWebhook>(&json!({
        "url": "lms.example.com",
        "description": " ",
        "types": ["result.*", "result.done", "ping"],
        "connections": [],
        "assessments": ["rust-101", ""],
        "payload": "fat",
        "order": "time",
        "maxInFlight": 0,
        "requestsPerSecond": 10_001,
        "secret": hush,
        "state": "paused",
    }))
    .unwrap_err();
    let mut pointers: Vec<&str> = error.errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    let expected = [
        "/assessments/1",
        "/connections",
        "/description",
        "/maxInFlight",
        "/order",
        "/payload",
        "/requestsPerSecond",
        "/secret",
        "/state",
        "/types/1",
        "/types/2",
        "/url",
    ];
    assert_eq!(pointers, expected);
    assert!(!format!("{error:?}").contains(hush), "{error:?}");
}

#[test]
fn an_address_is_absolute_and_holds_no_credentials() {
    for url in [
        "/hook",
        "ftp://a.example/",
        "https:///",
        "https://u:hush@a.example/",
        "https://u@a.example/",
        "https://a.example/#x",
    ] {
        let error = parse::<NewWebhook>(&json!({ "url": url })).unwrap_err();
        assert_eq!((error.code, error.errors[0].pointer.as_str()), (Code::ValidationFailed, "/url"), "{url}");
        assert!(!error.errors[0].detail.contains("hush"), "{error:?}");
    }
    let missing = parse::<NewWebhook>(&json!({})).unwrap_err();
    assert_eq!((missing.errors[0].pointer.as_str(), missing.errors[0].code.as_ref()), ("/url", FieldError::MISSING));
}

fn patched(patch: Value) -> Result<WebhookSettings, Vec<String>> {
    let Value::Object(patch) = patch else { panic!("an object") };
    match webhook_patch(patch) {
        Ok(change) => Ok(change(settings()).unwrap()),
        Err(error) => Err(error.errors.into_iter().map(|error| error.pointer).collect()),
    }
}

#[test]
fn a_patch_changes_what_it_names_and_null_means_the_default() {
    assert_eq!(patched(json!({})), Ok(settings()));
    let changed = patched(json!({ "url": "https://b.example/", "order": "none", "types": null })).unwrap();
    let expected = WebhookSettings {
        url: "https://b.example/".to_owned(),
        order: DeliveryOrder::Unordered,
        types: Vec::new(),
        ..settings()
    };
    assert_eq!(changed, expected);
    let cleared = json!({
        "description": null, "connections": null, "assessments": null, "payload": null, "order": null, "maxInFlight": null,
        "requestsPerSecond": null,
    });
    let expected = WebhookSettings { description: None, max_in_flight: 4, ..settings() };
    assert_eq!(patched(cleared), Ok(expected));
}

#[test]
fn a_patch_with_a_fault_changes_nothing() {
    assert_eq!(patched(json!({ "url": null })), Err(vec!["/url".to_owned()]));
    assert_eq!(patched(json!({ "url": "x", "maxInFlight": 101 })).unwrap_err().len(), 2);
    for (name, _) in IMMUTABLE {
        assert_eq!(patched(json!({ name: null })), Err(vec![format!("/{name}")]), "{name}");
    }
}

#[test]
fn a_rotation_overlaps_for_a_day_unless_it_says_otherwise() {
    let overlap = |tree: Value| parse::<SecretRotation>(&tree).map(|rotation| rotation.overlap);
    assert_eq!(overlap(json!({})), Ok(Duration::from_hours(24)));
    assert_eq!(overlap(json!({ "overlap": "0s" })), Ok(Duration::ZERO));
    assert_eq!(overlap(json!({ "overlap": "30d" })), Ok(Duration::from_hours(30 * 24)));
    for overlap in ["31d", "a day", "24", ""] {
        let error = parse::<SecretRotation>(&json!({ "overlap": overlap })).unwrap_err();
        assert_eq!(error.errors[0].pointer, "/overlap", "{overlap}");
    }
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let rotation = parse::<SecretRotation>(&json!({ "secret": own })).unwrap();
    assert_eq!(rotation.secret.unwrap().expose(), own);
}

#[test]
fn a_replay_begins_after_an_event_or_at_a_time() {
    let time = "2026-11-22T00:00:00Z";
    let order = parse::<ReplayRequest>(&json!({ "since": time })).unwrap();
    assert_eq!((order.start, order.only), (ReplayStart::Since(time.parse().unwrap()), ReplayScope::Failed));
    let order = parse::<ReplayRequest>(&json!({ "after": 7, "only": "all", "types": ["result.*"] })).unwrap();
    assert_eq!((order.start, order.only), (ReplayStart::After(7), ReplayScope::All));
    assert_eq!(order.types, ["result.*"]);
    for (tree, pointer) in [
        (json!({}), "/since"),
        (json!({ "after": 7, "since": time }), "/after"),
        (json!({ "after": -1 }), "/after"),
        (json!({ "since": time, "until": time }), "/until"),
        (json!({ "since": time, "types": ["x.*"] }), "/types/0"),
        (json!({ "since": time, "only": "some" }), "/only"),
    ] {
        let error = parse::<ReplayRequest>(&tree).unwrap_err();
        assert_eq!(error.errors[0].pointer, pointer, "{tree}");
    }
}
