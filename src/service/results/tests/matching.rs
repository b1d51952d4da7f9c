//! Whose a report is.

use super::*;
use crate::domain::results::ParkReason;

fn anonymous(participant: &str, second: i64) -> Said {
    Said { email: Some("a@example.org".to_owned()), ..finished(participant, second, 4.0) }
}

#[tokio::test]
async fn r9_a_candidate_without_a_booking_is_found_by_id_and_then_by_address() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let by_id = Said { external_id: Some("e1".to_owned()), ..finished("x1", 10, 4.0) };
    world.stub.last_page(&[by_id, anonymous("x2", 20)], 100);
    world.read_feed().await.unwrap();
    let results = world.results("lms").await;
    assert!(results.iter().all(|result| result.state.candidate == candidate && result.state.assignment.is_none()));
    assert_eq!(codes(&results[0]), []);
    assert_eq!(codes(&results[1]), [WarningCode::MatchedByEmail, WarningCode::AttemptNumberAssumed]);
    assert_eq!(results[1].state.attempt.number, 2, "within candidate and assessment");
    // The warnings of the match stay when the attempt is reported again.
    world.stub.last_page(&[Said { email: None, ..finished("x2", 20, 5.0) }], 200);
    world.read_feed().await.unwrap();
    let result = world.results("lms").await.remove(1);
    assert_eq!((given(&result), result.version), (Some(5.0), 2));
    assert_eq!(codes(&result), [WarningCode::MatchedByEmail, WarningCode::AttemptNumberAssumed]);
}

#[tokio::test]
async fn r9_an_address_of_two_people_or_of_two_tenants_is_parked() {
    for tenants in [["lms", "lms"], ["lms", "hr"]] {
        let world = World::with_feed().await;
        world.register(tenants[0], "e1", "a@example.org").await;
        world.register(tenants[1], "e2", "A@example.org").await;
        world.stub.last_page(&[anonymous("x1", 10)], 100);
        world.read_feed().await.unwrap();
        let report = world.only_report(OWNER).await;
        assert_eq!(report.parked_for, Some(ParkReason::SeveralCandidates));
        assert!(world.results("lms").await.is_empty() && world.results("hr").await.is_empty());
        assert!(world.reports("hr").await.is_empty(), "it belongs to the owner");
    }
}

#[tokio::test]
async fn r9_another_persons_id_beats_an_address() {
    let world = World::with_feed().await;
    world.register("lms", "e1", "a@example.org").await;
    world.stub.last_page(&[Said { external_id: Some("e7".to_owned()), ..anonymous("x1", 10) }], 100);
    world.read_feed().await.unwrap();
    assert_eq!(world.only_report(OWNER).await.parked_for, Some(ParkReason::UnknownCandidate));
}

#[tokio::test]
async fn r9_each_tenant_has_its_own_results() {
    let world = World::with_feed().await;
    for (tenant, id) in [("lms", "e1"), ("hr", "e2")] {
        let candidate = world.register(tenant, id, &format!("{id}@example.org")).await;
        world.book(tenant, &candidate, Some((0, 10_000))).await.unwrap();
    }
    world.stub.last_page(&[finished("p1", 10, 1.0), finished("p2", 10, 2.0)], 100);
    world.read_feed().await.unwrap();
    assert_eq!(given(&world.only_result("lms").await), Some(1.0));
    let of_hr = world.only_result("hr").await;
    assert_eq!(given(&of_hr), Some(2.0));
    assert!(world.gateway.result(&caller("lms"), &of_hr.id).await.is_err());
    let report = world.only_report("hr").await;
    assert!(world.gateway.report(&caller("lms"), &report.id, true).await.is_err());
}

#[tokio::test]
async fn r9_a_webhook_without_a_test_is_about_the_only_open_booking() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let first = world.book("lms", &candidate, None).await.unwrap();
    world.receive(None, &webhook("a@example.org", 4.0)).await;
    let result = world.only_result("lms").await;
    assert_eq!((result.state.assignment, result.state.assessment_ref.as_str()), (Some(first.id), TEST));
    assert_eq!(result.state.warnings[0].code, WarningCode::MatchedByOnlyOpen);

    world.book_test("lms", &candidate, "test-2", None).await.unwrap();
    world.receive(None, &webhook("a@example.org", 5.0)).await;
    let report = world.reports(OWNER).await.pop().unwrap();
    assert_eq!(report.parked_for, Some(ParkReason::SeveralOpenBookings));
}

#[tokio::test]
async fn r9_a_named_test_is_never_guessed() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.receive(Some("test-2"), &webhook("a@example.org", 4.0)).await;
    let result = world.only_result("lms").await;
    assert_eq!((result.state.assignment, result.state.assessment_ref.as_str()), (None, "test-2"));
    // The catalogue's id in the address is the vendor's id in the report.
    world.receive(Some("rust"), &webhook("a@example.org", 5.0)).await;
    let results = world.results("lms").await;
    assert_eq!(results[1].state.assessment_ref, TEST);
    assert!(results[1].state.assignment.is_some() && codes(&results[1]).is_empty());
}

#[tokio::test]
async fn r10_a_parked_report_is_looked_at_again_when_its_candidate_is_registered() {
    let world = World::with_receiver().await;
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert_eq!(world.only_report(OWNER).await.parked_for, Some(ParkReason::UnknownCandidate));
    let candidate = world.register("lms", "e1", "A@Example.org").await;
    world.look().await;
    let result = world.only_result("lms").await;
    assert_eq!((result.state.candidate, given(&world.only_result("lms").await)), (candidate, Some(4.0)));
    assert_eq!(states(&world.reports("lms").await), [ReportState::Applied]);
}

