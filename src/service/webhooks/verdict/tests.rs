use super::*;
use crate::domain::event::EventType;
use crate::domain::ids::{DeliveryId, EventId, WebhookId};
use crate::domain::webhook::{DeliveryOrder, DeliveryReason, WebhookPayload, WebhookSettings, WebhookSource};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(prefix: &str) -> String {
    format!("{prefix}{}", "0".repeat(32))
}

fn webhook() -> Webhook {
    Webhook {
        id: WebhookId::parse(&id("wh_")).unwrap(),
        tenant: "lms".to_owned(),
        owner: "lms".to_owned(),
        source: WebhookSource::Api,
        settings: WebhookSettings {
            url: "https://lms.example/".to_owned(),
            description: None,
            types: Vec::new(),
            connections: Vec::new(),
            assessments: Vec::new(),
            payload: WebhookPayload::Thin,
            order: DeliveryOrder::Resource,
            max_in_flight: 4,
            requests_per_second: 0,
        },
        secrets: Vec::new(),
        state: WebhookState::Enabled,
        reason: None,
        scanned: 0,
        failures: 0,
        failing_since: None,
        resume_at: None,
        created: at(0),
        last_modified: at(0),
        version: 1,
    }
}

fn delivery() -> Delivery {
    Delivery {
        id: DeliveryId::parse(&id("dlv_")).unwrap(),
        tenant: "lms".to_owned(),
        webhook: webhook().id,
        event: EventId::parse(&id("evt_")).unwrap(),
        sequence: 1,
        event_type: EventType::ResultPublished,
        assignment: None,
        connection: None,
        state: DeliveryState::Pending,
        reason: None,
        step: 0,
        due: Some(at(0)),
        attempts: Vec::new(),
        created: at(0),
        version: 1,
    }
}

/// A webhook with one delivery, attempted by a schedule of 0, 10 and 100 seconds.
struct Case {
    webhook: Webhook,
    delivery: Delivery,
    back_off: BackOff,
}

impl Case {
    fn new() -> Self {
        Self { webhook: webhook(), delivery: delivery(), back_off: BackOff::default() }
    }

    fn end(&mut self, began: i64, verdict: Verdict) -> Option<Turn> {
        let schedule = RetrySchedule::new(&[0, 10, 100].map(Duration::from_secs)).unwrap();
        // 100 of 201 is a jitter of nothing.
        let rules = Rules { schedule: &schedule, disable_after: Duration::from_secs(1_000), random: 100 };
        let attempt = DeliveryAttempt { at: at(began), status: None, duration_ms: 1_000, error: None };
        let end = EndedAttempt { sequence: 1, began: at(began), ended: at(began + 1), attempt, verdict };
        conclude(&end, &mut self.delivery, &mut self.webhook, &mut self.back_off, &rules)
    }

    fn due(&self) -> Option<i64> {
        self.delivery.due.map(Timestamp::as_second)
    }

    fn resume_at(&self) -> Option<i64> {
        self.webhook.resume_at.map(Timestamp::as_second)
    }
}

#[test]
fn responses_are_judged_by_their_status() {
    let wait = Some(Duration::from_secs(7));
    let judged = |status: u16| judge(&Ok(DeliveryResponse { status, retry_after: Some("7".to_owned()) }), at(0));
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(judged(status), Verdict::Accepted, "{status}");
    }
    for status in [429, 503] {
        assert_eq!(judged(status), Verdict::HostAway(wait), "{status}");
    }
    for status in [100, 301, 302, 304, 307, 400, 401, 404, 409, 422, 500, 501, 502, 504] {
        assert_eq!(judged(status), Verdict::Refused(wait), "{status}");
    }
    assert_eq!(judged(410), Verdict::Gone);
    let timed_out = Err(DeliveryError::TimedOut(Duration::from_secs(20)));
    assert_eq!(judge(&timed_out, at(0)), Verdict::HostAway(None));
    assert_eq!(failure_text(&timed_out).unwrap(), "No complete response arrived within 20s.");
    let redirect = Ok(DeliveryResponse { status: 302, retry_after: None });
    assert_eq!(failure_text(&redirect).unwrap(), "The receiver responded with status 302; redirects are not followed.");
    assert_eq!(failure_text(&Ok(DeliveryResponse { status: 204, retry_after: None })), None);
}

