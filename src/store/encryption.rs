//! Encryption at rest: seals records before they reach the disk and finds them through keyed blind indices.
//!
//! This module must never log, and never puts plaintext or key material into an error.
//!
//! Each 32-byte key derives one key for sealing, one for indices, one for fingerprints and one for the console's sessions
//! (HMAC-SHA-256 with a label), so that a value made for one purpose reveals nothing about another.
//!
//! Rotation: the ring writes under its current key and reads under all of them. An index value cannot be converted to
//! another key without the plaintext, so a look-up tries every key of the ring. An earlier key must therefore stay in
//! the ring for as long as a database has records written under it; otherwise a person would not be found and would be
//! registered twice. The engines refuse to open a database that knows a key the ring lacks.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, AeadInOut, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::system::System;
use crate::secret::Secret;

/// Layout of a sealed value: this byte, the key's id, the nonce, the ciphertext with its tag.
const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + ID_BYTES;

/// A failure to seal a value or to open a sealed one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text is not a key.
    #[error("{name} is not a key: expected 32 bytes in base64 (44 characters)")]
    NotAKey {
        /// The configuration key it came from.
        name: String,
    },
    /// Sealed under a key that the ring lacks.
    #[error("sealed with key {0}, which is neither store.encryption_key nor one of store.decryption_keys")]
    UnknownKey(String),
    /// Altered, truncated, or moved to the place of another value.
    #[error("a sealed value is damaged or was moved")]
    Damaged,
    /// Too long for the cipher (256 GiB).
    #[error("a value is too long to seal")]
    TooLong,
}

/// Place of a sealed value, used as associated data: the value opens nowhere else, so values cannot be swapped inside a
/// database.
#[derive(Debug, Clone, Copy)]
pub(super) struct AadContext<'a> {
    /// The table.
    pub table: &'static str,
    /// The record's id.
    pub record: &'a str,
}

/// Identifier of a key that reveals nothing about the key.
pub(super) type KeyId = [u8; ID_BYTES];

/// A keyed index value: equal for equal text, and otherwise meaningless without the key.
pub(super) type BlindIndex = [u8; 32];

/// The store's keys: the current one to write with, and earlier ones to read with. Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Keys>);

struct Keys {
    current: Key,
    earlier: Vec<Key>,
}

struct Key {
    id: KeyId,
    cipher: XChaCha20Poly1305,
    index: Hmac<Sha256>,
    fingerprint: Hmac<Sha256>,
    session: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keyring {
    /// Creates a ring that writes under `current` and reads under all; each key is 32 bytes in base64.
    ///
    /// # Errors
    /// [`SealError::NotAKey`] with the name of the invalid configuration key.
    pub fn new(current: &Secret, earlier: &[Secret]) -> Result<Self, SealError> {
        let current = Key::parse(current, || "store.encryption_key".to_owned())?;
        let mut others: Vec<Key> = Vec::with_capacity(earlier.len());
        for (index, text) in earlier.iter().enumerate() {
            let key = Key::parse(text, || format!("store.decryption_keys[{index}]"))?;
            if key.id != current.id && others.iter().all(|other| other.id != key.id) {
                others.push(key);
            }
        }
        Ok(Self(Arc::new(Keys { current, earlier: others })))
    }

    /// Generates a key in the form [`Keyring::new`] reads.
    #[must_use]
    pub fn generate(environment: &System) -> Secret {
        let bytes = Zeroizing::new(environment.random::<KEY_BYTES>());
        Secret::new(BASE64.encode(bytes.as_slice()))
    }

    /// Returns the HMAC-SHA-256 of the bytes under a separate key, to compare requests without storing them.
    #[must_use]
    pub fn fingerprint(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.0.current.fingerprint, &[bytes])
    }

    /// Returns the keys that seal the sessions of the console, the current one first: one for each key of the ring, so that
    /// sessions last while the ring's keys are rotated.
    #[must_use]
    pub fn session_keys(&self) -> Vec<Zeroizing<[u8; 32]>> {
        self.keys().map(|key| key.session.clone()).collect()
    }

    /// Returns the HMAC-SHA-256 of a report's content under the key with this id; under the current key if the ring lacks it.
    pub(super) fn report_digest(&self, key: Option<&KeyId>, bytes: &[u8]) -> [u8; 32] {
        let key = self.keys().find(|known| Some(&known.id) == key).unwrap_or(&self.0.current);
        mac(&key.fingerprint, &[b"report", bytes])
    }

    /// Returns whether the fingerprint was made of these bytes under any key of the ring; constant time per key.
    #[must_use]
    pub fn is_fingerprint_of(&self, fingerprint: &[u8], bytes: &[u8]) -> bool {
        self.keys().any(|key| bool::from(mac(&key.fingerprint, &[bytes]).ct_eq(fingerprint)))
    }

