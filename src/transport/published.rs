//! A document that somebody publishes for everybody, such as an identity provider's keys: asked for without credentials, read
//! whole, and never from another address than the one configured.

use std::time::Duration;

use url::Url;

use super::attempt::root;
use super::client::ClientError;

/// How long asking for it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest document, in bytes.
const LONGEST: usize = 1 << 20;

/// A published document.
pub struct Published {
    client: reqwest::Client,
    url: Url,
}

impl Published {
    /// The document at this address.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(url: Url) -> Result<Self, ClientError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("examgate/", env!("CARGO_PKG_VERSION")))
            // Whoever answers in the place of the address must not choose another one.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            // It is asked for so seldom that no connection is worth keeping.
            .pool_max_idle_per_host(0)
            .build();
        let client = client.map_err(|error| ClientError(format!("no HTTP client: {}", root(&error))))?;
        Ok(Self { client, url })
    }

    /// The document as it is now.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn fetch(&self) -> Result<Vec<u8>, String> {
        let told = |error: reqwest::Error| root(&error.without_url());
        let mut response = self.client.get(self.url.clone()).send().await.map_err(told)?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer has the status {}", response.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(part) = response.chunk().await.map_err(told)? {
            if document.len() + part.len() > LONGEST {
                return Err(format!("the answer is longer than {LONGEST} bytes"));
            }
            document.extend_from_slice(&part);
        }
        Ok(document)
    }
}
