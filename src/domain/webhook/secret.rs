//! The secrets by which deliveries are signed, in the form of Standard Webhooks 1.0: `whsec_` and the Base64 form of the key.

use std::fmt;

use data_encoding::BASE64;
use zeroize::{Zeroize as _, Zeroizing};

use crate::domain::system::System;
use crate::secret::Secret;

/// The prefix of a secret.
pub const SECRET_PREFIX: &str = "whsec_";
/// Minimum and maximum length of a key, in bytes.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// Length of a generated key, in bytes.
const GENERATED_LENGTH: usize = 32;

/// The key of a webhook's secret; wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

/// An error for a text that is no webhook secret. It does not quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The prefix is missing.
    #[error("must begin with `whsec_`")]
    Prefix,
    /// The rest is not Base64.
    #[error("must be `whsec_` and the standard Base64 form of the key, with padding")]
    Encoding,
    /// The key is too short or too long.
    #[error("must hold a key of 24 to 64 bytes")]
    Length,
}

impl SigningKey {
    /// Parses a secret of the form `whsec_…`.
    ///
    /// # Errors
    /// [`InvalidSecret`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret::Prefix)?;
        let key = BASE64.decode(encoded.as_bytes()).map_err(|_| InvalidSecret::Encoding)?;
        let key = Zeroizing::new(key);
        if KEY_LENGTHS.contains(&key.len()) { Ok(Self(key)) } else { Err(InvalidSecret::Length) }
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secret::MASK)
    }
}

/// Generates a secret of the form `whsec_…`.
#[must_use]
pub fn generate_secret(system: &System) -> Secret {
    let mut key: [u8; GENERATED_LENGTH] = system.random();
    let secret = Secret::new(format!("{SECRET_PREFIX}{}", BASE64.encode(&key)));
    key.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_holds_24_to_64_bytes() {
        for (length, valid) in [(0, false), (23, false), (24, true), (32, true), (64, true), (65, false)] {
            let text = format!("{SECRET_PREFIX}{}", BASE64.encode(&vec![7; length]));
            let parsed = SigningKey::parse(&text);
            assert_eq!(parsed.as_ref().map(|key| key.bytes().len()).ok(), valid.then_some(length), "{length}");
            if !valid {
                assert_eq!(parsed.err(), Some(InvalidSecret::Length));
            }
        }
    }

    #[test]
    fn another_form_is_refused_without_being_quoted() {
        let key = BASE64.encode(&[1; 32]);
        for (text, error) in [
            (key.clone(), InvalidSecret::Prefix),
            (format!("WHSEC_{key}"), InvalidSecret::Prefix),
            (format!(" whsec_{key}"), InvalidSecret::Prefix),
            ("whsec_?".to_owned(), InvalidSecret::Encoding),
            (format!("whsec_{}", key.trim_end_matches('=')), InvalidSecret::Encoding),
            (format!("whsec_{key}\n"), InvalidSecret::Encoding),
        ] {
            let found = SigningKey::parse(&text).expect_err("no secret");
            assert_eq!(found, error, "{text:?}");
            assert!(!found.to_string().contains(&key));
        }
        let key = SigningKey::parse(&format!("{SECRET_PREFIX}{key}")).expect("a secret");
        assert_eq!(format!("{key:?}"), "***");
    }
}
