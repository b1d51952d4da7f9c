//! Configuration: reads a TOML file and environment variables, validates them as a whole, and reports every error at
//! once with its key and line, without showing a secret.
//!
//! It must never read the process: callers pass in file, environment and secrets. It opens and sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::domain::scope::Scope;
use crate::domain::system::System;
use crate::domain::units::{ByteSize, ConfigDuration};
use crate::secret::{SecretRef, SecretSource};
use crate::service::{Catalogue, ConnectionAccess, ConnectionSetup, DeliverySettings, Retention};

mod auth;
mod bounds;
mod catalogue;
mod connections;
mod console;
mod delivery;
mod env;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod identifier;
mod jwks;
mod layers;
mod schema;
mod section;
mod server;
mod store;
mod suggest;
mod tls;

#[cfg(test)]
mod tests;

pub use crate::config::env::PREFIX;
pub use crate::config::error::{ConfigError, Location};
pub use crate::config::jwks::{JwkSet, VerifyingKey};
pub use connections::ConnectionConfig;
pub use console::ConsoleSettings;
pub use layers::{DEFAULTS, Sources};
pub use store::{KeyFileStore, KeyView, StoreFingerprint, StoreLocation, StoreParts, StoreView};
pub use tls::ServerCertificate;

/// Configuration that is valid as far as can be checked without reading a secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[auth]`.
    pub auth: Auth,
    /// `[console]`.
    pub console: ConsoleSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[connections.<name>]`.
    pub connections: BTreeMap<String, ConnectionConfig>,
}

/// The connections, the catalogue and the webhooks, ready for the gateway.
pub struct Components {
    /// The connections by name.
    pub connections: BTreeMap<String, ConnectionSetup>,
    /// Assessments and programs by their vendor-neutral ids.
    pub catalogue: Catalogue,
    /// Where and how events are delivered, with the operator's own webhooks.
    pub delivery: DeliverySettings,
}

/// A valid configuration and everything built from it.
pub struct Loaded<S> {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// The store.
    pub store: S,
    /// Server certificate for TLS; `None`: plain HTTP.
    pub identity: Option<ServerCertificate>,
}

/// Everything needed to start a gateway.
pub type Startup = Loaded<StoreParts>;

/// The same for inspection only, with the store as it would be opened.
pub type Inspected = Loaded<StoreView>;

/// Access to the parts of the machine that loading a configuration needs.
pub struct HostAccess<'a> {
    /// Source of secrets.
    pub secrets: &'a dyn SecretSource,
    /// Files in which the store's key may be created.
    pub files: &'a dyn KeyFileStore,
    /// Clock and entropy.
    pub environment: &'a System,
}

/// `[server]`: where and how the gateway listens.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerSettings {
    /// Address of the public API.
    #[serde(deserialize_with = "server::address")]
    pub listen: SocketAddr,
    /// Address of the operators' endpoints; `None` disables them.
    #[serde(deserialize_with = "server::optional_address")]
    pub admin_listen: Option<SocketAddr>,
    /// Address of the receivers of vendors' webhooks alone; `None`: they are at `listen`.
    #[serde(deserialize_with = "server::optional_address")]
    pub receiver_listen: Option<SocketAddr>,
    /// Path prefix of the public API, `""` or `/…` without a trailing slash.
    #[serde(deserialize_with = "server::base_path")]
    pub base_path: String,
    /// Absolute URL that callers use, for `Location` and the servers of the OpenAPI document.
    #[serde(deserialize_with = "server::public_url")]
    pub public_url: Option<Url>,
    /// Origins of web pages that may call the API; with none there is no CORS.
    pub cors_origins: Vec<String>,
    /// Maximum body size of a single request.
    pub body_limit: ByteSize,
    /// Maximum body size of a bulk upload.
    pub bulk_body_limit: ByteSize,
    /// Time after which the caller receives 202, as with `Prefer: wait`.
    pub request_timeout: ConfigDuration,
    /// Maximum idle time of a connection between two requests.
    pub keep_alive: ConfigDuration,
    /// How long requests are still accepted after SIGTERM.
    pub shutdown_delay: ConfigDuration,
    /// How long in-flight requests may take after that.
    pub shutdown_grace: ConfigDuration,
    /// `[server.tls]`; `None`: plain HTTP.
    #[serde(skip)]
    pub tls: Option<TlsSettings>,
}

/// `[server.tls]`: where certificate and key are stored.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The certificate and its intermediates.
    pub certificate: SecretRef,
    /// Its private key.
    pub key: SecretRef,
}

/// The tenant of callers who are not authenticated.
pub const DEFAULT_TENANT: &str = "default";

/// `[auth]`: how callers are authenticated.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one per configuration")]
pub enum Auth {
    /// By API key.
    Keys(BTreeMap<String, ClientSettings>),
    /// By a token of an identity provider, which names one of these clients.
    Jwt(BTreeMap<String, ClientSettings>, TokenSettings),
    /// Not at all: one tenant with all scopes.
    None,
}

impl Auth {
    /// Returns the names of all tenants.
    #[must_use]
    pub fn tenants(&self) -> BTreeSet<&str> {
        match self.clients() {
            Some(clients) => clients.values().map(|client| client.tenant.as_str()).collect(),
            None => BTreeSet::from([DEFAULT_TENANT]),
        }
    }

    /// Returns the clients by name; `None` without authentication.
    #[must_use]
    pub fn clients(&self) -> Option<&BTreeMap<String, ClientSettings>> {
        match self {
            Self::Keys(clients) | Self::Jwt(clients, _) => Some(clients),
            Self::None => None,
        }
    }

    /// Returns the tenants with a client that may use this connection.
    #[must_use]
    pub fn tenants_of(&self, connection: &str) -> BTreeSet<String> {
        match self.clients() {
            Some(clients) => {
                let allowed = clients.values().filter(|client| client.connections.contains(connection));
                allowed.map(|client| client.tenant.clone()).collect()
            }
            None => BTreeSet::from([DEFAULT_TENANT.to_owned()]),
        }
    }

    /// Returns the only tenant there is; `None` if there are several.
    #[must_use]
    pub fn only_tenant(&self) -> Option<&str> {
        let tenants = self.tenants();
        tenants.first().copied().filter(|_| tenants.len() == 1)
    }

    /// Returns the value of `auth.mode`.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::Jwt(..) => "jwt",
            Self::None => "none",
        }
    }
}

/// `[auth.jwt]`: which tokens are accepted (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Required value of `iss`.
    pub issuer: String,
    /// Value that `aud` must equal or contain.
    pub audience: String,
    /// Source of the keys that verify tokens.
    pub keys: KeySource,
    /// Claim that names the client: a name, or a dotted path.
    pub client_claim: String,
    /// Claims that may hold the scopes, each a name or a dotted path; the first that is present decides.
    pub scope_claims: Vec<String>,
    /// Prefix of the token's scopes; those without it are ignored.
    pub scope_prefix: String,
    /// Tolerated difference between the issuer's clock and this machine's.
    pub leeway: ConfigDuration,
}

/// Source of an issuer's keys (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, read at start-up and with every reload.
    File(String, JwkSet),
    /// A URL of the issuer, fetched periodically.
    Published(Url),
}

/// `[auth.clients.<name>]`: one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The client's name.
    pub name: String,
    /// Owner of everything the client creates.
    pub tenant: String,
    /// SHA-256 of each valid key.
    pub key_sha256: Vec<[u8; 32]>,
    /// Scopes granted to the client.
    pub scopes: BTreeSet<Scope>,
    /// The connections it may use.
    pub connections: ConnectionAccess,
    /// Connection for requests that name none.
    pub default_connection: Option<String>,
    /// Rate limit of the client.
    pub rate_limit: RateLimit,
}

/// Rate limit of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RateLimit {
    /// Sustained requests per second.
    pub requests_per_second: u32,
    /// Requests allowed in one burst.
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests_per_second: 100, burst: 200 }
    }
}

/// `[store]`: location, keys and retention of the store.
#[derive(Debug, Clone, Deserialize)]
pub struct StoreSettings {
    /// `sqlite:PATH`, `postgres://…` or a reference to either; a secret, because an address may contain a password.
    #[serde(deserialize_with = "store::url")]
    pub url: SecretRef,
    /// Key that encrypts new records.
    pub encryption_key: SecretRef,
    /// Previous keys, so that older records stay readable.
    pub decryption_keys: Vec<SecretRef>,
    /// How long finished operations are kept, with their personal data.
    pub retention: ConfigDuration,
    /// How long an idempotency key is kept.
    pub idempotency_retention: ConfigDuration,
    /// How long the bodies of applied reports are kept.
    pub report_retention: ConfigDuration,
    /// How long reports are kept that were not applied.
    pub parked_retention: ConfigDuration,
    /// How long events and ended deliveries are kept.
    pub event_retention: ConfigDuration,
}

