//! Validates `[auth]` and its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::Value;
use url::Url;

use super::{Auth, ClientSettings, JwkSet, KeySource, RateLimit, ServerSettings, TokenSettings};
use crate::config::error::ConfigErrors;
use crate::config::{identifier, schema, section};
use crate::domain::scope::Scope;
use crate::domain::suggest;
use crate::secret::{SecretRef, SecretSource};
use crate::service::ConnectionAccess;
use crate::transport::is_loopback;

/// Maximum of `auth.jwt.leeway`.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// Other sections that clients are validated against.
pub(super) struct ValidationContext<'a> {
    /// The names of all connections, invalid ones included.
    pub(super) connections: &'a BTreeSet<String>,
    /// The server's settings and `server.allow_insecure`; `None` if `[server]` is invalid.
    pub(super) server: Option<&'a (ServerSettings, bool)>,
}

/// Validates `[auth]`; returns `None` after an error.
pub(super) fn checked(
    document: schema::Auth,
    context: &ValidationContext<'_>,
    errors: &mut ConfigErrors<'_>,
) -> Option<Auth> {
    let schema::Auth { mode, clients, jwt } = document;
    let token = token(jwt, mode == "jwt", errors);
    let clients = self::clients(clients, &mode, context, errors);
    match mode.as_str() {
        "keys" => Some(Auth::Keys(clients)),
        "jwt" => Some(Auth::Jwt(clients, token?)),
        "none" => {
            if let Some((server, false)) = context.server
                && !server.listen.ip().is_loopback()
            {
                errors.push(
                    &["auth", "mode"],
                    "\"none\" gives every caller full access, and server.listen is not a loopback address; use \
                     \"keys\" or set server.allow_insecure = true",
                );
                return None;
            }
            Some(Auth::None)
        }
        other => {
            let hint = suggest::word(other, ["keys", "jwt", "none"]);
            errors.push(&["auth", "mode"], format!("expected \"keys\", \"jwt\" or \"none\"{hint}"));
            None
        }
    }
}

/// Validates `[auth.jwt]`: the form of its values in every mode, required values only if the mode is `used`.
fn token(document: schema::Jwt, used: bool, errors: &mut ConfigErrors<'_>) -> Option<TokenSettings> {
    let schema::Jwt { issuer, audience, jwks, client_claim, scope_claims, scope_prefix, leeway } = document;
    for (key, text, required) in [
        ("issuer", &issuer, used),
        ("audience", &audience, used),
        ("client_claim", &client_claim, true),
        ("scope_prefix", &scope_prefix, false),
    ] {
        check_word(&["auth", "jwt", key], text, required, errors);
    }
    if scope_claims.is_empty() {
        errors.push(&["auth", "jwt", "scope_claims"], "needs at least one claim, such as \"scope\"");
    }
    for (index, name) in scope_claims.iter().enumerate() {
        check_word(&["auth", "jwt", "scope_claims", &index.to_string()], name, true, errors);
    }
    if leeway.0 > MAX_LEEWAY {
        let detail = "must be at most 5m: a longer leeway would keep accepting expired tokens";
        errors.push(&["auth", "jwt", "leeway"], detail);
    }
    if jwks.is_empty() && !used {
        return None;
    }
    let keys = errors.check(&["auth", "jwt", "jwks"], key_source(&jwks))?;
    Some(TokenSettings { issuer, audience, keys, client_claim, scope_claims, scope_prefix, leeway })
}

/// Checks a value that is compared with parts of a token.
fn check_word(at: &[&str], text: &str, required: bool, errors: &mut ConfigErrors<'_>) {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        errors.push(at, "must not contain white space or control characters");
    } else if text.is_empty() && required {
        errors.push(at, "must not be empty");
    }
}

fn key_source(text: &str) -> Result<KeySource, &'static str> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => {
            let has_user = !url.username().is_empty() || url.password().is_some();
            if has_user { Err("must not contain a user or a password") } else { Ok(KeySource::Published(url)) }
        }
        _ => match SecretRef::parse(text) {
            Ok(SecretRef::File(path)) => Ok(KeySource::File(path, JwkSet::default())),
            _ => Err("expected \"file:PATH\" or an https URL"),
        },
    }
}

/// Reads an issuer's keys if they are in a file.
pub(super) fn read_keys(token: &mut TokenSettings, secrets: &dyn SecretSource, errors: &mut ConfigErrors<'_>) {
    let KeySource::File(path, keys) = &mut token.keys else { return };
    let read = secrets.file(path).and_then(|text| JwkSet::parse(text.expose().as_bytes()));
    *keys = errors.check(&["auth", "jwt", "jwks"], read).unwrap_or_default();
}

