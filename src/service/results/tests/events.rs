//! The events that reports make.

use serde_json::{Value, json};

use super::stub::BookingAnswer;
use super::*;
use crate::domain::event::EventDocument;
use crate::domain::results::{FetchRule, Repetition};
use crate::service::{EventQuery, EventStart};

/// Returns the tenant's events.
async fn events(world: &World, tenant: &str) -> Vec<EventDocument> {
    let query = EventQuery::default();
    let caller = Arc::new(caller(tenant));
    let mut reader = world.gateway.read_events_from(caller, query, EventStart::Oldest, "?after").await.unwrap();
    world.gateway.next_events(&mut reader, 200, Duration::ZERO).await.unwrap()
}

/// Returns the types of the tenant's events.
async fn types(world: &World, tenant: &str) -> Vec<&'static str> {
    events(world, tenant).await.iter().map(|event| event.event_type.as_str()).collect()
}

async fn booked() -> (World, Assignment) {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    (world, booking)
}

async fn read(world: &World, said: &[Said], until: i64) {
    world.stub.last_page(said, until);
    world.read_feed().await.unwrap();
}

#[tokio::test]
async fn an_attempt_has_its_events_in_order() {
    let (world, booking) = booked().await;
    read(&world, &[started("p1", 10)], 100).await;
    let unscored = Said { given: None, maximum: None, ..finished("p1", 10, 0.0) };
    read(&world, &[unscored], 200).await;
    read(&world, &[finished("p1", 10, 4.0)], 300).await;
    read(&world, &[finished("p1", 10, 5.0)], 400).await;
    // The same again says nothing new.
    read(&world, &[finished("p1", 10, 5.0)], 500).await;
    let events = events(&world, "lms").await;
    let all: Vec<_> = events.iter().map(|event| (event.event_type.as_str(), event.data["version"].as_u64())).collect();
    let expected = [
        ("attempt.started", Some(1)),
        ("attempt.completed", Some(2)),
        ("result.published", Some(3)),
        ("result.corrected", Some(4)),
    ];
    assert_eq!(all, expected);
    let numbers: Vec<_> = events.iter().map(|event| (event.sequence, event.previous)).collect();
    assert_eq!(numbers, [(Some(1), None), (Some(2), Some(1)), (Some(3), Some(2)), (Some(4), Some(3))]);
    let result = world.only_result("lms").await;
    assert_eq!(
        Value::Object(events[3].data.clone()),
        json!({
            "resource": result.id.path(), "version": 4, "assignment": booking.id.path(), "connection": CONNECTION,
            "changed": ["score"],
        })
    );
}

#[tokio::test]
async fn an_attempt_that_is_first_seen_at_its_end_has_no_start() {
    let (world, _) = booked().await;
    read(&world, &[finished("p1", 10, 4.0)], 100).await;
    assert_eq!(types(&world, "lms").await, ["attempt.completed", "result.published"]);
}

#[tokio::test]
async fn a_return_to_in_progress_is_told_and_a_second_grading_corrects() {
    let (world, _) = booked().await;
    world.stub.settings.lock().unwrap().regression = crate::domain::results::Regression::Accept;
    read(&world, &[finished("p1", 10, 4.0)], 100).await;
    read(&world, &[started("p1", 10)], 200).await;
    read(&world, &[finished("p1", 10, 6.0)], 300).await;
    let expected = [
        "attempt.completed",
        "result.published",
        "attempt.reopened",
        "result.corrected",
        "attempt.completed",
        "result.corrected",
    ];
    assert_eq!(types(&world, "lms").await, expected);
}

#[tokio::test]
async fn a_result_whose_attempt_is_merged_says_so_by_an_event() {
    let (world, _) = booked().await;
    read(&world, &[finished("p1", 10, 4.0), finished("p1", 500, 6.0)], 1_000).await;
    world.stub.settings.lock().unwrap().repetition = Repetition::Correction;
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    super::rereading::finish_operations(&world).await;
    let events = events(&world, "lms").await;
    let superseded: Vec<&EventDocument> =
        events.iter().filter(|event| event.data.get("changed") == Some(&json!(["superseded"]))).collect();
    assert_eq!(superseded.len(), 1, "{events:#?}");
    assert_eq!(superseded[0].event_type.as_str(), "result.corrected");
    let merged = world.results("lms").await.into_iter().find(|result| result.state.superseded).unwrap();
    assert_eq!(superseded[0].data["resource"], merged.id.path());
    assert_eq!(events.last().unwrap().event_type.as_str(), "operation.completed");
}

