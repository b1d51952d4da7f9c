//! Webhooks in requests and responses.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use utoipa::ToSchema;

use super::common::{Meta, Moment, page_document, word_document};
use super::delivery::DeliveryAttempt;
use crate::domain::error::{Error, FieldError};
use crate::domain::event::EventType;
use crate::domain::units::ConfigDuration;
use crate::domain::validation::FieldErrors;
use crate::domain::webhook as domain;
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::{
    DeliveryOrder, DisableReason, WebhookPayload, WebhookSettings, WebhookSource, WebhookState,
};
use crate::http::extract::validate::{ApiInput, PasswordText, date_time, fault_of, parse, word};
use crate::secret::Secret;
use crate::service::{
    NewWebhook as NewWebhookOrder, ReplayOrder, ReplayScope, ReplayStart, SecretRotation as RotationOrder,
    WebhookPatch, WebhookReply, WebhookView,
};

/// Maximum length of an address, in bytes.
const MAX_URL: usize = 2000;
/// Maximum length of a description, in characters.
const MAX_DESCRIPTION: usize = 250;
/// Maximum number of entries of a list.
const MAX_NAMES: usize = 200;
/// Maximum number of deliveries in flight.
const MAX_IN_FLIGHT: u32 = 100;
/// Maximum number of deliveries a second that a webhook can be limited to.
const MAX_RATE: u32 = 10_000;
/// The number of deliveries in flight by default.
const DEFAULT_IN_FLIGHT: u32 = 4;
const DEFAULT_PAYLOAD: WebhookPayload = WebhookPayload::Thin;
const DEFAULT_ORDER: DeliveryOrder = DeliveryOrder::Resource;
/// How long a former secret signs by default, and at most.
const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
const MAX_OVERLAP: Duration = Duration::from_hours(24 * 30);

/// Where the tenant's events are delivered. Fields without a value are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(webhook_example))]
pub struct Webhook {
    /// The gateway's identifier.
    pub id: String,
    /// Where it is defined.
    pub source: WebhookSource,
    /// Its name in the operator's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address to which events are delivered.
    pub url: String,
    /// The caller's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The types of events that it gets, as they were given; absent if it gets all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub types: Vec<String>,
    /// The connections whose events it gets; absent if it gets those of all that its client may use. It also gets events
    /// without a connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub connections: Vec<String>,
    /// The assessments whose events it gets; absent if it gets those of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub assessments: Vec<String>,
    /// What a delivery holds.
    pub payload: WebhookPayload,
    /// The order of deliveries.
    pub order: DeliveryOrder,
    /// The maximum number of deliveries in flight.
    pub max_in_flight: u32,
    /// The maximum number of deliveries per second; 0 for no limit.
    pub requests_per_second: u32,
    /// The state.
    pub state: WebhookState,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisableReason>,
    /// Since when every attempt has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Moment>,
    /// When the next attempt is made, if the receiver did not respond or asked for patience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resume_at: Option<Moment>,
    /// How far its deliveries are, in sequence numbers of events.
    pub position: WebhookPosition,
    /// The secret that signs its deliveries; only in the response to its creation and rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What the receiver responded to the ping at its creation; only in that response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<WebhookPing>,
    /// When it was created, and when it last changed.
    pub meta: Meta,
}

page_document!(WebhookList, Webhook, webhook_list_example, "A page of webhooks.");

/// How far the deliveries of a webhook are, in sequence numbers of events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPosition {
    /// The event up to which every one that passes the webhook's filters has been delivered, or has failed for good; 0 if
    /// there is none.
    pub delivered: u64,
    /// The latest event that passes the webhook's filters; 0 if there is none.
    pub latest: u64,
    /// The oldest event that is still to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<u64>,
}

/// What a receiver responded to a ping: a delivery of the type `ping`, whose event is in no list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(webhook_ping_example))]
pub struct WebhookPing {
    /// The id of the event, which is also the `webhook-id` of the delivery.
    pub event: String,
    /// Whether the receiver has accepted it.
    pub delivered: bool,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: DeliveryAttempt,
}

impl From<domain::WebhookPosition> for WebhookPosition {
    fn from(position: domain::WebhookPosition) -> Self {
        let domain::WebhookPosition { delivered, latest, oldest_pending } = position;
        Self { delivered, latest, oldest_pending }
    }
}

