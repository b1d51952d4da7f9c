//! Results and reports in this engine: files, keys, earlier versions, plans, and what a session costs.

use super::opening::of_version;
use super::*;
use crate::domain::results::{MatchHints, ReportKind, ReportState, SeriesKey, digest_input};
use crate::store::conformance::{Maker, parked, participant, put, record, registered};
use crate::store::{FeedPosition, ReceivedWebhook, ReportHint, ResultFilter, ResultReads as _};

const PAGE: Page = Page { limit: 9, after: None };

#[tokio::test]
async fn results_survive_a_restart_and_a_backup() {
    let (directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let series = participant("p");
    let (result, first) = make.result(&candidate, &series);
    let report = make.applied(&store, &candidate, &series);
    let waiting = parked(&make, &store, tenant, connection, MatchHints::default());
    let watermark = FeedPosition {
        connection: connection.clone(),
        center: "c".to_owned(),
        watermark: make.0.now(),
        read: make.0.now(),
    };
    let webhook = ReceivedWebhook {
        id: 0,
        connection: connection.clone(),
        context: waiting.report.context.clone(),
        arrived: make.0.now(),
        body: b"{}".to_vec(),
    };
    let changes = vec![
        record(&report),
        record(&waiting),
        put(&result, Some(&first)),
        Mutation::Watermark(watermark.clone()),
        Mutation::ReceiveWebhook(webhook),
    ];
    store.commit(changes).await.unwrap();
    let read = async |store: &SqliteStore| {
        let of_series = store.series(connection, std::slice::from_ref(&series)).await.unwrap().remove(0);
        (
            (of_series.sightings, of_series.results),
            store.result_versions(tenant, &result.id).await.unwrap(),
            store.report_body(&report.report.id).await.unwrap(),
            store.due_reports(connection, 9).await.unwrap(),
            store.feed_positions(connection).await.unwrap(),
            store.received_webhooks(connection, 9).await.unwrap(),
            store.count_reports().await.unwrap(),
        )
    };
    let before = read(&store).await;
    assert_eq!((before.0.0.len(), before.1.len(), before.3.len(), before.5.len()), (1, 1, 1, 1));
    drop(store);
    let copy = directory.path().join("copy.db");
    SqliteStore::back_up(&path, &copy, &keys).unwrap();
    for path in [&path, &copy] {
        let store = SqliteStore::open(path, keys.clone(), make.0.clone()).unwrap();
        assert_eq!(read(&store).await, before);
    }
}

#[tokio::test]
async fn the_files_contain_nothing_of_reports_and_results() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.candidate("planted-tenant", "c", make.person());
    make.claim(&store, &candidate).await;
    let series = SeriesKey::CandidateAtTest { candidate: "email:planted@example.org".to_owned(), test: None };
    let (result, first) = make.result(&candidate, &series);
    let report = make.applied(&store, &candidate, &series);
    let hints = MatchHints { email: Some("planted@example.org".into()), ..MatchHints::default() };
    let waiting = parked(&make, &store, "planted-tenant", "c", hints);
    let webhook = ReceivedWebhook {
        id: 0,
        connection: "c".to_owned(),
        context: waiting.report.context.clone(),
        arrived: make.0.now(),
        body: b"planted-webhook".to_vec(),
    };
    let booked = registered(&make, &candidate, "planted-participant");
    let changes = vec![
        Mutation::Assignment(booked),
        record(&report),
        record(&waiting),
        put(&result, Some(&first)),
        Mutation::ReceiveWebhook(webhook),
    ];
    store.commit(changes).await.unwrap();
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    let files: Vec<u8> =
        [path.clone(), beside(&path, "-wal")].iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let holds = |text: &str| files.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()));
    assert!(holds("planted-tenant") && holds("fully_graded"), "the search finds clear text");
    for text in ["planted@example.org", "planted-level", "planted-body", "planted-participant", "planted-webhook"] {
        assert!(!holds(text), "{text}");
    }
}

