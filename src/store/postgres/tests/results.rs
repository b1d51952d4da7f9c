//! Results and reports with several instances, and of an earlier version.

use super::*;
use crate::domain::assignment::{Assignment, AssignmentState};
use crate::domain::audit::Entry;
use crate::domain::results::{MatchHints, ReportKind, digest_input};
use crate::store::codec::RecordCodec;
use crate::store::conformance::{change, parked, participant, put, record, registered, update};
use crate::store::{FeedPosition, ReportHint, ResultReads as _};

#[tokio::test]
async fn a_reader_of_an_ended_instance_records_nothing() {
    let pair = Pair::open().await;
    let Pair { make, one, two, .. } = &pair;
    let candidate = make.claimed(&**one).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let (result, first) = make.result(&candidate, &participant("p"));
    let report = make.applied(&**one, &candidate, &participant("p"));
    let waiting = parked(make, &**one, tenant, connection, MatchHints::default());
    let watermark = FeedPosition {
        connection: connection.clone(),
        center: String::new(),
        watermark: make.0.now(),
        read: make.0.now(),
    };
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

/// A registration that begins to commit before a report of it is parked, and is committed after the report was looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_parked_while_its_booking_is_committed_is_looked_at_again() {
    let Pair { make, one, two, url, .. } = Pair::open().await;
    let candidate = make.claimed(&*one).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let participant = ReportHint::Participant("p".to_owned());
    let hints = MatchHints { participant: Some("p".to_owned()), ..MatchHints::default() };
    let waiting = parked(&make, &*two, tenant, connection, hints);
    let (mut beside, mut watching) = (beside(&url).await, beside(&url).await);
    // The audit entry is a transaction's last statement: until its chain is free, everything else of it is done.
    let mut held = beside.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO audit_heads (tenant, seq, hash) VALUES ($1, 0, '') ON CONFLICT (tenant) DO UPDATE SET seq = 0",
    )
    .bind(tenant)
    .execute(&mut *held)
    .await
    .unwrap();
    let booking = tokio::spawn({
        let booked = registered(&make, &candidate, "p");
        let changes = vec![
            Mutation::Assignment(booked.clone()),
            Mutation::RecheckReports(connection.clone(), vec![participant]),
            Mutation::Audit(Entry::example(tenant, "request")),
        ];
        async move { one.commit(changes).await.map(|()| booked) }
    });
    until_waiting(&mut watching, 1).await;
    let mut recording = tokio::spawn({
        let (store, recorded) = (Arc::clone(&two), record(&waiting));
        async move { store.commit(vec![recorded]).await }
    });
    let look = async |store: &PostgresStore| {
        let due = store.due_reports(connection, 9).await.unwrap();
        let found = store.assignments_of_participants(connection, &["p".to_owned()]).await.unwrap();
        (due, found)
    };
    let recorded = tokio::select! {
        recorded = &mut recording => Some(recorded),
        () = until_waiting(&mut watching, 2) => None,
    };
    if recorded.is_some() {
        let (due, found) = look(&two).await;
        assert!(found.is_empty());
        let looked = due.into_iter().map(|stored| update(change(stored))).collect();
        two.commit(looked).await.unwrap();
    }
    held.rollback().await.unwrap();
    let booked = booking.await.unwrap().unwrap();
    if recorded.is_none() {
        recording.await.unwrap().unwrap();
    }
    let (due, found) = look(&two).await;
    assert_eq!(found, [booked]);
    assert_eq!(due.len(), 1, "it is looked at once more");
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
    let keys = ring(&make.0);
    let store = serving(&url, &keys, &make).await.unwrap();
    let candidate = make.claimed(&store).await;
    let Candidate { connection, .. } = &candidate;
    let booked = registered(&make, &candidate, "p");
    store.commit(vec![Mutation::Assignment(booked.clone())]).await.unwrap();
    for number in 0..4 {
        store.commit(vec![Mutation::Assignment(registered(&make, &candidate, &format!("q-{number}")))]).await.unwrap();
    }
    let mut beside = beside(&url).await;
    sqlx::raw_sql("UPDATE assignments SET participant = NULL").execute(&mut beside).await.unwrap();
    // Being booked by an instance of an earlier version, which adds the registration later.
    let open = Assignment { state: AssignmentState::Pending, ..registered(&make, &candidate, "open") };
    let before = Assignment { vendor_ref: serde_json::Map::new(), ..open.clone() };
    store.commit(vec![Mutation::Assignment(before)]).await.unwrap();
    let forget = format!("UPDATE assignments SET participant = NULL WHERE id = '{}'", open.id);
    sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut beside).await.unwrap();
    for done in [false, false, true] {
        let found = store.assignments_of_participants(connection, &["p".to_owned()]).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&booked));
        assert_eq!(store.index_participants(2).await.unwrap(), done);
    }
    assert_eq!(count(&mut beside, "assignments WHERE participant IS NULL").await, 1);
    let booked_now = Assignment { state: AssignmentState::Assigned, ..open };
    let row = RecordCodec::new(keys.clone(), make.0.clone()).assignment_row(booked_now.clone()).unwrap();
    sqlx::query("UPDATE assignments SET state = 'assigned', sealed = $2 WHERE id = $1")
        .bind(row.id)
        .bind(row.sealed)
        .execute(&mut beside)
        .await
        .unwrap();
    for _ in 0..2 {
        let found = store.assignments_of_participants(connection, &["open".to_owned()]).await.unwrap();
        assert_eq!(found, std::slice::from_ref(&booked_now));
        assert!(store.index_participants(2).await.unwrap());
    }
    assert_eq!(count(&mut beside, "assignments WHERE participant IS NULL").await, 0);
    let found = store.assignments_of_participants(connection, &["p".to_owned()]).await.unwrap();
    assert_eq!(found, [booked]);
}
