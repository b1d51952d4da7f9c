//! Erasure wins.

use super::*;
use crate::domain::results::ReportState;

async fn erase(world: &World, id: &CandidateId) {
    world.gateway.delete_candidate(&caller("lms"), id).unwrap().result(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn r15_results_go_with_the_person_and_later_reports_are_dismissed() {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    world.stub.last_page(&[started("p1", 10)], 100);
    world.read_feed().await.unwrap();
    erase(&world, &candidate).await;
    assert!(world.results("lms").await.is_empty());

    world.stub.last_page(&[started("p1", 10), finished("p1", 10, 4.0)], 200);
    world.read_feed().await.unwrap();
    world.gateway.sweep_reports(&world.connection()).await.unwrap();
    assert!(world.results("lms").await.is_empty());
    let counts = world.store.count_reports().await.unwrap();
    assert!(
        counts.iter().all(|it| it.count == 0 || [ReportState::Dismissed, ReportState::Repeated].contains(&it.state)),
        "{counts:?}"
    );
    for report in world.reports(OWNER).await {
        assert_eq!(world.store.report_body(&report.id).await.unwrap(), None);
        assert_eq!(world.store.report(&report.id).await.unwrap().unwrap().reading, None);
    }
}

#[tokio::test]
async fn r15_webhooks_about_an_erased_person_are_dismissed_until_they_are_registered_again() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    world.receive(Some("rust"), &webhook("a@example.org", 4.0)).await;
    erase(&world, &candidate).await;
    world.receive(Some("rust"), &webhook("a@example.org", 5.0)).await;
    assert!(world.results("lms").await.is_empty());
    assert!(states(&world.reports(OWNER).await).iter().all(|state| *state == ReportState::Dismissed));
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    super::rereading::finish_operations(&world).await;
    assert!(world.results("lms").await.is_empty(), "re-reading brings no person back");

    world.register("lms", "e1", "a@example.org").await;
    world.receive(Some("rust"), &webhook("a@example.org", 6.0)).await;
    assert_eq!(given(&world.only_result("lms").await), Some(6.0), "it is about the new candidate");
}
