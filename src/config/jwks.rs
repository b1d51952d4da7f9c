//! Keys of an identity provider (JWK Set, RFC 7517): keeps those that can verify a token and ignores all others.
//!
//! Each key is for one algorithm, which follows from the key and never from a token. Symmetric keys are rejected, so no
//! token can make the gateway use a public key as a shared secret.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse, RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Accepted sizes of an RSA modulus, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of an issuer.
#[derive(Debug, Clone, Default)]
pub struct JwkSet {
    document: Vec<Jwk>,
    keys: Vec<VerifyingKey>,
}

/// A key that verifies tokens.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    /// Its name (`kid`).
    pub id: Option<String>,
    /// The only algorithm it may be used with.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

impl PartialEq for JwkSet {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document
    }
}

impl Eq for JwkSet {}

impl JwkSet {
    /// Parses the keys in this document.
    ///
    /// # Errors
    /// The document is not a JWK Set, or none of its keys is usable; the text gives the reason for each key.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(document).map_err(|_| "is not JSON".to_owned())?;
        let members = document.get("keys").and_then(Value::as_array);
        let members = members.ok_or("is not a JWK Set: it has no array `keys` (RFC 7517 §5)")?;
        let (mut set, mut passed_over) = (Self::default(), Vec::new());
        for (index, member) in members.iter().enumerate() {
            // A set may contain keys of unknown types; RFC 7517 §5 says to ignore those.
            let usable = serde_json::from_value::<Jwk>(member.clone())
                .map_err(|_| "has an unknown type")
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
            passed_over.insert(0, "has no key that can verify tokens (RS256, ES256 or EdDSA)".to_owned());
            return Err(passed_over.join("; "));
        }
        Ok(set)
    }

    /// Finds the key for a token with this algorithm and key id. If the token or the key has no id, only a single key
    /// of the algorithm matches.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        let named = id.and_then(|id| fitting.clone().find(|key| key.id.as_deref() == Some(id)));
        named.or_else(|| {
            let single = fitting.next().filter(|_| fitting.next().is_none())?;
            (id.is_none() || single.id.is_none()).then_some(single)
        })
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
            _ => return Err("has an unsupported type or curve"),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The x and y of RFC 7517's example of an elliptic curve key (appendix A.1).
    fn p256(id: Option<&str>) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" })
    }

    fn parsed(keys: &[Value]) -> Result<JwkSet, String> {
        JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn find_returns_the_named_key_or_the_only_one() {
        let found = |keys: &[Value], id| parsed(keys).unwrap().find(id, Algorithm::ES256).map(|key| key.id.clone());
        let named = Some("a".to_owned());
        assert_eq!(found(&[p256(Some("a")), p256(Some("b"))], Some("a")), Some(named.clone()));
        assert_eq!(found(&[p256(Some("a")), p256(Some("b"))], Some("c")), None);
        assert_eq!(found(&[p256(Some("a")), p256(Some("b"))], None), None);
        assert_eq!(found(&[p256(Some("a"))], Some("b")), None);
        assert_eq!(found(&[p256(Some("a"))], None), Some(named));
        assert_eq!(found(&[p256(None)], Some("b")), Some(None));
        assert_eq!(found(&[p256(None), p256(None)], Some("b")), None);
        assert!(parsed(&[p256(None)]).unwrap().find(None, Algorithm::RS256).is_none());
    }

    #[test]
    fn unusable_keys_are_ignored_and_reported_if_none_is_left() {
        let with = |member: &str, value: &str| {
            let mut key = p256(Some("a"));
            key[member] = json!(value);
            key
        };
        let short = json!({ "kty": "RSA", "e": "AQAB", "n": BASE64URL_NOPAD.encode(&[0xff; 128]) });
        for (key, why) in [
            (json!({ "kty": "oct", "k": "AAAA" }), "is symmetric"),
            (short, "has a modulus of less than 2048"),
            (with("crv", "P-384"), "has an unsupported type or curve"),
            (with("alg", "ES384"), "is for another algorithm"),
            (with("alg", "RS256"), "is for another algorithm"),
            (with("use", "enc"), "is not for signatures"),
            (with("x", "AAAA="), "has parameters that cannot be read"),
            (json!({ "kty": "AKP" }), "has an unsupported type or curve"),
            (json!(7), "has an unknown type"),
        ] {
            let told = parsed(std::slice::from_ref(&key)).unwrap_err();
            assert!(told.contains("has no key") && told.contains(&format!("key 0 {why}")), "{key}: {told}");
            assert!(parsed(&[key, p256(None)]).is_ok());
        }
        for document in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}"] {
            assert!(JwkSet::parse(document.as_bytes()).is_err(), "{document}");
        }
    }
}
