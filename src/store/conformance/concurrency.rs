//! Required behaviour of every engine: what many callers get that write at the same time, perhaps in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::ToSpan as _;
use tokio::task::JoinSet;

use super::{BY_NAME, Maker};
use crate::domain::candidate::{Candidate, CandidateState, Identity};
use crate::domain::ids::CandidateId;
use crate::domain::intent::IdempotencyKeyUse;
use crate::domain::operation::{ItemId, ItemOutcome, ItemStatus};
use crate::store::{AcquireKey, BeginResult, KeyState, Mutation, Store, StoreError};

/// Callers that write at the same time.
const CALLERS: usize = 24;

/// Returns the mutations that end a registration as applied.
fn applied(candidate: &Candidate, started: Timestamp) -> Vec<Mutation> {
    let registered = Candidate { state: CandidateState::Registered, ..candidate.clone() };
    let id = candidate.id.to_string();
    vec![Mutation::RequireAttempt(id.clone(), started), Mutation::Candidate(registered), Mutation::RemoveIntent(id)]
}

pub(crate) async fn one_of_many_callers_with_one_key_begins(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let claim = make.key_claim(&tenant, "k", 1);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let candidate = make.candidate(&tenant, &connection, make.person());
        let (store, key) = (Arc::clone(&store), make.anew(&claim));
        let write = make.claimant(&candidate, Identity::of(&candidate.person, BY_NAME));
        callers.spawn(async move { (store.begin_writes(Some(&key), vec![write]).await.unwrap().remove(0), candidate) });
    }
    let results = callers.join_all().await;
    assert_eq!(results.iter().filter(|(result, _)| *result == BeginResult::Begun).count(), 1);
    for (result, candidate) in results {
        let is_stored = store.candidate(&tenant, &candidate.id).await.unwrap().is_some();
        assert_eq!(is_stored, result == BeginResult::Begun);
        assert!(matches!(result, BeginResult::Begun | BeginResult::KeyInUse), "{result:?}");
    }
}

pub(crate) async fn one_of_many_callers_concludes_an_attempt(store: Arc<dyn Store>, make: Maker) {
    let candidate = make.claimed(&*store).await;
    let started = store.intent(candidate.id.as_str()).await.unwrap().unwrap().started;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, changes) = (Arc::clone(&store), applied(&candidate, started));
        callers.spawn(async move { store.commit(changes).await });
    }
    let results = callers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(StoreError::Superseded))), "{results:?}");
}

/// Among many callers: a late outcome, a row that was cancelled, an identity that another candidate holds.
pub(crate) async fn refused_commits_among_many_fail_alone(store: Arc<dyn Store>, make: Maker) {
    let (late, first, second) = (make.claimed(&*store).await, make.claimed(&*store).await, make.person());
    let second = make.candidate(&first.tenant, &first.connection, second);
    assert_eq!(make.claim(&*store, &second).await, BeginResult::Begun);
    let operation = make.queued(&*store, &first.tenant, 1).await;
    assert_eq!(store.skip_waiting(&operation.id).await.unwrap(), 1);
    let row = ItemId { operation: operation.id.clone(), index: 0 };
    for _ in 0..5 {
        let mut callers = JoinSet::new();
        let mut commit = |number: usize, changes: Vec<Mutation>| {
            let store = Arc::clone(&store);
            callers.spawn(async move { (number, store.commit(changes).await) });
        };
        let mut good = Vec::new();
        for number in 0..CALLERS {
            match number {
                3 => commit(number, applied(&late, late.created - 1.hours())),
                9 => commit(number, vec![Mutation::ClaimItem(row.clone(), "r".to_owned(), Vec::new())]),
                15 => {
                    let taken = Identity::of(&first.person, BY_NAME);
                    commit(number, vec![Mutation::Identities(second.id.clone(), taken)]);
                }
                _ => {
                    let candidate = make.claimed(&*store).await;
                    let started = store.intent(candidate.id.as_str()).await.unwrap().unwrap().started;
                    commit(number, applied(&candidate, started));
                    good.push(candidate);
                }
            }
        }
        for (number, result) in callers.join_all().await {
            match number {
                3 => assert!(matches!(result, Err(StoreError::Superseded)), "{result:?}"),
                9 => assert!(matches!(result, Err(StoreError::ItemNotWaiting)), "{result:?}"),
                15 => assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}"),
                _ => assert!(result.is_ok(), "{result:?}"),
            }
        }
        for candidate in good {
            let stored = store.candidate(&candidate.tenant, &candidate.id).await.unwrap().unwrap();
            assert_eq!(stored.state, CandidateState::Registered);
            assert!(store.intent(candidate.id.as_str()).await.unwrap().is_none());
        }
    }
    assert!(store.intent(late.id.as_str()).await.unwrap().is_some());
}

