//! The handle of a write in flight. The work runs in its own task and continues even if the handle is dropped.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::service::audit::pending_entry::PendingAuditEntry;

/// Result of a write that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteResult<T> {
    /// Resource created by this write.
    Created(T),
    /// Resource that existed before; nothing was created.
    Existing(T),
    /// Write still in flight; its outcome will appear in the record.
    Pending(T),
}

impl<T> WriteResult<T> {
    /// Creates the result of a write that created its resource, or found it.
    pub(in crate::service) fn ended(created: bool, value: T) -> Self {
        if created { Self::Created(value) } else { Self::Existing(value) }
    }

    /// Returns the resource.
    #[must_use]
    pub fn value(&self) -> &T {
        let (Self::Created(value) | Self::Existing(value) | Self::Pending(value)) = self;
        value
    }

    /// Returns whether the write created the resource, and the resource; `None` while the write is pending.
    pub(in crate::service) fn into_ended(self) -> Option<(bool, T)> {
        match self {
            Self::Created(value) => Some((true, value)),
            Self::Existing(value) => Some((false, value)),
            Self::Pending(_) => None,
        }
    }
}

/// Result of a removal.
#[derive(Debug, Clone, PartialEq)]
pub enum Removal<T> {
    /// Removal still in flight, with the record as it is meanwhile.
    Pending(Box<T>),
    /// Record erased or withdrawn.
    Done,
}

/// Result of a write, and whether it is a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteReply<T> {
    /// Result of the write.
    pub written: WriteResult<T>,
    /// Whether this is the response stored under the request's `Idempotency-Key`.
    pub replayed: bool,
}

impl<T> From<WriteResult<T>> for WriteReply<T> {
    fn from(written: WriteResult<T>) -> Self {
        Self { written, replayed: false }
    }
}

/// Accepted record that may be returned before the write ends.
#[derive(Debug, Clone)]
pub(in crate::service) struct AcceptedWrite<T> {
    record: T,
    /// Path at which the outcome appears.
    resource: String,
}

/// Sender through which the work announces the record as soon as one exists.
pub(in crate::service) struct AcceptedSender<T>(watch::Sender<Option<AcceptedWrite<T>>>);

impl<T> Clone for AcceptedSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> AcceptedSender<T> {
    /// Announces the record, which the caller may now receive early; the outcome will appear at `resource`.
    pub(in crate::service) fn accept(&self, record: T, resource: String) {
        self.0.send_replace(Some(AcceptedWrite { record, resource }));
    }

    /// Returns where the outcome appears, once the write is accepted.
    pub(in crate::service) fn resource(&self) -> Option<String> {
        self.0.borrow().as_ref().map(|accepted| accepted.resource.clone())
    }

    /// Turns an error into `unknown` if it proves nothing about an accepted write. After acceptance only a vendor call,
    /// which names its exchange, proves that the write was not applied; a store failure or an internal defect does not.
    pub(in crate::service) fn unless_accepted(&self, error: Error) -> Error {
        let of_ours =
            matches!(error.code, Code::StoreUnavailable | Code::Internal | Code::Draining) && error.exchange.is_none();
        if error.outcome != Outcome::NotApplied || !of_ours {
            return error;
        }
        match self.0.borrow().as_ref() {
            Some(receipt) => {
                let detail = format!("The request was accepted; its outcome will appear at {}.", receipt.resource);
                Error { detail, ..error.with_unknown_outcome().with_resource(receipt.resource.clone()) }
            }
            None => error,
        }
    }
}

/// Creates the channel that announces the accepted record.
pub(in crate::service) fn accepted_channel<T>() -> (AcceptedSender<T>, watch::Receiver<Option<AcceptedWrite<T>>>) {
    let (sender, receiver) = watch::channel(None);
    (AcceptedSender(sender), receiver)
}