impl From<WebhookView> for Webhook {
    fn from(view: WebhookView) -> Self {
        let WebhookView { webhook, position } = view;
        let domain::Webhook {
            id,
            tenant: _,
            owner,
            source,
            settings,
            secrets: _,
            state,
            reason,
            scanned: _,
            failures: _,
            failing_since,
            resume_at,
            created,
            last_modified,
            version: _,
        } = webhook;
        let WebhookSettings {
            url,
            description,
            types,
            connections,
            assessments,
            payload,
            order,
            max_in_flight,
            requests_per_second,
        } = settings;
        Self {
            id: id.into(),
            source,
            name: Some(owner).filter(|_| source == WebhookSource::Configuration),
            url,
            description,
            types,
            connections,
            assessments,
            payload,
            order,
            max_in_flight,
            requests_per_second,
            state,
            reason,
            failing_since: failing_since.map(Into::into),
            resume_at: resume_at.map(Into::into),
            position: position.into(),
            secret: None,
            ping: None,
            meta: Meta::of(created, last_modified),
        }
    }
}

impl From<WebhookReply> for Webhook {
    fn from(reply: WebhookReply) -> Self {
        let WebhookReply { view, secret, ping } = reply;
        let secret = secret.map(|secret| secret.expose().to_owned());
        Self { secret, ping: ping.map(Into::into), ..view.into() }
    }
}

impl From<domain::PingResult> for WebhookPing {
    fn from(result: domain::PingResult) -> Self {
        let domain::PingResult { event, delivered, attempt } = result;
        Self { event: event.into(), delivered, attempt: attempt.into() }
    }
}

/// A webhook to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "url": "https://lms.example.com/examgate", "types": ["result.*", "assignment.*"] })))]
pub struct NewWebhook {
    /// The address to which events are delivered. The operator must allow its host.
    #[serde(default)]
    #[schema(required = true, nullable = false, format = "uri", max_length = 2000)]
    url: Option<String>,
    /// A description for people.
    #[schema(max_length = 250)]
    description: Option<String>,
    /// The types of events to deliver: exact names, or `result.*` for all that begin so. Default: all.
    #[schema(min_items = 1, max_items = 200)]
    types: Option<Vec<String>>,
    /// The connections whose events to deliver. Default: all that the client may use, also later ones. Events without a
    /// connection are delivered as well.
    #[schema(min_items = 1, max_items = 200)]
    connections: Option<Vec<String>>,
    /// The assessments whose events to deliver, by their ids in the catalogue. Default: all. Events that are about none are
    /// then not delivered.
    #[schema(min_items = 1, max_items = 200)]
    assessments: Option<Vec<String>>,
    /// What a delivery holds. Default: `thin`. `full` needs the scope to read what the events are about.
    #[serde(default, deserialize_with = "word")]
    payload: Option<WebhookPayload>,
    /// The order of deliveries. Default: `resource`.
    #[serde(default, deserialize_with = "word")]
    order: Option<DeliveryOrder>,
    /// The maximum number of deliveries in flight. Default: 4.
    #[schema(minimum = 1, maximum = 100)]
    max_in_flight: Option<u32>,
    /// The maximum number of deliveries per second; 0, the default, for no limit.
    #[schema(maximum = 10000)]
    requests_per_second: Option<u32>,
    /// The secret that signs the deliveries: `whsec_` and the Base64 form of 24 to 64 bytes. Default: the gateway generates
    /// one.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<PasswordText>,
}

impl ApiInput for NewWebhook {
    type Checked = NewWebhookOrder;

    fn checked(self) -> Result<NewWebhookOrder, Vec<FieldError>> {
        let Self {
            url,
            description,
            types,
            connections,
            assessments,
            payload,
            order,
            max_in_flight,
            requests_per_second,
            secret,
        } = self;
        let mut errors = FieldErrors::new();
        let fields = Fields {
            url: url.as_deref(),
            description: description.as_deref(),
            types: types.as_deref(),
            names: [("/connections", connections.as_deref()), ("/assessments", assessments.as_deref())],
            max_in_flight,
            requests_per_second,
        };
        fields.check(&mut errors);
        if url.is_none() {
            errors.push(FieldError::missing("/url", "is missing"));
        }
        let secret = check_secret(secret, &mut errors);
        let settings = WebhookSettings {
            url: url.unwrap_or_default(),
            description,
            types: types.unwrap_or_default(),
            connections: connections.unwrap_or_default(),
            assessments: assessments.unwrap_or_default(),
            payload: payload.unwrap_or(DEFAULT_PAYLOAD),
            order: order.unwrap_or(DEFAULT_ORDER),
            max_in_flight: max_in_flight.unwrap_or(DEFAULT_IN_FLIGHT),
            requests_per_second: requests_per_second.unwrap_or_default(),
        };
        errors.into_result(NewWebhookOrder { settings, secret })
    }
}

