//! Settings of a `ThinkExam` connection, as written. Their `Debug` output never shows a secret, or a text that may
//! contain one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::results::ResultsSettings;
use super::template::Template;
use crate::domain::units::ConfigDuration;
use crate::secret::{Secret, SecretRef};
use crate::vendors::key_encoding::KeyEncoding;

/// The settings of one connection, as written.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The customer's API endpoint, without the paths `/api/v1/…`.
    pub base_url: String,
    /// Encoding of passwords in requests. Undocumented for the signed calls; the vendor's unsigned ones expect Base64.
    #[serde(default)]
    pub password_encoding: PasswordEncoding,
    /// `courseName` of candidates without a group; empty for none.
    #[serde(default)]
    pub default_group: String,
    /// URL that a candidate opens, with `{token}` and `{email}`; empty for none. The vendor documents no such URL.
    #[serde(default)]
    pub link_template: String,
    /// Source of the headers `ak`, `sgn` and `ts`.
    pub signature: SignatureSettings,
    /// How results are received.
    #[serde(default)]
    pub results: ResultsSettings,
}

impl Settings {
    /// The keys without a default.
    pub(in crate::vendors) const REQUIRED: &[&str] = &["base_url", "signature", "signature.mode"];
}

/// Encoding of passwords in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PasswordEncoding {
    /// Unencoded.
    #[default]
    Plain,
    /// Base64 of its UTF-8.
    Base64,
}

/// Source of the signature. One flat table: `mode` decides which keys apply, and any other key is an error, because it
/// would have no effect.
#[derive(Debug, Clone, Deserialize)]
pub struct SignatureSettings {
    /// Kind of source.
    pub mode: Mode,
    /// `remote`, `hmac`: the account's API key.
    pub api_key: Option<SecretRef>,
    /// `remote`, `hmac`: the account's secret.
    pub secret: Option<SecretRef>,
    /// `remote`: URL of the Signature Generation API.
    pub url: Option<String>,
    /// `remote`: HTTP method, `POST` by default.
    pub method: Option<String>,
    /// `remote`: headers; values are templates.
    pub headers: Option<BTreeMap<String, Template>>,
    /// `remote`: JSON template of the body.
    pub body: Option<Template>,
    /// `remote`: JSON pointer (RFC 6901) to `ak` in the response.
    pub ak_pointer: Option<String>,
    /// `remote`: JSON pointer to `sgn` in the response.
    pub sgn_pointer: Option<String>,
    /// `remote`: JSON pointer to `ts` in the response.
    pub ts_pointer: Option<String>,
    /// `remote`: how long one triple is reused; `"0s"` requests a new one for every call.
    pub ttl: Option<ConfigDuration>,
    /// `hmac`: hash function.
    pub algorithm: Option<Algorithm>,
    /// `hmac`: message to sign, with `{api_key}`, `{secret}` and `{ts}`.
    pub message: Option<Template>,
    /// `hmac`: encoding of the signature.
    pub encoding: Option<Encoding>,
    /// `hmac`: encoding of the key in `secret`.
    pub key_encoding: Option<KeyEncoding>,
    /// `hmac`: `seconds` or `milliseconds`; `static`: the time stamp itself, a secret reference.
    pub ts: Option<TimeStamp>,
    /// `static`: the API key header.
    pub ak: Option<SecretRef>,
    /// `static`: the signature header.
    pub sgn: Option<SecretRef>,
}

/// Value of `ts`: a unit in one mode, a secret reference in another; unparsed until the mode is known.
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

/// Kind of signature source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The vendor's Signature Generation API.
    Remote,
    /// An HMAC that the gateway computes by a formula the operator got from the vendor.
    Hmac,
    /// Three fixed values.
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

/// Hash function for `hmac`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are self-explanatory")]
pub enum Algorithm {
    #[default]
    Sha256,
    Sha1,
    Md5,
}

/// Encoding of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Lower-case hexadecimal digits.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}
