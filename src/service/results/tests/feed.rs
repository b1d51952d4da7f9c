//! Reading a feed: watermark, runs that break, fetched reports, steps back, the sweep.

use jiff::SignedDuration;

use super::*;
use crate::domain::error::Code;
use crate::domain::results::{Activity, Continuation, FeedPlan, Grading, ProgressActivity, ReportKind, TimeName};
use crate::domain::subject::SubjectKey;
use crate::secret::Secret;
use crate::service::ConnectionStatus;
use crate::store::{PostgresStore, postgres_server::Server};

/// A world with a booked candidate, whose registration is `p1`.
async fn booked() -> (World, Assignment) {
    let world = World::with_feed().await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    let booking = world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    (world, booking)
}

async fn watermark(world: &World) -> Option<i64> {
    let positions = world.store.feed_positions(CONNECTION).await.unwrap();
    positions.first().map(|position| position.watermark.duration_since(at(0)).as_secs())
}

#[tokio::test]
async fn an_attempt_goes_from_begun_to_graded() {
    let (world, booking) = booked().await;
    world.stub.last_page(&[started("p1", 10)], 100);
    assert!(world.read_feed().await.unwrap());
    let begun = world.only_result("lms").await;
    assert_eq!((begun.state.activity, begun.state.grading), (Activity::InProgress, Grading::NotReady));
    assert_eq!(begun.state.assignment.as_ref(), Some(&booking.id));
    assert_eq!((begun.as_of, begun.source), (at(100), ReportKind::FeedItem));

    world.stub.last_page(&[finished("p1", 10, 4.0)], 200);
    world.read_feed().await.unwrap();
    let ended = world.only_result("lms").await;
    assert_eq!((ended.id.clone(), ended.version, given(&ended)), (begun.id, 2, Some(4.0)));
    assert_eq!((ended.state.grading, ended.as_of), (Grading::FullyGraded, at(200)));
    assert_eq!(ended.state.vendor_ref.get("participantId").unwrap(), "p1");
    assert!(codes(&ended).is_empty(), "{:?}", ended.state.warnings);

    let view = world.views("lms").await.remove(0);
    assert_eq!((view.assessment.as_str(), view.external_id.as_deref(), view.counts), ("rust", Some("e1"), true));
    assert_eq!(view.reference.as_deref(), Some("order-1"));
    let (_, versions) = world.gateway.result_versions(&caller("lms"), &ended.id).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2]);
    let progress = world.gateway.progress_of(&[&booking]).await.unwrap().remove(0).unwrap();
    assert_eq!(
        (progress.activity, progress.result, progress.as_of),
        (ProgressActivity::Completed, Some(ended.id), Some(at(200)))
    );
    let reports = world.reports("lms").await;
    assert!(reports.iter().all(|report| report.assignment == Some(booking.id.clone()) && report.result.is_some()));
}

#[tokio::test]
async fn r2_a_report_that_comes_again_is_counted_and_changes_nothing_but_its_time() {
    let (world, _) = booked().await;
    let said = finished("p1", 10, 4.0);
    world.stub.last_page(&[said.clone(), said.clone()], 100);
    world.read_feed().await.unwrap();
    world.stub.last_page(&[said], 200);
    world.read_feed().await.unwrap();
    let report = world.only_report("lms").await;
    assert_eq!((report.repeats, report.as_of), (2, at(200)));
    let result = world.only_result("lms").await;
    assert_eq!((result.version, result.as_of), (1, at(200)), "it is known for longer, and says the same");
}