    /// Seals the bytes under the current key.
    pub(super) fn seal(&self, environment: &System, place: AadContext<'_>, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = &self.0.current;
        let nonce = environment.random::<NONCE_BYTES>();
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_BYTES + bytes.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(bytes);
        // Encrypted where it is, so that no other copy of the text is made.
        let body = sealed.get_mut(HEADER_BYTES + NONCE_BYTES..).unwrap_or_default();
        let tag = key.cipher.encrypt_inout_detached(&XNonce::from(nonce), &place.associated(), body.into());
        sealed.extend_from_slice(&tag.map_err(|_| SealError::TooLong)?);
        Ok(sealed)
    }

    /// Opens a value sealed for this place under any key of the ring.
    pub(super) fn open(&self, place: AadContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Damaged)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        let (&format, id) = header.split_first().ok_or(SealError::Damaged)?;
        if format != FORMAT {
            return Err(SealError::Damaged);
        }
        let key = self.keys().find(|key| key.id == id).ok_or_else(|| SealError::UnknownKey(HEXLOWER.encode(id)))?;
        let payload = Payload { msg: body, aad: &place.associated() };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| SealError::Damaged)
    }

    /// Returns the index value of a text under the current key. Values of different scope or kind are unrelated, so the
    /// database alone does not reveal that the same person appears in two places.
    pub(super) fn blind_index(&self, scope: &str, kind: &str, text: &str) -> BlindIndex {
        self.0.current.blind(scope, kind, text)
    }

    /// Returns the index values of a text under every key of the ring, the current one first, for look-ups.
    pub(super) fn blind_indices(&self, scope: &str, kind: &str, text: &str) -> Vec<BlindIndex> {
        self.keys().map(|key| key.blind(scope, kind, text)).collect()
    }

    /// Returns the id of the current key.
    pub(super) fn current_id(&self) -> KeyId {
        self.0.current.id
    }

    /// Returns the ids of all keys.
    pub(super) fn ids(&self) -> Vec<KeyId> {
        self.keys().map(|key| key.id).collect()
    }

    /// Returns an error unless the ring has the key with this id.
    pub(super) fn require(&self, id: &[u8]) -> Result<(), SealError> {
        if self.keys().any(|key| key.id == id) { Ok(()) } else { Err(SealError::UnknownKey(HEXLOWER.encode(id))) }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.0.current).chain(&self.0.earlier)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Key {
    fn parse(text: &Secret, name: impl FnOnce() -> String) -> Result<Self, SealError> {
        let bytes = BASE64.decode(text.expose().trim().as_bytes()).map(Zeroizing::new);
        match bytes.ok().filter(|bytes| bytes.len() == KEY_BYTES) {
            Some(bytes) => Ok(Self::derive(&bytes)),
            None => Err(SealError::NotAKey { name: name() }),
        }
    }

    fn derive(master: &[u8]) -> Self {
        let master = keyed(master);
        let labelled = |label: &str| Zeroizing::new(mac(&master, &[label.as_bytes()]));
        let mut id = KeyId::default();
        id.copy_from_slice(&labelled("examgate v1 key id")[..ID_BYTES]);
        Self {
            id,
            cipher: XChaCha20Poly1305::new((&*labelled("examgate v1 seal")).into()),
            index: keyed(labelled("examgate v1 blind index").as_slice()),
            fingerprint: keyed(labelled("examgate v1 fingerprint").as_slice()),
            session: labelled("examgate v1 session"),
        }
    }

    fn blind(&self, scope: &str, kind: &str, text: &str) -> BlindIndex {
        mac(&self.index, &[scope.as_bytes(), kind.as_bytes(), text.as_bytes()])
    }
}

