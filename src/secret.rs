//! Values that must never be seen: a [`Secret`] cannot be printed, serialised or compared in variable time, and a
//! [`Redactor`] takes every known secret out of text that others wrote (vendor messages above all).
//!
//! This module must never gain a way to turn a secret into text by accident: [`Secret::expose`] is the only door, and a
//! search for it finds every place a secret leaves.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What stands in place of a secret wherever text is shown.
pub const MASK: &str = "***";
/// Shortest secret that is masked by itself within a text, in characters.
const MIN_MASKED: usize = 4;

/// A secret string; wiped from memory when dropped.
///
/// It has no `Serialize`, no `PartialEq` and a `Debug` that says nothing, so that it can be a member of structs that are
/// logged or compared.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes the text over; the caller should not keep a copy.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Each call is a place where it may leave: signing, sending, hashing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends on the length only.
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

/// Where an operator keeps a secret: `env:NAME`, `file:PATH` or `plain:VALUE`.
#[derive(Clone)]
pub enum SecretRef {
    /// In the environment variable of this name.
    Env(String),
    /// In this file; a trailing newline is not part of it.
    File(String),
    /// Here.
    Plain(Secret),
}

/// Reads what a [`SecretRef`] points to; the process's own environment and files stay in `main`'s hands.
pub trait SecretSource {
    /// The environment variable's value.
    ///
    /// # Errors
    /// A sentence that names the variable and never shows a value.
    fn variable(&self, name: &str) -> Result<Secret, String>;

    /// The file's content.
    ///
    /// # Errors
    /// A sentence that names the file and never shows its content.
    fn file(&self, path: &str) -> Result<Secret, String>;
}

impl SecretRef {
    /// The reference in this text.
    ///
    /// # Errors
    /// A sentence that does not repeat the text, since it may be a secret written without its prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            Some(("plain", value)) if !value.is_empty() => Ok(Self::Plain(Secret::new(value))),
            _ => Err("expected a secret reference: \"env:NAME\", \"file:PATH\" or \"plain:VALUE\"".to_owned()),
        }
    }

    /// The secret itself.
    ///
    /// # Errors
    /// A sentence saying what could not be read, or that it is empty.
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

/// Reads a key that may be `""`, which is no reference; for `#[serde(deserialize_with)]`.
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

/// What something was made of, secrets included: tells whether it would be made the same again, and nothing else.
#[derive(Clone, Default)]
pub struct ConfigFingerprint(Vec<Secret>);

impl ConfigFingerprint {
    /// The likeness of what is made of these parts, in this order.
    #[must_use]
    pub fn of(parts: Vec<Secret>) -> Self {
        Self(parts)
    }

    /// Whether every part is the same; the time taken depends on lengths only.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        let equal = pairs.fold(true, |equal, (one, two)| equal & one.matches_constant_time(two.expose()));
        equal && self.0.len() == other.0.len()
    }
}

impl fmt::Debug for ConfigFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Likeness({MASK})")
    }
}

/// Masks every secret it knows, in all the spellings a vendor may echo it in.
#[derive(Clone, Default)]
pub struct Redactor {
    // Longest first, so that a secret which contains another is masked whole, and the short ones are looked for last.
    needles: Arc<[Secret]>,
}

impl Redactor {
    /// A redactor for these secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self::default().with(secrets)
    }

    /// The same redactor knowing these secrets as well, for one call (a candidate's password, a fresh token).
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

    /// The text with every known secret replaced by [`MASK`]. A text with a secret of fewer than four characters in it is
    /// replaced whole: masks within ordinary words would spell the secret out.
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

/// A secret as it is, percent-encoded, form-encoded, HTML-escaped, in Base64 and as a JSON string's inside: what error
/// pages quote back.
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
    fn a_likeness_differs_with_any_part() {
        let of = |parts: &[&str]| ConfigFingerprint::of(parts.iter().map(|part| Secret::new(*part)).collect());
        let likeness = of(&["table", "secret"]);
        assert!(likeness.same(&of(&["table", "secret"])));
        for other in [&["table", "Secret"][..], &["tables", "ecret"], &["table"], &["table", "secret", ""], &[]] {
            assert!(!likeness.same(&of(other)) && !of(other).same(&likeness), "{other:?}");
        }
        assert_eq!(format!("{likeness:?}"), "Likeness(***)");
    }

    #[test]
    fn compares_whole_values() {
        assert!(Secret::new("abc").matches_constant_time("abc"));
        assert!(!Secret::new("abc").matches_constant_time("abd"));
        assert!(!Secret::new("abc").matches_constant_time("ab"));
    }
}
