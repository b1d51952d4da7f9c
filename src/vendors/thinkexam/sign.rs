//! The headers `ak`, `sgn` and `ts`, and the formula that computes them if the vendor gave the operator one.
//!
//! The vendor says only that all three "are received using the Signature Generation API" and publishes no formula, so
//! every part of it is a setting. Nothing here does I/O: [`Formula::at`] is a pure function of its settings and the
//! time.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::settings::{Algorithm, Encoding};
use super::template::Template;
use crate::domain::error::Code;
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;

/// The three header values of a signed call. Identity matters: a clone is the same triple, equal values are not.
#[derive(Debug, Clone)]
pub(super) struct SignatureHeaders(Arc<Values>);

#[derive(Debug)]
struct Values {
    ak: Secret,
    sgn: Secret,
    ts: Secret,
}

impl SignatureHeaders {
    /// Creates a triple.
    ///
    /// # Errors
    /// The name of the value that cannot be a header.
    pub(super) fn new(ak: Secret, sgn: Secret, ts: Secret) -> Result<Self, &'static str> {
        for (name, value) in [("ak", &ak), ("sgn", &sgn), ("ts", &ts)] {
            if value.expose().is_empty() || HeaderValue::from_str(value.expose()).is_err() {
                return Err(name);
            }
        }
        Ok(Self(Arc::new(Values { ak, sgn, ts })))
    }

    /// Returns whether both are the same triple. A service may return equal values twice; those are two triples.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the values to redact if the vendor quotes them.
    pub(super) fn secrets(&self) -> [&Secret; 2] {
        [&self.0.ak, &self.0.sgn]
    }

    /// Sets the headers.
    ///
    /// # Errors
    /// `internal`; cannot happen, because [`Self::new`] checked the values.
    pub(super) fn write(&self, headers: &mut HeaderMap) -> Result<(), VendorError> {
        let Values { ak, sgn, ts } = &*self.0;
        for (name, value) in [("ak", ak), ("sgn", sgn), ("ts", ts)] {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
                VendorError::new(Code::Internal, format!("The value of `{name}` is not a valid header."))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
impl SignatureHeaders {
    pub(super) fn shown(&self) -> [&str; 3] {
        [self.0.ak.expose(), self.0.sgn.expose(), self.0.ts.expose()]
    }
}

/// Hash and encoding of a formula.
#[derive(Debug, Clone, Copy)]
pub(super) struct MacSettings {
    pub(super) algorithm: Algorithm,
    pub(super) encoding: Encoding,
    pub(super) milliseconds: bool,
}

/// Formula that computes `sgn` as an HMAC over a message of key, secret and time.
#[derive(Clone)]
pub(super) struct Formula {
    api_key: Secret,
    secret: Secret,
    key: Zeroizing<Vec<u8>>,
    message: Template,
    mac: MacSettings,
}

impl Formula {
    /// Creates a formula; `key` is `secret` decoded.
    ///
    /// # Errors
    /// The API key cannot be a header.
    pub(super) fn new(
        api_key: Secret,
        secret: Secret,
        key: Zeroizing<Vec<u8>>,
        message: Template,
        mac: MacSettings,
    ) -> Result<Self, String> {
        if HeaderValue::from_str(api_key.expose()).is_err() {
            return Err("cannot be sent as a header".to_owned());
        }
        Ok(Self { api_key, secret, key, message, mac })
    }

    /// Computes the triple for this time.
    ///
    /// # Errors
    /// `internal` if the hash rejects the key; HMAC (RFC 2104) accepts keys of any length.
    pub(super) fn at(&self, now: Timestamp) -> Result<SignatureHeaders, VendorError> {
        let ts = if self.mac.milliseconds { now.as_millisecond() } else { now.as_second() }.to_string();
        let message = Zeroizing::new(self.message.render(|name| match name {
            "api_key" => Some(self.api_key.expose().to_owned()),
            "secret" => Some(self.secret.expose().to_owned()),
            "ts" => Some(ts.clone()),
            _ => None,
        }));
        let bytes = match self.mac.algorithm {
            Algorithm::Sha256 => code_of::<Hmac<sha2::Sha256>>(&self.key, message.as_bytes()),
            Algorithm::Sha1 => code_of::<Hmac<sha1::Sha1>>(&self.key, message.as_bytes()),
            Algorithm::Md5 => code_of::<Hmac<md5::Md5>>(&self.key, message.as_bytes()),
        };
        let failed = || VendorError::new(Code::Internal, "The signature could not be computed.");
        let bytes = bytes.ok_or_else(failed)?;
        let sgn = match self.mac.encoding {
            Encoding::Hex => HEXLOWER.encode(&bytes),
            Encoding::Base64 => BASE64.encode(&bytes),
        };
        SignatureHeaders::new(self.api_key.clone(), Secret::new(sgn), Secret::new(ts)).map_err(|_| failed())
    }
}

fn code_of<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(message);
    Some(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::vendors::KeyEncoding;

    #[derive(Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        algorithm: Algorithm,
        encoding: Encoding,
        api_key: String,
        secret: String,
        key_encoding: KeyEncoding,
        key_hex: String,
        message: String,
        milliseconds: bool,
        now: Timestamp,
        ts: String,
        sgn: String,
    }

    #[test]
    fn the_formula_matches_independent_vectors() {
        let file = include_str!("../../../tests/vectors/thinkexam/hmac.json");
        let file: Vectors = serde_json::from_str(file).unwrap();
        assert!(file.vectors.len() >= 6);
        for vector in file.vectors {
            let key = vector.key_encoding.decode(&Secret::new(vector.secret.as_str()), "").unwrap();
            assert_eq!(HEXLOWER.encode(&key), vector.key_hex);
            let mac = MacSettings {
                algorithm: vector.algorithm,
                encoding: vector.encoding,
                milliseconds: vector.milliseconds,
            };
            let formula = Formula::new(
                Secret::new(vector.api_key.as_str()),
                Secret::new(vector.secret),
                key,
                Template::new(vector.message),
                mac,
            );
            let triple = formula.unwrap().at(vector.now).unwrap();
            assert_eq!(triple.shown(), [&vector.api_key, &vector.sgn, &vector.ts]);
        }
    }

    #[test]
    fn an_invalid_header_value_is_reported_by_name() {
        let secret = |text: &str| Secret::new(text);
        assert_eq!(SignatureHeaders::new(secret("a"), secret("b\n"), secret("c")).unwrap_err(), "sgn");
        assert_eq!(SignatureHeaders::new(secret("a"), secret("b"), secret("")).unwrap_err(), "ts");
    }

    #[test]
    fn debug_output_hides_the_headers() {
        let triple = SignatureHeaders::new(Secret::new("key-1"), Secret::new("sig-1"), Secret::new("17")).unwrap();
        let mut headers = HeaderMap::new();
        triple.write(&mut headers).unwrap();
        assert_eq!([&headers["ak"], &headers["sgn"], &headers["ts"]], ["key-1", "sig-1", "17"]);
        assert!(!format!("{headers:?}{triple:?}").contains("sig-1"));
    }
}
