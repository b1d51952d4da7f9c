//! The fake vendor's sessions and their feed: pages in the order of modification, and a report of each session. Reads fail
//! as the case's script says, but no answer is untrue.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::domain::error::Code;
use crate::domain::results::{
    AttemptRule, ChangesPage, ChangesQuery, Continuation, FeedPlan, FetchRule, FetchedReport, FoldSettings, ReadReport,
    Regression, Repetition, ReportChannel, ReportContext, ReportKind, ReportSource, ScoringRules, Unscored,
};
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;
use crate::service::simulation::sim::CrashPoint;
use crate::service::simulation::vendor::Fake;
use crate::service::simulation::vendor_oracle::{Reply, Script, Session};
use crate::service::test_reports::{Said, read_said};

/// Entries of a page: few, so that runs have several.
const PAGE: usize = 2;

/// Returns how the gateway reads the feed.
pub(super) fn plan(overlap: SignedDuration) -> FeedPlan {
    FeedPlan {
        every: SignedDuration::from_mins(10),
        overlap,
        since: None,
        centers: vec![None],
        fetch: FetchRule::Auto,
        expire_after: SignedDuration::from_hours(24),
        max_pages: 50,
    }
}

/// Returns a time by the vendor's clock, which is years behind the gateway's.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_600_000_000 + second).unwrap()
}

/// Returns how the readings of a registration are folded.
pub(super) fn fold_settings(scoring: ScoringRules) -> FoldSettings {
    FoldSettings {
        attempts: AttemptRule::ByStart(Repetition::Attempt),
        unscored: Unscored::Pending,
        regression: Regression::Verify,
        auto_closed_ends: false,
        scoring,
    }
}

/// Returns an entry of the feed about what the vendor says: one without parts has no score either, which only the report has.
pub(super) fn entry(said: &Said) -> Said {
    if said.parts.is_empty() {
        return Said { given: None, maximum: None, ..said.clone() };
    }
    said.clone()
}

impl Session {
    /// Returns what the vendor says last, and when it was modified.
    pub(super) fn last(&self) -> &(i64, Said) {
        self.states.last().unwrap()
    }
}

impl Fake {
    /// Makes a call that reads.
    async fn read<T>(
        &self,
        read: impl FnOnce(&[Session], i64) -> Result<T, VendorError> + Send,
    ) -> Result<T, VendorError> {
        self.fate.pass(CrashPoint::BeforeCall).await;
        let Script { reply, latency, .. } = self.exam.lock().unwrap().scripts.pop_front().unwrap_or(Script::PLAIN);
        let second = self.time.passed() / 1_000_000;
        let answer = read(&self.exam.lock().unwrap().sessions, second);
        tokio::time::sleep(Duration::from_millis(latency.into())).await;
        self.fate.pass(CrashPoint::DuringCall).await;
        match reply {
            Reply::True => answer,
            Reply::Reset | Reply::TimeOut => Err(VendorError::unknown(Code::VendorTimeout, "no answer")),
            Reply::Garbage => Err(VendorError::unknown(Code::VendorBadResponse, "garbage")),
            Reply::Down | Reply::Refused { .. } => Err(VendorError::unknown(Code::VendorUnavailable, "down")),
            Reply::Busy => {
                Err(VendorError::new(Code::VendorRateLimited, "busy").with_retry_after(Some(Duration::from_secs(1))))
            }
        }
    }
}

#[async_trait]
impl ReportSource for Fake {
    fn channel(&self) -> &ReportChannel {
        self.feed.as_ref().unwrap()
    }

    fn owner(&self) -> Option<&str> {
        None
    }

    fn fold_settings(&self, scoring: ScoringRules) -> FoldSettings {
        fold_settings(scoring)
    }

    fn read_report(&self, _kind: ReportKind, body: &[u8], context: &ReportContext) -> ReadReport {
        read_said(body, context, |_| {})
    }

    fn launch_url(&self, _participant: &str, _center: Option<&str>) -> Option<String> {
        None
    }

    async fn read_changes(&self, query: &ChangesQuery, _call: &CallContext) -> Result<ChangesPage, VendorError> {
        self.read(|sessions, now| {
            // A token holds the end of the feed and the place of the page in it.
            let token =
                query.token.as_deref().map(|token| token.split('/').map(|part| part.parse().unwrap()).collect());
            let token: Vec<i64> = token.unwrap_or_else(|| vec![now, i64::MIN, 0]);
            let [until, modified, number] = token[..] else { panic!("a token of this feed") };
            let number = usize::try_from(number).unwrap();
            let mut places: Vec<(i64, usize)> =
                sessions.iter().enumerate().map(|(number, session)| (session.last().0, number)).collect();
            places.sort_unstable();
            places.retain(|place| *place >= (modified, number) && place.0 <= until && at(place.0) >= query.since);
            let next = places.get(PAGE).map(|(modified, number)| format!("{until}/{modified}/{number}"));
            let read = |(_, number): &(i64, usize)| {
                let entry = entry(&sessions[*number].last().1);
                self.read_report(ReportKind::FeedItem, &entry.body(), &ReportContext::default())
            };
            let items = places.iter().take(PAGE).map(read).collect();
            Ok(ChangesPage { items, next: next.map_or(Continuation::Until(at(until)), Continuation::Token) })
        })
        .await
    }

    async fn fetch_report(
        &self,
        participant: &str,
        _center: Option<&str>,
        _call: &CallContext,
    ) -> Result<FetchedReport, VendorError> {
        self.read(|sessions, now| {
            let own = |session: &&Session| session.last().1.participant.as_deref() == Some(participant);
            let latest = sessions.iter().rfind(own);
            let session = latest.ok_or_else(|| VendorError::new(Code::InvalidReference, "no such participant"))?;
            let body = session.last().1.body();
            let report = self.read_report(ReportKind::FetchedReport, &body, &ReportContext::default());
            Ok(FetchedReport { report, as_of: at(now) })
        })
        .await
    }

    async fn vendor_time(&self, _call: &CallContext) -> Result<Timestamp, VendorError> {
        self.read(|_, now| Ok(at(now))).await
    }
}