pub(crate) async fn a_cancelled_row_among_many_callers_stops_only_its_own(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let operation = make.queued(&*store, &tenant, CALLERS as u64).await;
    let at = |index| ItemId { operation: operation.id.clone(), index };
    for index in (0..CALLERS as u64).step_by(5) {
        let end = Mutation::EndWaitingItem(at(index), None, ItemOutcome::of(ItemStatus::Created));
        store.commit(vec![end]).await.unwrap();
    }
    let mut callers = JoinSet::new();
    for index in 0..CALLERS as u64 {
        let candidate = make.candidate(&tenant, &connection, make.person());
        let mut write = make.claimant(&candidate, Identity::of(&candidate.person, BY_NAME));
        write.intent.origin.item = Some(at(index));
        let store = Arc::clone(&store);
        callers.spawn(async move { (index, store.begin_writes(None, vec![write]).await.unwrap().remove(0)) });
    }
    for (index, result) in callers.join_all().await {
        let expected = if index % 5 == 0 { BeginResult::ItemCancelled } else { BeginResult::Begun };
        assert_eq!(result, expected, "{index}");
    }
}

/// One call of the random histories below, about one of a few people and keys.
#[derive(Debug, Clone)]
enum Call {
    Register(Candidate, usize, Option<(usize, AcquireKey)>),
    Acquire(usize, AcquireKey),
    Release(usize, String),
    Conclude(Candidate, Timestamp),
    Erase(CandidateId),
}

/// What a caller saw.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Begun,
    Exists(String),
    KeyInUse,
    Acquired,
    InProgress,
    Resumable(Option<String>),
    Done,
    Superseded,
}

/// The state that calls made one after the other would leave.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    /// The candidate of each person, and whether its first attempt is open.
    people: BTreeMap<usize, (String, bool)>,
    /// Token and record of each key in use, and whether a caller is working on it.
    keys: BTreeMap<usize, (String, Option<String>, bool)>,
}

impl Model {
    fn call(&mut self, call: &Call) -> Seen {
        match call {
            Call::Register(candidate, person, key) => {
                if let Some((key, _)) = key
                    && self.keys.contains_key(key)
                {
                    return Seen::KeyInUse;
                }
                if let Some((holder, _)) = self.people.get(person) {
                    return Seen::Exists(holder.clone());
                }
                self.people.insert(*person, (candidate.id.to_string(), true));
                if let Some((key, claim)) = key {
                    self.keys.insert(*key, (claim.token.clone(), Some(candidate.id.to_string()), true));
                }
                Seen::Begun
            }
            Call::Acquire(key, claim) => match self.keys.get_mut(key) {
                None => {
                    self.keys.insert(*key, (claim.token.clone(), None, true));
                    Seen::Acquired
                }
                Some((_, _, true)) => Seen::InProgress,
                Some((token, record, is_running)) => {
                    *is_running = true;
                    if record.is_none() {
                        token.clone_from(&claim.token);
                    }
                    Seen::Resumable(record.clone())
                }
            },
            Call::Release(key, released) => {
                if let Some((token, _, is_running)) = self.keys.get_mut(key)
                    && token == released
                {
                    *is_running = false;
                }
                Seen::Done
            }
            Call::Conclude(candidate, _) => {
                let open = self.people.values_mut().find(|(id, open)| *id == candidate.id.as_str() && *open);
                open.map_or(Seen::Superseded, |(_, open)| {
                    *open = false;
                    Seen::Done
                })
            }
            Call::Erase(id) => {
                self.people.retain(|_, (held, _)| held != id.as_str());
                Seen::Done
            }
        }
    }

    /// Adds every state after these calls in an order in which each caller would have seen what it saw.
    fn explain(&self, calls: &[(Call, Seen)], states: &mut BTreeSet<Self>) {
        if calls.is_empty() {
            states.insert(self.clone());
        }
        for (first, (call, seen)) in calls.iter().enumerate() {
            let mut next = self.clone();
            if next.call(call) == *seen {
                let rest = calls.iter().enumerate().filter(|(at, _)| *at != first);
                next.explain(&rest.map(|(_, call)| call.clone()).collect::<Vec<_>>(), states);
            }
        }
    }
}

