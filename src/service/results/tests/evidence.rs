//! What a report proves about a booking.

use super::stub::BookingAnswer;
use super::*;
use crate::domain::assignment::AssignmentState;
use crate::domain::audit::AuditEvent;
use crate::domain::event::{EventFilter, EventType};
use crate::domain::outcome::Outcome;
use crate::domain::results::ParkReason;
use crate::service::IdempotencyRequest;
use crate::store::Mutation;

fn answer(world: &World, answer: BookingAnswer) {
    *world.stub.booking.lock().unwrap() = answer;
}

async fn settled_lines(world: &World, tenant: &str) -> Vec<String> {
    let lines = world.store.audit(tenant, 0, 100).await.unwrap();
    let lines = lines.into_iter().map(|line| serde_json::from_str::<serde_json::Value>(&line.text).unwrap());
    let settled = lines.filter(|line| line["event"] == AuditEvent::Settled.as_str());
    settled.map(|line| line["object"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn r11_a_report_settles_an_unknown_booking_in_the_same_commit() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    answer(&world, BookingAnswer::Lost);
    let key = IdempotencyRequest { scope: "POST /assignments key-1".to_owned(), content: [7; 32] };
    let request = RequestContext { key: Some(key), ..caller("lms") };
    let order = || NewAssignment {
        candidate: CandidateKey::Id(candidate.clone()),
        assessment: TEST.to_owned(),
        valid_from: Some(at(0)),
        valid_until: None,
        center: None,
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::CreateNew,
        reference: None,
    };
    let handle = world.gateway.create_assignment(&request, Some(CONNECTION), order(), false).await.unwrap();
    assert_eq!(handle.result(PATIENCE).await.unwrap_err().outcome, Outcome::Unknown);
    let unknown = world.only_assignment("lms").await;
    assert_eq!(unknown.state, AssignmentState::Unknown);

    let said = Said { external_id: Some("e1".to_owned()), ..finished("p9", 10, 4.0) };
    world.stub.last_page(&[said], 100);
    world.read_feed().await.unwrap();
    let settled = world.only_assignment("lms").await;
    assert_eq!((settled.state, settled.outcome), (AssignmentState::Assigned, Outcome::Applied));
    assert_eq!(settled.vendor_ref.get("id").unwrap(), "p9");
    assert_eq!(settled.launch.unwrap().url, "https://exam.example.org/own#p9", "it follows from the registration");
    assert!(settled.warnings.is_empty(), "{:?}", settled.warnings);
    assert!(world.store.intent(settled.id.as_str()).await.unwrap().is_none());
    assert_eq!(world.only_result("lms").await.state.assignment, Some(settled.id.clone()));
    assert_eq!(settled_lines(&world, "lms").await, [settled.id.path()]);

    let handle = world.gateway.create_assignment(&request, Some(CONNECTION), order(), false).await.unwrap();
    let reply = handle.result(PATIENCE).await.unwrap();
    assert!(reply.replayed, "the key has its reply");
    assert_eq!(reply.written.value().id, settled.id);
}

#[tokio::test]
async fn r11_a_webhook_settles_an_unknown_booking_and_an_earlier_one_does_not() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    answer(&world, BookingAnswer::Lost);
    assert!(world.book("lms", &candidate, None).await.is_err());
    world.look().await;
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Unknown, "it came before the booking");

    world.receive(Some("rust"), &webhook("a@example.org", 5.0)).await;
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Assigned);
}

#[tokio::test]
async fn r11_an_attempt_before_the_window_proves_nothing() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    answer(&world, BookingAnswer::Lost);
    assert!(world.book("lms", &candidate, Some((1_000, 2_000))).await.is_err());
    let said = Said { external_id: Some("e1".to_owned()), ..finished("p9", 10, 4.0) };
    world.stub.last_page(&[said], 5_000);
    world.read_feed().await.unwrap();
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Unknown);
    assert_eq!(world.only_result("lms").await.state.assignment, None);
}

#[tokio::test]
async fn r11_a_booking_in_progress_is_waited_for() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    answer(&world, BookingAnswer::Lost);
    assert!(world.book("lms", &candidate, None).await.is_err());
    let booking = world.only_assignment("lms").await;
    let held = world.gateway.lock_subject(&booking.subject_key()).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert_eq!(states(&world.reports(OWNER).await), [ReportState::Parked]);
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Unknown);
    drop(held);
    world.look().await;
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Assigned);
    assert_eq!(world.only_result("lms").await.state.assignment, Some(booking.id));
}

