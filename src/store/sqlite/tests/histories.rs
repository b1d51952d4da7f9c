//! Random histories of people and keys against a plain model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::look_ups::{assert_whole, open};
use super::writer::hold_the_writer;
use super::*;
use crate::store::AcquireKey;

const TENANTS: [&str; 2] = ["one", "two"];
const CONNECTIONS: [&str; 2] = ["main", "other"];

/// A step of a random history; people are numbers.
#[derive(Debug, Clone)]
enum Step {
    /// Begins several writes together, each with a person, a tenant, a connection and perhaps a key.
    Begin(Vec<(u8, usize, usize, Option<u8>)>),
    /// Gives a candidate the identities of other people, or none.
    Identify(prop::sample::Index, Option<(u8, u8)>),
    /// Writes the record of another person.
    Rewrite(prop::sample::Index, u8),
    Erase(prop::sample::Index),
    Free(u8),
    Complete(u8),
    /// Lets all keys so far expire, and removes them.
    Purge,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0_u8..10, 0..TENANTS.len(), 0..CONNECTIONS.len(), prop::option::of(0_u8..6));
    prop_oneof![
        8 => prop::collection::vec(write, 1..5).prop_map(Step::Begin),
        2 => (any::<prop::sample::Index>(), prop::option::of((0_u8..10, 0_u8..10))).prop_map(|(at, to)| Step::Identify(at, to)),
        1 => (any::<prop::sample::Index>(), 0_u8..10).prop_map(|(at, person)| Step::Rewrite(at, person)),
        2 => any::<prop::sample::Index>().prop_map(Step::Erase),
        1 => (0_u8..6).prop_map(Step::Free),
        1 => (0_u8..6).prop_map(Step::Complete),
        1 => Just(Step::Purge),
        1 => Just(Step::Restart),
    ]
}

fn external(person: u8) -> Identity {
    Identity::ExternalId(format!("E{person}").into())
}

fn user(person: u8) -> Identity {
    Identity::UserName(format!("u{person}").into())
}

/// What a plain store would hold.
#[derive(Default)]
struct Model {
    /// The candidates, with the identities each holds.
    candidates: Vec<(Candidate, Vec<Identity>)>,
    /// The keys in use, with whether each has its reply.
    keys: BTreeMap<String, (AcquireKey, bool)>,
}

impl Model {
    fn holder(&self, connection: &str, identity: &Identity) -> Option<&Candidate> {
        let held = self.candidates.iter().find(|(it, held)| it.connection == connection && held.contains(identity));
        held.map(|(candidate, _)| candidate)
    }

    fn found(&self, tenant: &str, identity: &Identity) -> Vec<String> {
        let has = |candidate: &Candidate| Identity::of(&candidate.person, IdentityKind::ALL).contains(identity);
        let found =
            self.candidates.iter().filter(|(it, held)| it.tenant == tenant && (held.contains(identity) || has(it)));
        let mut found: Vec<String> = found.map(|(candidate, _)| candidate.id.to_string()).collect();
        found.sort();
        found
    }
}

struct History {
    path: std::path::PathBuf,
    keys: Keyring,
    make: Maker,
    generation: usize,
    now: Timestamp,
    model: Model,
}

impl History {
    fn claim(&self, key: u8, tenant: &str) -> AcquireKey {
        let claim = self.make.key_claim(tenant, &format!("k{key}"), 1);
        AcquireKey { now: self.now, expires: self.now + 1.hours(), ..claim }
    }

    fn person(&self, person: u8) -> Person {
        Person {
            external_id: Some(format!("E{person}").into()),
            user_name: Some(format!("u{person}").into()),
            email: Some(format!("p{}@example.org", person % 3).into()),
            ..self.make.person()
        }
    }

