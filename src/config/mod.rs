//! What an operator can set: read from a TOML file and the environment, checked as a whole, every fault told at once with
//! its key and line, and never a secret shown.
//!
//! It must never read the process: file, environment and secrets are handed in, and nothing is opened or sent.

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
pub(crate) mod fuzzed;
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

/// A configuration that can work, as far as that can be said without reading a secret.
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
    /// What can be ordered by a vendor-neutral id.
    pub catalogue: Catalogue,
}

/// Everything a gateway is made of.
pub struct Startup {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// What the store is opened with.
    pub store: StoreParts,
    /// What callers are shown over TLS; `None`: plain HTTP.
    pub identity: Option<ServerCertificate>,
}

/// Everything a gateway would be made of, to be looked at.
pub struct Inspected {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// The store as it would be opened.
    pub store: StoreView,
}

/// What a gateway that is running can take up of a configuration.
pub struct ReloadedConfig {
    /// The configuration.
    pub config: Config,
    /// Connections and catalogue.
    pub parts: Components,
    /// What the store would be opened with; it stays as it is while the gateway runs.
    pub store: StoreFingerprint,
    /// What callers are shown over TLS.
    pub identity: Option<ServerCertificate>,
}

/// The machine as far as a configuration needs it.
pub struct HostAccess<'a> {
    /// Where secrets are read.
    pub secrets: &'a dyn SecretSource,
    /// Where the store's key is made.
    pub files: &'a dyn KeyFileStore,
    /// Clock and entropy.
    pub environment: &'a System,
}

/// `[server]`: where and how the gateway listens.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where callers reach it.
    pub listen: SocketAddr,
    /// Where operators reach it; `None` turns it off.
    pub admin_listen: Option<SocketAddr>,
    /// The path it is mounted below, `""` or `/…` without a final slash.
    pub base_path: String,
    /// The absolute address callers use, for `Location` and the document's servers.
    pub public_url: Option<Url>,
    /// Longest body of a single request.
    pub body_limit: ByteSize,
    /// Longest body of a bulk.
    pub bulk_body_limit: ByteSize,
    /// After this the caller gets 202 as with `Prefer: wait`.
    pub request_timeout: ConfigDuration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: ConfigDuration,
    /// How long requests are still taken after SIGTERM.
    pub shutdown_delay: ConfigDuration,
    /// How long requests under way may take after that.
    pub shutdown_grace: ConfigDuration,
    /// `[server.tls]`; `None`: plain HTTP.
    pub tls: Option<TlsSettings>,
}

/// `[server.tls]`: where certificate and key are kept.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The certificate and those it is signed with.
    pub certificate: SecretRef,
    /// Its private key.
    pub key: SecretRef,
}

/// `[auth]`: how callers are recognised.
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
    /// The clients by name; none where everybody may ask.
    #[must_use]
    pub fn clients(&self) -> Option<&BTreeMap<String, ClientSettings>> {
        match self {
            Self::Keys(clients) | Self::Jwt(clients, _) => Some(clients),
            Self::None => None,
        }
    }

    /// The word of `auth.mode`.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::Jwt(..) => "jwt",
            Self::None => "none",
        }
    }
}

/// `[auth.jwt]`: whose tokens are taken (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// What `iss` has to be.
    pub issuer: String,
    /// What `aud` has to be or contain.
    pub audience: String,
    /// Where the keys are that tokens are signed with.
    pub keys: KeySource,
    /// The claim that names the client.
    pub client_claim: String,
    /// How far the issuer's clock may be from this machine's.
    pub leeway: ConfigDuration,
}

/// Where an issuer's keys are (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, read at the start and with every reload.
    File(String, JwkSet),
    /// Published by the issuer, and asked for again from time to time.
    Published(Url),
}

/// `[auth.clients.<name>]`: one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The client's name.
    pub name: String,
    /// Who owns what it makes.
    pub tenant: String,
    /// SHA-256 of each live key.
    pub key_sha256: Vec<[u8; 32]>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The connections it may use.
    pub connections: ConnectionAccess,
    /// Used when a request names no connection.
    pub default_connection: Option<String>,
    /// How fast it may ask.
    pub rate_limit: RateLimit,
}

/// How fast a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second in the long run.
    pub requests_per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// `[store]`: where knowledge is kept.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// `sqlite:PATH`, `postgres://…` or where that is kept; treated as a secret, since an address may hold a password.
    pub url: SecretRef,
    /// The key new records are sealed with.
    pub encryption_key: SecretRef,
    /// Earlier keys, still readable.
    pub decryption_keys: Vec<SecretRef>,
    /// How long the personal data of finished operations is kept.
    pub retention: ConfigDuration,
    /// How long an idempotency key is remembered.
    pub idempotency_retention: ConfigDuration,
}

