//! Rows about people.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt as _};

use super::delivery::{PersonRow, Planned, Ready, in_calls};
use super::worker::Work;
use crate::dispatch::candidates::Prepared;
use crate::dispatch::connections::{Begun, Connection};
use crate::dispatch::tickets::acceptance;
use crate::dispatch::{BeforeSending as _, CandidateAnswer, Written};
use crate::domain::candidate::NewCandidate;
use crate::domain::operation::{Item, ItemEnd, ItemResult, Row};
use crate::domain::problem::{Code, Fault};
use crate::store::{Change, Claim, StoreError, Subject};

impl Work {
    /// Plans rows and packs them; those at fault end here.
    pub(super) async fn plan_people(
        &self,
        connection: &Connection,
        items: Vec<Item>,
        seen: &mut HashMap<Subject, u64>,
    ) -> Result<Vec<Planned>, Fault> {
        let (mut people, mut ends) = (Vec::with_capacity(items.len()), Vec::new());
        for mut item in items {
            let Some(Row::Candidate(new)) = item.row.take() else { continue };
            let at = item.at.clone();
            match self.plan_person(connection, item, *new, seen) {
                Ok(person) => people.push(person),
                Err(fault) => ends.push(Change::ItemEndedUnsent(at, None, ItemEnd::failed(fault))),
            }
        }
        self.ended(ends).await?;
        let calls = in_calls(connection, people, |person| &person.prepared.intent.write);
        Ok(calls.into_iter().map(Planned::People).collect())
    }

    fn plan_person(
        &self,
        connection: &Connection,
        item: Item,
        new: NewCandidate,
        seen: &mut HashMap<Subject, u64>,
    ) -> Result<PersonRow, Fault> {
        let caller = self.caller_of(&item);
        let prepared = self.gateway.prepare(&caller, connection, new.clone(), self.operation.strict)?;
        let subjects = self.gateway.subjects_of(&item.at, &prepared.identities);
        refuse_repeat(seen, &subjects, item.at.index)?;
        Ok(PersonRow { item, new, prepared, subjects })
    }

    /// Claims a call's people and sends those that are new; the others go the way of single requests.
    pub(super) async fn register_all(
        &self,
        connection: &Connection,
        mut people: Vec<PersonRow>,
        begun: Begun,
    ) -> Result<(), Fault> {
        let mut turns = Vec::with_capacity(people.len());
        let mut claimants = Vec::with_capacity(people.len());
        for person in &mut people {
            self.begun(connection, &mut person.prepared.intent);
            turns.push(self.gateway.0.turns.first_turn(person.prepared.candidate.id.as_str()).await);
            claimants.push(self.gateway.claimant(&person.prepared));
        }
        let claims = self.gateway.0.store.claim(claimants).await;
        self.gateway.note_doubt(&claims, people.iter().map(|person| &person.prepared.intent));
        let claims = claims.before_sending()?;
        let mut all = Ok(());
        let (mut ready, mut known) = (Vec::with_capacity(people.len()), Vec::new());
        for ((person, turn), claim) in people.into_iter().zip(turns).zip(claims) {
            match claim {
                Claim::Claimed => {
                    let Prepared { candidate, identities: _, intent, own_password: _ } = person.prepared;
                    ready.push(Ready { record: candidate, intent, turn });
                }
                Claim::Held(_) | Claim::HeldByOthers => known.push(person),
                // Cancelled meanwhile.
                Claim::Withdrawn => {}
                // Those claimed are sent all the same.
                Claim::Failed(error) => {
                    let failed: Result<(), StoreError> = Err(error);
                    self.gateway.note_doubt(&failed, [&person.prepared.intent]);
                    all = all.and(failed.before_sending());
                }
            }
        }
        // Those that are known may need calls of their own, which then count to the end.
        let mut begun = Some(begun);
        if !ready.is_empty() {
            all = all.and(self.send_ready(connection, ready, &mut begun, !known.is_empty()).await);
        }
        let mut met = stream::iter(known).map(|person| self.meet_one(connection, person)).buffer_unordered(8);
        // To the end of all of them, as in `Work::send_all`.
        while let Some(ended) = met.next().await {
            all = all.and(ended);
        }
        all
    }

    /// A row about a person the gateway has already.
    async fn meet_one(&self, connection: &Connection, person: PersonRow) -> Result<(), Fault> {
        let PersonRow { item, new, prepared: _, subjects } = person;
        let caller = self.caller_of(&item);
        let strict = self.operation.strict;
        let result = self.gateway.register(&caller, connection, new, strict, &acceptance().0).await;
        let (record, end) = match result {
            // Told by the write itself.
            Ok(Written::Created(_) | Written::Pending(_)) => return Ok(()),
            Ok(Written::Existing(CandidateAnswer { candidate, initial_password })) => {
                // What the record does not say of itself: that the row differs from it.
                let warnings = candidate.warnings.iter().filter(|warning| warning.is_of_request()).cloned().collect();
                let end = ItemEnd { warnings, initial_password, ..ItemEnd::of(ItemResult::Existing) };
                (Some(candidate.id.to_string()), end)
            }
            Err(fault) if fault.code == Code::Skipped || self.waits_on(connection, &fault) => return Ok(()),
            Err(fault) => (None, ItemEnd::failed(fault)),
        };
        let ends = vec![Change::ItemSubjects(item.at.clone(), subjects), Change::ItemEndedUnsent(item.at, record, end)];
        self.ended(ends).await
    }
}

/// Refuses a row about something an earlier row is about, and remembers what this one is about.
pub(super) fn refuse_repeat(seen: &mut HashMap<Subject, u64>, subjects: &[Subject], index: u64) -> Result<(), Fault> {
    let earlier = subjects.iter().find_map(|subject| seen.get(subject).filter(|earlier| **earlier != index));
    if let Some(earlier) = earlier {
        let detail = format!("Row {earlier} of this bulk is about the same; this one was not sent.");
        return Err(Fault::new(Code::DuplicateItem, detail));
    }
    seen.extend(subjects.iter().map(|subject| (*subject, index)));
    Ok(())
}
