//! Receives the vendors' webhooks.

use crate::domain::error::Error;
use crate::service::Gateway;

/// A receiver whose address and token a request has named.
pub struct Receiver {
    _connection: String,
}

/// Why a webhook is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// The connection has no receiver, or the token is wrong: the same for both, in the same time.
    NotFound,
    /// Too many webhooks of this connection at once.
    Busy,
    /// The key is wrong; the status to answer with.
    WrongKey(u16),
    /// The webhook could not be stored.
    Failed(Error),
}

impl Gateway {
    /// Returns the receiver of this connection if the token is right. Compares digests in constant time, and does the same
    /// work for a connection that is unknown or has no receiver.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Busy`].
    pub fn find_receiver(&self, _connection: &str, _token: &str) -> Result<Receiver, Refusal> {
        todo!()
    }

    /// Stores a webhook; when this returns, it is durable. It is read and matched in the background. `key_of` returns the
    /// value of a header of the request.
    ///
    /// # Errors
    /// [`Refusal::WrongKey`], [`Refusal::Failed`].
    pub async fn receive_webhook(
        &self,
        _receiver: Receiver,
        _assessment: Option<&str>,
        _key_of: impl Fn(&str) -> Option<String> + Send,
        _body: Vec<u8>,
    ) -> Result<(), Refusal> {
        todo!()
    }
}
