//! The receiver's side of Standard Webhooks 1.0: whether a delivery is genuine and recent.

use axum::http::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use crate::domain::webhook::secret::SigningKey;
use crate::domain::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use crate::secret::Secret;

/// How far the time of a delivery may be from this machine's, as the specification recommends.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A genuine delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// Its `webhook-id`.
    pub(super) id: String,
    /// The position of the first of our secrets that has signed it.
    pub(super) key: usize,
}

/// Verifies a delivery with these keys, one of which must have signed it.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(super) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    keys: &[SigningKey],
    now: Timestamp,
) -> Result<Verified, &'static str> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let id = header(ID_HEADER).ok_or("webhook-id is missing")?;
    let timestamp = header(TIMESTAMP_HEADER).ok_or("webhook-timestamp is missing")?;
    let signatures = header(SIGNATURE_HEADER).ok_or("webhook-signature is missing")?;
    let sent = timestamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let sent = sent.ok_or("webhook-timestamp is not a time in seconds")?;
    if now.duration_since(sent).abs() > TOLERANCE {
        return Err("webhook-timestamp is more than five minutes off");
    }
    let is_signed_by = |key: &SigningKey| {
        let expected = Secret::new(sign(std::slice::from_ref(key), id, sent, body).signature);
        signatures.split(' ').any(|signature| expected.matches_constant_time(signature))
    };
    let key = keys.iter().position(is_signed_by).ok_or("no signature is valid for the secret")?;
    Ok(Verified { id: id.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const BODY: &[u8] = br#"{"type":"ping"}"#;

    fn keys() -> Vec<SigningKey> {
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI="];
        secrets.iter().map(|secret| SigningKey::parse(secret).unwrap()).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn headers(keys: &[SigningKey]) -> HeaderMap {
        let signed = sign(keys, "evt_1", at(1000), BODY);
        let mut headers = HeaderMap::new();
        for (name, value) in
            [(ID_HEADER, signed.id), (TIMESTAMP_HEADER, signed.timestamp), (SIGNATURE_HEADER, signed.signature)]
        {
            headers.insert(name, HeaderValue::try_from(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_delivery_is_verified_by_any_of_the_secrets() {
        let [former, current] = <[SigningKey; 2]>::try_from(keys()).unwrap();
        let both = [current, former];
        let verified = |key| Ok(Verified { id: "evt_1".to_owned(), key });
        assert_eq!(verify(&headers(&both), BODY, &both[..1], at(1000)), verified(0), "the current one");
        assert_eq!(verify(&headers(&both), BODY, &both[1..], at(1000)), verified(0), "the former one");
        assert_eq!(verify(&headers(&both[1..]), BODY, &both, at(1000)), verified(1));
    }

    #[test]
    fn a_delivery_that_is_altered_or_old_is_refused() {
        let keys = keys();
        let signed = headers(&keys);
        let no_signature = Err("no signature is valid for the secret");
        assert_eq!(verify(&signed, b"{}", &keys, at(1000)), no_signature.clone());
        for (name, value, expected) in [
            (ID_HEADER, "evt_2", no_signature.clone()),
            (TIMESTAMP_HEADER, "1001", no_signature.clone()),
            (TIMESTAMP_HEADER, "soon", Err("webhook-timestamp is not a time in seconds")),
            (SIGNATURE_HEADER, "v1a,x", no_signature),
            (ID_HEADER, "", Err("webhook-id is missing")),
        ] {
            let mut altered = signed.clone();
            altered.insert(name, HeaderValue::from_static(value));
            assert_eq!(verify(&altered, BODY, &keys, at(1000)), expected, "{name}: {value}");
        }
        let late = Err("webhook-timestamp is more than five minutes off");
        for (now, expected) in [(1300, true), (1301, false), (700, true), (699, false)] {
            let found = verify(&signed, BODY, &keys, at(now));
            assert_eq!(found.is_ok(), expected, "{now}");
            assert!(found.is_ok() || found == late, "{now}");
        }
    }
}
