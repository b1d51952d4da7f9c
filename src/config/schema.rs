//! Sections as written in the file, before their values are checked against each other. Key names are part of the
//! configuration's contract. Defaults come from `default.toml`, so there is only one list of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::units::{ByteSize, ConfigDuration};
use crate::secret::{self, SecretRef};

#[derive(Deserialize)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) admin_listen: String,
    pub(super) base_path: String,
    pub(super) public_url: String,
    pub(super) body_limit: ByteSize,
    pub(super) bulk_body_limit: ByteSize,
    pub(super) request_timeout: ConfigDuration,
    pub(super) keep_alive: ConfigDuration,
    pub(super) shutdown_delay: ConfigDuration,
    pub(super) shutdown_grace: ConfigDuration,
    pub(super) allow_insecure: bool,
    pub(super) tls: Tls,
}

#[derive(Deserialize)]
pub(super) struct Tls {
    #[serde(deserialize_with = "secret::optional")]
    pub(super) certificate: Option<SecretRef>,
    #[serde(deserialize_with = "secret::optional")]
    pub(super) key: Option<SecretRef>,
}

#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) mode: String,
    #[serde(default)]
    pub(super) clients: BTreeMap<String, Value>,
    pub(super) jwt: Jwt,
}

#[derive(Deserialize)]
pub(super) struct Jwt {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) jwks: String,
    pub(super) client_claim: String,
    pub(super) leeway: ConfigDuration,
}

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Client {
    pub(super) tenant: String,
    pub(super) key_sha256: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) connections: Vec<String>,
    pub(super) default_connection: String,
    pub(super) rate_limit: RateLimit,
}

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct RateLimit {
    pub(super) requests_per_second: u32,
    pub(super) burst: u32,
}

#[derive(Deserialize)]
pub(super) struct Store {
    // A secret reference, so that a password in it is protected from the start.
    pub(super) url: StoreUrl,
    pub(super) encryption_key: SecretRef,
    pub(super) decryption_keys: Vec<SecretRef>,
    pub(super) retention: ConfigDuration,
    pub(super) idempotency_retention: ConfigDuration,
}

#[derive(Deserialize)]
pub(super) struct Assessment {
    pub(super) name: Option<String>,
    pub(super) connection: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Program {
    pub(super) name: Option<String>,
    pub(super) connection: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) external_ref: Option<String>,
}

/// URL of a store, or a reference to it.
pub(super) struct StoreUrl(pub(super) SecretRef);

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let reference = ["env:", "file:", "plain:"].iter().any(|start| text.starts_with(start));
        let text = if reference { text } else { format!("plain:{text}") };
        SecretRef::parse(&text).map(Self).map_err(|_| serde::de::Error::custom("expected \"sqlite:PATH\""))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            tenant: String::new(),
            key_sha256: Vec::new(),
            scopes: Vec::new(),
            connections: vec!["*".to_owned()],
            default_connection: String::new(),
            rate_limit: RateLimit::default(),
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests_per_second: 100, burst: 200 }
    }
}