#[test]
fn a_refused_event_waits_by_the_schedule_from_the_end_of_the_attempt_and_fails_after_the_last_step() {
    let mut case = Case::new();
    assert_eq!(case.end(0, Verdict::Refused(None)), None);
    assert_eq!((case.due(), case.delivery.step, case.resume_at()), (Some(11), 1, None));
    assert_eq!(case.end(20, Verdict::Refused(None)), None);
    assert_eq!(case.due(), Some(121));
    assert_eq!(case.end(200, Verdict::Refused(None)), Some(Turn::Failing));
    assert_eq!((case.delivery.state, case.due()), (DeliveryState::Failed, None));
    assert_eq!((case.delivery.attempts.len(), case.webhook.failures), (3, 3));
    assert_eq!(case.webhook.state, WebhookState::Failing, "the webhook goes on");
    // A retry by hand is one more attempt.
    case.delivery.state = DeliveryState::Pending;
    case.end(300, Verdict::Refused(None));
    assert_eq!(case.delivery.state, DeliveryState::Failed);
}

#[test]
fn retry_after_prolongs_a_pause_and_never_shortens_it() {
    let mut case = Case::new();
    case.end(0, Verdict::Refused(Some(Duration::from_secs(3))));
    assert_eq!(case.due(), Some(11));
    case.end(20, Verdict::Refused(Some(Duration::from_secs(500))));
    assert_eq!(case.due(), Some(521));
    let mut case = Case::new();
    case.end(0, Verdict::HostAway(Some(Duration::from_secs(50))));
    assert_eq!(case.resume_at(), Some(51));
}

#[test]
fn a_host_that_is_away_costs_one_step_per_probe_and_no_event_a_step() {
    let mut case = Case::new();
    case.end(0, Verdict::HostAway(None));
    assert_eq!((case.resume_at(), case.delivery.step, case.due()), (Some(11), 0, Some(1)));
    // Attempts that were under way with it are no further probes.
    for _ in 0..3 {
        case.end(0, Verdict::HostAway(None));
        assert_eq!(case.resume_at(), Some(11));
    }
    case.end(11, Verdict::HostAway(None));
    assert_eq!(case.resume_at(), Some(112));
    case.end(112, Verdict::HostAway(None));
    assert_eq!(case.resume_at(), Some(213), "the last step, again and again");
    assert_eq!((case.delivery.state, case.delivery.step), (DeliveryState::Pending, 0));
    assert_eq!(case.webhook.failures, 6);
    assert_eq!(case.end(213, Verdict::Accepted), None);
    let Webhook { state, failures, failing_since, resume_at, .. } = case.webhook;
    assert_eq!((state, failures, failing_since, resume_at), (WebhookState::Enabled, 0, None, None));
    let ended = BackOff { accepted: Some(at(213)), ..BackOff::default() };
    assert_eq!((case.delivery.state, case.back_off), (DeliveryState::Delivered, ended));
}

#[test]
fn an_older_success_does_not_shorten_what_a_receiver_has_asked_for() {
    let mut case = Case::new();
    case.end(10, Verdict::HostAway(Some(Duration::from_secs(500))));
    assert_eq!(case.resume_at(), Some(511));
    let mut other = delivery();
    std::mem::swap(&mut case.delivery, &mut other);
    case.end(5, Verdict::Accepted);
    assert_eq!((case.resume_at(), case.back_off.step, case.webhook.failures), (Some(511), 1, 0));
    std::mem::swap(&mut case.delivery, &mut other);
    case.end(511, Verdict::Accepted);
    assert_eq!((case.resume_at(), case.back_off.step), (None, 0));
}

#[test]
fn an_event_that_alone_makes_the_receiver_time_out_takes_the_steps_of_the_schedule_and_fails() {
    let mut case = Case::new();
    let mut began = 0;
    let mut seen = Vec::new();
    while case.delivery.state == DeliveryState::Pending && seen.len() < 20 {
        case.end(began, Verdict::HostAway(None));
        seen.push(case.delivery.step);
        // The probe is another event, which arrives.
        let poison = std::mem::replace(&mut case.delivery, delivery());
        began = case.resume_at().unwrap();
        case.end(began, Verdict::Accepted);
        assert_eq!((case.resume_at(), case.back_off.step), (None, 0));
        case.delivery = poison;
        began = case.due().unwrap_or(0).max(began + 1);
    }
    assert_eq!(seen, [0, 1, 2, 3], "the first may have been the host");
    assert_eq!((case.delivery.state, case.due()), (DeliveryState::Failed, None));
}

#[test]
fn an_event_takes_no_step_if_what_was_accepted_had_begun_before_it_failed() {
    let mut case = Case::new();
    case.end(10, Verdict::HostAway(None));
    let first = std::mem::replace(&mut case.delivery, delivery());
    case.end(10, Verdict::Accepted);
    case.delivery = first;
    case.end(100, Verdict::HostAway(None));
    assert_eq!((case.delivery.step, case.due()), (0, Some(101)));
}