impl AadContext<'_> {
    /// Encodes the place unambiguously: the table names in this crate contain no zero byte.
    fn associated(self) -> Vec<u8> {
        [self.table.as_bytes(), &[0], self.record.as_bytes()].concat()
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §2)")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Computes an HMAC over the parts, each prefixed with its length, so that no two lists of parts are encoded alike.
fn mac(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::conformance::environment;

    const PLACE: AadContext<'_> = AadContext { table: "candidates", record: "cand_1" };

    fn ring() -> Keyring {
        Keyring::new(&Keyring::generate(&environment()), &[]).unwrap()
    }

    proptest! {
        #[test]
        fn sealed_bytes_open_unchanged(bytes: Vec<u8>, record: String) {
            let (ring, place) = (ring(), AadContext { table: "candidates", record: &record });
            let sealed = ring.seal(&environment(), place, &bytes).unwrap();
            let opened = ring.open(place, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), bytes.as_slice());
        }

        #[test]
        fn a_changed_byte_is_refused(bytes: Vec<u8>, at: prop::sample::Index, change in 1..=u8::MAX) {
            let ring = ring();
            let mut sealed = ring.seal(&environment(), PLACE, &bytes).unwrap();
            sealed[at.index(bytes.len() + HEADER_BYTES + NONCE_BYTES + 16)] ^= change;
            prop_assert!(ring.open(PLACE, &sealed).is_err());
        }

        #[test]
        fn a_cut_value_is_refused(bytes: Vec<u8>, at: prop::sample::Index) {
            let ring = ring();
            let sealed = ring.seal(&environment(), PLACE, &bytes).unwrap();
            prop_assert!(ring.open(PLACE, &sealed[..at.index(sealed.len())]).is_err());
        }
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        let ring = ring();
        let sealed = ring.seal(&environment(), PLACE, b"text").unwrap();
        for place in [AadContext { table: "intents", ..PLACE }, AadContext { record: "cand_2", ..PLACE }] {
            assert_eq!(ring.open(place, &sealed), Err(SealError::Damaged));
        }
    }

    #[test]
    fn equal_values_are_sealed_differently() {
        let ring = ring();
        let seal = || ring.seal(&environment(), PLACE, b"text").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn an_earlier_key_reads_and_a_foreign_one_does_not() {
        let environment = environment();
        let (old, new) = (Keyring::generate(&environment), Keyring::generate(&environment));
        let sealed = Keyring::new(&old, &[]).unwrap().seal(&environment, PLACE, b"text").unwrap();
        let rotated = Keyring::new(&new, &[new.clone(), old.clone(), old.clone()]).unwrap();
        assert_eq!(rotated.open(PLACE, &sealed).unwrap().as_slice(), b"text");
        assert_eq!(rotated.keys().count(), 2);
        let other = Keyring::new(&new, &[]).unwrap().open(PLACE, &sealed);
        assert!(matches!(other, Err(SealError::UnknownKey(_))), "{other:?}");
    }

    #[test]
    fn index_values_differ_by_scope_kind_text_and_key() {
        let (one, two) = (ring(), ring());
        let value = one.blind_index("c", "email", "ada");
        assert_eq!(value, one.blind_index("c", "email", "ada"));
        for other in [
            one.blind_index("d", "email", "ada"),
            one.blind_index("c", "userName", "ada"),
            one.blind_index("c", "email", "ada2"),
            one.blind_index("c", "emaila", "da"),
            one.blind_index("ce", "mail", "ada"),
            two.blind_index("c", "email", "ada"),
        ] {
            assert_ne!(value, other);
        }
    }

    #[test]
    fn fingerprints_outlive_a_rotation() {
        let environment = environment();
        let (old, new) = (Keyring::generate(&environment), Keyring::generate(&environment));
        let fingerprint = Keyring::new(&old, &[]).unwrap().fingerprint(b"body");
        let rotated = Keyring::new(&new, &[old]).unwrap();
        assert_ne!(rotated.fingerprint(b"body"), fingerprint);
        assert!(rotated.is_fingerprint_of(&fingerprint, b"body"));
        assert!(!rotated.is_fingerprint_of(&fingerprint, b"other body"));
        assert!(!rotated.is_fingerprint_of(b"", b"body"));
    }

    /// The derivation must never change: existing databases are read with it. Expected values from Python's `hmac` and
    /// `hashlib`.
    #[test]
    fn key_derivation_never_changes() {
        let ring = Keyring::new(&Secret::new(BASE64.encode(&[7; 32])), &[]).unwrap();
        assert_eq!(HEXLOWER.encode(&ring.current_id()), "db77b49e04cdc2ce");
        assert_eq!(
            HEXLOWER.encode(&ring.blind_index("connection c", "email", "ada@example.org")),
            "cf1ce8f961ce019c2fc3dd75c1f41bc5dfdecd1313ac684f1fd637f638927510"
        );
        assert_eq!(
            HEXLOWER.encode(&ring.fingerprint(b"body")),
            "b805c449c8bd6e0beed4f207d8a1d3a45a8d30be30ac0ca388b2d4f6db97e8fe"
        );
    }

    #[test]
    fn an_invalid_key_is_named_but_not_quoted() {
        let environment = environment();
        let (good, short) = (Keyring::generate(&environment), Secret::new(BASE64.encode(b"hunter2 hunter2")));
        for bad in [short, Secret::new("hunter2 is no base64"), Secret::new("")] {
            let error = Keyring::new(&good, &[good.clone(), bad]).unwrap_err().to_string();
            assert!(
                error.starts_with("store.decryption_keys[1] is not a key") && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(Keyring::new(&Secret::new(format!("{}\n", good.expose())), &[]).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", ring()), "Keyring");
    }
}