#[tokio::test]
async fn an_erasure_leaves_no_row_of_a_result() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let (result, first) = make.result(&candidate, &participant("p"));
    store
        .commit(vec![record(&make.applied(&store, &candidate, &participant("p"))), put(&result, Some(&first))])
        .await
        .unwrap();
    let count =
        "SELECT (SELECT count(*) FROM results) + (SELECT count(*) FROM result_versions) + (SELECT count(*) FROM series)
                      + (SELECT count(*) FROM reports WHERE reading IS NOT NULL OR body IS NOT NULL)";
    let rows = || store.read(move |read| Ok(read.connection.query_row(count, [], |row| row.get::<_, i64>(0))?));
    assert_eq!(rows().await.unwrap(), 4);
    store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.unwrap();
    assert_eq!(rows().await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_rotation_reports_series_and_hints_are_the_same() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = SqliteStore::open(&path, Keyring::new(&old, &[]).unwrap(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let Candidate { tenant, connection, .. } = &candidate;
    let input = digest_input(connection, ReportKind::Webhook, b"{}");
    let digest = store.report_digest(&input);
    let hints = MatchHints { participant: Some("parked".to_owned()), ..MatchHints::default() };
    let waiting = parked(&make, &store, tenant, connection, hints);
    let (result, first) = make.result(&candidate, &participant("p"));
    let report = make.applied(&store, &candidate, &participant("p"));
    let booked = registered(&make, &candidate, "booked");
    let changes =
        vec![Mutation::Assignment(booked.clone()), record(&waiting), record(&report), put(&result, Some(&first))];
    store.commit(changes).await.unwrap();
    drop(store);
    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let store = SqliteStore::open(&path, rotated, make.0.clone()).unwrap();
    assert_eq!(store.report_digest(&input), digest);
    store.commit(vec![record(&make.applied(&store, &candidate, &participant("p")))]).await.unwrap();
    let series = store.series(connection, &[participant("p")]).await.unwrap().remove(0);
    assert_eq!((series.sightings.len(), series.results.len()), (2, 1));
    assert_eq!(store.assignments_of_participants(connection, &["booked".to_owned()]).await.unwrap(), [booked]);
    let before = store.due_reports(connection, 9).await.unwrap().remove(0);
    let hint = vec![ReportHint::Participant("parked".to_owned())];
    store.commit(vec![Mutation::RecheckReports(connection.clone(), hint)]).await.unwrap();
    let after = store.due_reports(connection, 9).await.unwrap().remove(0);
    assert_eq!(after.rechecks, before.rechecks + 1);
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    let hints = ["booked", "planted-participant", "parked"].map(|id| ReportHint::Participant(id.to_owned()));
    assert_eq!(store.erased_hints(connection, &hints).await.unwrap(), [true, true, false]);
    assert_eq!(store.results(tenant, &ResultFilter::default(), &PAGE).await.unwrap(), []);
}

#[tokio::test]
async fn registrations_of_an_earlier_version_are_found_and_then_indexed() {
    let (_directory, path) = place();
    let connection = of_version(&path, 12);
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let records = RecordCodec::new(keys.clone(), make.0.clone());
    let candidate = make.candidate("t", "c", make.person());
    let mut booked = Vec::new();
    for number in 0..5 {
        let assignment = registered(&make, &candidate, &format!("p-{number}"));
        let row = records.assignment_row(assignment.clone()).unwrap();
        let sql = "INSERT INTO assignments
                       (id, tenant, connection, candidate_id, subject, assessment_ref, assessment, state, created, sealed)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        // One cannot be read any more.
        let sealed = if number == 1 { vec![0; 99] } else { row.sealed };
        let values = rusqlite::params![
            row.id,
            row.tenant,
            row.connection,
            row.candidate_id,
            row.subject,
            row.assessment_ref,
            row.assessment,
            row.state,
            row.created,
            sealed
        ];
        connection.execute(sql, values).unwrap();
        booked.push(assignment);
    }
    drop(connection);
    let store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    let new = registered(&make, &candidate, "p-5");
    store.commit(vec![Mutation::Assignment(new.clone())]).await.unwrap();
    let of = async |store: &SqliteStore, number: usize| {
        store.assignments_of_participants("c", &[format!("p-{number}")]).await.unwrap()
    };
    // The candidate is gone, so that what is written loses its person.
    let new = new.without_person(&candidate.id);
    let mut store = store;
    for done in [false, false, true, true] {
        for number in [0, 2, 3, 4] {
            assert_eq!(of(&store, number).await, std::slice::from_ref(&booked[number]));
        }
        assert_eq!(of(&store, 5).await, std::slice::from_ref(&new));
        assert_eq!(of(&store, 1).await, []);
        assert!(store.assignments_of_participants("other", &["p-0".to_owned()]).await.unwrap().is_empty());
        assert_eq!(store.index_participants(2).await.unwrap(), done);
        // A killed process continues.
        drop(store);
        store = SqliteStore::open_to_serve(&path, keys.clone(), make.0.clone()).unwrap();
    }
    let left = "SELECT count(*) FROM assignments WHERE participant IS NULL";
    drop(store);
    assert_eq!(Connection::open(&path).unwrap().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_moved_or_damaged_report_is_unreadable_and_erased_all_the_same() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let series = participant("p");
    let reports = [(); 2].map(|()| make.applied(&store, &candidate, &series));
    store.commit(reports.iter().map(record).collect()).await.unwrap();
    let ids = [reports[0].report.id.as_str(), reports[1].report.id.as_str()];
    for sql in [
        "UPDATE reports SET body = (SELECT body FROM reports WHERE id = ?2) WHERE id = ?1",
        "UPDATE reports SET tenant = 'thief' WHERE id = ?1 AND ?2 <> ''",
    ] {
        run_sql(&store, sql, &ids).await;
    }
    let read = store.report(&reports[0].report.id).await;
    assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
    let read = store.report_body(&reports[0].report.id).await;
    assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
    store.commit(vec![Mutation::EraseCandidate(candidate.id.clone())]).await.unwrap();
    assert_eq!(store.report(&reports[0].report.id).await.unwrap(), None);
    let left = store.report(&reports[1].report.id).await.unwrap().unwrap();
    assert_eq!(left.report.state, ReportState::Dismissed);
}

/// The statements that only this engine runs, and the index that each must use.
#[test]
fn look_ups_of_reports_and_results_use_their_indices() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    let plan = |sql: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.replace(sql::LIST, "?"))).unwrap();
        statement.raw_query().mapped(|row| row.get::<_, String>("detail")).map(Result::unwrap).collect::<Vec<_>>()
    };
    for (sql, index) in [
        (result_sql::RECEIVED, "received_of_connection"),
        (result_sql::LISTED_REPORTS, "reports_of_tenant"),
        (result_sql::LISTED_REPORTS_OF_STATE, "reports_by_state"),
        (result_sql::DUE_REPORTS, "reports_due"),
        (result_sql::PARKED_REPORTS, "reports_parked"),
        (result_sql::REPORTS_SINCE, "reports_of_connection"),
        (result_sql::SERIES_REPORTS, "reports_of_series"),
        (result_sql::SERIES_RESULTS, "results_of_series"),
        (result_sql::RESULT, "results_of_tenant"),
        (result_sql::LISTED_RESULTS, "results_of_tenant"),
        (result_sql::LISTED_RESULTS_OF_CANDIDATES, "results_of_candidate"),
        (result_sql::LISTED_RESULTS_OF_ASSIGNMENT, "results_of_assignment"),
        (result_sql::RESULTS_OF_ASSIGNMENTS, "results_of_assignment"),
        (result_sql::RESULTS_OF_CANDIDATE, "results_of_candidate"),
        (result_sql::ASSIGNMENTS_OF_PARTICIPANTS, "assignments_of_participant"),
        (result_sql::IS_A_PARTICIPANT_MISSING, "assignments_without_participant"),
        (result_sql::ASSIGNMENTS_WITHOUT_PARTICIPANT, "assignments_without_participant"),
        (result_sql::ASSIGNMENTS_OF_CANDIDATES, "assignments_of_candidate"),
        (result_sql::ASSIGNMENTS_OF_PERSONS, "assignments_of_person"),
        (result_sql::BOOKED_ASSIGNMENTS, "assignments_booked"),
    ] {
        let steps = plan(sql.sqlite);
        assert!(steps.iter().any(|step| step.contains(index)), "{index}: {steps:?}");
        let is_page = sql.sqlite.contains("LIMIT")
            && !index.starts_with("results_of_candidate")
            && !index.contains("of_assignment");
        assert!(!is_page || steps.iter().all(|step| !step.contains("TEMP B-TREE")), "a page is sorted: {steps:?}");
    }
    for (sql, expected) in [
        (
            "UPDATE reports SET due = 1 WHERE number IN (SELECT report FROM report_hints WHERE blind = ?1) AND state <> 'dismissed'",
            "SEARCH reports USING INTEGER PRIMARY KEY",
        ),
        (
            "SELECT id FROM reports WHERE number IN (SELECT report FROM report_hints WHERE blind = ?1) AND state <> 'applied'",
            "SEARCH reports USING INTEGER PRIMARY KEY",
        ),
        (
            "SELECT number FROM reports WHERE state = 'applied' AND body IS NOT NULL AND received < ?1 ORDER BY received LIMIT ?2",
            "reports_with_body",
        ),
        (
            "SELECT number FROM reports WHERE state <> 'applied' AND received < ?1 ORDER BY received LIMIT ?2",
            "reports_not_applied",
        ),
        ("SELECT sealed FROM reports WHERE candidate = ?1 AND series IS NULL", "reports_of_candidate"),
        ("SELECT sealed FROM reports WHERE series = ?1", "reports_of_series"),
        ("DELETE FROM results WHERE candidate = ?1", "results_of_candidate"),
        (
            "SELECT number FROM series WHERE candidate = ?1 UNION SELECT series FROM results WHERE candidate = ?1",
            "series_of_candidate",
        ),
    ] {
        let steps = plan(sql);
        assert!(steps.iter().any(|step| step.contains(expected)), "{sql}: {steps:?}");
        assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{sql}: {steps:?}");
    }
}

