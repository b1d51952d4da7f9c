//! A write under way and those who wait for it: the work goes on whether or not anybody waits.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::AnswerLine;
use crate::domain::outcome::Outcome;
use crate::domain::problem::{Code, Fault};

/// How a write ended that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Written<T> {
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
pub struct Reply<T> {
    /// How it ended.
    pub written: Written<T>,
    /// Whether this is the answer kept under the request's `Idempotency-Key`.
    pub replayed: bool,
}

impl<T> From<Written<T>> for Reply<T> {
    fn from(written: Written<T>) -> Self {
        Self { written, replayed: false }
    }
}

/// What a caller may be answered with before the end of a write.
#[derive(Debug, Clone)]
pub(super) struct Receipt<T> {
    record: T,
    /// Where its outcome appears.
    resource: String,
}

/// Where the work announces the record as soon as there is one to point to.
pub(super) struct Acceptance<T>(watch::Sender<Option<Receipt<T>>>);

impl<T> Clone for Acceptance<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Acceptance<T> {
    /// From now on the caller may be answered with this record, whose outcome appears at `resource`.
    pub(super) fn accept(&self, record: T, resource: String) {
        self.0.send_replace(Some(Receipt { record, resource }));
    }

    /// Keeps a fault from saying more than is known. Once a write is accepted only a vendor's call, which names its exchange,
    /// proves that nothing came of it: a store that cannot be read any more does not, nor does a defect of our own.
    pub(super) fn unless_accepted(&self, fault: Fault) -> Fault {
        let of_ours =
            matches!(fault.code, Code::StoreUnavailable | Code::Internal | Code::Draining) && fault.exchange.is_none();
        if fault.outcome != Outcome::NotApplied || !of_ours {
            return fault;
        }
        match self.0.borrow().as_ref() {
            Some(receipt) => {
                let detail = format!("The request was accepted; its outcome appears at {}.", receipt.resource);
                Fault { detail, ..fault.unproved().at(receipt.resource.clone()) }
            }
            None => fault,
        }
    }
}

/// Both ends of an acceptance.
pub(super) fn acceptance<T>() -> (Acceptance<T>, watch::Receiver<Option<Receipt<T>>>) {
    let (sender, receiver) = watch::channel(None);
    (Acceptance(sender), receiver)
}

/// A write under way: it goes on whether or not anybody waits for it.
#[must_use = "a ticket nobody waits for hides how the write ended"]
pub struct Ticket<T> {
    accepted: watch::Receiver<Option<Receipt<T>>>,
    /// Until its end is told to whoever waits.
    work: Option<Work<T>>,
    left: Option<Left<T>>,
    line: Option<AnswerLine>,
}

type Work<T> = JoinHandle<Result<Reply<T>, Fault>>;

/// What is done with work whose end nobody waits for.
type Left<T> = Box<dyn FnOnce(Work<T>) + Send>;

impl<T: Clone + Send + Sync + 'static> Ticket<T> {
    pub(super) fn new(
        accepted: watch::Receiver<Option<Receipt<T>>>,
        work: Work<T>,
        line: Option<AnswerLine>,
        left: Left<T>,
    ) -> Self {
        Self { accepted, work: Some(work), left: Some(left), line }
    }

    /// Waits for the end, at most this long; after that the record as it was accepted is answered as
    /// [`Written::Pending`], and the work goes on. Faults found before anything is accepted are always waited for.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub async fn wait(mut self, patience: Option<Duration>) -> Result<Reply<T>, Fault> {
        match patience {
            Some(patience) => self.wait_until(tokio::time::sleep(patience)).await,
            None => self.end().await,
        }
    }

    /// Waits until the write is accepted, and answers the record as it was then, however the write has ended since. What
    /// ends without being accepted is answered with its end.
    ///
    /// # Errors
    /// The fault that ended the write before it was accepted.
    pub async fn accepted(mut self) -> Result<Reply<T>, Fault> {
        match self.acceptance().await {
            Some(record) => Ok(Written::Pending(record).into()),
            None => self.end().await,
        }
    }

    /// As [`wait`](Self::wait), until this ends.
    ///
    /// # Errors
    /// The fault that ended the write.
    pub async fn wait_until(mut self, enough: impl Future<Output = ()>) -> Result<Reply<T>, Fault> {
        tokio::select! {
            biased;
            end = self.end() => return end,
            () = enough => {}
        }
        match self.acceptance().await {
            // Its line says how it ended, so that is what is answered.
            Some(_) if self.line.as_ref().is_some_and(|line| !line.leave_to_face()) => self.end().await,
            Some(record) => Ok(Written::Pending(record).into()),
            None => self.end().await,
        }
    }

    /// The record as it was accepted; `None` where the work ended without accepting anything, and its end says why.
    async fn acceptance(&mut self) -> Option<T> {
        self.accepted.wait_for(Option::is_some).await.ok()?.as_ref().map(|receipt| receipt.record.clone())
    }

    /// The end, once. Whoever stops waiting for it leaves the work as it was.
    async fn end(&mut self) -> Result<Reply<T>, Fault> {
        let Some(work) = &mut self.work else {
            return Err(Fault::unknown(Code::Internal, "A write's end was asked for twice."));
        };
        let end = ended(work.await);
        self.work = None;
        end
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let outlived = tokio::runtime::Handle::try_current().is_ok();
        if let (Some(work), Some(left), true) = (self.work.take(), self.left.take(), outlived) {
            left(work);
        }
    }
}

pub(super) fn ended<T>(end: Result<Result<Reply<T>, Fault>, tokio::task::JoinError>) -> Result<Reply<T>, Fault> {
    end.unwrap_or_else(|error| {
        tracing::error!(panicked = error.is_panic(), "a write's task ended without an answer");
        Err(Fault::unknown(Code::Internal, "The gateway failed while it was writing."))
    })
}
