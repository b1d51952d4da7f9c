//! The common parts of the fake vendor, the hand-written gateway and the load generator.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The account they all use; made up.
pub const ACCOUNT: u64 = 99;
/// Its secret.
pub const SECRET: &str = "bench-secret-of-the-fake-vendor";
/// The profile of its employees.
pub const PROFILE: &str = "d51b5efd-fb21-4cb8-94e2-145014839465";
/// The API key that a caller sends to a gateway.
pub const KEY: &str = "egk_bench-only";

/// Returns StartExam's `Authorization` for a request.
pub fn authorization(verb: &str, path: &str, date: &str, length: usize) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
    mac.update(format!("{verb} {} {date} {length}", path.to_lowercase()).as_bytes());
    let sum = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    format!("SharedKey {ACCOUNT}:{sum}")
}

/// Returns the current HTTP date.
pub fn date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}

/// Returns the response to a read, with the fields and about the size of examgate's.
pub fn document(id: &str, external_id: &str) -> String {
    format!(
        concat!(
            r#"{{"id":"{}","connection":"startexam-main","state":"registered","outcome":"applied","externalId":"{}","#,
            r#""name":{{"givenName":"Ines","familyName":"Costa"}},"email":"{}@example.com","active":true,"#,
            r#""vendorRef":{{"id":"{}"}},"warnings":[],"meta":{{"created":"2026-11-22T13:42:23.123456789Z","#,
            r#""lastModified":"2026-11-22T13:42:23.123456789Z","version":"2"}}}}"#
        ),
        id, external_id, external_id, external_id
    )
}