/// Prints how many sessions a second are committed, 200 in a call: each with a report, a result and its version, and later a
/// repeat and a correction. Run it alone, in release: `cargo test --release --lib sessions_per_second -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn sessions_per_second() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open_to_serve(&path, ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let (calls, size) = (100, 200);
    let (mut encoded, mut repeats) = (Vec::new(), Vec::new());
    for call in 0..calls {
        let mut changes = Vec::new();
        let mut later = Vec::new();
        for place in 0..size {
            let series = participant(&format!("p-{call}-{place}"));
            let mut report = make.applied(&store, &candidate, &series);
            report.body = Some(vec![b'x'; 1_000]);
            let (result, first) = make.result(&candidate, &series);
            changes.extend([record(&report), put(&result, Some(&first))]);
            let crate::domain::results::Report { connection, digest, id, .. } = report.report;
            let as_of = Some(make.0.now());
            later.push(Mutation::RepeatReport(crate::store::RepeatedReport {
                connection,
                digest,
                as_of,
                count: 1,
                id,
            }));
        }
        encoded.push(changes);
        repeats.push(later);
    }
    for (what, calls) in [("new sessions", encoded), ("repeats", repeats)] {
        let (begun, count) = (std::time::Instant::now(), calls.len() * size);
        for changes in calls {
            store.commit(changes).await.unwrap();
        }
        let took = begun.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let rate = count as f64 / took.as_secs_f64();
        eprintln!("{what}: {count} in {took:?}, {rate:.0} a second");
    }
}
