//! Results and reports with several instances, and of an earlier version.

use super::*;
use crate::domain::results::{MatchHints, ReportKind, digest_input};
use crate::store::conformance::{parked, participant, put, record, registered};
use crate::store::{FeedPosition, ResultReads as _};

#[tokio::test]
async fn a_reader_of_an_ended_instance_records_nothing() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let candidate = make.claimed(&**one).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let (result, first) = make.result(&candidate, &participant("p"));
    let report = make.applied(&**one, &candidate, &participant("p"));
    let waiting = parked(make, &**one, tenant, connection, MatchHints::default());
    let watermark = FeedPosition { connection: connection.clone(), center: String::new(), watermark: make.0.now() };
    pair.end_one().await;
    let changes = vec![record(&report), record(&waiting), put(&result, Some(&first)), Mutation::Watermark(watermark)];
    assert!(matches!(one.commit(changes).await, Err(StoreError::Fenced)));
    assert!(matches!(one.purge_reports(make.0.now(), make.0.now()).await, Err(StoreError::Fenced)));
    assert_eq!(two.report(&report.report.id).await.unwrap(), None);
    assert_eq!(two.result(tenant, &result.id).await.unwrap(), None);
    assert_eq!(two.feed_positions(connection).await.unwrap(), []);
    assert!(two.count_reports().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_and_a_report_at_the_same_time_leave_nothing_of_the_person() {
    let Pair { make, one, two, url, .. } = Pair::open().await;
    for _ in 0..20 {
        let candidate = make.claimed(&*one).await;
        let (result, first) = make.result(&candidate, &participant("p"));
        let report = make.applied(&*one, &candidate, &participant("p"));
        let (erase, ingest) = tokio::join!(
            two.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]),
            one.commit(vec![record(&report), put(&result, Some(&first))]),
        );
        erase.unwrap();
        ingest.unwrap();
        assert_eq!(one.result(&candidate.tenant, &result.id).await.unwrap(), None);
        let left = one.report(&report.report.id).await.unwrap().unwrap();
        assert_eq!((left.report.state.as_str(), left.reading, left.report.candidate), ("dismissed", None, None));
    }
    let mut beside = beside(&url).await;
    for table in ["results", "result_versions", "series", "reports WHERE body IS NOT NULL"] {
        assert_eq!(count(&mut beside, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn after_a_rotation_reports_series_and_hints_are_the_same() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let both = Keyring::new(&old, std::slice::from_ref(&new)).unwrap();
    let before = serving(&url, &both, &make).await.unwrap();
    let candidate = make.claimed(&before).await;
    let Candidate { connection, .. } = &candidate;
    let (result, first) = make.result(&candidate, &participant("p"));
    let changes = vec![record(&make.applied(&before, &candidate, &participant("p"))), put(&result, Some(&first))];
    before.commit(changes).await.unwrap();
    let input = digest_input(connection, ReportKind::Webhook, b"{}");
    let store = serving(&url, &Keyring::new(&new, std::slice::from_ref(&old)).unwrap(), &make).await.unwrap();
    assert_eq!(store.report_digest(&input), before.report_digest(&input));
    store.commit(vec![record(&make.applied(&store, &candidate, &participant("p")))]).await.unwrap();
    for store in [&before, &store] {
        let series = store.series(connection, &[participant("p")]).await.unwrap().remove(0);
        assert_eq!((series.sightings.len(), series.results.len()), (2, 1));
    }
    assert_eq!(count(&mut beside(&url).await, "series").await, 1);
}

#[tokio::test]
async fn registrations_of_an_earlier_version_are_found_and_then_indexed() {
    let (url, make) = (Server::shared().schema().await, Maker(environment()));
    let store = serving(&url, &ring(&make.0), &make).await.unwrap();
    let candidate = make.claimed(&store).await;
    let Candidate { connection, .. } = &candidate;
    let booked = registered(&make, &candidate, "p");
    store.commit(vec![Mutation::Assignment(booked.clone())]).await.unwrap();
    for number in 0..4 {
        store.commit(vec![Mutation::Assignment(registered(&make, &candidate, &format!("q-{number}")))]).await.unwrap();
    }
    let mut beside = beside(&url).await;
    sqlx::raw_sql("UPDATE assignments SET participant = NULL").execute(&mut beside).await.unwrap();
    for done in [false, false, true] {
        let found = store.assignments_of_participants(connection, &["p".to_owned()]).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&booked));
        assert_eq!(store.index_participants(2).await.unwrap(), done);
    }
    assert_eq!(count(&mut beside, "assignments WHERE participant IS NULL").await, 0);
    let found = store.assignments_of_participants(connection, &["p".to_owned()]).await.unwrap();
    assert_eq!(found, [booked]);
}
