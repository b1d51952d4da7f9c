//! Plans: no statement that runs often reads a whole table, neither in a new database, whose tables were never analysed,
//! nor after they have grown under the plans made then.

use super::*;
use crate::domain::assignment::Assignment;
use crate::domain::candidate::CandidateState;
use crate::domain::event::{EventFilter, EventSubject, EventType, NewEvent};
use crate::domain::operation::{ItemId, ItemOutcome, ItemStatus};
use crate::domain::results::{MatchHints, ReportState};
use crate::domain::webhook::{DeliveryOrder, DeliveryState, Webhook};
use crate::store::conformance::{
    append, change, end, ended, ended_at_once, fetch, number_all, parked, participant, put, put_delivery, put_webhook,
    record, registered, request, update,
};
use crate::store::{
    AssignmentFilter, CandidateSelector, DeliveryFilter, EventReads as _, Page, ReceivedWebhook, RepeatedReport,
    ReportFilter, ReportHint, ResultFilter, ResultReads as _, WebhookHealth, WebhookReads as _, WebhookScan,
};

/// Tables that grow with what the gateway has done.
const GROWING: &[&str] = &[
    "candidates",
    "identities",
    "lookups",
    "assignments",
    "intents",
    "idempotency_keys",
    "operations",
    "operation_items",
    "operation_counts",
    "audit",
    "audit_heads",
    "turns",
    "series",
    "reports",
    "report_hints",
    "erased_hints",
    "report_fetches",
    "results",
    "result_versions",
    "received",
    "unnumbered_events",
    "events",
    "webhooks",
    "deliveries",
];

/// Times each statement runs before the tables grow: enough for the server to settle on a plan.
const ROUNDS: usize = 12;

/// Registrations by which the tables grow.
const LOADED: usize = 3_000;