/// Changes of a webhook, as a merge patch: `null` sets a field to its default.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "types": ["result.*"], "maxInFlight": 8 })))]
pub struct WebhookChanges {
    /// The address to which events are delivered. The operator must allow its host.
    #[schema(nullable = false, format = "uri", max_length = 2000)]
    url: Option<String>,
    /// A description for people.
    #[schema(max_length = 250)]
    description: Option<String>,
    /// The types of events to deliver.
    #[schema(min_items = 1, max_items = 200)]
    types: Option<Vec<String>>,
    /// The connections whose events to deliver.
    #[schema(min_items = 1, max_items = 200)]
    connections: Option<Vec<String>>,
    /// The assessments whose events to deliver, by their ids in the catalogue.
    #[schema(min_items = 1, max_items = 200)]
    assessments: Option<Vec<String>>,
    /// What a delivery holds.
    #[serde(default, deserialize_with = "word")]
    payload: Option<WebhookPayload>,
    /// The order of deliveries.
    #[serde(default, deserialize_with = "word")]
    order: Option<DeliveryOrder>,
    /// The maximum number of deliveries in flight.
    #[schema(minimum = 1, maximum = 100)]
    max_in_flight: Option<u32>,
    /// The maximum number of deliveries per second; 0 for no limit.
    #[schema(maximum = 10000)]
    requests_per_second: Option<u32>,
}

impl ApiInput for WebhookChanges {
    type Checked = Self;

    fn checked(self) -> Result<Self, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let fields = Fields {
            url: self.url.as_deref(),
            description: self.description.as_deref(),
            types: self.types.as_deref(),
            names: [("/connections", self.connections.as_deref()), ("/assessments", self.assessments.as_deref())],
            max_in_flight: self.max_in_flight,
            requests_per_second: self.requests_per_second,
        };
        fields.check(&mut errors);
        errors.into_result(self)
    }
}

/// Fields of a webhook that a merge patch cannot change, each with what to do instead.
const IMMUTABLE: [(&str, &str); 11] = [
    ("id", "cannot be changed"),
    ("source", "cannot be changed"),
    ("name", "cannot be changed"),
    ("state", "cannot be changed so: pause or resume the webhook"),
    ("reason", "cannot be changed"),
    ("failingSince", "cannot be changed"),
    ("resumeAt", "cannot be changed"),
    ("position", "cannot be changed: replay events to get them again"),
    ("secret", "cannot be changed so: rotate it"),
    ("ping", "cannot be changed"),
    ("meta", "cannot be changed"),
];

/// Returns the change that this merge patch makes to the settings of a webhook.
///
/// # Errors
/// `validation_failed` with every invalid field.
pub fn webhook_patch(patch: Map<String, Value>) -> Result<WebhookPatch, Error> {
    let detail_of = |name: &str| IMMUTABLE.iter().find(|(fixed, _)| *fixed == name).map(|(_, detail)| *detail);
    let (fixed, rest): (Vec<_>, Vec<_>) = patch.clone().into_iter().partition(|(name, _)| detail_of(name).is_some());
    let mut errors: Vec<FieldError> = fixed
        .iter()
        .map(|(name, _)| FieldError::invalid(format!("/{name}"), detail_of(name).unwrap_or_default()))
        .collect();
    if patch.get("url").is_some_and(Value::is_null) {
        errors.push(FieldError::invalid("/url", "cannot be removed"));
    }
    match parse::<WebhookChanges>(&Value::Object(rest.into_iter().collect())) {
        Ok(changes) if errors.is_empty() => {
            Ok(Box::new(move |settings: WebhookSettings| Ok(changed(settings, &patch, changes.clone()))))
        }
        given => {
            errors.extend(given.err().map(|error| error.errors).unwrap_or_default());
            Err(fault_of(errors))
        }
    }
}

/// Sets the fields that the patch names; one that it names without a value gets its default.
fn changed(settings: WebhookSettings, patch: &Map<String, Value>, changes: WebhookChanges) -> WebhookSettings {
    fn set<T>(patch: &Map<String, Value>, name: &str, now: T, given: T) -> T {
        if patch.contains_key(name) { given } else { now }
    }
    let WebhookChanges {
        url,
        description,
        types,
        connections,
        assessments,
        payload,
        order,
        max_in_flight,
        requests_per_second,
    } = changes;
    WebhookSettings {
        url: url.unwrap_or(settings.url),
        description: set(patch, "description", settings.description, description),
        types: set(patch, "types", settings.types, types.unwrap_or_default()),
        connections: set(patch, "connections", settings.connections, connections.unwrap_or_default()),
        assessments: set(patch, "assessments", settings.assessments, assessments.unwrap_or_default()),
        payload: set(patch, "payload", settings.payload, payload.unwrap_or(DEFAULT_PAYLOAD)),
        order: set(patch, "order", settings.order, order.unwrap_or(DEFAULT_ORDER)),
        max_in_flight: set(patch, "maxInFlight", settings.max_in_flight, max_in_flight.unwrap_or(DEFAULT_IN_FLIGHT)),
        requests_per_second: set(
            patch,
            "requestsPerSecond",
            settings.requests_per_second,
            requests_per_second.unwrap_or_default(),
        ),
    }
}

