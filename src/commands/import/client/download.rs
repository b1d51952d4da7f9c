//! Downloads a document that may be of any size, and passes it on as it arrives.

use http::header::{ACCEPT, CONTENT_TYPE};
use tokio::time::timeout;
use url::Url;

use super::super::super::Failure;
use super::{Client, RESPONSE_TIMEOUT, RequestError, RequestFailure};

impl Client<'_> {
    /// Downloads a document of this media type. Retries until the document begins; after that it cannot begin again.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the gateway refuses the request; any error of `sink`.
    pub(in crate::commands) async fn download(
        &self,
        url: Url,
        media_type: &str,
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let begun = self.retry_until_done(async || {
            let accepted = format!("{media_type}, application/problem+json");
            let request = self.http.get(url.clone()).bearer_auth(self.key.expose()).header(ACCEPT, accepted);
            let response = timeout(RESPONSE_TIMEOUT, request.send()).await.map_err(|_| self.late())?;
            let response = self.successful(response.map_err(|error| self.unanswered(error))?).await?;
            let named = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            // A proxy may respond in its own format.
            if named.split(';').next().is_some_and(|named| named.trim().eq_ignore_ascii_case(media_type)) {
                Ok(response)
            } else {
                Err(self.invalid_response(&format!("is not {media_type}")))
            }
        });
        let mut response = begun.await.map_err(RequestFailure::or_refusal)?;
        let broken =
            || Failure::Other(format!("{}: the response broke off; what was printed is incomplete", self.address));
        loop {
            let next = timeout(RESPONSE_TIMEOUT, response.chunk()).await.map_err(|_| broken())?;
            let Some(chunk) = next.map_err(|_| broken())? else { return Ok(()) };
            sink(&chunk)?;
        }
    }

    pub(super) fn late(&self) -> RequestError {
        let what = format!("{}: no response within {} seconds", self.address, RESPONSE_TIMEOUT.as_secs());
        RequestError::Passing { what, after: None }
    }
}
