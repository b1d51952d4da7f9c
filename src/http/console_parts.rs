//! What the console is built from, besides the API: its settings and the keys of its sessions.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit as _;
use zeroize::Zeroizing;

use crate::config::ConsoleSettings;

/// Everything the console needs besides the API.
#[derive(Debug, Clone)]
pub struct ConsoleParts {
    /// Where it is, and how long its sessions last.
    pub settings: ConsoleSettings,
    /// The keys that seal its sessions.
    pub keys: SessionKeys,
}

/// The keys that seal the sessions of the console: the first one seals, all of them open. Cheap to clone.
#[derive(Clone)]
pub struct SessionKeys(Arc<[XChaCha20Poly1305]>);

impl SessionKeys {
    /// Takes the keys, the current one first.
    #[must_use]
    pub fn new(keys: &[Zeroizing<[u8; 32]>]) -> Self {
        Self(keys.iter().map(|key| XChaCha20Poly1305::new((&**key).into())).collect())
    }

    /// Returns the ciphers, the current one first.
    pub(super) fn ciphers(&self) -> &[XChaCha20Poly1305] {
        &self.0
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys")
    }
}