#[tokio::test]
async fn r3_r4_nothing_of_a_commit_that_fails_is_recorded_and_one_reader_reads_at_a_time() {
    let (world, _) = booked().await;
    let connection = world.connection();
    let arrival = crate::service::results::chunk::Arrival {
        read: crate::domain::results::ReportSource::read_report(
            world.stub.as_ref(),
            ReportKind::FeedItem,
            &finished("p1", 10, 4.0).body(),
            &crate::domain::results::ReportContext::default(),
        ),
        kind: ReportKind::FeedItem,
        context: crate::domain::results::ReportContext::default(),
        as_of: at(100),
        received: at(0),
        inbox: None,
    };
    let chunk = crate::service::results::chunk::Chunk::of_arrivals(vec![arrival]);
    let lock = world.gateway.lock_reports(CONNECTION).await.unwrap();
    let plan = world.gateway.plan_chunk(&connection, chunk, lock).await.unwrap();
    // Refused, since there is no such webhook.
    let refused = vec![
        crate::store::Mutation::Watermark(crate::store::FeedPosition {
            connection: CONNECTION.to_owned(),
            center: String::new(),
            watermark: at(100),
            read: at(0),
        }),
        crate::store::Mutation::RemoveReceived(17),
    ];
    assert!(world.gateway.commit_plan(plan, refused).await.is_err());
    assert!(world.reports("lms").await.is_empty() && world.results("lms").await.is_empty());
    assert_eq!(watermark(&world).await, None);

    let feed = SubjectKey::feed(CONNECTION, "");
    let held = world.gateway.lock_subject(&feed).await.unwrap();
    assert!(!world.read_feed().await.unwrap());
    assert!(world.stub.questions.lock().unwrap().is_empty());
    drop(held);
}

#[tokio::test]
async fn r1_r5_the_watermark_is_the_vendors_and_moves_after_the_last_page() {
    let (world, _) = booked().await;
    world.stub.page(&[finished("p1", 10, 4.0)], Continuation::Token("t1".to_owned()));
    world.stub.failing_page(Code::VendorUnavailable);
    assert!(world.read_feed().await.is_err());
    assert_eq!(watermark(&world).await, None);
    assert_eq!(world.results("lms").await.len(), 1, "what was read is durable");

    world.stub.page(&[finished("p1", 10, 4.0)], Continuation::Token("t2".to_owned()));
    world.stub.last_page(&[], 100);
    world.read_feed().await.unwrap();
    assert_eq!(watermark(&world).await, Some(100));
    let result = world.only_result("lms").await;
    assert_eq!((result.version, result.as_of), (1, at(100)), "entries of earlier pages are known until the end, too");
    assert_eq!(world.only_report("lms").await.repeats, 1, "to move a time is no repeat");

    world.stub.last_page(&[], 50);
    world.read_feed().await.unwrap();
    assert_eq!(watermark(&world).await, Some(100), "never backwards");
}

#[tokio::test]
async fn r6_a_run_that_breaks_starts_again_at_the_watermark_without_a_token() {
    let (mut world, _) = booked().await;
    world.stub.last_page(&[], 1_000);
    world.read_feed().await.unwrap();
    for code in [Code::VendorRejectedRequest, Code::VendorRateLimited, Code::VendorBadResponse] {
        world.stub.page(&[started("p1", 10)], Continuation::Token("t".to_owned()));
        world.stub.failing_page(code);
        assert!(world.read_feed().await.is_err());
        world.restart().await;
    }
    world.stub.last_page(&[started("p1", 10)], 2_000);
    world.read_feed().await.unwrap();
    let questions = world.stub.questions.lock().unwrap().clone();
    let asked: Vec<(i64, Option<&str>)> = questions
        .iter()
        .map(|question| (question.since.duration_since(at(0)).as_secs(), question.token.as_deref()))
        .collect();
    let overlap = 1_000 - 300;
    let first = (-24 * 3600, None);
    let broken = [(overlap, None), (overlap, Some("t"))];
    assert_eq!(asked, [&[first][..], &broken, &broken, &broken, &[(overlap, None)]].concat());
    assert_eq!(world.only_result("lms").await.version, 1);
}