/// Validates the clients; after an error some are missing.
fn clients(
    tables: BTreeMap<String, Value>,
    mode: &str,
    context: &ValidationContext<'_>,
    errors: &mut ConfigErrors<'_>,
) -> BTreeMap<String, ClientSettings> {
    if tables.is_empty() && mode != "none" {
        let detail = "no client is configured, so every request would be rejected; add [auth.clients.NAME] with the \
                      key_sha256 that `examgate key new` prints";
        errors.push(&["auth", "clients"], detail);
    }
    let mut clients = BTreeMap::new();
    let mut holders: BTreeMap<[u8; 32], String> = BTreeMap::new();
    for (name, table) in tables {
        let at = ["auth", "clients", &name];
        identifier::check(&at, errors);
        if let Some(document) = section::section(&table, &at, errors) {
            let client = client(&name, document, mode == "keys", context, &mut holders, errors);
            clients.insert(name, client);
        }
    }
    clients
}

fn client(
    name: &str,
    document: schema::Client,
    by_key: bool,
    context: &ValidationContext<'_>,
    holders: &mut BTreeMap<[u8; 32], String>,
    errors: &mut ConfigErrors<'_>,
) -> ClientSettings {
    let schema::Client { tenant, key_sha256, scopes, connections, default_connection, rate_limit } = document;
    let at = |key| ["auth", "clients", name, key];
    if tenant.chars().any(char::is_control) {
        errors.push(&at("tenant"), "must not contain control characters");
    }
    if by_key && key_sha256.is_empty() {
        errors.push(&at("key_sha256"), "needs the SHA-256 of at least one key; `examgate key new` generates one");
    }
    let key_sha256 = hashes(name, &key_sha256, holders, errors);
    let scopes = self::scopes(name, &scopes, errors);
    let connections = allowed(name, &connections, context, errors);
    let default_connection = Some(default_connection).filter(|given| !given.is_empty());
    if let Some(given) = &default_connection {
        if !context.connections.contains(given) {
            let hint = suggest::word(given, context.connections.iter().map(String::as_str));
            errors.push(&at("default_connection"), format!("unknown connection{hint}"));
        } else if matches!(&connections, ConnectionAccess::Named(named) if !named.contains(given)) {
            errors.push(&at("default_connection"), "is not one of the connections this client may use");
        }
    }
    let RateLimit { requests_per_second, burst } = rate_limit;
    for (key, value) in [("requests_per_second", requests_per_second), ("burst", burst)] {
        if value == 0 {
            errors.push(&["auth", "clients", name, "rate_limit", key], "must be at least 1");
        }
    }
    let tenant = if tenant.is_empty() { name.to_owned() } else { tenant };
    ClientSettings { name: name.to_owned(), tenant, key_sha256, scopes, connections, default_connection, rate_limit }
}

fn hashes(
    name: &str,
    texts: &[String],
    holders: &mut BTreeMap<[u8; 32], String>,
    errors: &mut ConfigErrors<'_>,
) -> Vec<[u8; 32]> {
    let mut hashes = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let index = index.to_string();
        let at = ["auth", "clients", name, "key_sha256", &index];
        let hash = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(hash) = hash else {
            // Do not quote the text: it may be the key itself.
            errors.push(&at, "expected the 64 hexadecimal digits of a SHA-256, as `examgate key new` prints them");
            continue;
        };
        match holders.get(&hash) {
            Some(holder) if holder == name => errors.push(&at, "is listed twice"),
            Some(holder) => errors.push(&at, format!("is also a key of client {holder}; give each client its own")),
            None => {
                holders.insert(hash, name.to_owned());
                hashes.push(hash);
            }
        }
    }
    hashes
}

fn scopes(name: &str, words: &[String], errors: &mut ConfigErrors<'_>) -> BTreeSet<Scope> {
    if words.is_empty() {
        let detail = "needs at least one scope; a client without scopes has no access";
        errors.push(&["auth", "clients", name, "scopes"], detail);
    }
    let known = || Scope::ALL.iter().map(|scope| scope.as_str());
    let mut scopes = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        if let Some(scope) = Scope::ALL.iter().find(|scope| scope.as_str() == word) {
            scopes.insert(*scope);
            continue;
        }
        let mut hint = suggest::word(word, known());
        if hint.is_empty() {
            hint = format!("; valid scopes are {}", known().collect::<Vec<_>>().join(", "));
        }
        errors.push(&["auth", "clients", name, "scopes", &index.to_string()], format!("unknown scope{hint}"));
    }
    scopes
}

fn allowed(
    name: &str,
    given: &[String],
    context: &ValidationContext<'_>,
    errors: &mut ConfigErrors<'_>,
) -> ConnectionAccess {
    if given.iter().any(|connection| connection == "*") {
        return ConnectionAccess::All;
    }
    if given.is_empty() {
        errors.push(&["auth", "clients", name, "connections"], "needs at least one name, or \"*\"");
    }
    for (index, connection) in given.iter().enumerate() {
        if !context.connections.contains(connection) {
            let hint = suggest::word(connection, context.connections.iter().map(String::as_str));
            let at = ["auth", "clients", name, "connections", &index.to_string()];
            errors.push(&at, format!("unknown connection{hint}"));
        }
    }
    ConnectionAccess::Named(given.iter().cloned().collect())
}
