//! Reads a feed: all pages from the watermark on, each durable before the next is asked for, and the watermark with the last.
//!
//! The as-of of an entry is the end of the feed, which only the last page tells. To hold all pages in memory until then would
//! take memory without bound. So the entries of earlier pages are recorded as of the former watermark, which is true, and are
//! moved to the end of the feed once it is known. A run that breaks off starts again at the watermark, without a token.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use crate::domain::error::{Code, Error};
use crate::domain::exchange::{Cause, ExchangeOwner};
use crate::domain::results::{
    ChangesPage, ChangesQuery, Continuation, FeedPlan, ReadReport, ReportContext, ReportKind, ReportSource,
};
use crate::domain::subject::SubjectKey;
use crate::domain::vendor::{CallContext, CallPurpose, Priority};
use crate::domain::vendor_error::VendorError;
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::{StoreResultExt as _, draining_error};
use crate::service::results::chunk::{Arrival, Chunk, IngestPlan, TouchedReport};
use crate::service::results::ingest::require_source;
use crate::service::results::turn::IngestTurn;
use crate::store::{FeedPosition, Mutation};

/// How far back the first question goes where the operator does not say.
const FIRST_SPAN: SignedDuration = SignedDuration::from_hours(24);

/// What became of an attempt to read a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedRead {
    /// It was read to its end.
    Read,
    /// Another task reads it.
    Locked,
    /// It was read less than its interval ago; how long it is until the interval is over.
    Recent(SignedDuration),
}

/// A run over one feed.
struct FeedRun<'a> {
    gateway: &'a Gateway,
    connection: &'a Connection,
    source: &'a dyn ReportSource,
    plan: &'a FeedPlan,
    center: Option<&'a str>,
    /// When it began, by the gateway's clock.
    begun: Timestamp,
    watermark: Option<Timestamp>,
    call: CallContext,
    /// Reports of earlier pages.
    touched: Vec<TouchedReport>,
}

/// The pages that a run has seen.
#[derive(Default)]
struct SeenPages {
    tokens: HashSet<String>,
    contents: HashSet<[u8; 32]>,
}

impl SeenPages {
    /// Returns whether the page or its token was seen before.
    fn is_repeated(&mut self, gateway: &Gateway, page: &ChangesPage) -> bool {
        let mut content = Vec::new();
        for item in &page.items {
            content.extend_from_slice(&u64::try_from(item.canonical.len()).unwrap_or(u64::MAX).to_be_bytes());
            content.extend_from_slice(&item.canonical);
        }
        let same_token = matches!(&page.next, Continuation::Token(token) if !self.tokens.insert(token.clone()));
        let same_content = !content.is_empty() && !self.contents.insert(gateway.0.store.report_digest(&content).0);
        same_token || same_content
    }
}

impl Gateway {
    /// Reads the feed of a centre to its end, unless another task reads it. With `only_due`, neither if any instance has read
    /// it less than its interval ago.
    ///
    /// # Errors
    /// The vendor's; `vendor_bad_response` for a feed that does not end; `store_unavailable`.
    pub(super) async fn read_feed(
        &self,
        connection: &Connection,
        plan: &FeedPlan,
        center: Option<&str>,
        only_due: bool,
    ) -> Result<FeedRead, Error> {
        let source = require_source(connection)?;
        let name = center.unwrap_or_default();
        let feed = SubjectKey::feed(&connection.name, name);
        let Some(_lock) = self.0.subject_locks.try_lock(&feed).await.or_not_applied()? else {
            return Ok(FeedRead::Locked);
        };
        let positions = self.0.store.feed_positions(&connection.name).await.or_not_applied()?;
        let position = positions.into_iter().find(|position| position.center == name);
        let begun = self.now();
        if let Some(wait) = position.as_ref().filter(|_| only_due).and_then(|it| time_left(it.read, begun, plan.every))
        {
            return Ok(FeedRead::Recent(wait));
        }
        // Count as work in progress, so that the process does not exit in the middle of a commit.
        let _token = self.0.tasks.token();
        let call = self.feed_context(connection);
        let watermark = position.map(|position| position.watermark);
        let touched = Vec::new();
        let run = FeedRun { gateway: self, connection, source, plan, center, begun, watermark, call, touched };
        run.read().await.map(|()| FeedRead::Read)
    }

    /// Builds the context of background calls that read reports: of lower priority than any write.
    pub(super) fn feed_context(&self, connection: &Connection) -> CallContext {
        let exchange = self.background_exchange(format!("reports-{}", connection.name), None);
        if let Some(owner) = connection.reports_owner() {
            self.keep_exchange(&exchange, ExchangeOwner { tenant: owner.to_owned(), cause: Cause::Reports });
        }
        CallContext { purpose: CallPurpose::Initial, priority: Priority::Bulk, exchange }
    }
}

