//! The checks on `Date` and `Authorization` of a `StartExam` request.
//!
//! Written from the vendor's authorization page alone: the string to sign is rebuilt from the received request, never
//! from what should have been sent.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::accounts::startexam as account;
use super::Refusal;
use crate::sandbox::http_types::Call;
use crate::sandbox::parameters::Parameters;
use crate::sandbox::vendor::vendor_clock;

/// The published maximum age of `Date`.
const DATE_AGE_LIMIT: Duration = Duration::from_mins(15);
/// The only rejection message that the vendor publishes.
pub(super) const DATE_TOO_OLD: &str = "HTTP header 'Date' is incorrect: it's older than 15 minutes";
// The vendor publishes no message for any rejection below; these texts are invented.
const DATE_MISSING: &str = "HTTP header 'Date' is missing";
const DATE_MALFORMED: &str = "HTTP header 'Date' is incorrect: it's not in RFC 1123 format";
const DATE_AHEAD: &str = "HTTP header 'Date' is incorrect: it's in the future";
const AUTHORIZATION_MISSING: &str = "HTTP header 'Authorization' is missing";
const AUTHORIZATION_MALFORMED: &str =
    "HTTP header 'Authorization' is incorrect: SharedKey <AccountId>:<Signature> expected";
const ACCOUNT_UNKNOWN: &str = "HTTP header 'Authorization' is incorrect: unknown account";
pub(super) const SIGNATURE_WRONG: &str = "HTTP header 'Authorization' is incorrect: wrong signature";
const LENGTH_MISSING: &str = "HTTP header 'Content-Length' is missing";

/// Checks date, authorization and length, in this order.
pub(super) fn check(call: &Call, now: SystemTime, switches: &Parameters) -> Result<(), Refusal> {
    let date = call.header("date").ok_or_else(|| Refusal::forbidden(DATE_MISSING))?;
    check_date(date, vendor_clock(now, switches), switches.number("future_date_limit_seconds"))?;
    let (account_id, signature) = authorization(call)?;
    if account_id != account::ACCOUNT_ID {
        return Err(Refusal::forbidden(ACCOUNT_UNKNOWN));
    }
    let key = key_bytes(&switches.text("secret"), switches.is("secret_encoding", "base64"));
    let length = call.header("content-length").unwrap_or("0");
    let string = string_to_sign(&call.method, &call.path, date, length);
    if !matches(&key, &string, &signature) {
        return Err(Refusal::forbidden(SIGNATURE_WRONG));
    }
    // hyper ensures that a body has its Content-Length; only a chunked one has no length to sign.
    if call.header("transfer-encoding").is_some() {
        return Err(Refusal::forbidden(LENGTH_MISSING));
    }
    Ok(())
}

fn check_date(date: &str, now: SystemTime, future_limit: Option<i64>) -> Result<(), Refusal> {
    let sent = httpdate::parse_http_date(date).map_err(|_| Refusal::forbidden(DATE_MALFORMED))?;
    // The parser also accepts the two obsolete forms of RFC 9110, which RFC 1123 does not have.
    if httpdate::fmt_http_date(sent) != date {
        return Err(Refusal::forbidden(DATE_MALFORMED));
    }
    if now.duration_since(sent).is_ok_and(|age| age > DATE_AGE_LIMIT) {
        return Err(Refusal::forbidden(DATE_TOO_OLD));
    }
    let limit = future_limit.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    if let (Some(limit), Ok(ahead)) = (limit, sent.duration_since(now))
        && ahead > limit
    {
        return Err(Refusal::forbidden(DATE_AHEAD));
    }
    Ok(())
}

