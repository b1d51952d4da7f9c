//! Validates `[server]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize as _, Deserializer};
use serde_json::Value;
use url::Url;

use super::{ServerSettings, TlsSettings, bounds};
use crate::config::error::ConfigErrors;
use crate::config::{schema, section};

/// Maximum of `server.request_timeout`.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_hours(1);
/// Maximum of `server.keep_alive`.
const MAX_KEEP_ALIVE: Duration = Duration::from_hours(24);
/// Maximum of `server.shutdown_delay` and `server.shutdown_grace`.
const MAX_SHUTDOWN: Duration = Duration::from_hours(24);

/// Validates the settings; also returns `allow_insecure`. `None` after an error.
pub(super) fn checked(server: &Value, errors: &mut ConfigErrors<'_>) -> Option<(ServerSettings, bool)> {
    let mut table = section::table(server, &["server"], errors)?;
    let mut part = |name| table.remove(name).unwrap_or_default();
    let (tls, allow_insecure) = (part("tls"), part("allow_insecure"));
    let tls: Option<schema::Tls> = section::section(&tls, &["server", "tls"], errors);
    let allow_insecure: Option<bool> = section::section(&allow_insecure, &["server", "allow_insecure"], errors);
    let mut settings: ServerSettings = section::section(&Value::Object(table), &["server"], errors)?;
    if let Some(tls) = tls {
        settings.tls = tls_settings(tls).unwrap_or_else(|(key, detail)| {
            errors.push(&["server", "tls", key], detail);
            None
        });
    }
    for (key, limit) in [("body_limit", settings.body_limit), ("bulk_body_limit", settings.bulk_body_limit)] {
        if limit.0 == 0 {
            errors.push(&["server", key], "must be more than 0");
        }
    }
    for (index, origin) in settings.cors_origins.iter().enumerate() {
        errors.check(&["server", "cors_origins", &index.to_string()], check_origin(origin));
    }
    let ServerSettings { request_timeout, keep_alive, shutdown_delay, shutdown_grace, .. } = settings;
    errors.check(&["server", "request_timeout"], bounds::more_than_zero(request_timeout, MAX_REQUEST_TIMEOUT));
    errors.check(&["server", "keep_alive"], bounds::more_than_zero(keep_alive, MAX_KEEP_ALIVE));
    errors.check(&["server", "shutdown_delay"], bounds::at_most(shutdown_delay, MAX_SHUTDOWN));
    errors.check(&["server", "shutdown_grace"], bounds::at_most(shutdown_grace, MAX_SHUTDOWN));
    Some((settings, allow_insecure.unwrap_or_default()))
}

/// Checks an origin; it must be spelt as browsers send it (RFC 6454 §6.2), because it is compared to the letter.
fn check_origin(text: &str) -> Result<(), String> {
    if text.contains('*') {
        return Err("takes no wildcards: list the exact origin of each web page that may call the API".to_owned());
    }
    let parsed = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    match parsed.map(|url| url.origin().ascii_serialization()) {
        Some(origin) if origin == text => Ok(()),
        // The origin of a URL holds neither its user nor its path, so nothing secret is quoted.
        Some(origin) => Err(format!("must be spelt as browsers send it, without a path or a final slash: {origin:?}")),
        None => {
            Err("expected an origin such as \"https://portal.example.com\" or \"https://10.0.0.5:8443\"".to_owned())
        }
    }
}

fn tls_settings(document: schema::Tls) -> Result<Option<TlsSettings>, (&'static str, &'static str)> {
    match (document.certificate, document.key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(("key", "is missing: a certificate needs its private key")),
        (None, Some(_)) => Err(("certificate", "is missing: the key needs its certificate")),
    }
}

/// Deserialises an address with its port.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let expected = "expected an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
    String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom(expected))
}

/// Deserialises `""` or an address with its port.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { address(text.into_deserializer()).map(Some) }
}

/// Deserialises `""` or `/a/b`; drops trailing slashes.
pub(super) fn base_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let path = text.trim_end_matches('/');
    let fit = |segment: &str| {
        !["", ".", ".."].contains(&segment)
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    if path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(fit)) {
        return Ok(path.to_owned());
    }
    let expected = "expected \"\" or a path such as \"/exam-api\": plain segments, no \"..\", no query";
    Err(D::Error::custom(expected))
}

/// Deserialises `""` or an absolute URL.
pub(super) fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let plain = |url: &Url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let expected = "expected an absolute http or https URL without user name, query or fragment, or \"\"";
    Url::parse(&text).ok().filter(plain).map(Some).ok_or_else(|| D::Error::custom(expected))
}
