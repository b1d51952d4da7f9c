//! Reading kept reports again under other settings.

use super::*;
use crate::domain::candidate::{Candidate, CandidateChanges};
use crate::domain::operation::{OperationKind, OperationState};
use crate::domain::results::Repetition;
use crate::service::OperationQuery;
use crate::service::results::chunk::CHUNK;
use crate::store::{ReportFilter, ResultFilter};

/// Waits until all operations have ended.
pub(super) async fn finish_operations(world: &World) {
    loop {
        let query = OperationQuery { limit: 100, ..OperationQuery::default() };
        let (all, _) = world.gateway.operations(&caller("lms"), query).await.unwrap();
        assert!(all.iter().all(|status| status.operation.kind == OperationKind::Reread));
        if all.iter().all(|status| status.operation.state == OperationState::Completed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn all() -> Page {
    Page { limit: 10_000, after: None }
}

/// What is said of each result that holds an attempt.
async fn said(world: &World) -> Vec<String> {
    let live = world.results("lms").await.into_iter().filter(|result| !result.state.superseded);
    let mut said: Vec<String> = live
        .map(|result| {
            let ExamResult { key, series, as_of, source, .. } = &result;
            let warnings = codes(&result);
            let state = &result.state;
            let (number, activity, grading) = (state.attempt.number, state.activity, state.grading);
            format!(
                "{series:?} {key:?} {as_of} {source:?} {number} {activity:?} {grading:?} {:?} {:?} {warnings:?}",
                given(&result),
                state.assignment.is_some()
            )
        })
        .collect();
    said.sort();
    said
}

/// Plays the same reports into a world, under the settings that `set` makes.
async fn play(set: impl Fn(&Stub)) -> World {
    let world = World::with_feed().await;
    set(&world.stub);
    let first = world.register("lms", "e1", "a@example.org").await;
    world.register("lms", "e2", "b@example.org").await;
    world.book("lms", &first, Some((0, 10_000))).await.unwrap();
    let by_id = |id: &str, said: Said| Said { external_id: Some(id.to_owned()), ..said };
    world.stub.last_page(
        &[
            finished("p1", 10, 4.0),
            finished("p1", 500, 6.0),
            by_id("e2", finished("x1", 10, 5.0)),
            Said { given: None, other_points: Some(9.0), ..by_id("e2", finished("x2", 20, 0.0)) },
        ],
        1_000,
    );
    world.read_feed().await.unwrap();
    world.stub.last_page(&[Said { given: Some(7.0), ..finished("p1", 500, 6.0) }], 2_000);
    world.read_feed().await.unwrap();
    world.look().await;
    world
}

#[tokio::test]
async fn r12_reading_again_under_other_settings_equals_having_read_so_from_the_start() {
    type Change = fn(&Stub);
    let cases: [(&str, Change, Change); 4] = [
        ("repetition", |_| {}, |stub| stub.settings.lock().unwrap().repetition = Repetition::Correction),
        (
            "one attempt becomes two",
            |stub| stub.settings.lock().unwrap().repetition = Repetition::Correction,
            |stub| {
                stub.settings.lock().unwrap().repetition = Repetition::Attempt;
            },
        ),
        ("points", |_| {}, |stub| stub.settings.lock().unwrap().reads_other_points = true),
        (
            "owner",
            |stub| stub.settings.lock().unwrap().reads_external_id = false,
            |stub| stub.settings.lock().unwrap().reads_external_id = true,
        ),
    ];
    for (name, before, after) in cases {
        let world = play(before).await;
        let was = said(&world).await;
        after(&world.stub);
        world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
        finish_operations(&world).await;
        let fresh = play(|stub| {
            before(stub);
            after(stub);
        })
        .await;
        let expected = said(&fresh).await;
        // Ids of candidates differ, and occur in no series of these.
        assert_eq!(said(&world).await, expected, "{name}");
        assert_ne!(was, expected, "{name}");
        let versions: Vec<u32> = world.results("lms").await.iter().map(|result| result.version).collect();
        world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
        finish_operations(&world).await;
        let again: Vec<u32> = world.results("lms").await.iter().map(|result| result.version).collect();
        assert_eq!(versions, again, "{name}: to read again what is read so makes no version");
    }
}

#[tokio::test]
async fn r12_merged_attempts_are_superseded_and_come_back() {
    let world = play(|_| {}).await;
    let before = said(&world).await;
    for (repetition, superseded) in [(Repetition::Correction, 1), (Repetition::Attempt, 0)] {
        world.stub.settings.lock().unwrap().repetition = repetition;
        world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
        finish_operations(&world).await;
        let results = world.results("lms").await;
        assert_eq!(results.iter().filter(|result| result.state.superseded).count(), superseded);
        assert_eq!(results.len(), 4);
    }
    assert_eq!(said(&world).await, before);
}

#[tokio::test]
async fn r12_a_persons_word_holds_when_reports_are_read_again() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    world.receive(None, &webhook("private@example.org", 4.0)).await;
    let report = world.only_report(OWNER).await;
    let target = crate::service::ReportTarget::Assignment(booking.id.clone());
    world.gateway.match_report(&caller("lms"), &report.id, target).await.unwrap();
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    finish_operations(&world).await;
    let result = world.only_result("lms").await;
    assert_eq!((result.state.assignment, result.version), (Some(booking.id), 1));
    let report = world.only_report("lms").await;
    assert_eq!((report.state, report.by_hand, report.result), (ReportState::Applied, true, Some(result.id)));
}

#[tokio::test]
async fn a_rereading_that_was_interrupted_is_run_again() {
    let mut world = play(|_| {}).await;
    world.stub.settings.lock().unwrap().reads_other_points = true;
    // The lock keeps the first gateway from beginning.
    let lock = world.gateway.lock_reports(CONNECTION).await.unwrap();
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    world.gateway.stop_background_work();
    drop(lock);
    world.restart().await;
    finish_operations(&world).await;
    assert!(world.results("lms").await.iter().any(|result| given(result) == Some(9.0)));
}

/// Starts a re-reading, and waits until it has ended.
async fn read_again(world: &World) {
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    finish_operations(world).await;
}

#[tokio::test]
async fn r12_a_persons_word_holds_for_all_reports_of_a_registration_however_far_apart() {
    for place in ["first", "last"] {
        let world = World::with_feed().await;
        let candidate = world.register("lms", "e1", "a@example.org").await;
        let strangers = (0..2 * CHUNK).map(|number| started(&format!("y{number}"), 10));
        let entries = [started("x1", 10)].into_iter().chain(strangers).chain([finished("x1", 10, 4.0)]);
        world.stub.last_page(&entries.collect::<Vec<_>>(), 100);
        world.read_feed().await.unwrap();
        let reports = world.store.reports(Some(OWNER), &ReportFilter::default(), &all()).await.unwrap();
        let said = if place == "first" { reports.last() } else { reports.first() };
        let target = crate::service::ReportTarget::Candidate(candidate);
        world.gateway.match_report(&caller("lms"), &said.unwrap().id, target).await.unwrap();
        world.look().await;
        let before = world.only_result("lms").await;
        assert_eq!(given(&before), Some(4.0), "{place}");
        read_again(&world).await;
        assert_eq!(world.only_result("lms").await, before, "{place}");
    }
}

#[tokio::test]
async fn r12_reading_later_reports_again_leaves_what_was_decided_of_earlier_ones() {
    let world = World::with_receiver().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, None).await.unwrap();
    for given in [4.0, 5.0] {
        world.receive(Some("rust"), &webhook("a@example.org", given)).await;
    }
    // Neither report could be matched now.
    let change = |old: &Candidate| {
        let person = Person { email: Some("b@example.org".into()), ..old.person.clone() };
        Ok(CandidateChanges { person, touched: vec!["/email".to_owned()] })
    };
    let changed = world.gateway.update_candidate(&caller("lms"), &candidate, Box::new(change), false).unwrap();
    changed.result(PATIENCE).await.unwrap();
    let later = world.reports("lms").await.remove(1);
    world.gateway.reread_reports(&caller("lms"), CONNECTION, Some(later.received)).await.unwrap();
    finish_operations(&world).await;
    let results = world.results("lms").await;
    let left: Vec<_> = results.iter().map(|it| (given(it), it.state.superseded, it.state.assignment.clone())).collect();
    let id = Some(booking.id);
    assert_eq!(left, [(Some(4.0), false, id.clone()), (Some(5.0), true, id)]);
    assert_eq!(results[0].version, 1);
}

#[tokio::test]
async fn the_feed_is_not_held_up_by_a_rereading() {
    let world = World::with_feed().await;
    world.register("lms", "e1", "a@example.org").await;
    let count = 2 * CHUNK;
    let said = |number: usize| Said {
        external_id: Some("e1".to_owned()),
        test: Some(format!("test-{number}")),
        other_points: Some(9.0),
        ..Said { given: None, ..finished(&format!("x{number}"), 10, 0.0) }
    };
    world.stub.last_page(&(0..count).map(said).collect::<Vec<_>>(), 100);
    world.read_feed().await.unwrap();
    world.stub.settings.lock().unwrap().reads_other_points = true;
    world.gateway.reread_reports(&caller("lms"), CONNECTION, None).await.unwrap();
    let mut seen_between = false;
    loop {
        // Waits for its turn, as a reader does.
        let _lock = world.gateway.lock_reports(CONNECTION).await.unwrap();
        let results = world.store.results("lms", &ResultFilter::default(), &all()).await.unwrap();
        let scored = results.iter().filter(|result| given(result).is_some()).count();
        seen_between |= 0 < scored && scored < count;
        if scored == count {
            break;
        }
    }
    assert!(seen_between, "the lock is released between portions");
    finish_operations(&world).await;
}

#[tokio::test]
async fn r9_a_report_that_turns_out_to_be_another_tenants_leaves_no_result_of_it() {
    let world = World::with_feed().await;
    world.stub.settings.lock().unwrap().reads_external_id = false;
    let first = world.register("lms", "e1", "a@example.org").await;
    let second = world.register("hr", "e2", "b@example.org").await;
    let said =
        Said { external_id: Some("e2".to_owned()), email: Some("a@example.org".to_owned()), ..finished("x1", 10, 4.0) };
    world.stub.last_page(&[said], 100);
    world.read_feed().await.unwrap();
    assert_eq!(world.only_result("lms").await.state.candidate, first);
    world.stub.settings.lock().unwrap().reads_external_id = true;
    read_again(&world).await;
    let left = world.only_result("lms").await;
    assert_eq!((left.state.candidate, left.state.superseded), (first, true));
    let result = world.only_result("hr").await;
    assert_eq!((result.state.candidate.clone(), given(&result)), (second, Some(4.0)));
    assert_eq!(world.only_report("hr").await.result, Some(result.id));
}