#[tokio::test]
async fn r6_a_feed_that_does_not_end_is_a_fault_and_the_connection_shows_it() {
    for endless in ["same token", "same content", "other pages"] {
        let (world, _) = booked().await;
        for number in 0..10 {
            let token = if endless == "same token" { "t".to_owned() } else { format!("t{number}") };
            let entry = if endless == "same content" { started("p1", 10) } else { started(&format!("x{number}"), 10) };
            world.stub.page(&[entry], Continuation::Token(token));
        }
        let plan = world.stub.plan();
        let error = world.gateway.read_feeds(&world.connection(), &plan, false).await.unwrap_err();
        assert_eq!(error.code, Code::VendorBadResponse, "{endless}");
        assert_eq!(watermark(&world).await, None, "{endless}");
        assert!(world.stub.questions.lock().unwrap().len() <= 5, "{endless}");
        let info = world.gateway.connection(&caller("lms"), CONNECTION).unwrap();
        assert_eq!(info.status, ConnectionStatus::Degraded, "{endless}");
        world.stub.pages.lock().unwrap().clear();
        world.stub.last_page(&[], 100);
        world.gateway.read_feeds(&world.connection(), &plan, false).await.unwrap();
        let info = world.gateway.connection(&caller("lms"), CONNECTION).unwrap();
        assert_eq!(info.status, ConnectionStatus::Ok, "{endless}");
    }
}

#[tokio::test]
async fn r7_portions_and_repeats_of_the_same_reports_give_the_same_results() {
    let entries = [started("p1", 10), started("p2", 20), finished("p1", 10, 4.0), finished("p1", 30, 6.0)];
    let mut all = Vec::new();
    for portions in [vec![4], vec![1, 1, 1, 1], vec![2, 2], vec![1, 2, 1]] {
        for again in [false, true] {
            let world = World::with_feed().await;
            let first = world.register("lms", "e1", "a@example.org").await;
            let second = world.register("lms", "e2", "b@example.org").await;
            for candidate in [&first, &second] {
                world.book("lms", candidate, Some((0, 10_000))).await.unwrap();
            }
            let mut rest = &entries[..];
            for portion in &portions[..portions.len() - 1] {
                world.stub.page(&rest[..*portion], Continuation::Token(format!("t{}", rest.len())));
                rest = &rest[*portion..];
            }
            world.stub.last_page(rest, 1_000);
            world.read_feed().await.unwrap();
            if again {
                world.stub.last_page(&[entries[3].clone(), entries[1].clone()], 1_000);
                world.read_feed().await.unwrap();
            }
            let mut said: Vec<_> = world
                .results("lms")
                .await
                .into_iter()
                .map(|it| {
                    (it.series.clone(), it.key, it.state.attempt.clone(), it.state.activity, given(&it), it.as_of)
                })
                .collect();
            said.sort_by_key(|(series, key, ..)| (series.clone(), *key));
            all.push(said);
        }
    }
    assert_eq!(all[0].len(), 3);
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:#?}");
}

#[tokio::test]
async fn r8_only_a_fetched_report_confirms_a_step_back() {
    let world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    let scored = Said { parts: vec!["One".to_owned()], ..finished("p1", 10, 4.0) };
    world.stub.last_page(std::slice::from_ref(&scored), 100);
    world.read_feed().await.unwrap();
    assert!(world.stub.fetched.lock().unwrap().is_empty(), "nothing is missing");

    // The vendor's report says that it is finished still.
    world.stub.reports.lock().unwrap().insert("p1".to_owned(), (scored, at(210)));
    world.stub.last_page(&[started("p1", 10)], 200);
    world.read_feed().await.unwrap();
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p1"]);
    let result = world.only_result("lms").await;
    assert_eq!((result.state.activity, result.version), (Activity::Completed, 1));

    let again = Said { test: Some(TEST.to_owned()), external_id: Some("e1".to_owned()), ..started("p1", 10) };
    world.stub.reports.lock().unwrap().insert("p1".to_owned(), (again.clone(), at(310)));
    world.stub.last_page(&[Said { email: Some("a@example.org".to_owned()), ..started("p1", 10) }], 300);
    world.read_feed().await.unwrap();
    let result = world.only_result("lms").await;
    assert_eq!((result.state.activity, result.version, given(&result)), (Activity::InProgress, 2, None));
}

