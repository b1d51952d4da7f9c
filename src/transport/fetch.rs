//! A document that somebody publishes for everybody, such as an identity provider's keys: asked for without credentials, read
//! whole, and never from another address than the one configured.

use std::time::Duration;

use url::Url;

use crate::transport::attempt::root;

/// How long asking for it may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest document, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// The document at this address, as it is now. It is asked for so seldom that no connection is kept.
///
/// # Errors
/// A sentence for the operator.
pub async fn fetch_document(url: Url) -> Result<Vec<u8>, String> {
    let told = |error: reqwest::Error| root(&error.without_url());
    let client = reqwest::Client::builder()
        .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
        // Whoever answers in the place of the address must not choose another one.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(told)?;
    let mut response = client.get(url).send().await.map_err(told)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("the answer has the status {}", response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(part) = response.chunk().await.map_err(told)? {
        if document.len() + part.len() > MAX_LENGTH {
            return Err(format!("the answer is longer than {MAX_LENGTH} bytes"));
        }
        document.extend_from_slice(&part);
    }
    Ok(document)
}
