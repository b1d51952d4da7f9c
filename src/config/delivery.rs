//! Validates `[delivery]` and `[webhooks.<name>]`: where events are delivered, how, and what the operator's own webhooks get.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{Auth, bounds};
use crate::config::error::ConfigErrors;
use crate::config::{identifier, schema, section};
use crate::domain::event::EventType;
use crate::domain::suggest;
use crate::domain::units::ConfigDuration;
use crate::domain::webhook::WebhookSettings;
use crate::domain::webhook::schedule::RetrySchedule;
use crate::domain::webhook::secret::SigningKey;
use crate::secret::{Secret, SecretRef, SecretSource};
use crate::service::{ConfiguredWebhook, DeliverySettings};
use crate::transport::RootCertificates;
use crate::transport::delivery::{HostPattern, Network, TargetPolicy};

/// Maximum of `timeout`.
const MAX_TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum of a step of the schedule, and their maximum number.
const MAX_STEP: Duration = Duration::from_hours(7 * 24);
const MAX_STEPS: usize = 100;
/// Minimum of `disable_after`.
const MIN_DISABLE_AFTER: Duration = Duration::from_mins(1);
/// Maximum of `max_in_flight`.
const MAX_IN_FLIGHT: u32 = 100;

/// `[delivery]`, before its certificates are read.
#[derive(Debug, Clone)]
pub(super) struct DeliveryDraft {
    policy: TargetPolicy,
    timeout: Duration,
    schedule: RetrySchedule,
    disable_after: Duration,
    authorities: Option<SecretRef>,
}

/// `[webhooks.<name>]`, before its secrets are read.
#[derive(Debug, Clone)]
pub(super) struct WebhookDraft {
    name: String,
    tenant: String,
    settings: WebhookSettings,
    secrets: Vec<SecretRef>,
}

/// Validates `[delivery]`; returns `None` after an error.
pub(super) fn checked(document: schema::Delivery, errors: &mut ConfigErrors<'_>) -> Option<DeliveryDraft> {
    let schema::Delivery { allow_hosts, allow_private, allow_http, timeout, schedule, disable_after, ca } = document;
    let allow_hosts =
        each("allow_hosts", &allow_hosts, errors, |text| HostPattern::parse(text).map_err(|error| error.to_string()));
    let allow_private =
        each("allow_private", &allow_private, errors, |text| Network::parse(text).map_err(|error| error.to_string()));
    let timely = errors.check(&["delivery", "timeout"], bounds::more_than_zero(timeout, MAX_TIMEOUT));
    let steps = each("schedule", &schedule, errors, |step| bounds::at_most(*step, MAX_STEP).map(|()| step.0));
    let steps = steps.filter(|steps| {
        let few =
            if steps.len() > MAX_STEPS { Err(format!("must not have more than {MAX_STEPS} steps")) } else { Ok(()) };
        errors.check(&["delivery", "schedule"], few).is_some()
    });
    let schedule = steps.and_then(|steps| {
        let schedule = RetrySchedule::new(&steps).ok_or("must not be empty: [\"0s\"] attempts each delivery once");
        errors.check(&["delivery", "schedule"], schedule)
    });
    let patient = if disable_after.0 < MIN_DISABLE_AFTER {
        Err(format!("must be at least {}", ConfigDuration(MIN_DISABLE_AFTER)))
    } else {
        Ok(())
    };
    let patient = errors.check(&["delivery", "disable_after"], patient);
    let policy = TargetPolicy { allow_hosts: allow_hosts?, allow_private: allow_private?, allow_http };
    timely?;
    patient?;
    Some(DeliveryDraft {
        policy,
        timeout: timeout.0,
        schedule: schedule?,
        disable_after: disable_after.0,
        authorities: ca,
    })
}

/// Checks each entry of a list of `[delivery]`; returns `None` after an error.
fn each<T, U>(
    key: &str,
    list: &[T],
    errors: &mut ConfigErrors<'_>,
    check: impl Fn(&T) -> Result<U, String>,
) -> Option<Vec<U>> {
    let checked = list
        .iter()
        .enumerate()
        .map(|(index, entry)| errors.check(&["delivery", key, &index.to_string()], check(entry)));
    // All of them first, so that every error is reported.
    let checked: Vec<Option<U>> = checked.collect();
    checked.into_iter().collect()
}

/// What a webhook may name.
pub(super) struct Known<'a> {
    /// `[delivery]`; `None` after an error.
    pub(super) delivery: Option<&'a DeliveryDraft>,
    /// The tenants; `None` after an error of `[auth]`.
    pub(super) auth: Option<&'a Auth>,
    /// The names of all connections, invalid ones included.
    pub(super) connections: &'a BTreeSet<String>,
    /// The ids of all assessments, invalid ones included.
    pub(super) assessments: &'a BTreeSet<String>,
}

/// Validates the webhooks; leaves out those with an error.
pub(super) fn webhooks(
    tables: Vec<(String, Value)>,
    known: &Known<'_>,
    errors: &mut ConfigErrors<'_>,
) -> Vec<WebhookDraft> {
    tables.into_iter().filter_map(|(name, table)| webhook(name, &table, known, errors)).collect()
}