impl StoreSettings {
    /// How long the gateway keeps what it does not need any more.
    #[must_use]
    pub const fn kept(&self) -> Retention {
        Retention { operations: self.retention.0, keys: self.idempotency_retention.0 }
    }
}

/// Reads and checks a configuration without reading a secret.
///
/// # Errors
/// Every fault, in the order of the file.
pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|fault| vec![fault])?;
    let mut faults = error::ConfigErrors::new(&layers.places);
    let config = Raw::read(&layers, &mut faults).finished(&layers.places);
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults.into_sorted()),
    }
}

/// Reads and checks a configuration, reads its secrets and builds everything from it. The store's key is made only when
/// nothing else is at fault.
///
/// # Errors
/// Every fault, those of secrets together with all others.
pub fn prepare(sources: &Sources, machine: &HostAccess<'_>) -> Result<Startup, Vec<ConfigError>> {
    let Validated { config, parts, store, identity } = planned(sources, machine)?;
    let mut faults = error::ConfigErrors::new(&config.places);
    match store.carried_out(machine.files, machine.environment, &mut faults) {
        Some(store) => Ok(Startup { config, parts, store, identity }),
        None => Err(faults.into_sorted()),
    }
}

/// As [`prepare`], to be looked at: nothing is made.
///
/// # Errors
/// Every fault, those of secrets together with all others.
pub fn inspect(sources: &Sources, machine: &HostAccess<'_>) -> Result<Inspected, Vec<ConfigError>> {
    let Validated { config, parts, store, identity: _ } = planned(sources, machine)?;
    let mut faults = error::ConfigErrors::new(&config.places);
    match store.view(&mut faults) {
        Some(store) => Ok(Inspected { config, parts, store }),
        None => Err(faults.into_sorted()),
    }
}

/// As [`prepare`], for a gateway that is running: the store's key is never made.
///
/// # Errors
/// Every fault, those of secrets together with all others.
pub fn reread(sources: &Sources, machine: &HostAccess<'_>) -> Result<ReloadedConfig, Vec<ConfigError>> {
    let Validated { config, parts, store, identity } = planned(sources, machine)?;
    Ok(ReloadedConfig { config, parts, store: store.likeness(), identity })
}

/// Everything that can be made without changing the machine.
struct Validated {
    config: Config,
    parts: Components,
    store: store::StorePlan,
    identity: Option<ServerCertificate>,
}

fn planned(sources: &Sources, machine: &HostAccess<'_>) -> Result<Validated, Vec<ConfigError>> {
    let layers = layers::merge(sources).map_err(|fault| vec![fault])?;
    let mut faults = error::ConfigErrors::new(&layers.places);
    let mut draft = Raw::read(&layers, &mut faults);
    if let Some(Auth::Jwt(_, token)) = &mut draft.auth {
        self::auth::read_keys(token, machine.secrets, &mut faults);
    }
    let parts = connected(&draft.connections, &draft.catalogue, (machine.secrets, machine.environment), &mut faults);
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
    /// Builds the connections and the catalogue. Reads secrets, opens no connection.
    ///
    /// # Errors
    /// Every secret that cannot be read and every setting the vendor's adapter refuses.
    pub fn connect(&self, secrets: &dyn SecretSource, environment: &System) -> Result<Components, Vec<ConfigError>> {
        let mut faults = error::ConfigErrors::new(&self.places);
        let machine = (secrets, environment);
        let parts = connected(&self.connections, &self.catalogue, machine, &mut faults);
        if faults.is_empty() { Ok(parts) } else { Err(faults.into_sorted()) }
    }
}

/// What can be built of the parts that are in order.
fn connected(
    connections: &BTreeMap<String, ConnectionConfig>,
    catalogue: &catalogue::CatalogueDraft,
    (secrets, environment): (&dyn SecretSource, &System),
    faults: &mut error::ConfigErrors<'_>,
) -> Components {
    let connections = connections::connect(connections, secrets, environment, faults);
    let catalogue = catalogue::resolved(catalogue, &connections, faults);
    Components { connections, catalogue }
}

/// The sections as far as they are in order, so that one fault does not hide those of other sections.
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
            faults.push(&path, format!("there is no such key{}", suggest::key(&path)));
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