impl StoreSettings {
    /// Returns how long the store keeps finished operations and idempotency keys.
    #[must_use]
    pub const fn kept(&self) -> Retention {
        Retention {
            operations: self.retention.0,
            keys: self.idempotency_retention.0,
            reports: self.report_retention.0,
            parked_reports: self.parked_retention.0,
            events: self.event_retention.0,
        }
    }
}

/// Reads and validates a configuration without reading a secret.
///
/// # Errors
/// Every error, in the order of the file.
#[cfg(any(test, feature = "fuzzing"))]
fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|error| vec![error])?;
    let mut errors = error::ConfigErrors::new(&layers.places);
    let config = Raw::read(&layers, &mut errors).finished();
    config.filter(|_| errors.is_empty()).ok_or_else(|| errors.into_sorted())
}

/// Reads and validates a configuration, reads its secrets and builds everything from it. Creates the store's key only
/// if there is no other error.
///
/// # Errors
/// Every error, those of secrets included.
pub fn prepare(sources: &Sources, machine: &HostAccess<'_>) -> Result<Startup, Vec<ConfigError>> {
    let (Loaded { config, parts, store, identity }, places) = validate(sources, machine)?;
    let mut errors = error::ConfigErrors::new(&places);
    match store.create_key(machine.files, machine.environment, &mut errors) {
        Some(store) => Ok(Loaded { config, parts, store, identity }),
        None => Err(errors.into_sorted()),
    }
}