fn webhook(name: String, table: &Value, known: &Known<'_>, errors: &mut ConfigErrors<'_>) -> Option<WebhookDraft> {
    let at = ["webhooks", name.as_str()];
    identifier::check(&at, errors);
    let document: schema::Webhook = section::section(table, &at, errors)?;
    let schema::Webhook {
        tenant,
        url,
        secret,
        types,
        connections,
        assessments,
        payload,
        order,
        max_in_flight,
        requests_per_second,
        description,
    } = document;
    let tenants = known.auth.map(Auth::tenants);
    let key = |key| [at[0], at[1], key];
    let tenant = section::required(tenant, &key("tenant"), errors);
    if let (Some(tenant), Some(tenants)) = (&tenant, &tenants)
        && !tenants.contains(tenant.as_str())
    {
        let hint = suggest::word(tenant, tenants.iter().copied());
        errors.push(&key("tenant"), format!("unknown tenant{hint}"));
    }
    let url = section::required(url, &key("url"), errors);
    if let (Some(url), Some(delivery)) = (&url, known.delivery) {
        let judged = delivery.policy.judge_configured(url).map_err(|refusal| refusal.to_string());
        errors.check(&key("url"), judged);
    }
    let secrets = section::required(secret, &key("secret"), errors);
    if secrets.as_ref().is_some_and(Vec::is_empty) {
        errors.push(&key("secret"), "must not be empty");
    }
    let unknown_types = types.iter().enumerate().filter(|(_, pattern)| EventType::matching(pattern).is_err());
    for (index, pattern) in unknown_types {
        let hint = suggest::word(pattern, EventType::ALL.iter().map(|known| known.as_str()));
        let detail = format!("is no type of event; expected one such as \"result.published\", or \"result.*\"{hint}");
        errors.push(&[at[0], at[1], "types", &index.to_string()], detail);
    }
    for (list, names, all, what) in [
        ("connections", &connections, known.connections, "connection"),
        ("assessments", &assessments, known.assessments, "assessment"),
    ] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !all.contains(*name)) {
            let hint = suggest::word(name, all.iter().map(String::as_str));
            errors.push(&[at[0], at[1], list, &index.to_string()], format!("unknown {what}{hint}"));
        }
    }
    if !(1..=MAX_IN_FLIGHT).contains(&max_in_flight) {
        errors.push(&key("max_in_flight"), format!("must be from 1 to {MAX_IN_FLIGHT}"));
    }
    let description = Some(description).filter(|text| !text.is_empty());
    let settings = WebhookSettings {
        url: url?,
        description,
        types,
        connections,
        assessments,
        payload,
        order,
        max_in_flight,
        requests_per_second,
    };
    Some(WebhookDraft { tenant: tenant?, settings, secrets: secrets?, name })
}

/// Reads the certificates of `[delivery]` and the secrets of the webhooks; returns `None` after an error.
pub(super) fn resolved(
    draft: &DeliveryDraft,
    webhooks: &[WebhookDraft],
    secrets: &dyn SecretSource,
    errors: &mut ConfigErrors<'_>,
) -> Option<DeliverySettings> {
    let DeliveryDraft { policy, timeout, schedule, disable_after, authorities } = draft.clone();
    let authorities = match authorities {
        Some(ca) => {
            let read = ca.resolve(secrets).and_then(|pem| RootCertificates::read(pem.expose()));
            errors.check(&["delivery", "ca"], read)
        }
        None => Some(RootCertificates::default()),
    };
    let webhooks = with_secrets(webhooks, secrets, errors);
    Some(DeliverySettings { policy, timeout, schedule, disable_after, authorities: authorities?, webhooks })
}

/// Reads the secrets of the webhooks and checks their form.
fn with_secrets(
    drafts: &[WebhookDraft],
    secrets: &dyn SecretSource,
    errors: &mut ConfigErrors<'_>,
) -> Vec<ConfiguredWebhook> {
    let resolve = |draft: &WebhookDraft, errors: &mut ConfigErrors<'_>| {
        let read = draft.secrets.iter().enumerate().map(|(index, reference)| {
            let read = reference.resolve(secrets).and_then(|secret| {
                SigningKey::parse(secret.expose()).map_err(|error| error.to_string())?;
                Ok(secret)
            });
            // A single one may be written without a list.
            let index = (draft.secrets.len() > 1).then(|| index.to_string());
            let path = ["webhooks", draft.name.as_str(), "secret"].into_iter().chain(index.as_deref());
            errors.check(&path.collect::<Vec<_>>(), read)
        });
        let read: Vec<Option<Secret>> = read.collect();
        read.into_iter().collect::<Option<Vec<Secret>>>()
    };
    let drafts = drafts.iter().filter_map(|draft| {
        let secrets = resolve(draft, errors)?;
        let WebhookDraft { name, tenant, settings, .. } = draft.clone();
        Some(ConfiguredWebhook { name, tenant, settings, secrets })
    });
    drafts.collect()
}
