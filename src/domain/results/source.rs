//! The interface to what a connection's vendor says of attempts: [`ReportSource`].
//!
//! A source reads a raw report by a pure function of its bytes, its context and the settings, so that a kept report can be
//! read again under other settings. It never stores and never matches.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::fold::FoldSettings;
use super::report::{ReadReport, ReportContext, ReportKind};
use super::scoring::ScoringRules;
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;

/// A question to a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesQuery {
    /// Where the question begins, by the vendor's clock.
    pub since: Timestamp,
    /// The centre; `None` for the account's own.
    pub center: Option<String>,
    /// The token of the page before; it can be used once.
    pub token: Option<String>,
}

/// Where a feed continues after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuation {
    /// There is another page, to be asked for with this token, once and at once.
    Token(String),
    /// The feed is complete until this time by the vendor's clock.
    Until(Timestamp),
}

/// A page of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesPage {
    /// Its entries.
    pub items: Vec<ReadReport>,
    /// Where the feed continues.
    pub next: Continuation,
}

/// A report that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedReport {
    /// The report.
    pub report: ReadReport,
    /// When the vendor sent it, by the vendor's clock.
    pub as_of: Timestamp,
}

/// When the report of an attempt is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRule {
    /// If a finished entry of the feed lacks score or parts, or steps back.
    Auto,
    /// For every finished entry of the feed.
    Always,
    /// Never.
    Never,
}

/// How a feed is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPlan {
    /// How often.
    pub every: SignedDuration,
    /// How far before the watermark a question begins.
    pub overlap: SignedDuration,
    /// Where the first question begins; `None`: a day before the present by the vendor's clock.
    pub since: Option<Timestamp>,
    /// The centres to read besides those of known assignments; `None` is the account's own.
    pub centers: Vec<Option<String>>,
    /// When reports are fetched.
    pub fetch: FetchRule,
    /// How long after the end of its window a booking without an attempt expires.
    pub expire_after: SignedDuration,
    /// Maximum number of pages in one run.
    pub max_pages: u32,
}

/// How webhooks are received.
#[derive(Debug, Clone)]
pub struct ReceiverPlan {
    /// The secret part of the address.
    pub path_token: Secret,
    /// The vendor's keys; empty: none is asked for.
    pub keys: Vec<Secret>,
    /// The headers that may carry the key.
    pub key_headers: &'static [&'static str],
    /// The status that answers a wrong key: 401 or 200.
    pub on_refusal: u16,
    /// Whether a webhook that names no test is matched with the candidate's only open booking.
    pub only_open: bool,
}

/// How reports reach the gateway.
#[derive(Debug, Clone)]
pub enum ReportChannel {
    /// The gateway reads the vendor's feed.
    Feed(FeedPlan),
    /// The vendor sends webhooks.
    Receiver(ReceiverPlan),
}

/// What a vendor says of attempts, through one configured account.
#[async_trait]
pub trait ReportSource: Send + Sync {
    /// Returns how reports reach the gateway.
    fn channel(&self) -> &ReportChannel;

    /// Returns the tenant that owns what is matched with no tenant's candidate, if the operator names one.
    fn owner(&self) -> Option<&str>;

    /// Returns how the readings of a series are folded.
    fn fold_settings(&self, scoring: ScoringRules) -> FoldSettings;

    /// Reads a report as it came.
    fn read_report(&self, kind: ReportKind, body: &[u8], context: &ReportContext) -> ReadReport;

    /// Reads a page of the feed.
    ///
    /// # Errors
    /// What went wrong; a page that is faulty as a whole is a vendor error as well. A vendor without a feed answers
    /// `capability_unsupported`.
    async fn read_changes(&self, query: &ChangesQuery, call: &CallContext) -> Result<ChangesPage, VendorError>;

    /// Fetches the report of a registration.
    ///
    /// # Errors
    /// What went wrong. A vendor that cannot be asked answers `capability_unsupported`.
    async fn fetch_report(
        &self,
        participant: &str,
        center: Option<&str>,
        call: &CallContext,
    ) -> Result<FetchedReport, VendorError>;

    /// Returns the launch link of a registration; `None` if it does not follow from the registration's id. `center` is that of
    /// its booking, if the booking names one.
    fn launch_url(&self, participant: &str, center: Option<&str>) -> Option<String>;

    /// Returns the time by the vendor's clock.
    ///
    /// # Errors
    /// What went wrong. A vendor that cannot be asked answers `capability_unsupported`.
    async fn vendor_time(&self, call: &CallContext) -> Result<Timestamp, VendorError>;
}
