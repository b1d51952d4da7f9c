//! Signatures of deliveries by Standard Webhooks 1.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). Pure: the time is given.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;

use super::secret::SigningKey;

/// The name of the header with the id, which is the same in every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// The name of the header with the time of the attempt, in seconds of Unix time.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The name of the header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The values of the headers by which a receiver verifies a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// The value of [`ID_HEADER`].
    pub id: String,
    /// The value of [`TIMESTAMP_HEADER`].
    pub timestamp: String,
    /// The value of [`SIGNATURE_HEADER`]: a signature for each key, separated by spaces.
    pub signature: String,
}

/// Signs a body with each of these keys, of which there are several while a secret is replaced.
#[must_use]
pub fn sign(keys: &[SigningKey], id: &str, at: Timestamp, body: &[u8]) -> SignatureHeaders {
    let timestamp = at.as_second().to_string();
    let signed = |key: &SigningKey| {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).ok()?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
    };
    let signature = keys.iter().filter_map(signed).collect::<Vec<_>>().join(" ");
    SignatureHeaders { id: id.to_owned(), timestamp, signature }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries; Python's `hmac` computes the same signature.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn at() -> Timestamp {
        Timestamp::from_second(1_614_265_330).expect("a time")
    }

    #[test]
    fn the_published_example_is_signed() {
        let key = SigningKey::parse(SECRET).expect("a secret");
        let headers = sign(&[key], ID, at(), BODY);
        assert_eq!(headers.id, ID);
        assert_eq!(headers.timestamp, "1614265330");
        assert_eq!(headers.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs_while_one_is_replaced() {
        let keys = [SECRET, "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI="];
        let keys: Vec<SigningKey> = keys.iter().map(|key| SigningKey::parse(key).expect("a secret")).collect();
        let both = sign(&keys, ID, at(), BODY).signature;
        let each: Vec<String> =
            keys.iter().map(|key| sign(std::slice::from_ref(key), ID, at(), BODY).signature).collect();
        assert_eq!(both, each.join(" "));
        assert_ne!(each.first(), each.last());
    }

    #[test]
    fn every_part_is_signed() {
        let keys = [SigningKey::parse(SECRET).expect("a secret")];
        let signature = |id: &str, second: i64, body: &[u8]| {
            sign(&keys, id, Timestamp::from_second(second).expect("a time"), body).signature
        };
        let signed = signature("a", 1, b"x");
        assert_eq!(signed, signature("a", 1, b"x"));
        for other in [signature("b", 1, b"x"), signature("a", 2, b"x"), signature("a", 1, b"y")] {
            assert_ne!(signed, other);
        }
    }
}
