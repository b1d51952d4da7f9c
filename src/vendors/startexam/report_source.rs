//! The vendor's sessions as a source of reports: its feed, and the report of one participant.
//!
//! Every call here only reads, so no error leaves anything unknown. Apart from where a feed continues, a response is
//! personal data: nothing of it may reach an exchange, a log or an error.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::client::{JSON, send_dated};
use super::results::{FeedSettings, SessionReport, continuation, read_page, read_report};
use super::settings::Account;
use super::{error, wire};
use crate::domain::error::{Code, Error};
use crate::domain::outcome::Outcome;
use crate::domain::results::{
    ChangesPage, ChangesQuery, Continuation, FeedPlan, FetchRule, FetchedReport, FoldSettings, ReadReport, Rejection,
    RejectionReason, ReportChannel, ReportContext, ReportKind, ReportSource, ScoringRules,
};
use crate::domain::units::ConfigDuration;
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;
use crate::secret::{Redactor, Secret};
use crate::transport::{Client, RedactionPolicy, Request, Response, Target};
use crate::vendors::percent_encoded;

/// Reading a page of the feed.
const FEED: &str = "results.feed";
/// Fetching the report of a participant.
const REPORT: &str = "results.report";
/// Asking for the vendor's time.
const TIME: &str = "results.time";

/// Length up to which a page is read: 500 sessions, the documented maximum, of a thousand questions of 130 bytes each.
const MAX_PAGE: u64 = 64 << 20;

/// What recorded exchanges show: where a feed begins and continues. Not the participant, whose id opens the exam, and
/// not the token, which works once.
const SHOWN: RedactionPolicy = RedactionPolicy {
    members: &["center", "modifiedSince", "modifiedUntil", "hasMore", "bytes", "message"],
    within: &[],
    document: Some(outline),
};

/// The sessions of one account.
pub(super) struct SessionSource {
    client: Client,
    account: Arc<Account>,
    settings: Arc<FeedSettings>,
    channel: ReportChannel,
}

impl SessionSource {
    /// Creates the source. Opens no connection.
    pub(super) fn new(client: Client, account: Arc<Account>, settings: FeedSettings) -> Self {
        let channel = ReportChannel::Feed(plan(&settings, &account.center));
        Self { client, account, settings: Arc::new(settings), channel }
    }

    /// Sends a question and returns its answer if it is a success. `own` are texts of the question that an error must
    /// not show.
    async fn ask(
        &self,
        operation: &'static str,
        path: String,
        min_response_limit: u64,
        own: &[&str],
        call: &CallContext,
    ) -> Result<Response, VendorError> {
        let (method, headers) = (Method::GET, HeaderMap::from_iter([(ACCEPT, JSON)]));
        let (target, body) = (Target::Path(path), Bytes::new());
        let request = Request { operation, method, target, headers, body, shown: SHOWN, min_response_limit };
        let answer = send_dated(&self.client, &self.account.signer, request, call).await.map_err(of_read)?;
        let is_missing = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&answer.status);
        if is_missing && error::is_page(&answer) {
            return Err(self.unusable(operation, &answer, "This is not StartExam's API; check base_url."));
        }
        let Some(mut fault) = error::response_error(&self.client, operation, &answer, 1) else { return Ok(answer) };
        if let Some(said) = &mut fault.vendor {
            // Other text of the body may be a session.
            let own: Vec<Secret> = own.iter().copied().map(Secret::new).collect();
            let message = said.message.take().filter(|_| wire::message(&answer.body).is_some());
            said.message = message.map(|message| Redactor::new(&own).mask(&message));
        }
        Err(of_read(fault))
    }

    /// Returns the error of a successful response that is of no use; it holds nothing of the response.
    fn unusable(&self, operation: &'static str, answer: &Response, detail: &str) -> VendorError {
        let page = if error::is_page(answer) { " The response is a web page." } else { "" };
        let error = VendorError::new(Code::VendorBadResponse, format!("{detail}{page}"));
        of_read(self.client.error(operation, error.with_vendor_response(answer.describe(operation, None, None))))
    }

    fn date(&self, operation: &'static str, answer: &Response) -> Result<Timestamp, VendorError> {
        let detail = "StartExam's response has no Date header, and no other clock can say when it was true.";
        answer.date().ok_or_else(|| self.unusable(operation, answer, detail))
    }
}

#[async_trait]
impl ReportSource for SessionSource {
    fn channel(&self) -> &ReportChannel {
        &self.channel
    }

    fn owner(&self) -> Option<&str> {
        Some(self.settings.written.owner.as_str()).filter(|owner| !owner.is_empty())
    }

    fn fold_settings(&self, scoring: ScoringRules) -> FoldSettings {
        self.settings.fold(scoring)
    }

    fn read_report(&self, kind: ReportKind, body: &[u8], context: &ReportContext) -> ReadReport {
        let reader = &self.settings.reader;
        match kind {
            ReportKind::FetchedReport => {
                read_report(body, context.participant.as_deref(), context.center.as_deref(), reader)
            }
            ReportKind::FeedItem | ReportKind::Webhook => {
                let center = context.center.as_deref().unwrap_or(&self.account.center);
                read_report(body, None, Some(center), reader)
            }
        }
    }

