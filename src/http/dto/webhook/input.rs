//! Webhooks to be created, and the rules of their fields.

use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use crate::domain::error::FieldError;
use crate::domain::event::EventType;
use crate::domain::validation::FieldErrors;
use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::{DeliveryOrder, WebhookPayload, WebhookSettings};
use crate::http::extract::validate::{ApiInput, PasswordText, word};
use crate::secret::Secret;
use crate::service::NewWebhook as NewWebhookOrder;

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
pub(super) const DEFAULT_IN_FLIGHT: u32 = 4;
pub(super) const DEFAULT_PAYLOAD: WebhookPayload = WebhookPayload::Thin;
pub(super) const DEFAULT_ORDER: DeliveryOrder = DeliveryOrder::Resource;

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

/// The fields of a webhook that are given, to be checked by themselves.
pub(super) struct Fields<'a> {
    pub(super) url: Option<&'a str>,
    pub(super) description: Option<&'a str>,
    pub(super) types: Option<&'a [String]>,
    pub(super) names: [(&'a str, Option<&'a [String]>); 2],
    pub(super) max_in_flight: Option<u32>,
    pub(super) requests_per_second: Option<u32>,
}

impl Fields<'_> {
    pub(super) fn check(&self, errors: &mut FieldErrors) {
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
pub(super) fn check_secret(secret: Option<PasswordText>, errors: &mut FieldErrors) -> Option<Secret> {
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
