//! Configuration: reads a TOML file and environment variables, validates them as a whole, and reports every error at
//! once with its key and line, without showing a secret.
//!
//! It must never read the process: callers pass in file, environment and secrets. It opens and sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use url::Url;

use crate::domain::scope::Scope;
use crate::domain::system::System;
use crate::domain::units::{ByteSize, ConfigDuration};
use crate::secret::{SecretRef, SecretSource};
use crate::service::{Catalogue, ConnectionAccess, ConnectionSetup, Retention};

mod auth;
mod bounds;
mod catalogue;
mod connections;
mod env;
mod error;
#[cfg(any(test, fuzzing))]
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
    /// `[store]`.
    pub store: StoreSettings,
    /// `[connections.<name>]`.
    pub connections: BTreeMap<String, ConnectionConfig>,
    catalogue: catalogue::CatalogueDraft,
    places: error::Locations,
}

/// The connections and the catalogue, ready for the gateway.
pub struct Components {
    /// The connections by name.
    pub connections: BTreeMap<String, ConnectionSetup>,
    /// Assessments and programs by their vendor-neutral ids.
    pub catalogue: Catalogue,
}

/// Everything needed to start a gateway.
pub struct Startup {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// Location and keys of the store.
    pub store: StoreParts,
    /// Server certificate for TLS; `None`: plain HTTP.
    pub identity: Option<ServerCertificate>,
}

/// Everything needed to start a gateway, for inspection only.
pub struct Inspected {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// The store as it would be opened.
    pub store: StoreView,
}

/// Configuration as a running gateway can apply it.
pub struct ReloadedConfig {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// Fingerprint of the store settings; a reload cannot change the store.
    pub store: StoreFingerprint,
    /// Server certificate for TLS; `None`: plain HTTP.
    pub identity: Option<ServerCertificate>,
}

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
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address of the public API.
    pub listen: SocketAddr,
    /// Address of the operators' endpoints; `None` disables them.
    pub admin_listen: Option<SocketAddr>,
    /// Path prefix of the public API, `""` or `/…` without a trailing slash.
    pub base_path: String,
    /// Absolute URL that callers use, for `Location` and the servers of the OpenAPI document.
    pub public_url: Option<Url>,
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

/// `[auth]`: how callers are authenticated.
#[derive(Debug, Clone)]
pub enum Auth {
    /// By API key.
    Keys(BTreeMap<String, ClientSettings>),
    /// By a token of an identity provider, which names one of these clients.
    Jwt(BTreeMap<String, ClientSettings>, TokenSettings),
    /// Not at all: one tenant with all scopes.
    None,
}

impl Auth {
    /// Returns the clients by name; `None` without authentication.
    #[must_use]
    pub fn clients(&self) -> Option<&BTreeMap<String, ClientSettings>> {
        match self {
            Self::Keys(clients) | Self::Jwt(clients, _) => Some(clients),
            Self::None => None,
        }
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
    /// Claim that names the client.
    pub client_claim: String,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Sustained requests per second.
    pub requests_per_second: u32,
    /// Requests allowed in one burst.
    pub burst: u32,
}

/// `[store]`: location, keys and retention of the store.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// `sqlite:PATH`, `postgres://…` or a reference to either; a secret, because an address may contain a password.
    pub url: SecretRef,
    /// Key that encrypts new records.
    pub encryption_key: SecretRef,
    /// Previous keys, so that older records stay readable.
    pub decryption_keys: Vec<SecretRef>,
    /// How long finished operations are kept, with their personal data.
    pub retention: ConfigDuration,
    /// How long an idempotency key is kept.
    pub idempotency_retention: ConfigDuration,
}

impl StoreSettings {
    /// Returns how long the store keeps finished operations and idempotency keys.
    #[must_use]
    pub const fn kept(&self) -> Retention {
        Retention { operations: self.retention.0, keys: self.idempotency_retention.0 }
    }
}

/// Reads and validates a configuration without reading a secret.
///
/// # Errors
/// Every error, in the order of the file.
pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|fault| vec![fault])?;
    let mut faults = error::ConfigErrors::new(&layers.places);
    let config = Raw::read(&layers, &mut faults).finished(&layers.places);
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults.into_sorted()),
    }
}

/// Reads and validates a configuration, reads its secrets and builds everything from it. Creates the store's key only
/// if there is no other error.
///
/// # Errors
/// Every error, those of secrets included.
pub fn prepare(sources: &Sources, machine: &HostAccess<'_>) -> Result<Startup, Vec<ConfigError>> {
    let Validated { config, parts, store, identity } = validate(sources, machine)?;
    let mut faults = error::ConfigErrors::new(&config.places);
    match store.carried_out(machine.files, machine.environment, &mut faults) {
        Some(store) => Ok(Startup { config, parts, store, identity }),
        None => Err(faults.into_sorted()),
    }
}

/// Like [`prepare`], but for inspection: creates nothing.
///
/// # Errors
/// Every error, those of secrets included.
pub fn inspect(sources: &Sources, machine: &HostAccess<'_>) -> Result<Inspected, Vec<ConfigError>> {
    let Validated { config, parts, store, identity: _ } = validate(sources, machine)?;
    let mut faults = error::ConfigErrors::new(&config.places);
    match store.view(&mut faults) {
        Some(store) => Ok(Inspected { config, parts, store }),
        None => Err(faults.into_sorted()),
    }
}

