//! The check of a webhook's signature, written from the specification of Standard Webhooks 1.0 alone
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! It must never share a line with the code that signs: only then does its word prove anything.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::sandbox::http_types::Call;

/// The prefix of a secret and the sizes of its key, as specified.
const PREFIX: &str = "whsec_";
const KEY_SIZES: std::ops::RangeInclusive<usize> = 24..=64;
/// The version of a symmetric signature.
const VERSION: &str = "v1,";

/// Verifies the signature of a webhook: returns the positions of the secrets that signed it, or what is wrong.
pub(super) fn verify(
    call: &Call,
    secrets: &[String],
    now: SystemTime,
    tolerance: Duration,
) -> Result<Vec<usize>, &'static str> {
    let id = header(call, "webhook-id").ok_or("webhook-id is missing")?;
    let timestamp = header(call, "webhook-timestamp").ok_or("webhook-timestamp is missing")?;
    let signatures = header(call, "webhook-signature").ok_or("webhook-signature is missing")?;
    check_timestamp(timestamp, now, tolerance)?;
    let signatures: Vec<_> = signatures.split(' ').filter_map(|one| one.strip_prefix(VERSION)).collect();
    if signatures.is_empty() {
        return Err("webhook-signature has none of version v1");
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &call.body].concat();
    let signers: Vec<_> = secrets
        .iter()
        .enumerate()
        .filter(|(_, secret)| signatures.iter().any(|signature| matches(secret, &signed, signature)))
        .map(|(at, _)| at)
        .collect();
    if signers.is_empty() { Err("no signature matches") } else { Ok(signers) }
}

fn header<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.header(name).filter(|value| !value.is_empty())
}

fn check_timestamp(timestamp: &str, now: SystemTime, tolerance: Duration) -> Result<(), &'static str> {
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = timestamp.parse().ok().filter(|_| is_number).ok_or("webhook-timestamp is no whole number")?;
    let sent = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let sent = sent.ok_or("webhook-timestamp is no time")?;
    if now.duration_since(sent).is_ok_and(|age| age > tolerance) {
        return Err("webhook-timestamp is too old");
    }
    if sent.duration_since(now).is_ok_and(|ahead| ahead > tolerance) {
        return Err("webhook-timestamp is in the future");
    }
    Ok(())
}

fn matches(secret: &str, signed: &[u8], signature: &str) -> bool {
    let (Some(key), Ok(signature)) = (key(secret), BASE64.decode(signature.as_bytes())) else {
        return false;
    };
    Hmac::<Sha256>::new_from_slice(&key).is_ok_and(|mut mac| {
        mac.update(signed);
        mac.verify_slice(&signature).is_ok()
    })
}

/// Decodes a secret; `None` if it is not one by the specification.
fn key(secret: &str) -> Option<Vec<u8>> {
    let key = BASE64.decode(secret.strip_prefix(PREFIX)?.as_bytes()).ok()?;
    KEY_SIZES.contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries; Python's `hmac` computes the same signature.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: u64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn call(signature: &str) -> Call {
        let headers =
            [("webhook-id", ID), ("webhook-timestamp", &TIMESTAMP.to_string()), ("webhook-signature", signature)];
        Call {
            method: "POST".to_owned(),
            path: "/hook".to_owned(),
            query: None,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: BODY.into(),
        }
    }

    fn verified(call: &Call, secrets: &[&str], late: i64) -> Result<Vec<usize>, &'static str> {
        let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(TIMESTAMP);
        let distance = Duration::from_secs(late.unsigned_abs());
        let now = if late < 0 { sent - distance } else { sent + distance };
        let secrets: Vec<_> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        verify(call, &secrets, now, Duration::from_mins(5))
    }

    #[test]
    fn the_published_example_is_verified() {
        assert_eq!(verified(&call(SIGNATURE), &[SECRET], 0), Ok(vec![0]));
    }

    #[test]
    fn one_of_several_signatures_and_secrets_is_enough() {
        let other = "whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDI=";
        let rotating = format!("v1a,c2ln v1,AAAA {SIGNATURE}");
        assert_eq!(verified(&call(&rotating), &[other, SECRET], 0), Ok(vec![1]));
        assert_eq!(verified(&call(SIGNATURE), &[other], 0), Err("no signature matches"));
    }

    #[test]
    fn every_part_is_signed_and_needed() {
        let tampered = |change: fn(&mut Call)| {
            let mut call = call(SIGNATURE);
            change(&mut call);
            verified(&call, &[SECRET], 0)
        };
        assert_eq!(tampered(|call| call.body = "{}".into()), Err("no signature matches"));
        assert_eq!(tampered(|call| call.headers[0].1.push('x')), Err("no signature matches"));
        assert_eq!(tampered(|call| call.headers[1].1 = (TIMESTAMP + 1).to_string()), Err("no signature matches"));
        assert_eq!(tampered(|call| call.headers[1].1 = "+1".to_owned()), Err("webhook-timestamp is no whole number"));
        assert_eq!(
            tampered(|call| call.headers[2].1 = "v1a,x".to_owned()),
            Err("webhook-signature has none of version v1")
        );
        for (at, missing) in ["webhook-id is missing", "webhook-timestamp is missing", "webhook-signature is missing"]
            .into_iter()
            .enumerate()
        {
            let mut call = call(SIGNATURE);
            call.headers.remove(at);
            assert_eq!(verified(&call, &[SECRET], 0), Err(missing));
        }
    }

    #[test]
    fn the_timestamp_may_be_five_minutes_off_either_way() {
        for (late, expected) in [
            (300, Ok(vec![0])),
            (301, Err("webhook-timestamp is too old")),
            (-300, Ok(vec![0])),
            (-301, Err("webhook-timestamp is in the future")),
        ] {
            assert_eq!(verified(&call(SIGNATURE), &[SECRET], late), expected, "{late}");
        }
    }

    #[test]
    fn what_is_no_secret_signs_nothing() {
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_?", ""] {
            assert_eq!(verified(&call(SIGNATURE), &[wrong], 0), Err("no signature matches"), "{wrong}");
        }
    }
}
