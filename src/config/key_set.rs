//! An identity provider's keys (JWK Set, RFC 7517): those a token may be signed with are kept, all others are passed over.
//!
//! Each key is for one algorithm, which follows from the key and never from a token. Symmetric keys are not taken at all: so
//! no token can have a public key taken for a shared secret.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse, RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Shortest and longest RSA modulus, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of an issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    document: Vec<Jwk>,
    keys: Vec<VerifyingKey>,
}

/// A key that a token can be verified with.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    /// Its name (`kid`).
    pub id: Option<String>,
    /// The only algorithm it is for.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document
    }
}

impl Eq for KeySet {}

impl KeySet {
    /// The keys in this document.
    ///
    /// # Errors
    /// It is no JWK Set, or none of its keys can be used: a sentence saying why for each of them.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(document).map_err(|_| "is not JSON".to_owned())?;
        let members = document.get("keys").and_then(Value::as_array);
        let members = members.ok_or("is no JWK Set: it has no list `keys` (RFC 7517 §5)")?;
        let (mut set, mut passed_over) = (Self::default(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            // Sets may hold keys of kinds nobody here knows; they are no reason to refuse the others (RFC 7517 §5).
            let usable = serde_json::from_value::<Jwk>(member.clone())
                .map_err(|_| "is of a kind that is not known")
                .and_then(|jwk| Ok((VerifyingKey::of(&jwk)?, jwk)));
            match usable {
                Ok((key, jwk)) => {
                    set.keys.push(key);
                    set.document.push(jwk);
                }
                Err(why) => passed_over.push(format!("key {index} {why}")),
            }
        }
        if set.keys.is_empty() {
            passed_over.insert(0, "has no key that a token can be verified with (RS256, ES256 or EdDSA)".to_owned());
            return Err(passed_over.join("; "));
        }
        Ok(set)
    }

    /// The key for a token that is signed with this algorithm and names this key. One that names none can only be meant for
    /// the single key of its algorithm.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

impl VerifyingKey {
    fn of(jwk: &Jwk) -> Result<Self, &'static str> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(parameters) => rsa(parameters)?,
            AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::OctetKey(_) => return Err("is symmetric"),
            _ => return Err("is on a curve that is not taken"),
        };
        let common = &jwk.common;
        let said = match common.key_algorithm {
            None => Some(algorithm),
            Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
            Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
            Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDSA),
            Some(_) => None,
        };
        if said != Some(algorithm) {
            return Err("is for another algorithm");
        }
        if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return Err("is not for signatures");
        }
        if common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
            return Err("is not for verifying");
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "has parameters that cannot be read")?;
        Ok(Self { id: common.key_id.clone(), algorithm, key })
    }
}

fn rsa(parameters: &RSAKeyParameters) -> Result<Algorithm, &'static str> {
    let modulus = BASE64URL_NOPAD.decode(parameters.n.as_bytes()).map_err(|_| "has a modulus that cannot be read")?;
    let length = modulus.iter().skip_while(|byte| **byte == 0).count();
    if RSA_BYTES.contains(&length) {
        Ok(Algorithm::RS256)
    } else {
        Err("has a modulus of less than 2048 or more than 8192 bits")
    }
}
