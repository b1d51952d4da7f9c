//! What a commit costs: the pages that it writes to the log.

use super::writer::hold_the_writer;
use super::*;
use crate::domain::audit::Entry;
use crate::domain::candidate::CandidateState;
use crate::domain::intent::WriteOrigin;
use crate::domain::outcome::Outcome;
use crate::store::AcquireKey;

/// The number of records before the count begins: enough that entries of an index fall on a page each.
const PRESENT: usize = 1_024;

/// A store without readers and without checkpoints, so that its log only grows.
fn open(path: &Path, make: &Maker) -> SqliteStore {
    let records = Arc::new(RecordCodec::new(ring(&make.0), make.0.clone()));
    let connection = connect::writer(&connect::resolve(path).unwrap(), &records).unwrap();
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let session = SqliteStore::session(connection, GENERATION).unwrap();
    SqliteStore::assemble(records, session, None, None).unwrap()
}

/// Returns the number of pages in the log (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn pages(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).unwrap().len().saturating_sub(32) / (4_096 + 24)
}

fn key_of(make: &Maker, candidate: &Candidate) -> AcquireKey {
    // As the gateway names them: in order of time.
    AcquireKey { token: candidate.id.to_string(), ..make.key_claim(&candidate.tenant, &make.name("scope"), 1) }
}

/// Commits together: the outcomes of the writes begun before, and the beginnings of as many others.
async fn group(
    store: &SqliteStore,
    make: &Maker,
    begun: Vec<(Candidate, AcquireKey)>,
    size: usize,
) -> Vec<(Candidate, AcquireKey)> {
    // The budget of this task may be used up, and the writer is waited for without yielding.
    tokio::task::yield_now().await;
    let gate = hold_the_writer(store);
    let mut next = Vec::new();
    for _ in 0..size {
        let person = Person { external_id: Some(make.name("ext").into()), ..make.person() };
        let candidate = make.candidate("tenant", "connection", person);
        let key = key_of(make, &candidate);
        next.push((candidate, key));
    }
    let begins = next.iter().map(|(candidate, key)| {
        let mut write = make.claimant(candidate, Identity::of(&candidate.person, BY_NAME));
        write.intent.origin = WriteOrigin { key: Some(key.key()), item: None };
        async move {
            store.begin_writes(Some(key), vec![write]).await.map(|results| assert_eq!(results, [BeginResult::Begun]))
        }
    });
    let outcomes = begun.into_iter().map(|(mut candidate, key)| async move {
        candidate.state = CandidateState::Registered;
        candidate.outcome = Outcome::Applied;
        let reply =
            StoredReply::Candidate { created: true, candidate: Box::new(candidate.clone()), initial_password: None };
        let id = candidate.id.to_string();
        let entry = Entry::example(&candidate.tenant, &id);
        let outcome = vec![
            Mutation::Candidate(candidate),
            Mutation::RemoveIntent(id),
            Mutation::CompleteKey(key.key(), reply),
            Mutation::Audit(entry),
        ];
        store.commit(outcome).await
    });
    let all =
        futures_util::future::join(futures_util::future::join_all(begins), futures_util::future::join_all(outcomes));
    let ((begins, outcomes), ()) = futures_util::future::join(all, async { drop(gate) }).await;
    begins.into_iter().chain(outcomes).for_each(|result| result.unwrap());
    next
}

/// Returns the pages that a write costs with this many writes in a commit.
async fn pages_per_write(store: &SqliteStore, make: &Maker, path: &Path, size: usize, commits: usize) -> f64 {
    let mut begun = group(store, make, Vec::new(), size).await;
    let before = pages(path);
    for _ in 0..commits {
        begun = group(store, make, begun, size).await;
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let mean = (pages(path) - before) as f64 / (commits * size) as f64;
    mean
}

#[tokio::test]
async fn a_write_costs_few_pages() {
    let (_directory, path) = place();
    let make = Maker(environment());
    let store = open(&path, &make);
    let mut begun = Vec::new();
    for _ in 0..PRESENT / 128 {
        begun = group(&store, &make, begun, 128).await;
    }
    for (size, commits, most) in [(1, 48, 27.0), (16, 12, 6.5)] {
        let mean = pages_per_write(&store, &make, &path, size, commits).await;
        assert!(mean <= most, "{size} writes a commit: {mean:.2} pages a write");
    }
}