#[tokio::test]
async fn a_report_is_fetched_if_a_finished_entry_lacks_something() {
    let world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    let bare = Said { given: None, maximum: None, ..finished("p1", 10, 0.0) };
    world.stub.last_page(std::slice::from_ref(&bare), 100);
    world.stub.reports.lock().unwrap().insert("p1".to_owned(), (finished("p1", 10, 4.0), at(110)));
    world.read_feed().await.unwrap();
    let result = world.only_result("lms").await;
    assert_eq!((given(&result), result.source, result.as_of), (Some(4.0), ReportKind::FetchedReport, at(110)));
    world.stub.last_page(&[bare], 200);
    world.read_feed().await.unwrap();
    // The same entry again may mean that the score was withdrawn, so the vendor is asked once more.
    assert_eq!(world.stub.fetched.lock().unwrap().len(), 2);
    let again = world.only_result("lms").await;
    assert_eq!((given(&again), again.version), (Some(4.0), result.version));

    // A report that the vendor does not have holds nothing up.
    let bare = Said { given: None, ..finished("p1", 20, 0.0) };
    world.stub.page(&[bare], Continuation::Until(at(300)));
    world.stub.reports.lock().unwrap().clear();
    world.read_feed().await.unwrap();
    assert_eq!(watermark(&world).await, Some(300), "the vendor knows of no report");
}

#[tokio::test]
async fn r13_a_booking_expires_once_the_feed_has_passed_its_window() {
    let (world, booking) = booked().await;
    let progress = async || world.gateway.progress_of(&[&booking]).await.unwrap().remove(0).unwrap();
    world.stub.last_page(&[], 10_000 + 24 * 3600);
    world.read_feed().await.unwrap();
    assert_eq!(progress().await.activity, ProgressActivity::NotStarted);
    world.stub.last_page(&[], 10_001 + 24 * 3600);
    world.read_feed().await.unwrap();
    assert_eq!(progress().await.activity, ProgressActivity::Expired);

    world.stub.last_page(&[finished("p1", 20_000, 4.0)], 200_000);
    world.read_feed().await.unwrap();
    assert_eq!(progress().await.activity, ProgressActivity::Completed, "a late attempt is taken");
    assert_eq!(codes(&world.only_result("lms").await), [WarningCode::OutsideWindow]);
}