/// Returns how long it is until the interval since a run is over; `None` if it is over, or if the clock was set back.
fn time_left(read: Timestamp, now: Timestamp, every: SignedDuration) -> Option<SignedDuration> {
    let since = now.duration_since(read);
    (SignedDuration::ZERO <= since && since < every).then(|| every - since)
}

impl FeedRun<'_> {
    async fn read(mut self) -> Result<(), Error> {
        let watermark = self.watermark;
        let since = match (watermark, self.plan.since) {
            (Some(watermark), _) => watermark.saturating_sub(self.plan.overlap).unwrap_or(Timestamp::MIN),
            (None, Some(since)) => since,
            (None, None) => {
                let now = self.noted(self.source.vendor_time(&self.call).await)?;
                now.saturating_sub(FIRST_SPAN).unwrap_or(Timestamp::MIN)
            }
        };
        let provisional = watermark.unwrap_or(since);
        let (mut token, mut seen) = (None, SeenPages::default());
        for _ in 0..self.plan.max_pages {
            if self.gateway.is_stopping() || !self.gateway.0.lease.holds() {
                return Err(draining_error());
            }
            let query = ChangesQuery { since, center: self.center.map(str::to_owned), token: token.take() };
            let page = self.noted(self.source.read_changes(&query, &self.call).await)?;
            if seen.is_repeated(self.gateway, &page) {
                return Err(self.fault("The vendor's feed repeats a page, so that it would not end."));
            }
            let ChangesPage { items, next } = page;
            match next {
                Continuation::Token(next) => {
                    if let Some((turn, plan)) = self.ingest_page(items, provisional).await? {
                        self.commit_turn(turn, plan).await?;
                    }
                    token = Some(next);
                }
                Continuation::Until(until) => return self.finish(items, until.max(provisional), until).await,
            }
        }
        Err(self.fault("The vendor's feed has more pages than `max_pages` allows."))
    }

    /// Ingests a page; returns its last turn, whose plan is not committed.
    async fn ingest_page(
        &mut self,
        items: Vec<ReadReport>,
        as_of: Timestamp,
    ) -> Result<Option<(IngestTurn, IngestPlan)>, Error> {
        let (mut items, mut pending) = (items.into_iter().peekable(), None);
        while items.peek().is_some() {
            if let Some((turn, plan)) = pending.take() {
                self.commit_turn(turn, plan).await?;
            }
            let turn = self.gateway.begin_ingest_turn();
            let received = self.gateway.now();
            let context = ReportContext { center: self.center.map(str::to_owned), ..ReportContext::default() };
            let arrival = |read| Arrival {
                read,
                kind: ReportKind::FeedItem,
                context: context.clone(),
                as_of,
                received,
                inbox: None,
            };
            let chunk = Chunk::of_arrivals(items.by_ref().take(turn.size()).map(arrival).collect());
            let lock = self.gateway.lock_reports(&self.connection.name).await?;
            pending = Some((turn, self.gateway.plan_chunk(self.connection, chunk, lock).await?));
        }
        Ok(pending)
    }

    async fn commit_turn(&mut self, turn: IngestTurn, plan: IngestPlan) -> Result<(), Error> {
        self.touched.extend(self.gateway.commit_plan(plan, Vec::new()).await?);
        turn.end().await;
        Ok(())
    }

    /// Moves the entries of earlier pages to the end of the feed, and ingests the last page; its last commit has the watermark.
    async fn finish(mut self, items: Vec<ReadReport>, as_of: Timestamp, watermark: Timestamp) -> Result<(), Error> {
        let mut touched = std::mem::take(&mut self.touched).into_iter().peekable();
        while touched.peek().is_some() {
            let turn = self.gateway.begin_ingest_turn();
            let part = touched.by_ref().take(turn.size()).collect();
            let chunk = Chunk { touched: Some((as_of, part)), ..Chunk::default() };
            self.gateway.ingest(self.connection, chunk).await?;
            turn.end().await;
        }
        let (connection, center) = (self.connection.name.clone(), self.center.unwrap_or_default().to_owned());
        let watermark = vec![Mutation::Watermark(FeedPosition { connection, center, watermark, read: self.begun })];
        match self.ingest_page(items, as_of).await? {
            Some((_, plan)) => self.gateway.commit_plan(plan, watermark).await.map(drop),
            None => self.gateway.0.store.commit(watermark).await.or_not_applied(),
        }
    }

    /// Records what a call shows about the connection.
    fn noted<T>(&self, result: Result<T, VendorError>) -> Result<T, Error> {
        let result = result.map_err(|error| self.connection.tag_connection(*error.error));
        self.connection.note(result.as_ref().map(|_| ()), self.gateway.0.system.now());
        result
    }

    fn fault(&self, detail: &str) -> Error {
        let error = Error::new(Code::VendorBadResponse, format!("{detail} It is read again from the same watermark."));
        self.connection.tag_connection(error)
    }
}
