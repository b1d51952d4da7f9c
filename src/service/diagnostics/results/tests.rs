use async_trait::async_trait;
use rstest::rstest;

use super::super::CheckStatus;
use super::*;
use crate::domain::error::Code;
use crate::domain::exchange::Exchange;
use crate::domain::results::{
    AttemptTimes, FetchRule, FetchedReport, FoldSettings, MatchHints, ReadReport, Reading, Rejection, RejectionReason,
    ReportContext, ReportKind, ReportedScore, ScoringRules, SeriesKey,
};
use crate::domain::vendor::{CallPurpose, Priority};
use crate::secret::Secret;

const TIME: &str = "2026-11-02T10:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A source that answers each centre of its plan, or the question for the time, with a fixed page or error.
struct Fixed {
    channel: ReportChannel,
    time: Result<Timestamp, VendorError>,
    page: fn(Option<&str>) -> Result<ChangesPage, VendorError>,
}

#[async_trait]
impl ReportSource for Fixed {
    fn channel(&self) -> &ReportChannel {
        &self.channel
    }

    fn owner(&self) -> Option<&str> {
        None
    }

    fn fold_settings(&self, _scoring: ScoringRules) -> FoldSettings {
        panic!("a check folds nothing")
    }

    fn read_report(&self, _kind: ReportKind, _body: &[u8], _context: &ReportContext) -> ReadReport {
        panic!("a check reads no kept report")
    }

    async fn read_changes(&self, query: &ChangesQuery, _call: &CallContext) -> Result<ChangesPage, VendorError> {
        assert_eq!((query.since, &query.token), (time("2026-11-01T10:00:00Z"), &None), "the last day by its clock");
        (self.page)(query.center.as_deref())
    }

    async fn fetch_report(
        &self,
        _participant: &str,
        _center: Option<&str>,
        _call: &CallContext,
    ) -> Result<FetchedReport, VendorError> {
        panic!("a check fetches no report")
    }

    fn launch_url(&self, _participant: &str, _center: Option<&str>) -> Option<String> {
        None
    }

    async fn vendor_time(&self, _call: &CallContext) -> Result<Timestamp, VendorError> {
        self.time.clone()
    }
}

fn feeds(centers: &[&str]) -> ReportChannel {
    ReportChannel::Feed(FeedPlan {
        every: SignedDuration::from_mins(10),
        overlap: SignedDuration::from_mins(5),
        since: Some(Timestamp::UNIX_EPOCH),
        centers: centers.iter().map(|center| Some((*center).to_owned())).collect(),
        fetch: FetchRule::Auto,
        expire_after: SignedDuration::from_hours(24),
        max_pages: 1_000,
    })
}

fn report(reading: Result<Reading, Rejection>) -> ReadReport {
    ReadReport { body: b"Planted".to_vec(), canonical: Vec::new(), reading }
}

fn readable() -> ReadReport {
    report(Ok(Reading {
        series: SeriesKey::Participant("Planted".to_owned()),
        hints: MatchHints::default(),
        times: AttemptTimes::default(),
        finished: true,
        closed_by: None,
        score: ReportedScore::default(),
        level: Some("Planted".to_owned()),
        parts: Vec::new(),
        warnings: Vec::new(),
    }))
}

fn unreadable() -> ReadReport {
    report(Err(Rejection::field(RejectionReason::MissingField, "participantId")))
}

fn page(items: Vec<ReadReport>) -> ChangesPage {
    ChangesPage { items, next: Continuation::Until(time("2026-11-02T09:58:00Z")) }
}

async fn checked(source: &Fixed, usable: bool) -> CheckResult {
    let (purpose, priority, exchange) = (CallPurpose::Initial, Priority::Interactive, Exchange::example());
    let found = check(source, "main", usable, &CallContext { purpose, priority, exchange }).await;
    assert_eq!(found.step, Check::Results);
    assert!(!format!("{found:?}").contains("Planted"), "{found:?}");
    found
}

