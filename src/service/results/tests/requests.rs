//! What callers ask for.

use super::*;
use crate::domain::error::Code;
use crate::service::ReportTarget;

#[tokio::test]
async fn an_assignment_is_refreshed_from_the_vendor() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    let refreshed = world.gateway.refresh_assignment(&caller("lms"), &booking.id).await.unwrap();
    assert_eq!(refreshed.id, booking.id, "the vendor knows of no attempt");
    world.stub.reports.lock().unwrap().insert("p1".to_owned(), (finished("p1", 10, 4.0), at(100)));
    world.gateway.refresh_assignment(&caller("lms"), &booking.id).await.unwrap();
    let result = world.only_result("lms").await;
    assert_eq!((given(&result), result.as_of), (Some(4.0), at(100)));
    let other = world.gateway.refresh_assignment(&caller("hr"), &booking.id).await.unwrap_err();
    assert_eq!(other.code, Code::NotFound);
}

#[tokio::test]
async fn a_refresh_needs_a_feed_and_a_registration() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    let error = world.gateway.refresh_assignment(&caller("lms"), &booking.id).await.unwrap_err();
    assert_eq!(error.code, Code::CapabilityUnsupported);
    assert_eq!(world.gateway.read_feed_now(&caller("lms"), CONNECTION).unwrap_err().code, Code::CapabilityUnsupported);

    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    *world.stub.booking.lock().unwrap() = stub::BookingAnswer::ThereBefore;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    let error = world.gateway.refresh_assignment(&caller("lms"), &booking.id).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidReference);
}

#[tokio::test]
async fn a_connection_without_reports_says_so() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    world.stub.shows_reports.store(false, Ordering::SeqCst);
    assert_eq!(world.gateway.progress_of(&[&booking]).await.unwrap(), [None]);
    let error = world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap_err();
    assert_eq!(error.code, Code::CapabilityUnsupported);
    let error = world.gateway.refresh_assignment(&caller("lms"), &booking.id).await.unwrap_err();
    assert_eq!(error.code, Code::CapabilityUnsupported);
}

#[tokio::test]
async fn a_person_matches_a_parked_report() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    world.receive(None, &webhook("private@example.org", 4.0)).await;
    let report = world.only_report(OWNER).await;
    let target = ReportTarget::Candidate(candidate);
    let error = world.gateway.match_report(&caller("lms"), &report.id, target).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidReference, "the report names no test");
    let target = ReportTarget::Assignment(booking.id.clone());
    let foreign = world.gateway.match_report(&caller("hr"), &report.id, target.clone()).await.unwrap_err();
    assert_eq!(foreign.code, Code::NotFound);
    let matched = world.gateway.match_report(&caller("lms"), &report.id, target.clone()).await.unwrap();
    assert_eq!((matched.state, matched.by_hand), (ReportState::Applied, true));
    let result = world.only_result("lms").await;
    assert_eq!((result.state.assignment.clone(), matched.result), (Some(booking.id), Some(result.id.clone())));
    assert!(codes(&result).is_empty());
    let error = world.gateway.match_report(&caller("lms"), &report.id, target).await.unwrap_err();
    assert_eq!(error.code, Code::ReportMatched);
    let error = world.gateway.dismiss_report(&caller("lms"), &report.id).await.unwrap_err();
    assert_eq!(error.code, Code::ReportMatched);
}

#[tokio::test]
async fn a_dismissed_report_stays_dismissed() {
    let world = World::with_receiver().await;
    world.receive(None, &webhook("a@example.org", 4.0)).await;
    let report = world.only_report(OWNER).await;
    for _ in 0..2 {
        let dismissed = world.gateway.dismiss_report(&caller(OWNER), &report.id).await.unwrap();
        assert_eq!(dismissed.state, ReportState::Dismissed);
    }
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.look().await;
    world.receive(None, &webhook("a@example.org", 4.0)).await;
    assert!(world.results("lms").await.is_empty());
    assert_eq!(world.only_report(OWNER).await.repeats, 1);
}

#[tokio::test]
async fn results_are_filtered() {
    let world = World::with_receiver().await;
    let first = world.register("lms", "e1", "a@example.org").await;
    world.register("lms", "e2", "b@example.org").await;
    let booking = world.book("lms", &first, None).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    world.receive(Some("test-2"), &webhook("b@example.org", 5.0)).await;
    let all = ResultQuery::default;
    let cases = [
        (ResultQuery { assignment: Some(booking.id), ..all() }, 1),
        (ResultQuery { candidate: Some(first), ..all() }, 1),
        (ResultQuery { external_id: Some("e2".into()), ..all() }, 1),
        (ResultQuery { external_id: Some("e3".into()), ..all() }, 0),
        (ResultQuery { assessment: Some("rust".to_owned()), ..all() }, 1),
        (ResultQuery { assessment: Some(TEST.to_owned()), ..all() }, 1),
        (ResultQuery { connection: Some(CONNECTION.to_owned()), ..all() }, 2),
        (ResultQuery { activity: Some(crate::domain::results::Activity::InProgress), ..all() }, 0),
        (ResultQuery { grading: Some(crate::domain::results::Grading::FullyGraded), ..all() }, 2),
        (ResultQuery { counts: Some(false), ..all() }, 0),
    ];
    for (query, expected) in cases {
        let part = world.gateway.results(&caller("lms"), &query, &page()).await.unwrap();
        assert_eq!(part.items.len(), expected, "{query:?}");
    }
    let limited = RequestContext { connections: ConnectionAccess::Named([].into()), ..caller("lms") };
    assert!(world.gateway.results(&limited, &all(), &page()).await.unwrap().items.is_empty());
    let one = Page { limit: 1, after: None };
    let part = world.gateway.results(&caller("lms"), &all(), &one).await.unwrap();
    let next = Page { limit: 1, after: part.next };
    let rest = world.gateway.results(&caller("lms"), &all(), &next).await.unwrap();
    assert_eq!((part.items.len(), rest.items.len(), rest.next), (1, 1, None));
}
