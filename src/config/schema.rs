//! Sections as written in the file, where they differ from the settings made of them. Key names are part of the
//! configuration's contract. Defaults come from `default.toml`, so there is only one list of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::config::RateLimit;
use crate::domain::results::Counts;
use crate::domain::units::ConfigDuration;
use crate::secret::{self, SecretRef};

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
    pub(super) scope_claims: Vec<String>,
    pub(super) scope_prefix: String,
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
pub(super) struct Assessment {
    pub(super) name: Option<String>,
    pub(super) connection: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) pass_percent: Option<f64>,
    #[serde(default)]
    pub(super) pass_levels: Vec<String>,
    #[serde(default)]
    pub(super) counts: Counts,
    #[serde(default = "is_scored")]
    pub(super) scored: bool,
}

const fn is_scored() -> bool {
    true
}

#[derive(Deserialize)]
pub(super) struct Program {
    pub(super) name: Option<String>,
    pub(super) connection: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) external_ref: Option<String>,
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