#[tokio::test]
async fn reports_that_need_a_person_are_told_to_the_connections_owner_once() {
    let world = World::with_feed().await;
    read(&world, &[finished("p1", 10, 4.0)], 100).await;
    world.look().await;
    read(&world, &[finished("p1", 10, 4.0)], 200).await;
    world.gateway.look_at_parked_reports(&world.connection()).await.unwrap();
    let parked: Vec<EventDocument> = events(&world, OWNER).await;
    let said: Vec<_> = parked.iter().map(|event| (event.event_type.as_str(), event.data["reason"].clone())).collect();
    assert_eq!(said[0], ("report.parked", json!("unknown_candidate")));
    assert_eq!(said.iter().filter(|(name, _)| *name == "report.parked").count(), 1, "{said:?}");
    let reports = world.reports(OWNER).await;
    assert_eq!(parked[0].data["resource"], reports[0].id.path());
}

#[tokio::test]
async fn evidence_settles_by_an_event_before_the_attempts_own() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    *world.stub.booking.lock().unwrap() = BookingAnswer::Lost;
    assert!(world.book("lms", &candidate, Some((0, 10_000))).await.is_err());
    assert!(events(&world, "lms").await.is_empty(), "the caller was told that it is unknown");
    let said = Said { external_id: Some("e1".to_owned()), ..finished("p9", 10, 4.0) };
    read(&world, &[said], 100).await;
    let events = events(&world, "lms").await;
    let names: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(names, ["assignment.settled", "attempt.completed", "result.published"]);
    let booking = world.only_assignment("lms").await;
    assert_eq!(
        Value::Object(events[0].data.clone()),
        json!({
            "resource": booking.id.path(), "assignment": booking.id.path(), "connection": CONNECTION, "by": "evidence",
            "outcome": "applied", "action": "assignments.create",
        })
    );
}

#[tokio::test]
async fn an_erased_persons_late_reports_make_no_event() {
    let (world, booking) = booked().await;
    read(&world, &[started("p1", 10)], 100).await;
    let candidate = booking.candidate_id.unwrap();
    world.gateway.delete_candidate(&caller("lms"), &candidate).unwrap().result(PATIENCE).await.unwrap();
    read(&world, &[finished("p1", 10, 4.0)], 200).await;
    assert_eq!(types(&world, "lms").await, ["attempt.started"]);
}

#[tokio::test]
async fn a_result_that_is_not_recorded_because_its_person_was_erased_meanwhile_makes_no_event() {
    let (world, booking) = booked().await;
    let connection = world.connection();
    let arrival = super::super::chunk::Arrival {
        read: crate::domain::results::ReportSource::read_report(
            world.stub.as_ref(),
            crate::domain::results::ReportKind::FeedItem,
            &finished("p1", 10, 4.0).body(),
            &crate::domain::results::ReportContext::default(),
        ),
        kind: crate::domain::results::ReportKind::FeedItem,
        context: crate::domain::results::ReportContext::default(),
        as_of: at(100),
        received: at(0),
        inbox: None,
    };
    let lock = world.gateway.lock_reports(CONNECTION).await.unwrap();
    let chunk = super::super::chunk::Chunk::of_arrivals(vec![arrival]);
    let plan = world.gateway.plan_chunk(&connection, chunk, lock).await.unwrap();
    let candidate = booking.candidate_id.unwrap();
    world.store.commit(vec![crate::store::Mutation::EraseCandidate(candidate)]).await.unwrap();
    world.gateway.commit_plan(plan, Vec::new()).await.unwrap();
    assert!(world.results("lms").await.is_empty());
    assert!(events(&world, "lms").await.is_empty());
}

#[tokio::test]
async fn a_booking_expires_once_by_the_vendors_clock() {
    let world = World::new(Stub::with_feed(FetchRule::Never)).await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, Some((0, 1_000))).await.unwrap();
    let other = world.register("lms", "e2", "b@example.org").await;
    let attempted = world.book("lms", &other, Some((0, 1_000))).await.unwrap();
    let participant = attempted.vendor_ref.get("id").unwrap().as_str().unwrap().to_owned();
    let day = 86_400;
    let run = async |said: &[Said], until: i64| {
        world.stub.last_page(said, until);
        world.gateway.read_feeds(&world.connection(), &world.stub.plan(), false).await.unwrap();
    };
    run(&[finished(&participant, 10, 4.0)], 1_000 + day - 1).await;
    assert!(!types(&world, "lms").await.contains(&"assignment.expired"));
    for late in 1..4 {
        run(&[], 1_000 + day + late).await;
    }
    let all = events(&world, "lms").await;
    let expired: Vec<&EventDocument> =
        all.iter().filter(|event| event.event_type.as_str() == "assignment.expired").collect();
    assert_eq!(expired.len(), 1, "{all:#?}");
    assert_eq!(expired[0].data["resource"], booking.id.path());
}

#[tokio::test]
async fn an_expiry_that_was_reported_is_not_reported_after_a_restart() {
    let mut world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 1_000))).await.unwrap();
    for late in [1, 2] {
        world.stub.last_page(&[], 1_000 + 86_400 + late);
        world.gateway.read_feeds(&world.connection(), &world.stub.plan(), false).await.unwrap();
        world.restart().await;
    }
    assert_eq!(types(&world, "lms").await, ["assignment.expired"]);
}
