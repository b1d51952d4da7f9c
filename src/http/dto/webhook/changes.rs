//! Changes of webhooks, as merge patches.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::{DEFAULT_IN_FLIGHT, DEFAULT_ORDER, DEFAULT_PAYLOAD, Fields};
use crate::domain::error::{Error, FieldError};
use crate::domain::validation::FieldErrors;
use crate::domain::webhook::{DeliveryOrder, WebhookPayload, WebhookSettings};
use crate::http::extract::validate::{ApiInput, fault_of, parse, word};
use crate::service::WebhookPatch;

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
pub(super) const IMMUTABLE: [(&str, &str); 11] = [
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
