//! How the text of a secret becomes a key.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Encoding of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// Base64 (standard alphabet, padded).
    Base64,
    /// Hexadecimal digits.
    Hex,
}

impl KeyEncoding {
    /// Decodes the key; errors name the setting that holds this encoding.
    pub(super) fn decode(self, secret: &Secret, setting: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let text = secret.expose().as_bytes();
        let key = match self {
            Self::Utf8 => Ok(text.to_vec()),
            Self::Base64 => BASE64.decode(text).map_err(|_| "valid Base64"),
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| "hexadecimal"),
        };
        key.map(Zeroizing::new).map_err(|expected| format!("is not {expected} (see {setting})"))
    }
}
