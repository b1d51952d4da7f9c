//! Secrets: a [`Secret`] cannot be printed, serialised or compared in variable time, and a [`Redactor`] masks every
//! known secret in external text (vendor messages above all).
//!
//! This module must never gain a way to turn a secret into text by accident: [`Secret::expose`] is the only access, and
//! a search for it finds every place where a secret leaves.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The replacement for a secret in displayed text.
pub const MASK: &str = "***";
/// Minimum length, in characters, of a secret that is masked in place within a text.
const MIN_MASKED: usize = 4;

/// A secret string; wiped from memory when dropped.
///
/// It has no `Serialize`, no `PartialEq`, and its `Debug` shows only [`MASK`], so structs that are logged or compared
/// may contain it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of the text; the caller should not keep a copy.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself. Each call is a place where the secret may leave: signing, sending, hashing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends only on the length.
    #[must_use]
    pub fn matches_constant_time(&self, other: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(other.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A reference to a secret: `env:NAME`, `file:PATH` or `plain:VALUE`.
#[derive(Clone)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; a trailing newline is not part of the secret.
    File(String),
    /// The value itself.
    Plain(Secret),
}

/// Reads the target of a [`SecretRef`]; only `main` accesses the process's environment and files.
pub trait SecretSource {
    /// Reads an environment variable.
    ///
    /// # Errors
    /// A sentence that names the variable and never shows a value.
    fn variable(&self, name: &str) -> Result<Secret, String>;

    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file and never shows its content.
    fn file(&self, path: &str) -> Result<Secret, String>;
}

impl SecretRef {
    /// Parses a reference.
    ///
    /// # Errors
    /// A sentence that does not quote the text, because the text may be a secret written without its prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            Some(("plain", value)) if !value.is_empty() => Ok(Self::Plain(Secret::new(value))),
            _ => Err("expected a secret reference: \"env:NAME\", \"file:PATH\" or \"plain:VALUE\"".to_owned()),
        }
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// A sentence that names what could not be read or is empty.
    pub fn resolve(&self, source: &dyn SecretSource) -> Result<Secret, String> {
        let (secret, place) = match self {
            Self::Env(name) => (source.variable(name)?, format!("environment variable {name}")),
            Self::File(path) => (source.file(path)?, format!("file {path}")),
            Self::Plain(secret) => return Ok(secret.clone()),
        };
        let text = secret.expose().strip_suffix('\n').unwrap_or(secret.expose());
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() { Err(format!("{place} is empty")) } else { Ok(Secret::new(text)) }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Plain(_) => write!(f, "plain:{MASK}"),
        }
    }
}

impl<'de> serde::Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Deserialises a reference that may be `""` (`None`); for `#[serde(deserialize_with)]`.
///
/// # Errors
/// As [`SecretRef::parse`].
pub fn optional<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SecretRef>, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    SecretRef::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Fingerprint of a configuration including its secrets; supports only equality.
#[derive(Clone, Default)]
pub struct ConfigFingerprint(Vec<Secret>);

impl ConfigFingerprint {
    /// Creates the fingerprint of these parts, in this order.
    #[must_use]
    pub fn of(parts: Vec<Secret>) -> Self {
        Self(parts)
    }

    /// Returns whether all parts are equal; the time taken depends only on lengths.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        let equal = pairs.fold(true, |equal, (one, two)| equal & one.matches_constant_time(two.expose()));
        equal && self.0.len() == other.0.len()
    }
}

impl fmt::Debug for ConfigFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigFingerprint({MASK})")
    }
}

/// Masks known secrets in all the spellings in which a vendor may echo them.
#[derive(Clone, Default)]
pub struct Redactor {
    // Longest first, so that a secret which contains another is masked whole, and the short ones are searched for last.
    needles: Arc<[Secret]>,
}