#[tokio::test]
async fn r10_a_booking_made_later_claims_an_attempt() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    assert_eq!(world.only_result("lms").await.state.assignment, None);
    let booking = world.book("lms", &candidate, None).await.unwrap();
    world.look().await;
    let result = world.only_result("lms").await;
    assert_eq!((result.state.assignment, result.version), (Some(booking.id), 2));
    assert_eq!(world.only_result("lms").await.state.warnings[0].code, WarningCode::ClaimedLater);
}

#[tokio::test]
async fn r10_a_registration_that_becomes_known_explains_its_reports() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.stub.last_page(&[finished("p1", 10, 4.0)], 100);
    world.read_feed().await.unwrap();
    assert_eq!(states(&world.reports(OWNER).await), [ReportState::Parked]);
    let booking = world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    world.look().await;
    assert_eq!(world.only_result("lms").await.state.assignment, Some(booking.id));
}

#[tokio::test]
async fn r10_the_sweep_looks_at_all_parked_reports() {
    let world = World::with_receiver().await;
    world.receive(None, &webhook("a@example.org", 4.0)).await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.look().await;
    assert_eq!(world.only_report(OWNER).await.parked_for, Some(ParkReason::NoOpenBooking));
    // As an instance of an earlier version, which knows nothing of reports, would have made it known.
    world.stub.shows_reports.store(false, Ordering::SeqCst);
    world.book("lms", &candidate, None).await.unwrap();
    world.stub.shows_reports.store(true, Ordering::SeqCst);
    world.look().await;
    assert!(world.results("lms").await.is_empty());
    world.gateway.sweep_reports(&world.connection()).await.unwrap();
    assert_eq!(given(&world.only_result("lms").await), Some(4.0));
}

#[tokio::test]
async fn an_attempt_belongs_to_the_booking_of_its_time() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let first = world.book("lms", &candidate, None).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    let second = world.book("lms", &candidate, None).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 6.0)).await;
    let results = world.results("lms").await;
    let claimed: Vec<_> = results.iter().map(|result| (result.state.assignment.clone(), given(result))).collect();
    assert_eq!(claimed, [(Some(first.id), Some(4.0)), (Some(second.id), Some(6.0))]);
    assert!(results.iter().all(|result| result.state.attempt.number == 1 && result.version == 1));
}

/// Books a person who is not registered.
async fn book_unregistered(world: &World, tenant: &str) {
    let order = NewAssignment {
        candidate: CandidateKey::ExternalId("e1".into()),
        assessment: TEST.to_owned(),
        valid_from: None,
        valid_until: None,
        center: None,
        notify: Notify::None,
        passwordless: false,
        proctoring: Proctoring::default(),
        if_exists: IfAssignmentExists::Reuse,
        reference: None,
    };
    let booked = world.gateway.create_assignment(&caller(tenant), Some(CONNECTION), order, false).await.unwrap();
    booked.result(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_booking_of_an_unregistered_person_waits_for_the_person() {
    let world = World::with_feed().await;
    book_unregistered(&world, "lms").await;
    world.stub.last_page(&[finished("p1", 10, 4.0)], 100);
    world.read_feed().await.unwrap();
    world.look().await;
    assert_eq!(world.only_report(OWNER).await.parked_for, Some(ParkReason::UnknownCandidate));
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.look().await;
    let result = world.only_result("lms").await;
    assert_eq!(result.state.candidate, candidate);
    assert!(result.state.assignment.is_some());
}

#[tokio::test]
async fn r9_a_parked_report_of_a_booking_is_seen_by_the_bookings_tenant_only() {
    let world = World::with_feed().await;
    book_unregistered(&world, "hr").await;
    world.stub.last_page(&[finished("p1", 10, 4.0)], 100);
    world.read_feed().await.unwrap();
    world.look().await;
    assert!(world.reports(OWNER).await.is_empty(), "it is known whose it is");
    let report = world.only_report("hr").await;
    assert_eq!((report.state, report.parked_for), (ReportState::Parked, Some(ParkReason::UnknownCandidate)));
    assert!(world.gateway.report(&caller(OWNER), &report.id, true).await.is_err());
    world.register("hr", "e1", "a@example.org").await;
    world.look().await;
    assert_eq!(given(&world.only_result("hr").await), Some(4.0));
}

#[tokio::test]
async fn results_of_an_assessment_are_those_at_its_connection() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    world.stub.last_page(&[finished("p1", 10, 4.0)], 100);
    world.read_feed().await.unwrap();
    let of = async |assessment: &str, connection: Option<&str>| {
        let (assessment, connection) = (Some(assessment.to_owned()), connection.map(str::to_owned));
        let query = ResultQuery { assessment, connection, ..ResultQuery::default() };
        world.gateway.results(&caller("lms"), &query, &page()).await.unwrap().items.len()
    };
    assert_eq!((of("rust", None).await, of("rust", Some(CONNECTION)).await, of(TEST, None).await), (1, 1, 1));
    assert_eq!((of("other", None).await, of("other", Some(CONNECTION)).await), (0, 0), "it has the same id elsewhere");
}