/// Handle of a write in flight. Dropping it does not stop the write.
#[must_use = "await the handle, or the result of the write is lost"]
pub struct WriteHandle<T> {
    accepted: watch::Receiver<Option<AcceptedWrite<T>>>,
    /// The running task; `None` once its result has been returned.
    work: Option<WriteTask<T>>,
    on_abandon: Option<OnAbandon<T>>,
    audit_entry: Option<PendingAuditEntry>,
}

type WriteTask<T> = JoinHandle<Result<WriteReply<T>, Error>>;

/// Hook that takes over the task when the handle is dropped early.
type OnAbandon<T> = Box<dyn FnOnce(WriteTask<T>) + Send>;

impl<T: Clone + Send + Sync + 'static> WriteHandle<T> {
    pub(in crate::service) fn new(
        accepted: watch::Receiver<Option<AcceptedWrite<T>>>,
        work: WriteTask<T>,
        audit_entry: Option<PendingAuditEntry>,
        on_abandon: OnAbandon<T>,
    ) -> Self {
        Self { accepted, work: Some(work), on_abandon: Some(on_abandon), audit_entry }
    }

    /// Waits for the result, for at most `patience`; then returns the accepted record as [`WriteResult::Pending`] while
    /// the work continues. Always waits until the write is accepted or has failed.
    ///
    /// # Errors
    /// The error that ended the write.
    pub async fn result(mut self, patience: Option<Duration>) -> Result<WriteReply<T>, Error> {
        match patience {
            Some(patience) => self.result_or_accepted_after(tokio::time::sleep(patience)).await,
            None => self.join().await,
        }
    }

    /// Waits until the write is accepted and returns the record as it was then, even if the write has ended since. If
    /// the write ends without being accepted, returns its result.
    ///
    /// # Errors
    /// The error that ended the write before it was accepted.
    pub async fn result_or_accepted(mut self) -> Result<WriteReply<T>, Error> {
        match self.accepted_record().await {
            Some(record) => Ok(WriteResult::Pending(record).into()),
            None => self.join().await,
        }
    }

    /// As [`result`](Self::result), waiting until the future `enough` completes.
    ///
    /// # Errors
    /// The error that ended the write.
    pub async fn result_or_accepted_after(mut self, enough: impl Future<Output = ()>) -> Result<WriteReply<T>, Error> {
        tokio::select! {
            biased;
            end = self.join() => return end,
            () = enough => {}
        }
        let Some(record) = self.accepted_record().await else { return self.join().await };
        if let Some(entry) = self.audit_entry.clone()
            && !entry.defer_to_http()
        {
            // The entry already records the final result, so the response must report it too, unless its commit fails.
            tokio::select! {
                biased;
                end = self.join() => return end,
                () = entry.restored() => entry.write_on_acceptance(),
            }
        }
        Ok(WriteResult::Pending(record).into())
    }

    /// Returns the record as it was accepted; `None` if the work ended without accepting anything.
    async fn accepted_record(&mut self) -> Option<T> {
        self.accepted.wait_for(Option::is_some).await.ok()?.as_ref().map(|receipt| receipt.record.clone())
    }

    /// Returns the result, once. Cancel-safe: dropping the future leaves the work running.
    async fn join(&mut self) -> Result<WriteReply<T>, Error> {
        let Some(work) = &mut self.work else {
            return Err(Error::unknown(Code::Internal, "The result of a write was requested twice."));
        };
        let end = join_result(work.await);
        self.work = None;
        end
    }
}

impl<T> Drop for WriteHandle<T> {
    fn drop(&mut self) {
        let outlived = tokio::runtime::Handle::try_current().is_ok();
        if let (Some(work), Some(on_abandon), true) = (self.work.take(), self.on_abandon.take(), outlived) {
            on_abandon(work);
        }
    }
}

pub(in crate::service) fn join_result<T>(
    end: Result<Result<WriteReply<T>, Error>, tokio::task::JoinError>,
) -> Result<WriteReply<T>, Error> {
    end.unwrap_or_else(|error| {
        tracing::error!(panicked = error.is_panic(), "write task ended without a result");
        Err(Error::unknown(Code::Internal, "The gateway failed during the write."))
    })
}
