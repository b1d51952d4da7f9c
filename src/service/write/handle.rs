//! A write under way and those who wait for it: the work goes on whether or not anybody waits.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::service::PendingAuditEntry;

/// How a write ended that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteResult<T> {
    /// It was done now.
    Created(T),
    /// It was there before; nothing new was made.
    Existing(T),
    /// It goes on; the record tells how it ends.
    Pending(T),
}

/// A removal under way, or done.
#[derive(Debug, Clone, PartialEq)]
pub enum Removal<T> {
    /// It goes on; this is the record until it ends.
    Pending(Box<T>),
    /// The record is erased or withdrawn.
    Done,
}

/// How a write ended, and whether that was so before.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteReply<T> {
    /// How it ended.
    pub written: WriteResult<T>,
    /// Whether this is the answer kept under the request's `Idempotency-Key`.
    pub replayed: bool,
}

impl<T> From<WriteResult<T>> for WriteReply<T> {
    fn from(written: WriteResult<T>) -> Self {
        Self { written, replayed: false }
    }
}

/// What a caller may be answered with before the end of a write.
#[derive(Debug, Clone)]
pub(in crate::service) struct AcceptedWrite<T> {
    record: T,
    /// Where its outcome appears.
    resource: String,
}

/// Where the work announces the record as soon as there is one to point to.
pub(in crate::service) struct AcceptedSender<T>(watch::Sender<Option<AcceptedWrite<T>>>);

impl<T> Clone for AcceptedSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> AcceptedSender<T> {
    /// From now on the caller may be answered with this record, whose outcome appears at `resource`.
    pub(in crate::service) fn accept(&self, record: T, resource: String) {
        self.0.send_replace(Some(AcceptedWrite { record, resource }));
    }

    /// Keeps a fault from saying more than is known. Once a write is accepted only a vendor's call, which names its exchange,
    /// proves that nothing came of it: a store that cannot be read any more does not, nor does a defect of our own.
    pub(in crate::service) fn unless_accepted(&self, fault: Error) -> Error {
        let of_ours =
            matches!(fault.code, Code::StoreUnavailable | Code::Internal | Code::Draining) && fault.exchange.is_none();
        if fault.outcome != Outcome::NotApplied || !of_ours {
            return fault;
        }
        match self.0.borrow().as_ref() {
            Some(receipt) => {
                let detail = format!("The request was accepted; its outcome appears at {}.", receipt.resource);
                Error { detail, ..fault.with_unknown_outcome().with_resource(receipt.resource.clone()) }
            }
            None => fault,
        }
    }
}

/// Both ends of an acceptance.
pub(in crate::service) fn accepted_channel<T>() -> (AcceptedSender<T>, watch::Receiver<Option<AcceptedWrite<T>>>) {
    let (sender, receiver) = watch::channel(None);
    (AcceptedSender(sender), receiver)
}

/// A write under way: it goes on whether or not anybody waits for it.
#[must_use = "a ticket nobody waits for hides how the write ended"]
pub struct WriteHandle<T> {
    accepted: watch::Receiver<Option<AcceptedWrite<T>>>,
    /// Until its end is told to whoever waits.
    work: Option<WriteTask<T>>,
    left: Option<OnAbandon<T>>,
    line: Option<PendingAuditEntry>,
}

type WriteTask<T> = JoinHandle<Result<WriteReply<T>, Error>>;

/// What is done with work whose end nobody waits for.
type OnAbandon<T> = Box<dyn FnOnce(WriteTask<T>) + Send>;

impl<T: Clone + Send + Sync + 'static> WriteHandle<T> {
    pub(in crate::service) fn new(
        accepted: watch::Receiver<Option<AcceptedWrite<T>>>,
        work: WriteTask<T>,
        line: Option<PendingAuditEntry>,
        left: OnAbandon<T>,
    ) -> Self {
        Self { accepted, work: Some(work), left: Some(left), line }
    }

    /// Waits for the end, at most this long; after that the record as it was accepted is answered as
    /// [`Written::Pending`], and the work goes on. Faults found before anything is accepted are always waited for.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub async fn result(mut self, patience: Option<Duration>) -> Result<WriteReply<T>, Error> {
        match patience {
            Some(patience) => self.result_or_accepted_after(tokio::time::sleep(patience)).await,
            None => self.end().await,
        }
    }

    /// Waits until the write is accepted, and answers the record as it was then, however the write has ended since. What
    /// ends without being accepted is answered with its end.
    ///
    /// # Errors
    /// The fault that ended the write before it was accepted.
    pub async fn result_or_accepted(mut self) -> Result<WriteReply<T>, Error> {
        match self.acceptance().await {
            Some(record) => Ok(WriteResult::Pending(record).into()),
            None => self.end().await,
        }
    }

    /// As [`wait`](Self::wait), until this ends.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub async fn result_or_accepted_after(mut self, enough: impl Future<Output = ()>) -> Result<WriteReply<T>, Error> {
        tokio::select! {
            biased;
            end = self.end() => return end,
            () = enough => {}
        }
        match self.acceptance().await {
            // Its line says how it ended, so that is what is answered.
            Some(_) if self.line.as_ref().is_some_and(|line| !line.defer_to_http()) => self.end().await,
            Some(record) => Ok(WriteResult::Pending(record).into()),
            None => self.end().await,
        }
    }

    /// The record as it was accepted; `None` where the work ended without accepting anything, and its end says why.
    async fn acceptance(&mut self) -> Option<T> {
        self.accepted.wait_for(Option::is_some).await.ok()?.as_ref().map(|receipt| receipt.record.clone())
    }

    /// The end, once. Whoever stops waiting for it leaves the work as it was.
    async fn end(&mut self) -> Result<WriteReply<T>, Error> {
        let Some(work) = &mut self.work else {
            return Err(Error::unknown(Code::Internal, "A write's end was asked for twice."));
        };
        let end = join_result(work.await);
        self.work = None;
        end
    }
}

impl<T> Drop for WriteHandle<T> {
    fn drop(&mut self) {
        let outlived = tokio::runtime::Handle::try_current().is_ok();
        if let (Some(work), Some(left), true) = (self.work.take(), self.left.take(), outlived) {
            left(work);
        }
    }
}

pub(in crate::service) fn join_result<T>(
    end: Result<Result<WriteReply<T>, Error>, tokio::task::JoinError>,
) -> Result<WriteReply<T>, Error> {
    end.unwrap_or_else(|error| {
        tracing::error!(panicked = error.is_panic(), "a write's task ended without an answer");
        Err(Error::unknown(Code::Internal, "The gateway failed while it was writing."))
    })
}
