//! Tests specific to this engine: files, threads, keys and disks.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _};
use tempfile::TempDir;

use super::*;
use crate::domain::candidate::{Candidate, Identity, IdentityKind, Person};
use crate::domain::ids::DeliveryId;
use crate::domain::intent::Intent;
use crate::domain::intent::{IdempotencyKeyUse, StoredReply};
use crate::domain::operation::ItemId;
use crate::domain::operation::Operation;
use crate::domain::operation::OperationState;
use crate::domain::webhook::DeliveryState;
use crate::secret::Secret;
use crate::store::SchemaChange;
use crate::store::codec::micros;
use crate::store::conformance::BY_NAME;
use crate::store::conformance::{
    Maker, conformance, cost_of_an_event, ended_at_once, environment, put_delivery, put_webhook,
};
use crate::store::engine::{Access, Engine as _};
use crate::store::{
    BeginResult, CandidateFilter, ItemCounts, KeyState, Mutation, Page, Store, StoreReads as _, Window,
};
use crate::store::{event_sql, result_sql, sql, webhook_sql};

mod events;
mod histories;
mod look_ups;
mod opening;
mod pages;
mod renewal;
mod results;
mod writer;

mod on_disk {
    use super::*;

    fn open(environment: &System) -> (TempDir, Arc<dyn Store>) {
        let (directory, path) = place();
        let store = SqliteStore::open(&path, ring(environment), environment.clone()).unwrap();
        (directory, Arc::new(store))
    }

    conformance!(open);
}

mod in_memory {
    use super::*;

    fn open(environment: &System) -> ((), Arc<dyn Store>) {
        ((), Arc::new(SqliteStore::in_memory(ring(environment), environment.clone()).unwrap()))
    }

    conformance!(open);
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let (_directory, path) = place();
    let (make, keys) = (Maker(environment()), ring(&environment()));
    let store = SqliteStore::open(&path, keys.clone(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let assignment = make.assignment(&candidate.tenant, &candidate.connection, "s");
    store.commit(vec![Mutation::Assignment(assignment.clone())]).await.unwrap();
    drop(store);
    assert!(!beside(&path, "-wal").exists(), "a clean shutdown leaves no log behind");

    let store = SqliteStore::open(&path, keys, make.0.clone()).unwrap();
    assert_eq!(store.candidate(&candidate.tenant, &candidate.id).await.unwrap(), Some(candidate.clone()));
    assert_eq!(store.assignment(&candidate.tenant, &assignment.id).await.unwrap(), Some(assignment));
    assert_eq!(store.intents_of(candidate.id.as_str()).await.unwrap().len(), 1);
    let again = make.candidate(&candidate.tenant, &candidate.connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate]));
}

