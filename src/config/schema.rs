//! Sections as written in the file, where they differ from the settings made of them. Key names are part of the
//! configuration's contract. Defaults come from `default.toml`, so there is only one list of them.

use std::collections::BTreeMap;

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use crate::config::RateLimit;
use crate::domain::results::Counts;
use crate::domain::units::ConfigDuration;
use crate::domain::webhook::{DeliveryOrder, WebhookPayload};
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

#[derive(Deserialize)]
pub(super) struct Delivery {
    pub(super) allow_hosts: Vec<String>,
    pub(super) allow_private: Vec<String>,
    pub(super) allow_http: bool,
    pub(super) timeout: ConfigDuration,
    pub(super) schedule: Vec<ConfigDuration>,
    pub(super) disable_after: ConfigDuration,
    #[serde(deserialize_with = "secret::optional")]
    pub(super) ca: Option<SecretRef>,
}

#[derive(Deserialize)]
pub(super) struct Webhook {
    pub(super) tenant: Option<String>,
    pub(super) url: Option<String>,
    #[serde(default, deserialize_with = "one_or_several")]
    pub(super) secret: Option<Vec<SecretRef>>,
    #[serde(default)]
    pub(super) types: Vec<String>,
    #[serde(default)]
    pub(super) connections: Vec<String>,
    #[serde(default)]
    pub(super) assessments: Vec<String>,
    #[serde(default = "thin")]
    pub(super) payload: WebhookPayload,
    #[serde(default = "by_resource")]
    pub(super) order: DeliveryOrder,
    #[serde(default = "few_in_flight")]
    pub(super) max_in_flight: u32,
    #[serde(default)]
    pub(super) requests_per_second: u32,
    #[serde(default)]
    pub(super) description: String,
}

const fn thin() -> WebhookPayload {
    WebhookPayload::Thin
}

const fn by_resource() -> DeliveryOrder {
    DeliveryOrder::Resource
}

const fn few_in_flight() -> u32 {
    4
}

/// Deserialises a secret reference, or a list of them.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<SecretRef>>, D::Error> {
    struct References;
    impl<'de> Visitor<'de> for References {
        type Value = Vec<SecretRef>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a secret reference or a list of them")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<SecretRef>, E> {
            SecretRef::parse(text).map(|reference| vec![reference]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<SecretRef>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(References).map(Some)
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