impl Redactor {
    /// Creates a redactor for these secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self::default().with(secrets)
    }

    /// Adds secrets for one call (a candidate's password, a fresh token).
    #[must_use]
    pub fn with<'a>(&self, more: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut more = more.into_iter().filter(|secret| !secret.expose().is_empty()).peekable();
        if more.peek().is_none() {
            return self.clone();
        }
        let mut needles: Vec<Secret> = self.needles.iter().cloned().chain(more.flat_map(spellings)).collect();
        needles.sort_by(|a, b| (b.0.len(), &b.0).cmp(&(a.0.len(), &a.0)));
        needles.dedup_by(|a, b| a.0 == b.0);
        Self { needles: needles.into() }
    }

    /// Replaces every known secret with [`MASK`]. If the text contains a secret of fewer than four characters, the
    /// whole text is replaced: masks within ordinary words would reveal the secret.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for needle in &*self.needles {
            if masked.contains(needle.expose()) {
                if needle.expose().chars().count() < MIN_MASKED {
                    return MASK.to_owned();
                }
                masked = masked.replace(needle.expose(), MASK);
            }
        }
        masked
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({MASK})")
    }
}

/// Lists the spellings of a secret that error pages echo: literal, percent-encoded, form-encoded, HTML-escaped, Base64,
/// and JSON string content.
fn spellings(secret: &Secret) -> Vec<Secret> {
    let plain = secret.expose();
    let percent = percent_encoding::utf8_percent_encode(plain, percent_encoding::NON_ALPHANUMERIC).to_string();
    let lower_percent = percent
        .split('%')
        .enumerate()
        .map(|(i, part)| match (i, part.split_at_checked(2)) {
            (0, _) | (_, None) => part.to_owned(),
            (_, Some((code, rest))) => code.to_lowercase() + rest,
        })
        .collect::<Vec<_>>()
        .join("%");
    let form: String = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
    let html = plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let json = serde_json::Value::from(plain).to_string();
    let json = json.trim_matches('"').to_owned();
    let base64 = data_encoding::BASE64.encode(plain.as_bytes());
    [plain.to_owned(), percent, lower_percent, form, html, json, base64].into_iter().map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("hunter2-hunter2");
        assert_eq!(format!("{secret:?} {:?}", Redactor::new([&secret])), "*** Redactor(***)");
    }

    #[test]
    fn masks_every_spelling() {
        let secret = Secret::new("pa ss&<\"/wörd");
        let redactor = Redactor::new([&secret]);
        for spelling in spellings(&secret) {
            let text = format!("before {} after", spelling.expose());
            assert_eq!(redactor.mask(&text), "before *** after");
        }
    }

    #[test]
    fn a_secret_inside_another_is_masked_whole() {
        let (short, long) = (Secret::new("abcd"), Secret::new("abcd-efgh"));
        assert_eq!(Redactor::new([&short, &long]).mask("x abcd-efgh y abcd"), "x *** y ***");
        assert_eq!(Redactor::new([&short]).with([&long]).mask("abcd-efgh"), "***");
    }

    #[test]
    fn a_text_with_a_short_secret_is_masked_whole() {
        for short in ["a", "1f", "k€y"] {
            let redactor = Redactor::new([&Secret::new("long-one")]).with([&Secret::new(short)]);
            assert_eq!(redactor.mask(&format!("Password '{short}' is too weak")), "***");
            assert_eq!(redactor.mask("no thing, long-one"), "no thing, ***");
        }
        assert_eq!(Redactor::new([&Secret::new("")]).mask("text"), "text");
    }

    #[test]
    fn a_fingerprint_differs_with_any_part() {
        let of = |parts: &[&str]| ConfigFingerprint::of(parts.iter().map(|part| Secret::new(*part)).collect());
        let fingerprint = of(&["table", "secret"]);
        assert!(fingerprint.same(&of(&["table", "secret"])));
        for other in [&["table", "Secret"][..], &["tables", "ecret"], &["table"], &["table", "secret", ""], &[]] {
            assert!(!fingerprint.same(&of(other)) && !of(other).same(&fingerprint), "{other:?}");
        }
        assert_eq!(format!("{fingerprint:?}"), "ConfigFingerprint(***)");
    }

    #[test]
    fn compares_whole_values() {
        assert!(Secret::new("abc").matches_constant_time("abc"));
        assert!(!Secret::new("abc").matches_constant_time("abd"));
        assert!(!Secret::new("abc").matches_constant_time("ab"));
    }
}
