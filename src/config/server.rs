//! Validates `[server]`.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use super::{ServerSettings, TlsSettings, bounds};
use crate::config::error::ConfigErrors;
use crate::config::schema;

/// Maximum of `server.request_timeout`.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_hours(1);
/// Maximum of `server.keep_alive`.
const MAX_KEEP_ALIVE: Duration = Duration::from_hours(24);
/// Maximum of `server.shutdown_delay` and `server.shutdown_grace`.
const MAX_SHUTDOWN: Duration = Duration::from_hours(24);

/// Validates the settings; also returns `allow_insecure`. `None` after an error.
pub(super) fn checked(document: schema::Server, errors: &mut ConfigErrors<'_>) -> Option<(ServerSettings, bool)> {
    let schema::Server {
        listen,
        admin_listen,
        base_path,
        public_url,
        body_limit,
        bulk_body_limit,
        request_timeout,
        keep_alive,
        shutdown_delay,
        shutdown_grace,
        allow_insecure,
        tls,
    } = document;
    let listen = errors.check(&["server", "listen"], address(&listen));
    let admin_listen = match admin_listen.as_str() {
        "" => Some(None),
        text => errors.check(&["server", "admin_listen"], address(text).map(Some)),
    };
    let base_path = errors.check(&["server", "base_path"], mounted(&base_path));
    let public_url = errors.check(&["server", "public_url"], public(&public_url));
    let tls = tls_settings(tls).map_err(|(key, detail)| errors.push(&["server", "tls", key], detail)).ok();
    for (key, limit) in [("body_limit", body_limit), ("bulk_body_limit", bulk_body_limit)] {
        if limit.0 == 0 {
            errors.push(&["server", key], "must be more than 0");
        }
    }
    for (key, error) in [
        ("request_timeout", bounds::more_than_zero(request_timeout, MAX_REQUEST_TIMEOUT)),
        ("keep_alive", bounds::more_than_zero(keep_alive, MAX_KEEP_ALIVE)),
        ("shutdown_delay", bounds::at_most(shutdown_delay, MAX_SHUTDOWN)),
        ("shutdown_grace", bounds::at_most(shutdown_grace, MAX_SHUTDOWN)),
    ] {
        if let Some(detail) = error {
            errors.push(&["server", key], detail);
        }
    }
    let settings = ServerSettings {
        listen: listen?,
        admin_listen: admin_listen?,
        base_path: base_path?,
        public_url: public_url?,
        body_limit,
        bulk_body_limit,
        request_timeout,
        keep_alive,
        shutdown_delay,
        shutdown_grace,
        tls: tls?,
    };
    Some((settings, allow_insecure))
}

fn tls_settings(document: schema::Tls) -> Result<Option<TlsSettings>, (&'static str, &'static str)> {
    match (document.certificate, document.key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(("key", "is missing: a certificate needs its private key")),
        (None, Some(_)) => Err(("certificate", "is missing: the key needs its certificate")),
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"")
}

/// Parses `""` or `/a/b`; drops trailing slashes.
fn mounted(text: &str) -> Result<String, &'static str> {
    let path = text.trim_end_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    let fit = |segment: &str| {
        !["", ".", ".."].contains(&segment)
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(fit) => Ok(path.to_owned()),
        _ => Err("expected \"\" or a path such as \"/exam-api\": plain segments, no \"..\", no query"),
    }
}

fn public(text: &str) -> Result<Option<Url>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "expected an absolute http or https URL without user name, query or fragment, or \"\"";
    let url = Url::parse(text).map_err(|_| expected)?;
    let plain = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(Some(url)) } else { Err(expected) }
}