#[tokio::test]
async fn each_feed_is_read_once_and_described_by_numbers() {
    let page = |center: Option<&str>| {
        Ok(match center {
            Some("one") => page(vec![readable(), unreadable()]),
            _ => ChangesPage { items: Vec::new(), next: Continuation::Token("Planted".to_owned()) },
        })
    };
    let found = checked(&Fixed { channel: feeds(&["one", "two"]), time: Ok(time(TIME)), page }, true).await;
    assert_eq!(found.verdict, CheckStatus::Ok);
    assert_eq!(
        found.detail,
        "The feed of \"one\" has 2 entries of the last day, and is complete until 2026-11-02T09:58:00Z, of which 1 cannot \
         be read (missing_field (participantId)). The feed of \"two\" has 0 entries on the first page of the last day, and \
         more pages."
    );
}

#[tokio::test]
async fn entries_of_another_form_are_a_fault() {
    let page = |_: Option<&str>| Ok(page(vec![unreadable(), unreadable()]));
    let found = checked(&Fixed { channel: feeds(&["one"]), time: Ok(time(TIME)), page }, true).await;
    assert_eq!((found.verdict, found.advice.is_some()), (CheckStatus::Fault, true));
    assert!(found.detail.contains("none of its 2 entries") && found.detail.contains("missing_field (participantId)"));
}

#[rstest]
#[case::no_time(true, "The vendor's time")]
#[case::no_page(false, "The feed of \"one\"")]
#[tokio::test]
async fn a_feed_that_cannot_be_read_is_a_fault_with_its_reason(#[case] fails_at_time: bool, #[case] what: &str) {
    let error = || VendorError::new(Code::VendorRateLimited, "Too often.");
    let page = |center: Option<&str>| match center {
        Some("one") => Err(VendorError::new(Code::VendorRateLimited, "Too often.")),
        _ => panic!("no question after a fault"),
    };
    let time = if fails_at_time { Err(error()) } else { Ok(time(TIME)) };
    let found = checked(&Fixed { channel: feeds(&["one", "two"]), time, page }, true).await;
    assert_eq!((found.verdict, found.detail), (CheckStatus::Fault, format!("{what} cannot be read: Too often.")));
    assert_eq!(found.advice.as_deref(), Some(Code::VendorRateLimited.action()));
}

#[tokio::test]
async fn after_another_fault_no_feed_is_read() {
    let error = Err(VendorError::new(Code::Internal, "asked"));
    let source = Fixed { channel: feeds(&["one"]), time: error, page: |_| panic!("not to be read") };
    assert_eq!(checked(&source, false).await.verdict, CheckStatus::Unchecked);
}

#[rstest]
#[case::without_a_key(&[], "No key is asked for", "results.keys")]
#[case::with_a_key(&["Planted"], "The key is expected", "underscores_in_headers")]
#[case::while_it_is_rotated(&["Planted", "Planted2"], "One of 2 keys", "underscores_in_headers")]
#[tokio::test]
async fn a_receiver_is_described_without_its_secrets(
    #[case] keys: &[&str],
    #[case] detail: &str,
    #[case] advice: &str,
) {
    let plan = ReceiverPlan {
        path_token: Secret::new("Planted"),
        keys: keys.iter().copied().map(Secret::new).collect(),
        key_headers: &["webhook_key"],
        on_refusal: 401,
        only_open: true,
    };
    let channel = ReportChannel::Receiver(plan);
    let source = Fixed { channel, time: Ok(time(TIME)), page: |_| panic!("a receiver has no feed") };
    for usable in [true, false] {
        let found = checked(&source, usable).await;
        assert_eq!(found.verdict, CheckStatus::Ok);
        assert!(found.detail.contains(detail) && found.detail.contains("/receivers/main/TOKEN"), "{found:?}");
        assert!(found.advice.as_deref().unwrap().contains(advice), "{found:?}");
    }
}