/// What sessions that have ended read of a table: how often all of it, and how many entries of its indices.
async fn reads(connection: &mut PgConnection) -> Vec<(String, i64, i64)> {
    while sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'examgate'")
        .fetch_one(&mut *connection)
        .await
        .unwrap()
        > 0
    {
        tokio::task::yield_now().await;
    }
    sqlx::query_as(
        "SELECT relname::text, seq_scan, (SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes AS index
                                          WHERE index.relid = stat.relid)
         FROM pg_stat_user_tables AS stat WHERE schemaname = current_schema() ORDER BY relname",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Returns how many entries were read of each index of a table.
async fn reads_by_index(connection: &mut PgConnection, table: &str) -> Vec<(String, i64)> {
    let sql = "SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes
               WHERE schemaname = current_schema() AND relname = $1 ORDER BY indexrelname";
    sqlx::query_as(sql).bind(table).fetch_all(connection).await.unwrap()
}

/// Does everything once that a write, its retry, its reading and a bulk do.
async fn everything(make: &Maker, store: &PostgresStore) {
    let candidate = make.candidate("t", "c", make.person());
    let (claim, write) = (key(make, &make.name("scope")), claimant(make, &candidate));
    let started = write.intent.started;
    let identities = Identity::of(&candidate.person, BY_NAME);
    let id = candidate.id.to_string();
    assert!(!store.identities_of_other_tenants("t", "c", &identities).await.unwrap());
    assert!(store.candidates("t", Some("c"), &identities[0]).await.unwrap().is_empty());
    assert_eq!(store.begin_writes(Some(&claim), vec![write]).await.unwrap(), [BeginResult::Begun]);
    let again = claimant(make, &make.candidate("t", "c", candidate.person.clone()));
    assert!(matches!(store.begin_writes(None, vec![again]).await.unwrap()[..], [BeginResult::Exists(_)]));
    let registered = Candidate { state: CandidateState::Registered, ..candidate.clone() };
    let entry = crate::domain::audit::Entry::example("t", "request");
    let outcome = vec![
        Mutation::RequireAttempt(id.clone(), started),
        Mutation::Candidate(registered.clone()),
        Mutation::RemoveIntent(id.clone()),
        Mutation::CompleteKey(claim.key(), crate::domain::intent::StoredReply::Gone),
        Mutation::Audit(entry),
    ];
    store.commit(outcome).await.unwrap();
    assert!(matches!(store.acquire_key(&claim).await.unwrap(), KeyState::Completed(_)));

    assert!(store.acquire_locks(&[id.as_str()]).await.unwrap());
    let mut changed = registered;
    changed.person.user_name = Some(make.name("user").into());
    let change = vec![
        Mutation::Candidate(changed.clone()),
        Mutation::Identities(changed.id.clone(), Identity::of(&changed.person, BY_NAME)),
        Mutation::Intent(sending(make, &changed)),
    ];
    store.commit(change).await.unwrap();
    store.commit(vec![Mutation::RemoveIntent(id.clone())]).await.unwrap();
    let mut assignment = make.assignment("t", "c", &make.name("subject"));
    assignment.candidate_id = Some(changed.id.clone());
    for _ in 0..2 {
        store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    }
    store.release_locks(std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(store.candidate("t", &changed.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(store.candidates_by_id("t", std::slice::from_ref(&id)).await.unwrap().len(), 1);
    assert_eq!(store.candidates("t", None, &identities[0]).await.unwrap().len(), 1);
    assert!(store.intent(&id).await.unwrap().is_none());
    assert!(store.intents_of(&id).await.unwrap().is_empty());
    let known_as = vec![("c".to_owned(), identities[0].clone())];
    let of = CandidateSelector { ids: vec![changed.id.clone()], known_as };
    let filter = AssignmentFilter { candidate: Some(of), ..AssignmentFilter::default() };
    let page = Page { after: None, limit: 10 };
    assert_eq!(store.assignments("t", &filter, &page).await.unwrap(), std::slice::from_ref(&assignment));
    results(make, store, &changed, &assignment).await;
    events(make, store, &assignment).await;

    let operation = make.queued(store, "t", 2).await;
    let at = |index| ItemId { operation: operation.id.clone(), index };
    let mut row = claimant(make, &make.candidate("t", "c", make.person()));
    row.intent.origin.item = Some(at(0));
    let record = row.intent.write.record_id().to_owned();
    assert_eq!(store.begin_writes(None, vec![row]).await.unwrap(), [BeginResult::Begun]);
    let ended = vec![
        Mutation::EndItem(at(0), Some(record.clone()), ItemOutcome::of(ItemStatus::Created)),
        Mutation::RemoveIntent(record),
        Mutation::RequeueItem(at(1), "cand_1".to_owned()),
    ];
    store.commit(ended).await.unwrap();
    assert_eq!(store.items(&operation.id, &[], 0, 10).await.unwrap().len(), 2);
    let (_, progress) = store.operation("t", &operation.id).await.unwrap().unwrap();
    assert_eq!(progress.pending, 1);
    store.commit(vec![Mutation::CancelOperation(operation.id.clone())]).await.unwrap();
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 1);
    store.discard_operation(&operation.id).await.unwrap();
}

/// Does everything once that a session, its repeat, its reading, and a report that waits for its person do.
async fn results(make: &Maker, store: &PostgresStore, candidate: &Candidate, booked: &Assignment) {
    let name = make.name("participant");
    let series = participant(&name);
    let registered = registered(make, candidate, &name);
    let (mut result, first) = make.result(candidate, &series);
    result.state.assignment = Some(booked.id.clone());
    let (report, other) = (make.applied(store, candidate, &series), make.applied(store, candidate, &series));
    let hints =
        MatchHints { participant: Some(name.clone()), email: candidate.person.email.clone(), ..MatchHints::default() };
    let waiting = parked(make, store, "t", "c", hints);
    let hint = vec![ReportHint::Participant(name.clone())];
    let changes =
        vec![Mutation::Assignment(registered.clone()), record(&report), record(&waiting), put(&result, Some(&first))];
    store.commit(changes).await.unwrap();
    let digests = [report.report.digest, other.report.digest];
    assert_eq!(store.reports_by_digest("c", &digests).await.unwrap().len(), 1);
    let again = RepeatedReport {
        connection: "c".to_owned(),
        digest: report.report.digest,
        as_of: Some(make.0.now()),
        count: 1,
        id: report.report.id.clone(),
    };
    let repeated = vec![record(&other), Mutation::RepeatReport(again), put(&result, None)];
    store.commit(repeated).await.unwrap();
    store.commit(vec![Mutation::RecheckReports("c".to_owned(), hint.clone())]).await.unwrap();
    let due = store.due_reports("c", 9).await.unwrap();
    store.commit(due.into_iter().map(change).map(update).collect()).await.unwrap();
    let read = store.series("c", std::slice::from_ref(&series)).await.unwrap();
    assert_eq!((read[0].sightings.len(), read[0].results.len()), (2, 1));
    assert_eq!(store.result("t", &result.id).await.unwrap(), Some(result.clone()));
    assert_eq!(store.result_versions("t", &result.id).await.unwrap().len(), 1);
    assert_eq!(store.results_of_assignments(std::slice::from_ref(&booked.id)).await.unwrap().len(), 1);
    assert_eq!(store.results_of_candidate(&candidate.id, &result.state.assessment_ref).await.unwrap().len(), 1);
    let page = Page { after: None, limit: 10 };
    let of = ResultFilter { candidates: Some(vec![candidate.id.clone()]), ..ResultFilter::default() };
    let at = ResultFilter { assignment: Some(booked.id.clone()), ..ResultFilter::default() };
    for filter in [ResultFilter::default(), of, at] {
        assert!(!store.results("t", &filter, &page).await.unwrap().is_empty());
    }
    for state in [None, Some(ReportState::Parked)] {
        let filter = ReportFilter { state, connections: None };
        assert!(!store.reports(Some("t"), &filter, &page).await.unwrap().is_empty());
    }
    assert!(store.report_body(&report.report.id).await.unwrap().is_some());
    assert_eq!(store.assignments_of_participants("c", &[name]).await.unwrap(), std::slice::from_ref(&registered));
    let identities = Identity::of(&candidate.person, BY_NAME);
    let people = store.assignments_of_people("c", std::slice::from_ref(&candidate.id), &identities).await.unwrap();
    assert!(people.contains(&registered));
    assert_eq!(store.candidates_at("c", &identities).await.unwrap().len(), 1);
    assert!(!store.booked_assignments("c", None, 9).await.unwrap().is_empty());
    assert_eq!(store.erased_hints("c", &hint).await.unwrap(), [false]);
    assert_eq!(store.parked_reports("c", 0, 1).await.unwrap().len(), 1);
    assert_eq!(store.reports_since("c", report.report.received, 0, 1).await.unwrap().len(), 1);
    let webhook = ReceivedWebhook {
        id: 0,
        connection: "c".to_owned(),
        context: waiting.report.context.clone(),
        arrived: make.0.now(),
        body: b"{}".to_vec(),
    };
    store.commit(vec![Mutation::ReceiveWebhook(webhook)]).await.unwrap();
    let received = store.received_webhooks("c", 9).await.unwrap();
    store.commit(vec![Mutation::RemoveReceived(received[0].id)]).await.unwrap();
    assert!(!store.count_reports().await.unwrap().is_empty());
    let erased = make.candidate("t", "c", make.person());
    assert_eq!(make.claim(store, &erased).await, BeginResult::Begun);
    let registration = make.name("participant");
    let series = participant(&registration);
    let (result, first) = make.result(&erased, &series);
    store.commit(vec![record(&make.applied(store, &erased, &series)), put(&result, Some(&first))]).await.unwrap();
    let asked = [fetch(&erased, &registration, make.0.now()), fetch(candidate, &make.name("p"), make.0.now())];
    store.commit(asked.iter().map(request).collect()).await.unwrap();
    let due = store.due_fetches("c", make.0.now(), 9).await.unwrap();
    store.commit(vec![end(&due[0], Some((1, make.0.now()))), end(&due[1], None)]).await.unwrap();
    store.commit(vec![Mutation::EraseCandidate(erased.id.clone())]).await.unwrap();
    assert_eq!(store.result("t", &result.id).await.unwrap(), None);
}

/// Does everything once that an event, a webhook and a delivery do.
async fn events(make: &Maker, store: &PostgresStore, booked: &Assignment) {
    let subject = EventSubject {
        connection: Some("c".to_owned()),
        assignment: Some(booked.id.clone()),
        assessment_ref: Some(booked.assessment_ref.clone()),
    };
    let event = NewEvent { subject, ..make.event("t") };
    store.commit(vec![append(&event), append(&make.event("t"))]).await.unwrap();
    number_all(store).await;
    let latest = store.event_bounds("t", jiff::Timestamp::UNIX_EPOCH).await.unwrap().latest;
    // After all of them: this is the longest search.
    assert_eq!(store.event_bounds("t", jiff::Timestamp::MAX).await.unwrap().oldest, latest + 1);
    let rare = EventFilter { types: Some(vec![EventType::WebhookGap]), ..EventFilter::default() };
    let about = EventFilter { assignment: Some(booked.id.clone()), ..EventFilter::default() };
    for filter in [EventFilter::default(), rare, about] {
        store.events("t", latest - 2, &filter, 9).await.unwrap();
        store.last_event("t", &filter).await.unwrap();
    }
    assert_eq!(store.events_by_sequence("t", &[latest, latest - 1]).await.unwrap().len(), 2);
    let webhook = make.webhook("t");
    let delivery = make.delivery(&webhook, latest);
    let scan = WebhookScan { id: webhook.id.clone(), version: 1, before: webhook.scanned, scanned: latest };
    let changes = vec![put_webhook(&webhook), Mutation::ScanWebhook(scan), put_delivery(&delivery)];
    store.commit(changes).await.unwrap();
    assert_eq!(store.pending_deliveries(&webhook.id, 0, 9).await.unwrap(), std::slice::from_ref(&delivery));
    for order in [DeliveryOrder::Resource, DeliveryOrder::Unordered] {
        let found = store.sendable_deliveries(&webhook.id, order, 0, jiff::Timestamp::MAX, 9).await.unwrap();
        assert_eq!(found.deliveries, std::slice::from_ref(&delivery));
    }
    let assignments = [delivery.assignment.clone().unwrap()];
    let first = store.first_pending_deliveries(&webhook.id, &assignments).await.unwrap();
    assert_eq!(first, std::slice::from_ref(&delivery));
    assert!(store.is_attemptable(&delivery, 1).await.unwrap());
    assert_eq!(store.webhook_backlog(&webhook.id).await.unwrap().pending, 1);
    assert!(!store.webhook_backlogs().await.unwrap().is_empty());
    let delivered = ended(&delivery, DeliveryState::Delivered, make.0.now());
    let health = WebhookHealth {
        id: webhook.id.clone(),
        version: 2,
        failures: 1,
        failing_since: None,
        resume_at: Some(make.0.now()),
    };
    let changes = vec![
        put_webhook(&Webhook { version: 2, ..webhook.clone() }),
        Mutation::WebhookHealth(health),
        put_delivery(&delivered),
    ];
    store.commit(changes).await.unwrap();
    assert_eq!(store.delivery("t", &delivery.id).await.unwrap(), Some(delivered));
    let page = Page { after: None, limit: 10 };
    for event in [None, Some(delivery.event)] {
        let filter = DeliveryFilter { event, state: Some(DeliveryState::Delivered), connections: None };
        assert_eq!(store.deliveries("t", &webhook.id, &filter, &page).await.unwrap().len(), 1);
    }
    assert!(store.webhook("t", &webhook.id).await.unwrap().is_some());
    assert!(!store.webhooks("t", &page).await.unwrap().is_empty());
    store.commit(vec![Mutation::RemoveWebhook("t".to_owned(), webhook.id)]).await.unwrap();
    store.purge_events(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frequent_statement_reads_a_whole_table() {
    let server = tokio::task::block_in_place(Server::start);
    let url = server.schema().await;
    let mut beside = beside(&url).await;
    for sql in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(sql).execute(&mut beside).await.unwrap();
    }
    let (make, keys) = (Maker(environment()), ring(&environment()));
    drop(serving(&url, &keys, &make).await.unwrap());
    let before = reads(&mut beside).await;

    let store = serving(&url, &keys, &make).await.unwrap();
    for _ in 0..ROUNDS {
        everything(&make, &store).await;
    }
    // The rows of one operation, all of them claimed before the tables are analysed.
    let operation = make.queued(&store, "t", LOADED as u64).await;
    for page in 0..LOADED / 100 {
        let row = |place: usize| {
            let mut write = claimant(&make, &make.candidate("t", "c", make.person()));
            let index = (page * 100 + place) as u64;
            write.intent.origin.item = Some(ItemId { operation: operation.id.clone(), index });
            write
        };
        let writes: Vec<_> = (0..100).map(row).collect();
        assert!(store.begin_writes(None, writes).await.unwrap().iter().all(|result| *result == BeginResult::Begun));
    }
    let webhook = make.webhook("t");
    store.commit(vec![put_webhook(&webhook)]).await.unwrap();
    for _ in 0..LOADED / 100 {
        let events = (0..100).map(|_| append(&make.event("t")));
        let delivered = || ended_at_once(&make.delivery(&webhook, 1), DeliveryState::Delivered, make.0.now());
        let deliveries = (0..100).map(|_| put_delivery(&delivered()));
        store.commit(events.chain(deliveries).collect()).await.unwrap();
        number_all(&store).await;
    }
    for _ in 0..ROUNDS {
        everything(&make, &store).await;
    }
    drop(store);
    let after = reads(&mut beside).await;

    for ((table, scans_before, read_before), (_, scans, read)) in before.into_iter().zip(after) {
        if GROWING.contains(&table.as_str()) {
            assert_eq!(scans - scans_before, 0, "{table} was read as a whole");
            // One index read as a whole in each round would be more.
            let most = i64::try_from(LOADED * ROUNDS / 2).unwrap();
            let read = read - read_before;
            assert!(read < most, "{table}: {read} entries were read: {:?}", reads_by_index(&mut beside, &table).await);
        }
    }
}
