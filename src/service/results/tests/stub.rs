//! A vendor whose outcomes of writes and whose reports a test sets.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Map;

use crate::domain::assignment::{CandidateKey, NewAssignment};
use crate::domain::candidate::{IdentityKind, NewCandidate, Person};
use crate::domain::capability::{Capability, ResultCapability, RetrySafety, VendorDescriptor, WriteKind};
use crate::domain::error::{Code, FieldError};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::outcome::{Warning, WarningCode};
use crate::domain::program::{EnrolmentCounts, ProgramRef};
use crate::domain::results::{
    AttemptRule, ChangesPage, ChangesQuery, Continuation, FeedPlan, FetchRule, FetchedReport, FoldSettings, ReadReport,
    ReceiverPlan, Regression, Repetition, ReportChannel, ReportContext, ReportKind, ReportSource, ScoringRules,
    Unscored,
};
use crate::domain::system::System;
use crate::domain::vendor::{
    BatchGroup, Booked, Booking, CallContext, CallPurpose, Cancellation, CandidateSnapshot, CredentialCheck,
    EnrolmentBatch, Plan, Registered, Registration, RowResult, Update, Vendor, VendorKey, WriteSuccess,
};
use crate::domain::vendor_error::VendorError;
use crate::secret::Secret;
use crate::service::test_reports::{Said, booking_of, read_said};

/// The token of the receiver's address.
pub(super) const TOKEN: &str = "token-of-the-receiver";
/// The vendor's key.
pub(super) const KEY: &str = "key-of-the-vendor";

/// How the vendor answers a booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BookingAnswer {
    Applied,
    /// Without the id of the registration.
    ThereBefore,
    Lost,
    Rejected,
}

/// What the operator has set.
#[derive(Debug, Clone)]
pub(super) struct StubSettings {
    pub(super) reads_external_id: bool,
    pub(super) reads_other_points: bool,
    pub(super) repetition: Repetition,
    pub(super) regression: Regression,
}

pub(super) struct Stub {
    channel: ReportChannel,
    pub(super) shows_reports: AtomicBool,
    pub(super) settings: Mutex<StubSettings>,
    pub(super) booking: Mutex<BookingAnswer>,
    booked: AtomicU64,
    pub(super) pages: Mutex<VecDeque<Result<ChangesPage, VendorError>>>,
    pub(super) questions: Mutex<Vec<ChangesQuery>>,
    pub(super) reports: Mutex<HashMap<String, (Said, Timestamp)>>,
    pub(super) fetched: Mutex<Vec<String>>,
    /// Registrations whose reports the vendor fails to give.
    pub(super) failing: Mutex<HashSet<String>>,
    pub(super) time: Mutex<Timestamp>,
}

const fn can(kind: WriteKind) -> Capability {
    Capability {
        supported: true,
        max_batch: 5,
        retry_safety: RetrySafety::Idempotent,
        ..Capability::unsupported(kind, "")
    }
}

const fn descriptor(kind: &'static str, identities: &'static [IdentityKind]) -> VendorDescriptor {
    VendorDescriptor {
        kind,
        name: "Stub",
        documentation: "",
        identities,
        clock_tolerance: None,
        capabilities: [
            can(WriteKind::CandidatesCreate),
            can(WriteKind::CandidatesUpdate),
            can(WriteKind::CandidatesDelete),
            can(WriteKind::AssignmentsCreate),
            Capability::unsupported(WriteKind::AssignmentsUpdate, ""),
            can(WriteKind::AssignmentsCancel),
            Capability::unsupported(WriteKind::ProgramsEmployees, ""),
        ],
        results: ResultCapability::unsupported("Not documented."),
    }
}

static WITH_FEED: VendorDescriptor = descriptor("feed", &[IdentityKind::ExternalId]);
static WITH_RECEIVER: VendorDescriptor = descriptor("receiver", &[IdentityKind::Email, IdentityKind::ExternalId]);

/// A time by the vendor's clock, which is years behind.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_600_000_000 + second).unwrap()
}