async fn made(store: &dyn Store, make: &Maker, call: &Call) -> Seen {
    match call {
        Call::Register(candidate, _, key) => {
            let mut write = make.claimant(candidate, Identity::of(&candidate.person, BY_NAME));
            write.intent.started = candidate.created;
            write.intent.origin.key = key.as_ref().map(|(_, claim)| claim.key());
            let key = key.as_ref().map(|(_, claim)| claim);
            match store.begin_writes(key, vec![write]).await.unwrap().remove(0) {
                BeginResult::Begun => Seen::Begun,
                BeginResult::KeyInUse => Seen::KeyInUse,
                BeginResult::Exists(held) => Seen::Exists(held[0].id.to_string()),
                other => panic!("{other:?}"),
            }
        }
        Call::Acquire(_, claim) => match store.acquire_key(claim).await.unwrap() {
            KeyState::Acquired(_) => Seen::Acquired,
            KeyState::InProgress => Seen::InProgress,
            KeyState::Resumable(_, record) => Seen::Resumable(record),
            other => panic!("{other:?}"),
        },
        Call::Release(_, token) => {
            let key = IdempotencyKeyUse { scope: String::new(), token: token.clone() };
            store.commit(vec![Mutation::ReleaseKey(key)]).await.unwrap();
            Seen::Done
        }
        Call::Conclude(candidate, started) => match store.commit(applied(candidate, *started)).await {
            Ok(()) => Seen::Done,
            Err(StoreError::Superseded) => Seen::Superseded,
            Err(error) => panic!("{error}"),
        },
        Call::Erase(id) => {
            store.commit(vec![Mutation::EraseCandidate(id.clone())]).await.unwrap();
            Seen::Done
        }
    }
}

/// Random calls made at the same time, about two people and two keys: some order of them explains what every caller saw
/// and what is stored.
pub(crate) async fn callers_at_the_same_time_see_some_order(store: Arc<dyn Store>, make: Maker) {
    let (tenant, connection) = (make.name("tenant"), make.name("connection"));
    let (people, claims) = ([make.person(), make.person()], ["a", "b"].map(|name| make.key_claim(&tenant, name, 1)));
    let make = Arc::new(make);
    let mut candidates: Vec<Candidate> = Vec::new();
    // Several, where one order cannot be distinguished from another.
    let mut states = BTreeSet::from([Model::default()]);
    let mut random = 0x5eed_u64;
    let mut next = |below: u64| {
        // xorshift64: <https://www.jstatsoft.org/article/view/v008i14>
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below).unwrap()
    };
    for round in 0..60 {
        let mut calls = Vec::new();
        for _ in 0..6 {
            let (person, key) = (next(2), next(2));
            let known = (!candidates.is_empty()).then(|| candidates[next(candidates.len() as u64)].clone());
            let claim = make.anew(&claims[key]);
            calls.push(match (next(8), known) {
                (0..3, _) | (5.., None) => {
                    let is_keyed = next(2) == 0;
                    let candidate = make.candidate(&tenant, &connection, people[person].clone());
                    Call::Register(candidate, person, is_keyed.then_some((key, claim)))
                }
                (3, _) => Call::Acquire(key, claim),
                (4, _) => {
                    let token = states.iter().find_map(|state| state.keys.get(&key)).map(|(token, ..)| token.clone());
                    let token = token.unwrap_or_else(|| "none".to_owned());
                    Call::Release(key, token)
                }
                (5 | 6, Some(known)) => Call::Conclude(known.clone(), known.created),
                (_, Some(known)) => Call::Erase(known.id),
            });
        }
        candidates.extend(calls.iter().filter_map(|call| match call {
            Call::Register(candidate, ..) => Some(candidate.clone()),
            _ => None,
        }));
        let mut callers = JoinSet::new();
        for call in calls {
            let (store, make) = (Arc::clone(&store), Arc::clone(&make));
            callers.spawn(async move {
                let seen = made(&*store, &make, &call).await;
                (call, seen)
            });
        }
        let seen = callers.join_all().await;
        let mut stored = BTreeSet::new();
        for Candidate { id, .. } in &candidates {
            if store.candidate(&tenant, id).await.unwrap().is_some() {
                stored.insert(id.as_str());
            }
        }
        let mut after = BTreeSet::new();
        for state in &states {
            state.explain(&seen, &mut after);
        }
        after.retain(|state| state.people.values().map(|(id, _)| id.as_str()).collect::<BTreeSet<_>>() == stored);
        assert!(!after.is_empty(), "round {round}: no order explains {seen:?} with {stored:?} after {states:?}");
        states = after;
    }
}