#[tokio::test]
async fn expired_operations_are_removed_in_portions() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open_to_serve(&path, ring(&make.0), make.0.clone()).unwrap();
    let mut over = make.queued(&store, "t", 2_500).await;
    over.state = OperationState::Completed;
    over.finished = Some(make.0.now());
    let small = Operation { finished: over.finished, state: over.state, ..make.queued(&store, "t", 3).await };
    let kept = make.queued(&store, "t", 2).await;
    store.commit(vec![Mutation::Operation(over.clone()), Mutation::Operation(small.clone())]).await.unwrap();
    let soon = micros(make.0.now() + 1.hour());
    let portion = || store.write(move |tx| operations::purge(tx.connection, soon));
    let left = async |operation: &Operation| store.items(&operation.id, &[], 0, 9_999).await.unwrap().len();
    let mut portions = Vec::new();
    loop {
        let (gone, more) = portion().await.unwrap();
        portions.push((gone, left(&over).await + left(&small).await));
        if !more {
            break;
        }
        // An operation being removed stays hidden.
        store.requeue(&over.id, make.0.now()).await.unwrap();
        let state = store.operation("t", &over.id).await.unwrap().map(|(operation, _)| operation.state);
        assert!(state.is_none_or(|state| state == OperationState::Receiving), "{state:?}");
    }
    assert_eq!(portions, [(0, 1_503), (0, 503), (2, 0)]);
    assert_eq!(left(&kept).await, 2);
    assert!(store.operation("t", &over.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_or_moved_record_is_unreadable() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let (one, two) = (make.claimed(&store).await, make.claimed(&store).await);
    let tampering = [
        "UPDATE candidates SET sealed = (SELECT sealed FROM candidates WHERE id = ?2) WHERE id = ?1",
        "UPDATE candidates SET sealed = zeroblob(200) WHERE id = ?1 AND ?2 <> ''",
    ];
    for sql in tampering {
        run_sql(&store, sql, &[one.id.as_str(), two.id.as_str()]).await;
        let read = store.candidate(&one.tenant, &one.id).await;
        assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
    }
    // Write access to the file must not be enough to hand a record to another tenant.
    run_sql(&store, "UPDATE candidates SET tenant = ?2 WHERE id = ?1", &[two.id.as_str(), "thief"]).await;
    let read = store.candidate("thief", &two.id).await;
    assert!(matches!(read, Err(StoreError::Unreadable(_))), "{read:?}");
}

#[tokio::test]
async fn a_rotated_key_still_reads_and_finds() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = SqliteStore::open(&path, Keyring::new(&old, &[]).unwrap(), make.0.clone()).unwrap();
    let mut candidate = make.claimed(&store).await;
    let Candidate { tenant, connection, .. } = candidate.clone();
    let early = make.assignment(&tenant, &connection, "s");
    store.commit(vec![Mutation::Assignment(early.clone())]).await.unwrap();
    drop(store);

    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let store = SqliteStore::open(&path, rotated, make.0.clone()).unwrap();
    assert_eq!(store.candidate(&tenant, &candidate.id).await.unwrap(), Some(candidate.clone()));
    let again = make.candidate(&tenant, &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &again).await, BeginResult::Exists(vec![candidate.clone()]));
    let stranger = make.candidate("stranger", &connection, candidate.person.clone());
    assert_eq!(make.claim(&store, &stranger).await, BeginResult::TakenByOtherTenant);
    let other = make.candidate(&tenant, &connection, make.person());
    make.claim(&store, &other).await;
    let taken = Mutation::Identities(other.id.clone(), Identity::of(&candidate.person, BY_NAME));
    assert!(matches!(store.commit(vec![taken]).await, Err(StoreError::Conflict)));

    assert!(store.is_subject_known(&connection, "s").await.unwrap());
    let late = make.assignment(&tenant, &connection, "s");
    store.commit(vec![Mutation::Assignment(late.clone())]).await.unwrap();
    assert_eq!(store.bookings(&tenant, &connection, "s").await.unwrap(), [late, early]);

    // A rewritten candidate is found once, under the new key.
    candidate.person.name.formatted = Some("Ada".into());
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    for identity in Identity::of(&candidate.person, IdentityKind::ALL) {
        assert_eq!(store.candidates(&tenant, None, &identity).await.unwrap(), [candidate.clone()]);
    }
    drop(store);
    let only_new = SqliteStore::open(&path, Keyring::new(&new, &[]).unwrap(), make.0.clone());
    assert!(matches!(only_new, Err(StoreError::Unreadable(_))), "the earlier key is still needed");
}

#[tokio::test]
async fn the_files_contain_no_personal_data() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open(&path, ring(&make.0), make.0.clone()).unwrap();
    let person = Person {
        external_id: Some("Planted-External-Id".into()),
        user_name: Some("planted-user".into()),
        email: Some("planted@example.org".into()),
        ..make.person()
    };
    let mut candidate = make.candidate("planted-tenant", "c", person);
    assert_eq!(make.claim(&store, &candidate).await, BeginResult::Begun);
    candidate.person.group = Some("planted-group".into());
    let mut assignment = make.assignment("planted-tenant", "c", "planted@example.org|rust|");
    assignment.order.reference = Some("planted-reference".into());
    store.commit(vec![Mutation::Candidate(candidate), Mutation::Assignment(assignment)]).await.unwrap();

    let webhook = make.webhook("planted-tenant");
    let delivery = ended_at_once(&make.delivery(&webhook, 1), DeliveryState::Failed, make.0.now());
    store.commit(vec![put_webhook(&webhook), put_delivery(&delivery)]).await.unwrap();

    let files: Vec<u8> =
        [path.clone(), beside(&path, "-wal")].iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let holds = |text: &str| files.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()));
    assert!(holds("planted-tenant"), "the search finds clear text");
    for text in [
        "planted-external-id",
        "planted-user",
        "planted@example.org",
        "planted-group",
        "planted-reference",
        "lovelace",
        "correct horse",
        "ada@example.org",
        "go.example.org",
        "order 7",
        "hooks.example.org",
        "planted-path",
        "planted-description",
        "whsec_planted",
        "planted-attempt-error",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[tokio::test]
async fn an_erased_candidate_leaves_no_row() {
    let make = Maker(environment());
    let store = SqliteStore::in_memory(ring(&make.0), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    let count = "SELECT (SELECT count(*) FROM candidates) + (SELECT count(*) FROM identities)
                      + (SELECT count(*) FROM lookups) + (SELECT count(*) FROM intents)";
    let rows = || store.read(move |read| Ok(read.connection.query_row(count, [], |row| row.get::<_, i64>(0))?));
    assert_eq!(rows().await.unwrap(), 1 + 1 + 1 + 1);
    store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.unwrap();
    assert_eq!(rows().await.unwrap(), 0);
}

#[tokio::test]
async fn a_claimed_identity_has_no_separate_look_up() {
    let make = Maker(environment());
    let (_directory, path) = place();
    let (old, new) = (Keyring::generate(&make.0), Keyring::generate(&make.0));
    let store = SqliteStore::open(&path, Keyring::new(&old, &[]).unwrap(), make.0.clone()).unwrap();
    let candidate = make.claimed(&store).await;
    drop(store);
    // The identity stays under the key it was written under.
    let rotated = Keyring::new(&new, std::slice::from_ref(&old)).unwrap();
    let store = SqliteStore::open(&path, rotated, make.0.clone()).unwrap();
    let kinds = || {
        store.read(move |read| {
            let mut statement = read.connection.prepare("SELECT kind FROM lookups ORDER BY kind")?;
            let kinds = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            Ok(kinds)
        })
    };
    assert_eq!(kinds().await.unwrap(), ["email"]);
    store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), ["email"]);
    store.commit(vec![Mutation::Identities(candidate.id.clone(), Vec::new())]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), ["email", "externalId"]);
    let all = Identity::of(&candidate.person, IdentityKind::ALL);
    store.commit(vec![Mutation::Identities(candidate.id.clone(), all)]).await.unwrap();
    assert_eq!(kinds().await.unwrap(), [] as [&str; 0]);
}

