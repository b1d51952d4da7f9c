//! Tests specific to this engine, on a real server: several instances, lost responses, restarts.

use std::future::Future;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::*;
use crate::domain::candidate::{Candidate, Identity};
use crate::domain::intent::Intent;
use crate::store::conformance::BY_NAME;
use crate::store::conformance::{Maker, conformance, environment};
use crate::store::{
    AcquireKey, BeginResult, KeyState, Mutation, Peer, PreparedRecord, PreparedWrite, Store, StoreReads as _,
};

mod contention;
mod cut;
mod events;
mod groups;
mod opening;
mod plans;
mod proxy;
mod races;
mod renewal;
mod results;
#[path = "../../../../tests/it/support/postgres.rs"]
pub(crate) mod server;
mod several;
mod undecided;

use server::Server;

/// Blocks on a future in a synchronous function.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

mod shared_suite {
    use super::*;

    fn open(environment: &System) -> ((), Arc<dyn Store>) {
        let store = wait(async {
            let url = Server::shared().schema().await;
            PostgresStore::open_to_serve(&Secret::new(url), ring(environment), environment.clone()).await.unwrap()
        });
        ((), Arc::new(store))
    }

    conformance!(open);
}

/// Two instances on one schema, like two replicas.
struct Pair {
    url: String,
    make: Maker,
    keys: Keyring,
    one: Arc<PostgresStore>,
    two: Arc<PostgresStore>,
}

impl Pair {
    async fn open() -> Self {
        Self::at(Server::shared().schema().await).await
    }

    async fn at(url: String) -> Self {
        let (make, keys) = (Maker(environment()), ring(&environment()));
        let open = || async { Arc::new(serving(&url, &keys, &make).await.unwrap()) };
        let (one, two) = (open().await, open().await);
        Self { url, make, keys, one, two }
    }

    /// Ends the first instance through the second.
    async fn end_one(&self) -> Peer {
        let peers = self.two.renew_lease().await.unwrap();
        let [peer] = &peers[..] else { panic!("{peers:?}") };
        assert!(self.two.end_instance(peer).await.unwrap());
        peer.clone()
    }
}

async fn serving(url: &str, keys: &Keyring, make: &Maker) -> Result<PostgresStore, StoreError> {
    PostgresStore::open_to_serve(&Secret::new(url), keys.clone(), make.0.clone()).await
}

fn ring(environment: &System) -> Keyring {
    Keyring::new(&Keyring::generate(environment), &[] as &[Secret]).unwrap()
}

/// Returns a registration that is under way.
fn sending(make: &Maker, candidate: &Candidate) -> Intent {
    Intent { in_flight: true, ..make.registration(candidate) }
}

fn claimant(make: &Maker, candidate: &Candidate) -> PreparedWrite {
    let record = PreparedRecord::NewCandidate(candidate.clone(), Identity::of(&candidate.person, BY_NAME));
    PreparedWrite { record, intent: sending(make, candidate), subjects: Vec::new() }
}

fn key(make: &Maker, scope: &str) -> AcquireKey {
    let now = make.0.now();
    AcquireKey {
        tenant: "t".to_owned(),
        token: make.name("token"),
        scope: scope.to_owned(),
        content: [7; 32],
        now,
        expires: now + jiff::SignedDuration::from_hours(24),
    }
}

/// Opens a connection beside the store.
async fn beside(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Waits for every candidate's row in a transaction of its own.
async fn lock_candidates(store: Arc<PostgresStore>) -> Result<(), StoreError> {
    store
        .write(|tx: WriteContext<'_>| {
            Box::pin(async move {
                sqlx::query("SELECT 1 FROM candidates FOR UPDATE").execute(&mut *tx.connection).await?;
                Ok(())
            })
        })
        .await
}

/// Waits until this many statements on other connections to this schema wait for a lock.
async fn until_waiting(connection: &mut PgConnection, statements: i64) {
    let waiting = "SELECT count(*) FROM pg_locks AS wanted WHERE NOT granted AND pid IN (
                       SELECT pid FROM pg_locks WHERE relation = 'lanes'::regclass)";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *connection).await.unwrap() < statements {
        tokio::task::yield_now().await;
    }
}
