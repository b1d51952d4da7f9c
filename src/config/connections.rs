//! Validates `[connections.<name>]` and builds the adapters.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use super::{Auth, bounds};
use crate::config::error::ConfigErrors;
use crate::config::{identifier, section};
use crate::domain::deserialize::{DeserializeError, DeserializeErrorKind};
use crate::domain::suggest;
use crate::domain::system::System;
use crate::secret::{ConfigFingerprint, Secret, SecretSource};
use crate::service::ConnectionSetup;
use crate::transport::{ConnectionSettings, RootCertificates};
use crate::vendors::{AdapterContext, DESCRIPTORS, Settings};

/// Maximum of `timeout`.
const MAX_TIMEOUT: Duration = Duration::from_mins(10);
/// Maximum of `settle_grace`: well below the 24 hours after which an operator has to resolve an unknown write.
const MAX_SETTLE_GRACE: Duration = Duration::from_hours(12);
/// Maximum of `retry.base` and `retry.max`.
const MAX_PAUSE: Duration = Duration::from_mins(10);
/// Maximum of `breaker.cooldown`.
const MAX_COOLDOWN: Duration = Duration::from_hours(1);
/// Maximum of `seat_limit_pause`.
const MAX_SEAT_LIMIT_PAUSE: Duration = Duration::from_hours(24);

/// `[connections.<name>]`: one account at a vendor.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Settings every connection has.
    pub settings: ConnectionSettings,
    /// Settings of this vendor.
    pub vendor: Settings,
    /// The merged table, for comparison with a later configuration.
    written: Secret,
}

/// Validates one connection; returns `None` after an error.
pub(super) fn checked(name: &str, value: &Value, errors: &mut ConfigErrors<'_>) -> Option<ConnectionConfig> {
    let at = ["connections", name];
    identifier::check(&at, errors);
    let mut own = section::table(value, &at, errors)?;
    // The whole table is a secret: it may contain one in clear text (`plain:`).
    let written = Secret::new(value.to_string());
    let kind = kind(name, own.remove("vendor"), errors);
    let common: Map<String, Value> = ConnectionSettings::KEYS.iter().filter_map(|key| own.remove_entry(*key)).collect();
    let settings = section::section::<ConnectionSettings>(&Value::Object(common), &at, errors);
    let fine = settings.as_ref().is_some_and(|settings| limits(name, settings, errors));
    let base_url = settings.as_ref().is_none_or(|settings| base_url(name, &own, settings, errors));
    let kind = kind?;
    let vendor = section::section_with(Value::Object(own), &at, Settings::required(kind), errors, |tree| {
        Settings::read(kind, tree).unwrap_or_else(|| Err(vec![unread()]))
    });
    // No adapter after an error of the common settings: its own errors would only confuse.
    let vendor = vendor.filter(|_| fine && base_url)?;
    Some(ConnectionConfig { settings: settings?, vendor, written })
}

/// Builds every adapter that can be built, and reports the errors of the others.
pub(super) fn connect(
    connections: &BTreeMap<String, ConnectionConfig>,
    secrets: &dyn SecretSource,
    environment: &System,
    errors: &mut ConfigErrors<'_>,
) -> BTreeMap<String, ConnectionSetup> {
    let mut built = BTreeMap::new();
    for (name, ConnectionConfig { settings, vendor, written }) in connections {
        let secrets = RecordingSecrets { source: secrets, read: RefCell::new(vec![written.clone()]) };
        let mut settings = settings.clone();
        if let Some(ca) = &settings.ca {
            let read = ca.resolve(&secrets).and_then(|pem| RootCertificates::read(pem.expose()));
            let Some(authorities) = errors.check(&["connections", name, "ca"], read) else { continue };
            settings.authorities = authorities;
        }
        let setup = AdapterContext { name, connection: &settings, secrets: &secrets, environment: environment.clone() };
        match vendor.clone().connect(&setup) {
            Ok(connected) => {
                let fingerprint = ConfigFingerprint::of(secrets.read.into_inner());
                built.insert(
                    name.clone(),
                    ConnectionSetup { connected, settings, fingerprint, only_tenant: None, tenants: BTreeSet::new() },
                );
            }
            Err(found) => {
                for error in found {
                    let path: Vec<&str> = ["connections", name].into_iter().chain(error.key.split('.')).collect();
                    errors.push(&path, error.detail);
                }
            }
        }
    }
    built
}