impl Stub {
    fn new(channel: ReportChannel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            shows_reports: AtomicBool::new(false),
            settings: Mutex::new(StubSettings {
                reads_external_id: true,
                reads_other_points: false,
                repetition: Repetition::Attempt,
                regression: Regression::Verify,
            }),
            booking: Mutex::new(BookingAnswer::Applied),
            booked: AtomicU64::new(0),
            pages: Mutex::default(),
            questions: Mutex::default(),
            reports: Mutex::default(),
            fetched: Mutex::default(),
            failing: Mutex::default(),
            time: Mutex::new(at(0)),
        })
    }

    pub(super) fn with_feed(fetch: FetchRule) -> Arc<Self> {
        Self::new(ReportChannel::Feed(FeedPlan {
            every: SignedDuration::from_mins(10),
            overlap: SignedDuration::from_mins(5),
            since: None,
            centers: vec![None],
            fetch,
            expire_after: SignedDuration::from_hours(24),
            max_pages: 5,
        }))
    }

    pub(super) fn with_receiver() -> Arc<Self> {
        Self::new(ReportChannel::Receiver(ReceiverPlan {
            path_token: Secret::new(TOKEN),
            keys: vec![Secret::new("an-older-key"), Secret::new(KEY)],
            key_headers: &["x-key", "key"],
            on_refusal: 401,
            only_open: true,
        }))
    }

    pub(super) fn plan(&self) -> FeedPlan {
        let ReportChannel::Feed(plan) = &self.channel else { panic!("no feed") };
        plan.clone()
    }

    /// Has the feed answer the next question with these entries, and another page or the end.
    pub(super) fn page(&self, entries: &[Said], next: Continuation) {
        let context = ReportContext::default();
        let items = entries.iter().map(|said| self.read_report(ReportKind::FeedItem, &said.body(), &context)).collect();
        self.pages.lock().unwrap().push_back(Ok(ChangesPage { items, next }));
    }

    /// Has the feed answer the next question with these entries and its end.
    pub(super) fn last_page(&self, entries: &[Said], until: i64) {
        self.page(entries, Continuation::Until(at(until)));
    }

    pub(super) fn failing_page(&self, code: Code) {
        self.pages.lock().unwrap().push_back(Err(VendorError::new(code, "no page")));
    }
}

#[async_trait]
impl ReportSource for Stub {
    fn channel(&self) -> &ReportChannel {
        &self.channel
    }

    fn owner(&self) -> Option<&str> {
        None
    }

    fn fold_settings(&self, scoring: ScoringRules) -> FoldSettings {
        let StubSettings { repetition, regression, .. } = self.settings.lock().unwrap().clone();
        let attempts = match &self.channel {
            ReportChannel::Feed(_) => AttemptRule::ByStart(repetition),
            ReportChannel::Receiver(_) => AttemptRule::ByReport(repetition),
        };
        FoldSettings { attempts, unscored: Unscored::Pending, regression, auto_closed_ends: false, scoring }
    }

    fn read_report(&self, _kind: ReportKind, body: &[u8], context: &ReportContext) -> ReadReport {
        let StubSettings { reads_external_id, reads_other_points, .. } = self.settings.lock().unwrap().clone();
        read_said(body, context, |said| {
            said.external_id = said.external_id.take().filter(|_| reads_external_id);
            said.given = said.given.or(said.other_points.filter(|_| reads_other_points));
        })
    }

    async fn read_changes(&self, query: &ChangesQuery, _call: &CallContext) -> Result<ChangesPage, VendorError> {
        self.questions.lock().unwrap().push(query.clone());
        let page = self.pages.lock().unwrap().pop_front();
        page.unwrap_or_else(|| Err(VendorError::new(Code::VendorUnavailable, "nothing to say")))
    }

    async fn fetch_report(
        &self,
        participant: &str,
        center: Option<&str>,
        _call: &CallContext,
    ) -> Result<FetchedReport, VendorError> {
        self.fetched.lock().unwrap().push(participant.to_owned());
        if self.failing.lock().unwrap().contains(participant) {
            return Err(VendorError::new(Code::VendorInternalError, "an error of the vendor's"));
        }
        let found = self.reports.lock().unwrap().get(participant).cloned();
        let (said, as_of) = found.ok_or_else(|| VendorError::new(Code::InvalidReference, "no such participant"))?;
        let context = ReportContext { center: center.map(str::to_owned), ..ReportContext::default() };
        Ok(FetchedReport { report: self.read_report(ReportKind::FetchedReport, &said.body(), &context), as_of })
    }

    fn launch_url(&self, participant: &str, center: Option<&str>) -> Option<String> {
        Some(format!("https://exam.example.org/{}#{participant}", center.unwrap_or("own")))
    }

    async fn vendor_time(&self, _call: &CallContext) -> Result<Timestamp, VendorError> {
        Ok(*self.time.lock().unwrap())
    }
}

