//! What an operator sets for a `ThinkExam` connection, as written. Its `Debug` output never shows a secret, nor a text that
//! may hold one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::template::Template;
use crate::domain::units::ConfigDuration;
use crate::secret::{Secret, SecretRef};

/// The settings of one connection, as written.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The customer's API endpoint; the paths `/api/v1/…` are below it.
    pub base_url: String,
    /// How passwords go over the wire. Undocumented for the signed calls; the vendor's unsigned ones want Base64.
    #[serde(default)]
    pub password_encoding: PasswordEncoding,
    /// `courseName` of candidates without a group; empty is none.
    #[serde(default)]
    pub default_group: String,
    /// The address a candidate opens, with `{token}` and `{email}`; empty is none. The vendor documents no such address.
    #[serde(default)]
    pub link_template: String,
    /// Where the headers `ak`, `sgn` and `ts` come from.
    pub signature: SignatureSettings,
}

/// How a password is written in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PasswordEncoding {
    /// As it is.
    #[default]
    Plain,
    /// Base64 of its UTF-8.
    Base64,
}

/// Where the signature comes from. One flat table: which keys count depends on `mode`, and one that does not count is a
/// fault, since it would change nothing.
#[derive(Debug, Clone, Deserialize)]
pub struct SignatureSettings {
    /// Which kind of source.
    pub mode: Mode,
    /// `remote`, `hmac`: the account's API key.
    pub api_key: Option<SecretRef>,
    /// `remote`, `hmac`: the account's secret.
    pub secret: Option<SecretRef>,
    /// `remote`: address of the Signature Generation API.
    pub url: Option<String>,
    /// `remote`: verb, `POST` by default.
    pub method: Option<String>,
    /// `remote`: headers; values are templates.
    pub headers: Option<BTreeMap<String, Template>>,
    /// `remote`: JSON template of the body.
    pub body: Option<Template>,
    /// `remote`: where `ak` stands in the answer (RFC 6901).
    pub ak_pointer: Option<String>,
    /// `remote`: where `sgn` stands in the answer.
    pub sgn_pointer: Option<String>,
    /// `remote`: where `ts` stands in the answer.
    pub ts_pointer: Option<String>,
    /// `remote`: how long one triple is used; `"0s"` asks anew for every call.
    pub ttl: Option<ConfigDuration>,
    /// `hmac`: hash function.
    pub algorithm: Option<Algorithm>,
    /// `hmac`: what is signed, with `{api_key}`, `{secret}` and `{ts}`.
    pub message: Option<Template>,
    /// `hmac`: how the signature is written.
    pub encoding: Option<Encoding>,
    /// `hmac`: how the key is written in `secret`.
    pub key_encoding: Option<KeyEncoding>,
    /// `hmac`: `seconds` or `milliseconds`; `static`: the time stamp itself, a secret reference.
    pub ts: Option<TimeStamp>,
    /// `static`: the API key header.
    pub ak: Option<SecretRef>,
    /// `static`: the signature header.
    pub sgn: Option<SecretRef>,
}

/// The key `ts`: a unit in one mode, a secret reference in another; kept as written until the mode is known.
#[derive(Debug, Clone)]
pub struct TimeStamp(Secret);

impl TimeStamp {
    pub(super) fn as_str(&self) -> &str {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for TimeStamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new).map(Self)
    }
}

/// Kinds of signature sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The vendor's Signature Generation API is asked.
    Remote,
    /// The gateway computes it by a formula the vendor has given the operator.
    Hmac,
    /// Three values issued by hand.
    Static,
}

impl Mode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Hmac => "hmac",
            Self::Static => "static",
        }
    }
}

/// Hash functions for `hmac`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Algorithm {
    #[default]
    Sha256,
    Sha1,
    Md5,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Lower-case hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// How a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// Base64 with padding.
    Base64,
    /// Hexadecimal digits.
    Hex,
}