/// Like [`prepare`], but creates nothing: for inspection, and for a running gateway that reads its configuration again.
///
/// # Errors
/// Every error, those of secrets included.
pub fn inspect(sources: &Sources, machine: &HostAccess<'_>) -> Result<Inspected, Vec<ConfigError>> {
    validate(sources, machine).map(|(inspected, _)| inspected)
}

fn validate(sources: &Sources, machine: &HostAccess<'_>) -> Result<(Inspected, error::Locations), Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|error| vec![error])?;
    let mut errors = error::ConfigErrors::new(&layers.places);
    let mut raw = Raw::read(&layers, &mut errors);
    if let Some(Auth::Jwt(_, token)) = &mut raw.auth {
        self::auth::read_keys(token, machine.secrets, &mut errors);
    }
    let mut connections = connections::connect(&raw.connections, machine.secrets, machine.environment, &mut errors);
    let only_tenant = raw.auth.as_ref().and_then(Auth::only_tenant);
    for (name, setup) in &mut connections {
        setup.only_tenant = only_tenant.map(str::to_owned);
        setup.tenants = raw.auth.as_ref().map(|auth| auth.tenants_of(name)).unwrap_or_default();
    }
    connections::check_owners(&connections, raw.auth.as_ref(), &mut errors);
    let catalogue = catalogue::resolved(&raw.catalogue, &connections, &mut errors);
    let store =
        raw.store.as_ref().and_then(|settings| store::view(settings, machine.secrets, machine.files, &mut errors));
    let delivery = raw.delivery.as_ref();
    let delivery = delivery.and_then(|draft| delivery::resolved(draft, &raw.webhooks, machine.secrets, &mut errors));
    let tls = raw.server.as_ref().and_then(|(server, _)| server.tls.as_ref());
    let identity = tls.and_then(|settings| tls::identity(settings, machine.secrets, &mut errors));
    match (errors.is_empty(), raw.finished(), store, delivery) {
        (true, Some(config), Some(store), Some(delivery)) => {
            let parts = Components { connections, catalogue, delivery };
            Ok((Loaded { config, parts, store, identity }, layers.places))
        }
        _ => Err(errors.into_sorted()),
    }
}