#[async_trait]
impl Vendor for Stub {
    fn descriptor(&self) -> &'static VendorDescriptor {
        match self.channel {
            ReportChannel::Feed(_) => &WITH_FEED,
            ReportChannel::Receiver(_) => &WITH_RECEIVER,
        }
    }

    fn plan_registration(
        &self,
        id: &CandidateId,
        new: NewCandidate,
        _environment: &System,
    ) -> Result<Plan<Registration>, Vec<FieldError>> {
        let (own_user_name, own_password, password) = (false, false, None);
        let write = Registration { id: id.clone(), person: new.person, own_user_name, password, own_password };
        Ok(Plan { write, warnings: Vec::new() })
    }

    fn plan_update(&self, candidate: CandidateSnapshot, touched: Vec<String>) -> Result<Plan<Update>, Vec<FieldError>> {
        Ok(Plan { write: Update { candidate, touched }, warnings: Vec::new() })
    }

    fn assessment_ref(&self, text: &str) -> Option<String> {
        (!text.contains(' ')).then(|| text.to_owned())
    }

    fn program_ref(&self, text: &str) -> Option<ProgramRef> {
        Some(ProgramRef::Id(text.to_owned()))
    }

    fn candidate_key(&self, key: &CandidateKey, person: Option<&Person>) -> Result<VendorKey, FieldError> {
        let by_email = self.descriptor().identifies_by_email();
        let text = match (person, key) {
            (Some(person), _) if by_email => person.email.as_ref().map(ToString::to_string),
            (Some(person), _) => person.external_id.as_ref().map(ToString::to_string),
            (None, CandidateKey::Email(email)) if by_email => Some(email.to_string()),
            (None, CandidateKey::ExternalId(id)) if !by_email => Some(id.to_string()),
            _ => None,
        };
        text.map(VendorKey).ok_or_else(|| FieldError::invalid("/candidate", "unknown candidate"))
    }

    fn plan_assignment(
        &self,
        id: &AssignmentId,
        order: &NewAssignment,
        candidate: VendorKey,
        private: BTreeMap<String, String>,
        assessment: String,
        _now: Timestamp,
    ) -> Result<Plan<Booking>, Vec<FieldError>> {
        Ok(Plan { write: booking_of(id, order, candidate, private, assessment), warnings: Vec::new() })
    }

    fn registration_batch(&self, _registration: &Registration) -> BatchGroup {
        BatchGroup::Single
    }

    fn reconcile_batch(&self, _registration: &Registration) -> BatchGroup {
        BatchGroup::Single
    }

    fn booking_batch(&self, _booking: &Booking) -> BatchGroup {
        BatchGroup::Single
    }

    fn registration_retry_safety(&self, _registration: &Registration) -> RetrySafety {
        RetrySafety::Idempotent
    }

    fn booking_retry_safety(&self, _booking: &Booking) -> RetrySafety {
        RetrySafety::Unsafe
    }

    fn rebooks_expired(&self) -> bool {
        false
    }

    async fn register(&self, rows: &[Registration], _call: &CallContext) -> Vec<RowResult<Registered>> {
        rows.iter().map(|_| Ok(WriteSuccess::new(Registered::default()))).collect()
    }

    async fn update(&self, _update: &Update, _call: &CallContext) -> RowResult<Registered> {
        Ok(WriteSuccess::new(Registered::default()))
    }

    async fn hide(&self, _candidate: &CandidateSnapshot, _call: &CallContext) -> RowResult<()> {
        Ok(WriteSuccess::new(()))
    }

    async fn assign(&self, rows: &[Booking], call: &CallContext) -> Vec<RowResult<Booked>> {
        let answer = *self.booking.lock().unwrap();
        let book = |_: &Booking| match answer {
            _ if call.purpose == CallPurpose::Reconcile => Err(VendorError::unknown(Code::VendorTimeout, "no answer")),
            BookingAnswer::Applied => {
                let number = self.booked.fetch_add(1, Ordering::SeqCst) + 1;
                let vendor_ref = match self.channel {
                    ReportChannel::Feed(_) => Map::from_iter([("id".to_owned(), format!("p{number}").into())]),
                    ReportChannel::Receiver(_) => Map::new(),
                };
                Ok(WriteSuccess::new(Booked { vendor_ref, launch: None, already_there: false }))
            }
            BookingAnswer::ThereBefore => Ok(WriteSuccess {
                value: Booked { already_there: true, ..Booked::default() },
                warnings: vec![Warning::new(WarningCode::LaunchUnknown, "The link is not known.")],
            }),
            BookingAnswer::Lost => Err(VendorError::unknown(Code::VendorTimeout, "no answer")),
            BookingAnswer::Rejected => Err(VendorError::new(Code::VendorRejectedRequest, "no")),
        };
        rows.iter().map(book).collect()
    }

    async fn cancel(&self, _cancellation: &Cancellation, _call: &CallContext) -> RowResult<()> {
        Ok(WriteSuccess::new(()))
    }

    async fn enrol(&self, _enrolment: &EnrolmentBatch, _call: &CallContext) -> RowResult<EnrolmentCounts> {
        Ok(WriteSuccess::new(EnrolmentCounts::default()))
    }

    fn report_source(&self) -> Option<&dyn ReportSource> {
        let shows: Option<&dyn ReportSource> = Some(self);
        shows.filter(|_| self.shows_reports.load(Ordering::SeqCst))
    }

    async fn check(&self, _call: &CallContext) -> CredentialCheck {
        CredentialCheck::Unchecked { detail: String::new() }
    }
}

/// Returns how long nothing has to be waited for in these tests.
pub(super) const PATIENCE: Option<Duration> = None;
