//! `StartExam`'s `SharedKey` scheme: a pure function of the request, the date and the key (vendor page
//! `/Help/Authorization`).
//!
//! The signature covers only the length of the body, so for 15 minutes it is valid for any body of that length. This
//! module must never show the key.

use async_trait::async_trait;
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, DATE};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::error::Code;
use crate::domain::vendor_error::VendorError;
use crate::transport::{Signer, SigningRequest};

/// Returns the value of the `Authorization` header: `SharedKey <account>:<Base64 of HMAC-SHA256>` over
/// `VERB path date content-length`, separated by single spaces, the path in lower case and without its query.
///
/// `date` is the exact text of the `Date` header, `length` the number of bytes of the body.
#[must_use]
pub fn authorization(verb: &str, path: &str, date: &str, length: usize, account: u64, key: &[u8]) -> String {
    let message = format!("{verb} {} {date} {length}", path.to_lowercase());
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 §3)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is accepted");
    mac.update(message.as_bytes());
    format!("SharedKey {account}:{}", BASE64.encode(&mac.finalize().into_bytes()))
}

/// Signer that dates and signs each attempt anew.
pub struct SharedKey {
    account: u64,
    key: Zeroizing<Vec<u8>>,
}

impl SharedKey {
    /// Creates a signer for this account; `key` is the secret decoded according to `secret_encoding`.
    #[must_use]
    pub const fn new(account: u64, key: Zeroizing<Vec<u8>>) -> Self {
        Self { account, key }
    }
}

#[async_trait]
impl Signer for SharedKey {
    async fn sign(&self, draft: SigningRequest<'_>, now: Timestamp) -> Result<(), VendorError> {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).map_err(|_| {
            VendorError::new(Code::Internal, "The year of the gateway's clock does not fit an HTTP date.")
        })?;
        let length = draft.body.len();
        let value = authorization(draft.method.as_str(), draft.url.path(), &date, length, self.account, &self.key);
        let unprintable = |_| VendorError::new(Code::Internal, "The signature is not a valid header value.");
        let mut value = HeaderValue::try_from(value).map_err(unprintable)?;
        value.set_sensitive(true);
        draft.headers.insert(AUTHORIZATION, value);
        draft.headers.insert(DATE, HeaderValue::try_from(date).map_err(unprintable)?);
        // The vendor's GET examples show no Content-Length, but both public clients sign a 0 for it; sending the header
        // makes it unambiguous. With a body, the transport adds the header from the same bytes.
        if length == 0 {
            draft.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use serde::Deserialize;
    use url::Url;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        account: u64,
        secret: String,
        cases: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        verb: String,
        path: String,
        date: String,
        length: usize,
        utf8: String,
        base64: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../../tests/vectors/startexam/shared_key.json")).unwrap()
    }

    #[test]
    fn signatures_equal_the_vectors_in_both_key_encodings() {
        let Vectors { account, secret, cases } = vectors();
        let decoded = BASE64.decode(secret.as_bytes()).unwrap();
        assert_eq!(cases.len(), 3);
        for v in cases {
            let sign = |key: &[u8]| authorization(&v.verb, &v.path, &v.date, v.length, account, key);
            assert_eq!(sign(secret.as_bytes()), format!("SharedKey {account}:{}", v.utf8));
            assert_eq!(sign(&decoded), format!("SharedKey {account}:{}", v.base64));
        }
    }

    #[tokio::test]
    async fn headers_match_the_signature_and_the_query_is_not_signed() {
        let Vectors { account, secret, cases } = vectors();
        let key = Zeroizing::new(secret.clone().into_bytes());
        let signer = SharedKey::new(account, key);
        let requests = [
            ("https://api.startexam.com/V2/Employees-Participants", Method::POST, vec![b'x'; 349], &cases[1]),
            ("https://api.startexam.com/v2/session?participantId=AB", Method::GET, Vec::new(), &cases[2]),
        ];
        for (url, method, body, vector) in requests {
            let url = Url::parse(url).unwrap();
            let (body, mut headers) = (Bytes::from(body), HeaderMap::new());
            let date = httpdate::parse_http_date(&vector.date).unwrap();
            // A fraction of a second must not change the text.
            let now = Timestamp::try_from(date).unwrap() + jiff::SignedDuration::from_millis(999);
            let draft = SigningRequest { method: &method, url: &url, headers: &mut headers, body: &body };
            signer.sign(draft, now).await.unwrap();
            assert_eq!(headers[DATE], vector.date.as_str());
            assert_eq!(headers[AUTHORIZATION], format!("SharedKey {account}:{}", vector.utf8).as_str());
            assert_eq!(headers.contains_key(CONTENT_LENGTH), body.is_empty());
            assert!(!format!("{headers:?}").contains(&vector.utf8));
        }
    }

    #[test]
    fn a_path_prefix_is_signed_in_lower_case() {
        let sign = |path| authorization("POST", path, "Fri, 03 May 2024 02:27:07 GMT", 1, 99, b"key");
        assert_eq!(sign("/Proxy/v1/employees"), sign("/proxy/v1/employees"));
        assert_ne!(sign("/proxy/v1/employees"), sign("/v1/employees"));
    }
}