fn authorization(call: &Call) -> Result<(u64, [u8; 32]), Refusal> {
    let header = call.header("authorization").ok_or_else(|| Refusal::forbidden(AUTHORIZATION_MISSING))?;
    let parts = header.strip_prefix("SharedKey ").and_then(|rest| rest.split_once(':'));
    let (account_id, signature) = parts.ok_or_else(|| Refusal::forbidden(AUTHORIZATION_MALFORMED))?;
    let account_id = account_id.parse().map_err(|_| Refusal::forbidden(AUTHORIZATION_MALFORMED))?;
    let signature = BASE64.decode(signature.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok((account_id, signature.ok_or_else(|| Refusal::forbidden(AUTHORIZATION_MALFORMED))?))
}

fn string_to_sign(verb: &str, path: &str, date: &str, length: &str) -> String {
    format!("{} {} {date} {length}", verb.to_ascii_uppercase(), path.to_lowercase())
}

fn key_bytes(secret: &str, base64: bool) -> Vec<u8> {
    if base64 {
        // A secret set by hand that is not Base64 must match nothing rather than everything: use it literally.
        return BASE64.decode(secret.as_bytes()).unwrap_or_else(|_| secret.as_bytes().to_vec());
    }
    secret.as_bytes().to_vec()
}

fn matches(key: &[u8], string: &str, signature: &[u8; 32]) -> bool {
    // An HMAC accepts keys of any length, so the error arm is unreachable; it rejects to be safe.
    Hmac::<Sha256>::new_from_slice(key).is_ok_and(|mut mac| {
        mac.update(string.as_bytes());
        mac.verify_slice(signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by two independent programs from a made-up secret; the vendor publishes no usable vector.
    const VECTORS: [(&str, &str, &str); 3] = [
        (
            "POST /v1/participants Sun, 19 Jan 2014 09:55:37 GMT 1045",
            "cJggQ8T3yrovu/3ZE4rSOf/6jCd3hNeHtyNnyVBTyPE=",
            "A2bxtlzNixP39/3k3ShdSulNHbUqiN3X6m0WqVgObnY=",
        ),
        (
            "POST /v2/employees-participants Fri, 03 May 2024 02:27:07 GMT 349",
            "YKSbyaIhWNkA0eF58JP2knD/YgMC7JWsb9exz/a51MM=",
            "QHVh9wEO5Cq8tkHl9prkI0oaH1qrMuhrkIA7cl3OlgM=",
        ),
        (
            "GET /v2/session Thu, 16 Jan 2025 05:09:50 GMT 0",
            "ywjMFGrLU8MqNDomp6Cj0Dl+RTiomAlstAU+7XK8RP4=",
            "pDM4kvYXFZ55g9Ap5cgEZLt3iUwq9L/Mqe38/o91Sho=",
        ),
    ];

    fn decoded(signature: &str) -> [u8; 32] {
        BASE64.decode(signature.as_bytes()).expect("Base64").try_into().expect("32 bytes")
    }

    #[test]
    fn vectors_match_for_both_key_encodings() {
        for (string, utf8, base64) in VECTORS {
            let key = key_bytes(account::SECRET, false);
            assert!(matches(&key, string, &decoded(utf8)), "{string}");
            assert!(!matches(&key, string, &decoded(base64)), "{string}");
            assert!(matches(&key_bytes(account::SECRET, true), string, &decoded(base64)), "{string}");
        }
    }

    #[test]
    fn the_string_to_sign_is_verb_lower_case_path_date_and_length() {
        let built = string_to_sign("post", "/v2/Employees-Participants", "Fri, 03 May 2024 02:27:07 GMT", "349");
        assert_eq!(built, VECTORS[1].0);
    }

    #[test]
    fn old_dates_are_rejected_and_future_ones_only_beyond_the_limit() {
        let date = "Fri, 03 May 2024 02:27:07 GMT";
        let sent = httpdate::parse_http_date(date).expect("a date");
        let at =
            |seconds| check_date(date, sent + Duration::from_secs(seconds), None).map_err(|refusal| refusal.message);
        assert_eq!(at(900), Ok(()));
        assert_eq!(at(901), Err(DATE_TOO_OLD.to_owned()));
        assert_eq!(check_date(date, sent - Duration::from_hours(24), None), Ok(()));
        let ahead = check_date(date, sent - Duration::from_secs(61), Some(60)).map_err(|refusal| refusal.message);
        assert_eq!(ahead, Err(DATE_AHEAD.to_owned()));
    }

    #[test]
    fn obsolete_date_formats_are_rejected() {
        for date in ["Friday, 03-May-24 02:27:07 GMT", "Fri May  3 02:27:07 2024", "2024-05-03T02:27:07Z", ""] {
            let refused = check_date(date, SystemTime::UNIX_EPOCH, None).map_err(|refusal| refusal.message);
            assert_eq!(refused, Err(DATE_MALFORMED.to_owned()), "{date}");
        }
    }
}