#[tokio::test]
async fn r11_a_missing_registration_is_supplied() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    answer(&world, BookingAnswer::ThereBefore);
    let booking = world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    assert!(booking.vendor_ref.is_empty() && booking.launch.is_none());
    assert_eq!(booking.warnings[0].code, WarningCode::LaunchUnknown);
    let said = Said { external_id: Some("e1".to_owned()), ..started("p9", 10) };
    world.stub.last_page(&[said], 100);
    world.read_feed().await.unwrap();
    let booking = world.only_assignment("lms").await;
    assert_eq!(booking.vendor_ref.get("id").unwrap(), "p9");
    let launch = booking.launch.unwrap();
    assert_eq!((launch.url.as_str(), launch.expires_at), ("https://exam.example.org/own#p9", Some(at(10_000))));
    assert!(booking.warnings.is_empty(), "{:?}", booking.warnings);
    // From now on the registration alone identifies it.
    world.stub.last_page(&[finished("p9", 10, 4.0)], 200);
    world.read_feed().await.unwrap();
    assert_eq!(given(&world.only_result("lms").await), Some(4.0));
}

#[tokio::test]
async fn r11_a_cancelled_booking_stays_cancelled() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    let cancelled = world.gateway.cancel_assignment(&caller("lms"), &booking.id).unwrap();
    cancelled.result(PATIENCE).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Cancelled);
    let result = world.only_result("lms").await;
    assert_eq!(result.state.assignment, Some(booking.id));
    assert_eq!(codes(&result), [WarningCode::AfterCancellation]);
}

#[tokio::test]
async fn r11_a_rejected_booking_stays_rejected() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    answer(&world, BookingAnswer::Rejected);
    assert!(world.book("lms", &candidate, None).await.is_err());
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert_eq!(world.only_assignment("lms").await.state, AssignmentState::Failed);
    assert_eq!(world.only_result("lms").await.state.assignment, None);
}

#[tokio::test]
async fn r11_the_only_open_booking_is_settled_only_if_there_is_no_other() {
    for with_other in [false, true] {
        let world = World::with_receiver().await;
        let candidate = world.register("lms", "e1", "a@example.org").await;
        if with_other {
            let other = world.book_test("lms", &candidate, "test-2", None).await.unwrap();
            let cancelled = world.gateway.cancel_assignment(&caller("lms"), &other.id).unwrap();
            cancelled.result(PATIENCE).await.unwrap();
        }
        answer(&world, BookingAnswer::Lost);
        assert!(world.book("lms", &candidate, None).await.is_err());
        world.receive(None, &webhook("a@example.org", 4.0)).await;
        let query = crate::service::AssignmentQuery { limit: 10, ..Default::default() };
        let (all, _) = world.gateway.assignments(&caller("lms"), query).await.unwrap();
        let state = all.iter().find(|booking| booking.assessment_ref == TEST).unwrap().state;
        if with_other {
            assert_eq!(state, AssignmentState::Unknown, "the attempt may be one at the test that was cancelled");
            assert_eq!(world.only_report(OWNER).await.parked_for, Some(ParkReason::NoOpenBooking));
        } else {
            assert_eq!(state, AssignmentState::Assigned);
            assert_eq!(given(&world.only_result("lms").await), Some(4.0));
        }
    }
}

#[tokio::test]
async fn a_report_that_waits_for_a_booking_is_told_of_only_if_it_is_nobodys_afterwards() {
    for is_settled in [true, false] {
        let world = World::with_receiver().await;
        let candidate = world.register("lms", "e1", "a@example.org").await;
        answer(&world, BookingAnswer::Lost);
        assert!(world.book("lms", &candidate, None).await.is_err());
        let booking = world.only_assignment("lms").await;
        let parked = async || {
            let filter = EventFilter { types: Some(vec![EventType::ReportParked]), ..EventFilter::default() };
            world.store.events("lms", 0, &filter, 100).await.unwrap().events.len()
        };
        let lock = world.gateway.0.subject_locks.try_lock(&booking.subject_key()).await.unwrap().unwrap();
        world.receive(None, &webhook("a@example.org", 4.0)).await;
        let report = world.only_report("lms").await;
        assert_eq!((report.state, report.parked_for), (ReportState::Parked, Some(ParkReason::BookingInProgress)));
        assert_eq!(parked().await, 0, "it may need no person");
        drop(lock);
        if is_settled {
            world.look().await;
            assert_eq!(world.only_report("lms").await.state, ReportState::Applied);
            assert_eq!(parked().await, 0);
            continue;
        }
        let failed = Assignment { state: AssignmentState::Failed, ..booking };
        world.store.commit(vec![Mutation::Assignment(failed)]).await.unwrap();
        for _ in 0..2 {
            world.look().await;
        }
        let report = world.only_report(OWNER).await;
        assert_eq!((report.state, report.parked_for), (ReportState::Parked, Some(ParkReason::NoOpenBooking)));
        let owners = world.store.events(OWNER, 0, &EventFilter::default(), 100).await.unwrap().events;
        let told = owners.iter().filter(|it| it.event.event_type == EventType::ReportParked).count();
        assert_eq!(told, 1, "{owners:?}");
    }
}