    async fn read_changes(&self, query: &ChangesQuery, call: &CallContext) -> Result<ChangesPage, VendorError> {
        let center = query.center.as_deref().unwrap_or(&self.account.center).to_owned();
        let mut path = format!(
            "/v2/sessions?center={}&modifiedSince={}",
            percent_encoded(&center),
            percent_encoded(&whole_seconds(query.since))
        );
        if let Some(token) = &query.token {
            path = path + "&continuationToken=" + &percent_encoded(token);
        }
        let own: Vec<&str> = query.token.as_deref().into_iter().collect();
        let answer = self.ask(FEED, path, MAX_PAGE, &own, call).await?;
        let (body, settings) = (answer.body.clone(), Arc::clone(&self.settings));
        // A large page takes a moment.
        let page = tokio::task::spawn_blocking(move || read_page(&body, Some(&center), &settings.reader)).await;
        match page {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(rejection)) => {
                let detail = format!("StartExam's page of sessions cannot be used: {rejection}.");
                Err(self.unusable(FEED, &answer, &detail))
            }
            Err(_) => Err(VendorError::new(Code::Internal, "Reading StartExam's page of sessions failed.")),
        }
    }

    async fn fetch_report(
        &self,
        participant: &str,
        center: Option<&str>,
        call: &CallContext,
    ) -> Result<FetchedReport, VendorError> {
        let path = format!("/v2/session?participantId={}", percent_encoded(participant));
        let answer = self.ask(REPORT, path, 0, &[participant], call).await.map_err(unknown_participant)?;
        let report = read_report(&answer.body, Some(participant), center, &self.settings.reader);
        if report.reading == Err(Rejection::whole(RejectionReason::NotJson)) {
            return Err(self.unusable(REPORT, &answer, "StartExam's response is no report of a session."));
        }
        Ok(FetchedReport { report, as_of: self.date(REPORT, &answer)? })
    }

    fn launch_url(&self, participant: &str, center: Option<&str>) -> Option<String> {
        Some(self.account.link.url(center.unwrap_or(&self.account.center), participant))
    }

    async fn vendor_time(&self, call: &CallContext) -> Result<Timestamp, VendorError> {
        let path = "/v1/tests?type=test&status=active".to_owned();
        let answer = self.ask(TIME, path, 0, &[], call).await?;
        if !wire::is_test_list(&answer.body) {
            return Err(self.unusable(TIME, &answer, "StartExam's response is not a list of tests; check base_url."));
        }
        self.date(TIME, &answer)
    }
}

fn plan(FeedSettings { written, since, reader: _ }: &FeedSettings, own: &str) -> FeedPlan {
    // The account's own centre by its name, as bookings have it.
    let mut centers = vec![own.to_owned()];
    for center in &written.centers {
        if !centers.contains(center) {
            centers.push(center.clone());
        }
    }
    FeedPlan {
        every: signed(written.every),
        overlap: signed(written.overlap),
        since: *since,
        centers: centers.into_iter().map(Some).collect(),
        fetch: match written.session_report {
            SessionReport::Auto => FetchRule::Auto,
            SessionReport::Always => FetchRule::Always,
            SessionReport::Never => FetchRule::Never,
        },
        expire_after: signed(written.expire_after),
        max_pages: written.max_pages,
    }
}

fn signed(span: ConfigDuration) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

/// Formats a time as the vendor does, in whole seconds; rounded down, so that nothing is left out.
fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Takes from an error what only a write can leave behind.
fn of_read(error: VendorError) -> VendorError {
    VendorError { may_still_complete: false, proves_no_effect: false, ..error.with_outcome(Outcome::NotApplied) }
}

/// Returns the error of a participant whose report the vendor does not have. The status of that is undocumented: we
/// assume 404 or 400.
fn unknown_participant(error: VendorError) -> VendorError {
    let status = error.vendor.as_ref().and_then(|vendor| vendor.http_status);
    let is_unknown = match error.code {
        Code::InvalidReference => true,
        Code::VendorRejectedRequest => status == Some(StatusCode::BAD_REQUEST.as_u16()),
        _ => false,
    };
    if !is_unknown {
        return error;
    }
    let detail = "StartExam has no session of this registration: it was not begun, or StartExam does not know it.";
    error.map(|error| Error { code: Code::InvalidReference, detail: detail.to_owned(), ..error })
}

/// Returns what may be shown of a response: never an entry, whatever its form.
fn outline(response: &Response) -> Value {
    let size = || json!({ "bytes": response.body.len() });
    if !response.status.is_success() {
        return wire::message(&response.body).map_or_else(size, |message| json!({ "message": message }));
    }
    match continuation(&response.body) {
        Some(Continuation::Token(_)) => json!({ "hasMore": true, "bytes": response.body.len() }),
        Some(Continuation::Until(until)) => json!({ "modifiedUntil": until, "bytes": response.body.len() }),
        None => size(),
    }
}