/// Like [`prepare`], but for a running gateway: never creates the store's key.
///
/// # Errors
/// Every error, those of secrets included.
pub fn reload(sources: &Sources, machine: &HostAccess<'_>) -> Result<ReloadedConfig, Vec<ConfigError>> {
    let Validated { config, parts, store, identity } = validate(sources, machine)?;
    Ok(ReloadedConfig { config, parts, store: store.likeness(), identity })
}

/// Result of validation; building it changes nothing on the machine.
struct Validated {
    config: Config,
    parts: Components,
    store: store::StorePlan,
    identity: Option<ServerCertificate>,
}

fn validate(sources: &Sources, machine: &HostAccess<'_>) -> Result<Validated, Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|fault| vec![fault])?;
    let mut faults = error::ConfigErrors::new(&layers.places);
    let mut draft = Raw::read(&layers, &mut faults);
    if let Some(Auth::Jwt(_, token)) = &mut draft.auth {
        self::auth::read_keys(token, machine.secrets, &mut faults);
    }
    let parts =
        build_components(&draft.connections, &draft.catalogue, (machine.secrets, machine.environment), &mut faults);
    let store =
        draft.store.as_ref().and_then(|settings| store::plan(settings, machine.secrets, machine.files, &mut faults));
    let tls = draft.server.as_ref().and_then(|(server, _)| server.tls.as_ref());
    let identity = tls.and_then(|settings| tls::identity(settings, machine.secrets, &mut faults));
    match (faults.is_empty(), draft.finished(&layers.places), store) {
        (true, Some(config), Some(store)) => Ok(Validated { config, parts, store, identity }),
        _ => Err(faults.into_sorted()),
    }
}

impl Config {
    /// Builds the connections and the catalogue. Reads secrets but opens no connection.
    ///
    /// # Errors
    /// Every secret that cannot be read and every setting the vendor's adapter rejects.
    pub fn connect(&self, secrets: &dyn SecretSource, environment: &System) -> Result<Components, Vec<ConfigError>> {
        let mut faults = error::ConfigErrors::new(&self.places);
        let machine = (secrets, environment);
        let parts = build_components(&self.connections, &self.catalogue, machine, &mut faults);
        if faults.is_empty() { Ok(parts) } else { Err(faults.into_sorted()) }
    }
}

/// Builds the connections and catalogue entries that are valid.
fn build_components(
    connections: &BTreeMap<String, ConnectionConfig>,
    catalogue: &catalogue::CatalogueDraft,
    (secrets, environment): (&dyn SecretSource, &System),
    faults: &mut error::ConfigErrors<'_>,
) -> Components {
    let connections = connections::connect(connections, secrets, environment, faults);
    let catalogue = catalogue::resolved(catalogue, &connections, faults);
    Components { connections, catalogue }
}

/// Valid sections; an invalid one is `None`, so that its errors do not hide those of other sections.
struct Raw {
    server: Option<(ServerSettings, bool)>,
    auth: Option<Auth>,
    store: Option<StoreSettings>,
    connections: BTreeMap<String, ConnectionConfig>,
    catalogue: catalogue::CatalogueDraft,
}

impl Raw {
    fn read(layers: &layers::Layers, faults: &mut error::ConfigErrors<'_>) -> Self {
        let places = &layers.places;
        for fault in &layers.faults {
            faults.add(fault.clone());
        }
        let mut root = layers.tree.as_object().cloned().unwrap_or_default();
        let mut part = |name: &str| root.remove(name).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let (server, auth, store) = (part("server"), part("auth"), part("store"));
        let mut tables = |name: &str, faults: &mut error::ConfigErrors<'_>| -> Vec<(String, Value)> {
            section::table(&part(name), &[name], faults).into_iter().flatten().collect()
        };
        let connections = tables("connections", faults);
        let (assessments, programs) = (tables("assessments", faults), tables("programs", faults));
        for name in root.keys() {
            let path = [name.clone()];
            faults.push(&path, format!("unknown key{}", suggest::key(&path)));
        }

        let server = section::section(&server, &["server"], places, faults)
            .and_then(|document| self::server::checked(document, faults));
        let names: BTreeSet<String> = connections.iter().map(|(name, _)| name.clone()).collect();
        let connections: BTreeMap<String, ConnectionConfig> = connections
            .into_iter()
            .filter_map(|(name, table)| {
                Some((name.clone(), self::connections::checked(&name, &table, places, faults)?))
            })
            .collect();
        let surroundings = self::auth::ValidationContext { connections: &names, server: server.as_ref() };
        let auth = section::section(&auth, &["auth"], places, faults)
            .and_then(|document| self::auth::checked(document, &surroundings, places, faults));
        let store = section::section(&store, &["store"], places, faults)
            .and_then(|document| self::store::checked(document, faults));
        let known = catalogue::Connections { names: &names, known: &connections };
        let catalogue = catalogue::checked(assessments, programs, &known, places, faults);
        Self { server, auth, store, connections, catalogue }
    }

    fn finished(self, places: &error::Locations) -> Option<Config> {
        let Self { server, auth, store, connections, catalogue } = self;
        let (server, _) = server?;
        Some(Config { server, auth: auth?, store: store?, connections, catalogue, places: places.clone() })
    }
}
