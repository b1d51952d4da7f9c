//! Fetches one public document, such as an identity provider's keys: without credentials, completely, and only from the
//! configured address.

use std::time::Duration;

use url::Url;

use crate::transport::attempt::root_cause;

/// Timeout of the whole fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum document length, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// Fetches the document. Fetches are so rare that no connection is kept.
///
/// # Errors
/// A sentence for the operator.
pub async fn fetch_document(url: Url) -> Result<Vec<u8>, String> {
    let describe = |error: reqwest::Error| root_cause(&error.without_url());
    let client = reqwest::Client::builder()
        .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
        // A server at this address must not redirect the request elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(describe)?;
    let mut response = client.get(url).send().await.map_err(describe)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("the response has status {}", response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(part) = response.chunk().await.map_err(describe)? {
        if document.len() + part.len() > MAX_LENGTH {
            return Err(format!("the response is longer than {MAX_LENGTH} bytes"));
        }
        document.extend_from_slice(&part);
    }
    Ok(document)
}