/// The fields of a webhook that are given, to be checked by themselves.
struct Fields<'a> {
    url: Option<&'a str>,
    description: Option<&'a str>,
    types: Option<&'a [String]>,
    names: [(&'a str, Option<&'a [String]>); 2],
    max_in_flight: Option<u32>,
    requests_per_second: Option<u32>,
}

impl Fields<'_> {
    fn check(&self, errors: &mut FieldErrors) {
        let Self { url, description, types, names, max_in_flight, requests_per_second } = self;
        if let Some(detail) = url.and_then(url_fault) {
            errors.push(FieldError::invalid("/url", detail));
        }
        errors.check_line("/description", *description, MAX_DESCRIPTION);
        if let Some(types) = types {
            check_length("/types", types, errors);
            for (index, pattern) in types.iter().enumerate() {
                if EventType::matching(pattern).is_err() {
                    let detail = "is no type of event: expected one such as `result.published`, or `result.*`";
                    errors.push(FieldError::invalid(format!("/types/{index}"), detail));
                }
            }
        }
        for (pointer, list) in names {
            let Some(list) = list else { continue };
            check_length(pointer, list, errors);
            for (index, name) in list.iter().enumerate() {
                errors.check_line(&format!("{pointer}/{index}"), Some(name), MAX_DESCRIPTION);
            }
        }
        if max_in_flight.is_some_and(|most| !(1..=MAX_IN_FLIGHT).contains(&most)) {
            errors.push(FieldError::invalid("/maxInFlight", format!("must be from 1 to {MAX_IN_FLIGHT}")));
        }
        if requests_per_second.is_some_and(|most| most > MAX_RATE) {
            errors.push(FieldError::invalid("/requestsPerSecond", format!("must be at most {MAX_RATE}")));
        }
    }
}

fn check_length(pointer: &str, list: &[String], errors: &mut FieldErrors) {
    if list.is_empty() {
        errors.push(FieldError::invalid(pointer, "must not be empty: without the field, the webhook gets all"));
    } else if list.len() > MAX_NAMES {
        errors.push(FieldError::invalid(pointer, format!("must not have more than {MAX_NAMES} entries")));
    }
}

/// Says what is wrong with the form of an address. Whether the operator allows it is another question.
fn url_fault(text: &str) -> Option<String> {
    if text.len() > MAX_URL {
        return Some(format!("must not be longer than {MAX_URL} bytes"));
    }
    let url = match Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => url,
        Ok(_) | Err(_) => return Some("must be an absolute URL such as https://lms.example.com/examgate".to_owned()),
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user {
        return Some("must not hold a user name or password: deliveries are signed instead".to_owned());
    }
    url.fragment().map(|_| "must not have a fragment".to_owned())
}

/// Checks a secret that the caller brings. Errors never quote it.
fn check_secret(secret: Option<PasswordText>, errors: &mut FieldErrors) -> Option<Secret> {
    let PasswordText(text) = secret?;
    let secret = Secret::new(text);
    match SigningKey::parse(secret.expose()) {
        Ok(_) => Some(secret),
        Err(error) => {
            errors.push(FieldError::invalid("/secret", error.to_string()));
            None
        }
    }
}

/// How the secret of a webhook is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "overlap": "24h" })))]
pub struct SecretRotation {
    /// How long deliveries are signed with the former secret as well, such as `30m` or `24h`; at most 30d, and `0s` if the
    /// former secret has leaked. Default: `24h`.
    #[schema(pattern = "^[0-9]+(ms|s|m|h|d)$")]
    overlap: Option<String>,
    /// The new secret: `whsec_` and the Base64 form of 24 to 64 bytes. Default: the gateway generates one.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<PasswordText>,
}

impl ApiInput for SecretRotation {
    type Checked = RotationOrder;