#[test]
fn a_webhook_is_failing_after_three_in_a_row() {
    let mut case = Case::new();
    assert_eq!(case.end(0, Verdict::HostAway(None)), None);
    assert_eq!(case.end(20, Verdict::Accepted), None);
    for began in [30, 50] {
        assert_eq!(case.end(began, Verdict::HostAway(None)), None);
    }
    assert_eq!(case.end(200, Verdict::HostAway(None)), Some(Turn::Failing));
    assert_eq!(case.webhook.failing_since, Some(at(30)));
    assert_eq!(case.end(400, Verdict::HostAway(None)), None, "reported once");
}

#[test]
fn a_webhook_is_disabled_after_a_time_without_success() {
    let mut case = Case::new();
    for began in [0, 20, 200, 400, 900] {
        case.end(began, Verdict::HostAway(None));
        assert_ne!(case.webhook.state, WebhookState::Disabled);
    }
    assert_eq!(case.end(1_000, Verdict::HostAway(None)), Some(Turn::Disabled(DisableReason::Failing)));
    assert_eq!((case.webhook.state, case.webhook.reason), (WebhookState::Disabled, Some(DisableReason::Failing)));
    assert_eq!(case.delivery.state, DeliveryState::Pending, "it keeps its place");
}

#[test]
fn a_receiver_that_is_gone_disables_the_webhook_and_keeps_the_event() {
    let mut case = Case::new();
    assert_eq!(case.end(0, Verdict::Gone), Some(Turn::Disabled(DisableReason::Gone)));
    assert_eq!((case.webhook.state, case.webhook.reason), (WebhookState::Disabled, Some(DisableReason::Gone)));
    assert_eq!((case.delivery.state, case.due()), (DeliveryState::Pending, Some(1)));
    assert_eq!(case.end(0, Verdict::Gone), None, "reported once");
}

#[test]
fn a_fault_of_the_gateway_costs_the_event_a_step_and_says_nothing_of_the_receiver() {
    let mut case = Case::new();
    case.end(0, Verdict::HostAway(None));
    let before = (case.webhook.failures, case.webhook.failing_since, case.resume_at(), case.back_off);
    for (began, due) in [(20, Some(31)), (40, Some(141)), (200, None)] {
        assert_eq!(case.end(began, Verdict::Unknown), None);
        assert_eq!(case.due(), due);
    }
    assert_eq!((case.delivery.state, case.delivery.attempts.len()), (DeliveryState::Failed, 4));
    assert_eq!((case.webhook.failures, case.webhook.failing_since, case.resume_at(), case.back_off), before);
}

#[test]
fn a_paused_webhook_stays_paused() {
    for verdict in [Verdict::Accepted, Verdict::Refused(None), Verdict::HostAway(None), Verdict::Unknown] {
        let mut case = Case::new();
        case.webhook.state = WebhookState::Paused;
        for began in [0, 20, 200, 2_000] {
            assert_eq!(case.end(began, verdict), None);
        }
        assert_eq!(case.webhook.state, WebhookState::Paused);
    }
}

#[test]
fn the_latest_attempts_are_kept() {
    let mut case = Case::new();
    for began in 0..200 {
        case.webhook.failing_since = None;
        case.end(began, Verdict::HostAway(None));
    }
    let attempts = case.delivery.attempts;
    assert_eq!((attempts.len(), attempts.last().map(|attempt| attempt.at)), (MAX_ATTEMPTS, Some(at(199))));
}

#[test]
fn an_attempt_that_ends_after_its_delivery_was_given_up_leaves_it_ended_unless_the_receiver_has_accepted_it() {
    for reason in [DeliveryReason::Expired, DeliveryReason::Excluded] {
        for verdict in [Verdict::Refused(None), Verdict::HostAway(None), Verdict::Gone] {
            let mut case = Case { delivery: delivery().failed_for(reason), ..Case::new() };
            case.end(0, verdict);
            let Delivery { state, reason: ended_for, step, due, attempts, .. } = case.delivery;
            let expected = (DeliveryState::Failed, Some(reason), 0, None, 1);
            assert_eq!((state, ended_for, step, due, attempts.len()), expected, "{verdict:?}");
        }
        let mut case = Case { delivery: delivery().failed_for(reason), ..Case::new() };
        case.end(0, Verdict::Accepted);
        assert_eq!((case.delivery.state, case.delivery.reason), (DeliveryState::Delivered, None));
    }
}