/// Checks that the owner of reports which match no candidate is a tenant.
pub(super) fn check_owners(
    connections: &BTreeMap<String, ConnectionSetup>,
    auth: Option<&Auth>,
    errors: &mut ConfigErrors<'_>,
) {
    // After an error of [auth], the tenants are not known.
    let Some(auth) = auth else { return };
    let tenants = auth.tenants();
    for (name, setup) in connections {
        let source = setup.connected.vendor.report_source();
        if let Some(owner) = source.and_then(|source| source.owner())
            && !tenants.contains(owner)
        {
            let hint = suggest::word(owner, tenants.iter().copied());
            errors.push(&["connections", name, "results", "owner"], format!("unknown tenant{hint}"));
        }
    }
}

/// Secret source that records every secret it reads: a secret replaced behind the same reference means a new
/// connection.
struct RecordingSecrets<'a> {
    source: &'a dyn SecretSource,
    read: RefCell<Vec<Secret>>,
}

impl RecordingSecrets<'_> {
    fn kept(&self, secret: Secret) -> Secret {
        self.read.borrow_mut().push(secret.clone());
        secret
    }
}

impl SecretSource for RecordingSecrets<'_> {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        self.source.variable(name).map(|secret| self.kept(secret))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        self.source.file(path).map(|secret| self.kept(secret))
    }
}

fn kind(name: &str, given: Option<Value>, errors: &mut ConfigErrors<'_>) -> Option<&'static str> {
    let kinds = || DESCRIPTORS.iter().map(|descriptor| descriptor.kind);
    let every = kinds().collect::<Vec<_>>().join(", ");
    let detail = match given {
        None => format!("is missing; expected one of {every}"),
        Some(Value::String(given)) => match kinds().find(|kind| *kind == given) {
            Some(kind) => return Some(kind),
            None => format!("expected one of {every}{}", suggest::word(&given, kinds())),
        },
        Some(_) => format!("expected one of {every}"),
    };
    errors.push(&["connections", name, "vendor"], detail);
    None
}

fn limits(name: &str, settings: &ConnectionSettings, errors: &mut ConfigErrors<'_>) -> bool {
    let ConnectionSettings { timeout, settle_grace, max_in_flight, retry, breaker, seat_limit_pause, .. } = settings;
    let ConnectionSettings { max_request_bytes, max_response_bytes, .. } = settings;
    let at_least = |enough: bool, detail: &str| if enough { Ok(()) } else { Err(detail.to_owned()) };
    let found = [
        (&["timeout"][..], bounds::more_than_zero(*timeout, MAX_TIMEOUT)),
        (&["settle_grace"], bounds::at_most(*settle_grace, MAX_SETTLE_GRACE)),
        (&["max_in_flight"], at_least(*max_in_flight > 0, "must be at least 1")),
        (&["retry", "attempts"], at_least(retry.attempts > 0, "must be at least 1, which means no retry")),
        (&["retry", "base"], bounds::at_most(retry.base, MAX_PAUSE)),
        (&["retry", "max"], bounds::at_most(retry.max, MAX_PAUSE)),
        (&["breaker", "cooldown"], bounds::at_most(breaker.cooldown, MAX_COOLDOWN)),
        (&["max_request_bytes"], at_least(max_request_bytes.0 > 0, "must be more than 0")),
        (&["seat_limit_pause"], bounds::at_most(*seat_limit_pause, MAX_SEAT_LIMIT_PAUSE)),
        (&["max_response_bytes"], at_least(max_response_bytes.0 > 0, "must be more than 0")),
    ];
    let mut fine = true;
    for (key, result) in found {
        let path: Vec<&str> = ["connections", name].iter().chain(key).copied().collect();
        fine &= errors.check(&path, result).is_some();
    }
    fine
}

/// Checks `base_url`, which every vendor has and for which the same rules apply.
fn base_url(
    name: &str,
    own: &Map<String, Value>,
    settings: &ConnectionSettings,
    errors: &mut ConfigErrors<'_>,
) -> bool {
    // Reading the vendor's settings reports a value that is missing or not text.
    let Some(text) = own.get("base_url").and_then(Value::as_str) else { return true };
    let accepted = match Url::parse(text) {
        Ok(url) => settings.accepts(&url),
        Err(_) => Err("expected an absolute URL such as \"https://…\"".to_owned()),
    };
    errors.check(&["connections", name, "base_url"], accepted).is_some()
}

// Kinds come from the descriptors. One without settings would be a bug in `vendors`; report it instead of ignoring it.
fn unread() -> DeserializeError {
    let detail = "is not supported by this version".to_owned();
    DeserializeError { path: vec!["vendor".to_owned()], kind: DeserializeErrorKind::Invalid, detail }
}