#[test]
fn lists_use_an_index() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    for filter in ["tenant = 't'", "tenant = 't' AND candidate_id = 'c'"] {
        let sql =
            format!("EXPLAIN QUERY PLAN SELECT sealed FROM assignments WHERE {filter} AND id < 'x' ORDER BY id DESC");
        let plan: String = connection.query_row(&sql, [], |row| row.get("detail")).unwrap();
        assert!(plan.starts_with("SEARCH assignments USING INDEX"), "{plan}");
    }
    for (sql, index) in [
        (sql::LISTED_CANDIDATES, "candidates_of_tenant"),
        (sql::LISTED_CANDIDATES_OF_STATE, "candidates_by_state"),
        (sql::LISTED_CANDIDATES_OF_GROUP, "candidates_of_group"),
    ] {
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.sqlite.replace(sql::LIST, "?"));
        let mut plan = connection.prepare(&explain).unwrap();
        let plan = plan.raw_query().mapped(|row| row.get::<_, String>("detail")).map(Result::unwrap);
        // One step, so nothing is sorted.
        let [step] = <[String; 1]>::try_from(plan.collect::<Vec<_>>()).unwrap();
        assert!(step.contains(index), "{step}");
    }
}

#[test]
fn shared_statements_number_their_parameters_by_first_use_and_scan_no_table() {
    let environment = environment();
    let connection = connect::memory(&RecordCodec::new(ring(&environment), environment.clone())).unwrap();
    for (name, sql) in sql::ALL.iter().chain(result_sql::ALL).chain(event_sql::ALL).chain(webhook_sql::ALL) {
        let text = sql.sqlite.replace(sql::LIST, "?");
        let statement = connection.prepare(&text).unwrap();
        for index in 1..=statement.parameter_count() {
            let number = format!("${index}");
            assert_eq!(statement.parameter_name(index).unwrap_or(&number), number, "{name}");
        }
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let details = plan.raw_query().mapped(|row| row.get::<_, String>("detail")).map(Result::unwrap);
        // Named `r` and `s`: reports, results and series; `v`: versions; `d` and `w`: deliveries and webhooks.
        let tables = ["candidates", "assignments", "booked", "intents", "operation_items", "operation_counts"];
        let tables = tables.iter().chain(&[
            "r",
            "s",
            "v",
            "reports",
            "results",
            "series",
            "received",
            "erased_hints",
            "d",
            "w",
            "events",
            "webhooks",
        ]);
        let is_scan = |detail: &String| {
            tables
                .clone()
                .any(|table| *detail == format!("SCAN {table}") || detail.starts_with(&format!("SCAN {table} ")))
        };
        let scans: Vec<String> = details.filter(is_scan).collect();
        assert!(scans.is_empty() || *name == "UNSETTLED", "{name}: {scans:?}");
    }
}

/// Run it alone: `cargo test --release --lib an_event_costs -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn an_event_costs() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = SqliteStore::open_to_serve(&path, ring(&make.0), make.0.clone()).unwrap();
    cost_of_an_event(Arc::new(store), make).await;
}

pub(super) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("examgate.db");
    (directory, path)
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

pub(super) fn ring(environment: &System) -> Keyring {
    Keyring::new(&Keyring::generate(environment), &[] as &[Secret]).unwrap()
}

impl SqliteStore {
    /// Makes what is sealed of a delivery unreadable.
    pub(crate) async fn damage_delivery(&self, id: &DeliveryId) {
        run_sql(self, "UPDATE deliveries SET attempts = x'00' WHERE id = ?1", &[id.as_str()]).await;
    }
}

async fn run_sql(store: &SqliteStore, sql: &'static str, values: &[&str]) {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let work =
        move |session: &Session| Ok(session.connection.execute(sql, rusqlite::params_from_iter(values.iter()))?);
    assert_eq!(store.writer.run(work).await.unwrap(), 1);
}