    /// Begins the writes in one group; the model does them one after the other, in the order of the group.
    async fn begin(&mut self, store: &SqliteStore, writes: &[(u8, usize, usize, Option<u8>)]) {
        let mut expected = Vec::new();
        let mut jobs = Vec::new();
        for (person, tenant, connection, key) in writes {
            let (tenant, connection) = (TENANTS[*tenant], CONNECTIONS[*connection]);
            let candidate = self.make.candidate(tenant, connection, self.person(*person));
            let identities = Identity::of(&candidate.person, BY_NAME);
            let key = key.map(|key| self.claim(key, tenant));
            let scope = key.as_ref().map(|key| format!("{tenant} {}", key.scope));
            let holders: Vec<&Candidate> =
                identities.iter().filter_map(|identity| self.model.holder(connection, identity)).collect();
            expected.push(if scope.as_ref().is_some_and(|scope| self.model.keys.contains_key(scope)) {
                "in use"
            } else if holders.iter().any(|holder| holder.tenant != tenant) {
                "other"
            } else if holders.is_empty() {
                "begun"
            } else {
                "held"
            });
            if expected.last() == Some(&"begun") {
                self.model.candidates.push((candidate.clone(), identities.clone()));
                if let (Some(scope), Some(key)) = (scope, &key) {
                    self.model.keys.insert(scope, (key.clone(), false));
                }
            }
            jobs.push((key, self.make.claimant(&candidate, identities)));
        }
        // The budget of this task may be used up, and the writer is waited for without yielding.
        tokio::task::yield_now().await;
        let gate = hold_the_writer(store);
        let jobs =
            jobs.into_iter().map(|(key, write)| async move { store.begin_writes(key.as_ref(), vec![write]).await });
        // A job that fails makes the whole group run again.
        let broken = store.writer.run(|session| Ok(session.connection.execute_batch("this is no SQL")?));
        let jobs = futures_util::future::join(futures_util::future::join_all(jobs), broken);
        let ((results, _), ()) = futures_util::future::join(jobs, async { drop(gate) }).await;
        let results: Vec<&str> = results
            .into_iter()
            .map(|result| match result.unwrap().remove(0) {
                BeginResult::Begun => "begun",
                BeginResult::Exists(_) => "held",
                BeginResult::TakenByOtherTenant => "other",
                BeginResult::KeyInUse => "in use",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(results, expected);
    }

    async fn change(&mut self, store: &SqliteStore, at: prop::sample::Index, step: &Step) {
        if self.model.candidates.is_empty() {
            return;
        }
        let place = at.index(self.model.candidates.len());
        let (mut candidate, held) = self.model.candidates[place].clone();
        match step {
            Step::Erase(_) => {
                store.commit(vec![Mutation::EraseCandidate(candidate.id)]).await.unwrap();
                self.model.candidates.remove(place);
            }
            Step::Rewrite(_, person) => {
                candidate.person = self.person(*person);
                store.commit(vec![Mutation::Candidate(candidate.clone())]).await.unwrap();
                self.model.candidates[place] = (candidate, held);
            }
            Step::Identify(_, to) => {
                let wanted = to.map_or_else(Vec::new, |(a, b)| vec![external(a), user(b)]);
                let is_taken = wanted.iter().any(|identity| {
                    self.model.holder(&candidate.connection, identity).is_some_and(|holder| holder.id != candidate.id)
                });
                let done = store.commit(vec![Mutation::Identities(candidate.id.clone(), wanted.clone())]).await;
                assert_eq!(done, if is_taken { Err(StoreError::Conflict) } else { Ok(()) });
                if !is_taken {
                    self.model.candidates[place] = (candidate, wanted);
                }
            }
            _ => unreachable!("{step:?} names no candidate"),
        }
    }

    async fn follow(&mut self, store: SqliteStore, step: &Step) -> SqliteStore {
        match step {
            Step::Restart => {
                drop(store);
                return open(&self.path, &self.keys, &self.make, self.generation);
            }
            Step::Begin(writes) => self.begin(&store, writes).await,
            Step::Identify(at, _) | Step::Rewrite(at, _) | Step::Erase(at) => self.change(&store, *at, step).await,
            Step::Free(key) | Step::Complete(key) => {
                for tenant in TENANTS {
                    let scope = format!("{tenant} k{key}");
                    let Some((claim, is_answered)) = self.model.keys.get_mut(&scope) else { continue };
                    let frees = matches!(step, Step::Free(_));
                    let used = claim.key();
                    let change =
                        if frees { Mutation::FreeKey(used) } else { Mutation::CompleteKey(used, StoredReply::Gone) };
                    store.commit(vec![change]).await.unwrap();
                    if !frees {
                        *is_answered = true;
                    } else if !*is_answered {
                        self.model.keys.remove(&scope);
                    }
                }
            }
            Step::Purge => {
                self.now += 2.hours();
                // Half of the time, the expired uses are replaced before they are removed.
                if self.model.keys.len().is_multiple_of(2) {
                    store.purge(self.now, self.now).await.unwrap();
                }
                self.model.keys.clear();
            }
        }
        store
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, rng_seed: RngSeed::Fixed(15), ..ProptestConfig::default() })]

    #[test]
    fn a_random_history_agrees_with_a_plain_store(
        steps in prop::collection::vec(step(), 1..40), generation in 1_usize..90,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_directory, path) = place();
            let make = Maker(environment());
            let (keys, now) = (ring(&make.0), make.0.now());
            let mut store = open(&path, &keys, &make, generation);
            let mut history = History { path, keys, make, generation, now, model: Model::default() };
            for step in &steps {
                store = history.follow(store, step).await;
                for person in 0..10 {
                    let mail = Identity::Email(format!("p{}@example.org", person % 3).into());
                    for (tenant, identity) in
                        TENANTS.iter().flat_map(|tenant| [external(person), user(person), mail.clone()].map(|one| (*tenant, one)))
                    {
                        let found = store.candidates(tenant, None, &identity).await.unwrap();
                        let mut found: Vec<String> = found.iter().map(|found| found.id.to_string()).collect();
                        found.sort();
                        assert_eq!(found, history.model.found(tenant, &identity), "{identity:?} after {step:?}");
                    }
                }
                assert_whole(&store).await;
            }
        });
    }
}