    fn checked(self) -> Result<RotationOrder, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let parsed = self.overlap.as_deref().map(|text| match ConfigDuration::parse(text) {
            Ok(overlap) if overlap.0 <= MAX_OVERLAP => Ok(overlap.0),
            Ok(_) => Err(format!("must be at most {}", ConfigDuration(MAX_OVERLAP))),
            Err(_) => Err("must be a duration such as `30m` or `24h`".to_owned()),
        });
        let overlap = errors.take("/overlap", parsed).unwrap_or(DEFAULT_OVERLAP);
        let secret = check_secret(self.secret, &mut errors);
        errors.into_result(RotationOrder { overlap, secret })
    }
}

/// Which events are delivered to a webhook again: those after one, or those since a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "since": "2026-11-22T00:00:00Z", "only": "failed" })))]
pub struct ReplayRequest {
    /// Those after the event with this sequence number.
    after: Option<u64>,
    /// Those of this time and later.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only those before this time.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only those of these types, by exact names or `result.*`. Default: those that the webhook gets.
    #[schema(min_items = 1, max_items = 200)]
    types: Option<Vec<String>>,
    /// Only those whose deliveries have failed, or all. Default: `failed`.
    #[serde(default, deserialize_with = "word")]
    only: Option<ReplaySelection>,
}

word_document! {
    /// Which of a webhook's events are delivered again.
    pub enum ReplaySelection into ReplayScope {
        /// Those whose deliveries have failed for good.
        Failed,
        /// All, those that were delivered included.
        All,
    }
}

impl ApiInput for ReplayRequest {
    type Checked = ReplayOrder;

    fn checked(self) -> Result<ReplayOrder, Vec<FieldError>> {
        let Self { after, since, until, types, only } = self;
        let mut errors = FieldErrors::new();
        let start = match (after, since) {
            (Some(sequence), None) if i64::try_from(sequence).is_err() => {
                errors.push(FieldError::invalid("/after", "must be a sequence number, at most 9223372036854775807"));
                None
            }
            (Some(sequence), None) => Some(ReplayStart::After(sequence)),
            (None, Some(time)) => Some(ReplayStart::Since(time)),
            (None, None) => {
                errors
                    .push(FieldError::missing("/since", "is missing; or name the event before the first with `after`"));
                None
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid("/after", "cannot be combined with `since`: send one of them"));
                None
            }
        };
        if since.zip(until).is_some_and(|(since, until)| until <= since) {
            errors.push(FieldError::invalid("/until", "must be later than since"));
        }
        let fields = Fields {
            url: None,
            description: None,
            types: types.as_deref(),
            names: [("/connections", None), ("/assessments", None)],
            max_in_flight: None,
            requests_per_second: None,
        };
        fields.check(&mut errors);
        let only = only.map_or(ReplayScope::Failed, Into::into);
        match start {
            Some(start) => errors.into_result(ReplayOrder { start, until, types: types.unwrap_or_default(), only }),
            None => Err(errors.into_errors()),
        }
    }
}

/// Builds the example of a webhook.
fn webhook_example() -> Value {
    json!({
        "id": "wh_0192f0c1a3b47c8d9e0f1a2b3c4d5e75",
        "source": "api",
        "url": "https://lms.example.com/examgate",
        "types": ["result.*", "assignment.*"],
        "payload": "thin",
        "order": "resource",
        "maxInFlight": 4,
        "requestsPerSecond": 0,
        "state": "enabled",
        "position": { "delivered": 4709, "latest": 4711, "oldestPending": 4711 },
        "meta": { "created": "2026-11-22T09:30:21.024Z", "lastModified": "2026-11-22T09:30:21.024Z" },
    })
}

/// Builds the example of a webhook in the response to its creation. Its secret is no secret.
pub(in crate::http) fn created_webhook_example() -> Value {
    let mut webhook = rotated_webhook_example();
    webhook["position"] = json!({ "delivered": 4709, "latest": 4709 });
    webhook["ping"] = webhook_ping_example();
    webhook
}

/// Builds the example of a webhook in the response to a rotation. Its secret is no secret.
pub(in crate::http) fn rotated_webhook_example() -> Value {
    let mut webhook = webhook_example();
    webhook["secret"] = json!("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    webhook
}

fn webhook_list_example() -> Value {
    json!({ "items": [webhook_example()], "nextCursor": null })
}

fn webhook_ping_example() -> Value {
    json!({
        "event": "evt_0192f0c1a3b47c8d9e0f1a2b3c4d5e76",
        "delivered": true,
        "at": "2026-11-22T09:30:21.024Z",
        "status": 204,
        "durationMs": 87,
    })
}

#[cfg(test)]
mod tests;
