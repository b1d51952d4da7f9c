//! Generator of ids and opaque tokens, deterministic for a seed.
//!
//! The seed is the sandbox's start time, so two runs issue different ids, as two real vendors would. No value here is
//! secret or fit to be one.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// A generator of ids.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    seed: u128,
    next: u64,
}

impl Ids {
    /// Creates a generator seeded by a start time.
    pub(super) fn new(start: SystemTime) -> Self {
        Ids { seed: start.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()), next: 0 }
    }

    /// Generates a GUID in lower case with hyphens.
    pub(super) fn guid(&mut self) -> String {
        let bytes = self.bytes();
        let mut half = [0; 16];
        half.copy_from_slice(&bytes[..16]);
        uuid::Builder::from_random_bytes(half).into_uuid().hyphenated().to_string()
    }

    /// Generates opaque text that looks like Base64 with `*` instead of `/`.
    pub(super) fn token(&mut self) -> String {
        data_encoding::BASE64.encode(&self.bytes()[..31]).replace('/', "*")
    }

    /// Generates a continuation token that looks like the published sample `se02331582210410564987`.
    pub(super) fn continuation(&mut self) -> String {
        let digits: String = self.bytes().iter().take(20).map(|byte| char::from(b'0' + byte % 10)).collect();
        format!("se{digits}")
    }

    fn bytes(&mut self) -> [u8; 32] {
        self.next += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(self.next.to_be_bytes());
        hash.finalize().into()
    }
}