#[tokio::test]
async fn r14_the_sweep_finds_attempts_that_the_feed_has_left_out() {
    let (world, _) = booked().await;
    let other = world.register("lms", "e2", "b@example.org").await;
    world.book("lms", &other, Some((0, 500_000))).await.unwrap();
    let seen = world.register("lms", "e3", "c@example.org").await;
    world.book("lms", &seen, Some((0, 10_000))).await.unwrap();
    world.stub.last_page(&[finished("p3", 10, 4.0)], 100_000);
    world.read_feed().await.unwrap();
    world.stub.reports.lock().unwrap().insert("p1".to_owned(), (finished("p1", 10, 7.0), at(100_010)));
    world.gateway.sweep_reports(&world.connection()).await.unwrap();
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p1"], "the only one past its window without an attempt");
    let results = world.results("lms").await;
    assert_eq!(results.iter().map(given).collect::<Vec<_>>(), [Some(4.0), Some(7.0)]);
    world.gateway.sweep_reports(&world.connection()).await.unwrap();
    assert_eq!(world.stub.fetched.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn r16_the_vendors_clock_may_be_years_behind() {
    let (world, booking) = booked().await;
    world.stub.last_page(&[], 100);
    world.read_feed().await.unwrap();
    let questions = world.stub.questions.lock().unwrap().clone();
    assert_eq!(questions[0].since, at(-24 * 3600), "a day before the vendor's present");
    let progress = world.gateway.progress_of(&[&booking]).await.unwrap().remove(0).unwrap();
    assert_eq!(progress.activity, ProgressActivity::NotStarted, "the window is over by the gateway's clock only");
}

#[tokio::test]
async fn a_second_start_is_a_second_attempt() {
    let (world, booking) = booked().await;
    world.stub.last_page(&[finished("p1", 10, 4.0), finished("p1", 500, 6.0)], 1_000);
    world.read_feed().await.unwrap();
    let views = world.views("lms").await;
    let numbers: Vec<(u32, bool)> = views.iter().map(|view| (view.result.state.attempt.number, view.counts)).collect();
    assert_eq!(numbers, [(1, false), (2, true)]);
    assert_eq!(codes(&views[1].result), [WarningCode::AttemptNumberAssumed]);
    assert!(!views[0].result.state.attempt.times.approximate.contains(&TimeName::StartedAt));
    let counting = ResultQuery { counts: Some(true), ..ResultQuery::default() };
    let part = world.gateway.results(&caller("lms"), &counting, &page()).await.unwrap();
    assert_eq!(part.items.len(), 1);
    let progress = world.gateway.progress_of(&[&booking]).await.unwrap().remove(0).unwrap();
    assert_eq!((progress.attempts, progress.result), (2, Some(views[1].result.id.clone())));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_rejected_and_holds_nothing_up() {
    let (world, _) = booked().await;
    let odd = crate::domain::results::ReportSource::read_report(
        world.stub.as_ref(),
        ReportKind::FeedItem,
        b"{",
        &crate::domain::results::ReportContext::default(),
    );
    let page = crate::domain::results::ChangesPage { items: vec![odd], next: Continuation::Until(at(100)) };
    world.stub.pages.lock().unwrap().push_back(Ok(page));
    world.read_feed().await.unwrap();
    let report = world.only_report("lms").await;
    assert_eq!(report.state, ReportState::Rejected);
    let view = world.gateway.report(&caller("lms"), &report.id, true).await.unwrap();
    assert_eq!(view.body.as_deref(), Some(&b"{"[..]));
    assert_eq!(watermark(&world).await, Some(100));
}

#[tokio::test]
async fn instances_keep_the_interval_of_a_feed_together() {
    let (world, _) = booked().await;
    world.stub.last_page(&[], 100);
    assert!(world.read_feed().await.unwrap());
    let asked = world.stub.questions.lock().unwrap().len();
    // As another instance does, whose own schedule says that the feed is due.
    let plan = world.stub.plan();
    let wait = world.gateway.read_feeds(&world.connection(), &plan, true).await.unwrap();
    assert!(wait > jiff::SignedDuration::ZERO && wait <= plan.every, "{wait:?}");
    assert_eq!(world.stub.questions.lock().unwrap().len(), asked, "it was read a moment ago");

    // Its interval is over, and it is read by whichever comes first.
    let plan = FeedPlan { every: jiff::SignedDuration::ZERO, ..plan };
    world.stub.last_page(&[], 200);
    world.gateway.read_feeds(&world.connection(), &plan, true).await.unwrap();
    assert_eq!(watermark(&world).await, Some(200));
}

#[tokio::test]
async fn the_sweep_asks_again_about_attempts_that_are_unfinished_or_without_their_score() {
    let world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    for id in ["e1", "e2", "e3"] {
        let candidate = world.register("lms", id, &format!("{id}@example.org")).await;
        world.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    }
    let scored = |participant: &str| Said { parts: vec!["One".to_owned()], ..finished(participant, 10, 4.0) };
    let unscored = Said { given: None, maximum: None, ..finished("p2", 10, 0.0) };
    world.stub.last_page(&[started("p1", 10), unscored, scored("p3")], 100_000);
    world.read_feed().await.unwrap();
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p2"], "the vendor has no report of it yet");
    for participant in ["p1", "p2"] {
        world.stub.reports.lock().unwrap().insert(participant.to_owned(), (scored(participant), at(100_010)));
    }
    world.gateway.sweep_reports(&world.connection()).await.unwrap();
    assert_eq!(world.results("lms").await.iter().map(given).collect::<Vec<_>>(), [Some(4.0); 3]);
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p2", "p1", "p2"]);
}

#[tokio::test]
async fn r7_attempts_that_start_together_keep_their_numbers() {
    let world = World::with_feed().await;
    world.register("lms", "e1", "a@example.org").await;
    let by_id = |said: Said| Said { external_id: Some("e1".to_owned()), ..said };
    world.stub.last_page(&[by_id(started("x1", 10)), by_id(started("x2", 10))], 100);
    world.read_feed().await.unwrap();
    for (participant, until) in [("x2", 200), ("x1", 300)] {
        world.stub.last_page(&[finished(participant, 10, 4.0)], until);
        world.read_feed().await.unwrap();
    }
    let results = world.results("lms").await;
    let numbers: Vec<(u32, u32)> = results.iter().map(|it| (it.state.attempt.number, it.version)).collect();
    assert_eq!(numbers, [(1, 2), (2, 2)], "started and finished, and nothing else");
}

/// Returns what is said of a finished session whose score the vendor's report has.
fn bare(participant: &str) -> Said {
    Said { given: None, maximum: None, ..finished(participant, 10, 0.0) }
}

fn give_reports(world: &World, participants: &[&str]) {
    for participant in participants {
        let report = (finished(participant, 10, 4.0), at(110));
        world.stub.reports.lock().unwrap().insert((*participant).to_owned(), report);
    }
}

/// Lets the pauses after failures pass.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_report_that_cannot_be_fetched_holds_up_nothing_and_is_asked_for_until_it_comes() {
    let world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    for id in ["e1", "e2"] {
        let candidate = world.register("lms", id, &format!("{id}@example.org")).await;
        world.book("lms", &candidate, None).await.unwrap();
    }
    give_reports(&world, &["p1", "p2"]);
    world.stub.failing.lock().unwrap().insert("p1".to_owned());
    world.stub.last_page(&[bare("p1"), bare("p2")], 100);
    world.read_feed().await.unwrap();
    assert_eq!(watermark(&world).await, Some(100), "the feed goes on");
    assert_eq!(world.results("lms").await.iter().map(given).collect::<Vec<_>>(), [None, Some(4.0)]);
    let status = async || {
        world.gateway.count_fetches(&[CONNECTION]).await;
        world.gateway.connection(&caller("lms"), CONNECTION).unwrap().status
    };
    assert_eq!(status().await, ConnectionStatus::Degraded);

    // Neither at once nor for ever.
    let asked = || world.stub.fetched.lock().unwrap().iter().filter(|participant| *participant == "p1").count();
    for (seconds, times) in [(0, 1), (9, 1), (2, 2), (18, 2), (3, 3)] {
        pass(seconds).await;
        world.gateway.fetch_due_reports(&world.connection()).await.unwrap();
        assert_eq!(asked(), times, "{seconds}");
    }
    world.stub.failing.lock().unwrap().clear();
    pass(3600).await;
    world.gateway.fetch_due_reports(&world.connection()).await.unwrap();
    assert_eq!(world.results("lms").await.iter().map(given).collect::<Vec<_>>(), [Some(4.0); 2]);
    assert_eq!(status().await, ConnectionStatus::Ok);
    assert!(world.store.count_fetches().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_to_be_fetched_is_committed_with_the_report_that_needs_it() {
    let mut world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    give_reports(&world, &["x1"]);
    let said = Said { external_id: Some("e1".to_owned()), ..bare("x1") };
    world.stub.last_page(&[said], 100);
    world.read_feed().await.unwrap();
    assert_eq!(states(&world.reports("lms").await), [ReportState::Parked]);
    // Someone without a booking, of whom no sweep knows.
    world.register("lms", "e1", "a@example.org").await;
    world.look().await;
    assert_eq!(given(&world.only_result("lms").await), None);
    assert!(world.stub.fetched.lock().unwrap().is_empty());
    // The process is killed before it asks.
    world.restart().await;
    // The clock of the next process begins anew in these tests.
    pass(60).await;
    world.gateway.fetch_due_reports(&world.connection()).await.unwrap();
    assert_eq!(given(&world.only_result("lms").await), Some(4.0));
    assert!(world.store.count_fetches().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_report_is_fetched_by_one_task_at_a_time() {
    let world = World::new(Stub::with_feed(FetchRule::Auto)).await;
    let candidate = world.register("lms", "e1", "a@example.org").await;
    world.book("lms", &candidate, None).await.unwrap();
    let held = world.gateway.lock_subject(&SubjectKey::fetches(CONNECTION)).await.unwrap();
    world.stub.last_page(&[bare("p1")], 100);
    world.read_feed().await.unwrap();
    assert!(world.stub.fetched.lock().unwrap().is_empty());
    drop(held);
    world.gateway.fetch_due_reports(&world.connection()).await.unwrap();
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p1"]);
}

#[tokio::test]
async fn one_task_sweeps_at_a_time_and_a_report_that_fails_holds_up_no_other() {
    let (world, _) = booked().await;
    let other = world.register("lms", "e2", "b@example.org").await;
    world.book("lms", &other, Some((0, 10_000))).await.unwrap();
    world.stub.last_page(&[], 100_000);
    world.read_feed().await.unwrap();
    let held = world.gateway.lock_subject(&SubjectKey::sweep(CONNECTION)).await.unwrap();
    let wait = world.gateway.sweep_if_due(&world.connection()).await.unwrap();
    assert!(wait < SignedDuration::from_hours(1), "the other task may fail");
    assert!(world.stub.fetched.lock().unwrap().is_empty());
    drop(held);
    give_reports(&world, &["p1", "p2"]);
    world.stub.failing.lock().unwrap().insert("p1".to_owned());
    world.gateway.sweep_if_due(&world.connection()).await.unwrap();
    assert_eq!(*world.stub.fetched.lock().unwrap(), ["p1", "p2"]);
    assert_eq!(given(&world.only_result("lms").await), Some(4.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_sweeps_a_day() {
    let environment = crate::store::conformance::environment();
    let ring = Keyring::new(&Keyring::generate(&environment), &[]).unwrap();
    let url = Secret::new(Server::shared().schema().await);
    let stub = Stub::with_feed(FetchRule::Never);
    let replica = async || {
        let store = PostgresStore::open_to_serve(&url, ring.clone(), environment.clone()).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        World { gateway: start(&store, &stub).await, stub: Arc::clone(&stub), store }
    };
    let (one, other) = (replica().await, replica().await);
    let candidate = one.register("lms", "e1", "a@example.org").await;
    one.book("lms", &candidate, Some((0, 10_000))).await.unwrap();
    stub.last_page(&[], 100_000);
    one.read_feed().await.unwrap();
    for world in [&one, &other] {
        // The lock of the one before is released a moment after its sweep.
        let mut wait = SignedDuration::ZERO;
        for _ in 0..10_000 {
            wait = world.gateway.sweep_if_due(&world.connection()).await.unwrap();
            if wait > SignedDuration::from_hours(1) {
                break;
            }
        }
        assert!(wait > SignedDuration::from_hours(23), "{wait}");
        assert_eq!(*stub.fetched.lock().unwrap(), ["p1"]);
    }
}
