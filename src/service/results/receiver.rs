//! Receives the vendors' webhooks. What has come is durable before it is acknowledged; it is read in the background.

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::error::Error;
use crate::domain::results::{ReceiverPlan, ReportChannel, ReportContext};
use crate::service::Gateway;
use crate::service::errors::StoreResultExt as _;
use crate::service::snapshot::Snapshot;
use crate::store::{Mutation, ReceivedWebhook};

/// What is compared with a token where there is none: as long as many tokens are.
const NO_TOKEN: &str = "no receiver has this token, since it has a space";

/// A receiver whose address and token a request has named.
pub struct Receiver {
    connection: String,
    plan: ReceiverPlan,
    _room: OwnedSemaphorePermit,
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
    Failed(Box<Error>),
}

impl Gateway {
    /// Returns the receiver of this connection if the token is right. Compares digests in constant time, and does the same
    /// work for a connection that is unknown or has no receiver.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Busy`].
    pub fn find_receiver(&self, connection: &str, token: &str) -> Result<Receiver, Refusal> {
        let configured = self.configured();
        let source = configured.connections.get(connection).and_then(|it| it.report_source());
        let plan = source.and_then(|source| match source.channel() {
            ReportChannel::Receiver(plan) => Some(plan),
            ReportChannel::Feed(_) => None,
        });
        let expected = plan.map_or(NO_TOKEN, |plan| plan.path_token.expose());
        let is_right = is_same(expected, token);
        let Some(plan) = plan.filter(|_| bool::from(is_right)) else { return Err(Refusal::NotFound) };
        let room = self.0.results.limit(connection).admit().ok_or(Refusal::Busy)?;
        Ok(Receiver { connection: connection.to_owned(), plan: plan.clone(), _room: room })
    }

    /// Stores a webhook; when this returns, it is durable. It is read and matched in the background. `key_of` returns the
    /// value of a header of the request.
    ///
    /// # Errors
    /// [`Refusal::WrongKey`], [`Refusal::Failed`]; [`Refusal::NotFound`] for an assessment that the vendor cannot have.
    pub async fn receive_webhook(
        &self,
        receiver: Receiver,
        assessment: Option<&str>,
        key_of: impl Fn(&str) -> Option<String> + Send,
        body: Vec<u8>,
    ) -> Result<(), Refusal> {
        let Receiver { connection, plan, _room } = receiver;
        if !has_key(&plan, key_of) {
            return Err(Refusal::WrongKey(plan.on_refusal));
        }
        let assessment = match assessment {
            None => None,
            Some(text) => Some(vendor_assessment(&self.configured(), &connection, text).ok_or(Refusal::NotFound)?),
        };
        let context = ReportContext { assessment, ..ReportContext::default() };
        let webhook = ReceivedWebhook { id: 0, connection: connection.clone(), context, arrived: self.now(), body };
        let stored = self.0.store.commit(vec![Mutation::ReceiveWebhook(webhook)]).await.or_not_applied();
        stored.map_err(|error| Refusal::Failed(Box::new(error)))?;
        if let Some(signals) = self.0.results.signals(&connection) {
            signals.reports.notify_one();
        }
        Ok(())
    }
}

/// Compares texts by their digests, in time that does not depend on where they differ.
fn is_same(expected: &str, given: &str) -> Choice {
    Sha256::digest(expected).ct_eq(&Sha256::digest(given))
}

/// Returns whether the request has one of the vendor's keys, if any is asked for. Compares all of them.
fn has_key(plan: &ReceiverPlan, key_of: impl Fn(&str) -> Option<String>) -> bool {
    let given: Vec<String> = plan.key_headers.iter().filter_map(|header| key_of(header)).collect();
    let mut found = Choice::from(u8::from(plan.keys.is_empty()));
    for key in &plan.keys {
        for given in &given {
            found |= is_same(key.expose(), given);
        }
    }
    found.into()
}

/// Returns the vendor's id of the assessment that an address names: by the catalogue's id, else in the vendor's own form.
fn vendor_assessment(configured: &Snapshot, connection: &str, text: &str) -> Option<String> {
    let entry = configured.catalogue.assessments.get(text).filter(|entry| entry.connection == connection);
    let by_vendor = || configured.connections.get(connection)?.vendor().assessment_ref(text);
    entry.map(|entry| entry.reference.clone()).or_else(by_vendor)
}