/// Valid sections; an invalid one is `None`, so that its errors do not hide those of other sections.
struct Raw {
    server: Option<(ServerSettings, bool)>,
    auth: Option<Auth>,
    console: Option<ConsoleSettings>,
    store: Option<StoreSettings>,
    connections: BTreeMap<String, ConnectionConfig>,
    catalogue: catalogue::CatalogueDraft,
    delivery: Option<delivery::DeliveryDraft>,
    webhooks: Vec<delivery::WebhookDraft>,
}

impl Raw {
    fn read(layers: &layers::Layers, errors: &mut error::ConfigErrors<'_>) -> Self {
        for error in &layers.errors {
            errors.add(error.clone());
        }
        let mut root = layers.tree.as_object().cloned().unwrap_or_default();
        let mut part = |name: &str| root.remove(name).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let (server, auth, store, delivery) = (part("server"), part("auth"), part("store"), part("delivery"));
        let console = part("console");
        let mut tables = |name: &str| -> Vec<(String, Value)> {
            section::table(&part(name), &[name], errors).into_iter().flatten().collect()
        };
        let (connections, assessments, programs) = (tables("connections"), tables("assessments"), tables("programs"));
        let webhooks = tables("webhooks");
        for name in root.keys() {
            let path = [name.clone()];
            errors.push(&path, format!("unknown key{}", suggest::key(&path)));
        }

        let server = self::server::checked(&server, errors);
        let names: BTreeSet<String> = connections.iter().map(|(name, _)| name.clone()).collect();
        let connections: BTreeMap<String, ConnectionConfig> = connections
            .into_iter()
            .filter_map(|(name, table)| self::connections::checked(&name, &table, errors).map(|config| (name, config)))
            .collect();
        let context = self::auth::ValidationContext { connections: &names, server: server.as_ref() };
        let auth = section::section(&auth, &["auth"], errors)
            .and_then(|document| self::auth::checked(document, &context, errors));
        let console = self::console::checked(&console, &context, auth.as_ref(), errors);
        let store: Option<StoreSettings> = section::section(&store, &["store"], errors);
        if let Some(settings) = &store {
            self::store::check(settings, errors);
        }
        let delivery = section::section(&delivery, &["delivery"], errors)
            .and_then(|document| self::delivery::checked(document, errors));
        let known = self::delivery::Known {
            delivery: delivery.as_ref(),
            auth: auth.as_ref(),
            connections: &names,
            assessments: &assessments.iter().map(|(id, _)| id.clone()).collect(),
        };
        let webhooks = self::delivery::webhooks(webhooks, &known, errors);
        let known = catalogue::Connections { names: &names, known: &connections };
        let catalogue = catalogue::checked(assessments, programs, &known, errors);
        Self { server, auth, console, store, connections, catalogue, delivery, webhooks }
    }

    fn finished(self) -> Option<Config> {
        let Self { server, auth, console, store, connections, catalogue: _, delivery: _, webhooks: _ } = self;
        let (server, _) = server?;
        Some(Config { server, auth: auth?, console: console?, store: store?, connections })
    }
}
