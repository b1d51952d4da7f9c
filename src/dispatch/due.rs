//! Settling what is due at a connection, as many at once as an operation's calls may be. Registrations whose repeat is harmless
//! share calls as they did at first, so that a bulk that was cut off is settled at the pace it was sent; all else goes one a
//! call.

use futures_util::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;

use super::bulk::delivery::{of_the_moment, refused_whole};
use super::connections::Connection;
use super::journal::{LONGEST_PAUSE, candidate_path, cut_rest_short, resource_of};
use super::packing::{CallLimits, packed};
use super::places::QueueKey;
use super::settling::unless_proved;
use super::turns::Turn;
use super::{BeforeSending as _, Gateway};
use crate::domain::candidate::Candidate;
use crate::domain::capability::Repeat;
use crate::domain::exchange::{About, Cause};
use crate::domain::ids::{AssignmentId, CandidateId};
use crate::domain::journal::{Intent, Write};
use crate::domain::problem::Fault;
use crate::domain::vendor::{Attempt, Call, Lane, Packing};
use crate::store::Change;
use crate::trace;

/// Open writes looked at in one go: two of the largest calls.
const AT_ONCE: usize = 1_000;
/// Calls prepared at once.
const CALLS: usize = 256;

/// A registration that is sent again, with its record.
struct Open {
    intent: Intent,
    candidate: Candidate,
    // Held until its outcome is in the store.
    turn: Turn,
}

impl Gateway {
    /// Settles what is due at a connection.
    pub(super) async fn settle_due(&self, name: &str) {
        loop {
            if self.is_resting() || !self.0.lease.holds() {
                return;
            }
            let Ok(connection) = self.connection_of(name) else { return };
            let now = self.now();
            let farthest = LONGEST_PAUSE.saturating_add(connection.settle_grace());
            let farthest = SignedDuration::try_from(farthest).unwrap_or(SignedDuration::MAX);
            let horizon = now.saturating_add(farthest).unwrap_or(Timestamp::MAX);
            let due = match self.0.store.due_intents(name, now, horizon, AT_ONCE).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, connection = name, "open writes cannot be looked at yet");
                    return;
                }
            };
            let found = due.len();
            let mut settling = stream::iter(calls(&connection, due))
                .map(|intents| async move {
                    let Some(first) = intents.first() else { return 0 };
                    let span = trace::settling(first.write.record(), &first.connection);
                    let record = first.write.record().to_owned();
                    let settled = async {
                        match intents.as_slice() {
                            [intent] => self.settle_in_background(intent).await.map(usize::from),
                            _ => self.settle_together(intents).await,
                        }
                    };
                    settled.instrument(span).await.unwrap_or_else(|fault| {
                        let code = fault.code.as_str();
                        tracing::debug!(record, connection = name, code, "a write stays unknown");
                        0
                    })
                })
                .buffer_unordered(CALLS);
            let mut settled = 0;
            while let Some(done) = settling.next().await {
                settled += done;
            }
            // What is still due is somebody else's at the moment.
            if found < AT_ONCE || settled == 0 {
                return;
            }
        }
    }

    /// Settles one write, unless somebody who holds the turn is about to. Whether it was this one's to settle.
    async fn settle_in_background(&self, intent: &Intent) -> Result<bool, Fault> {
        let (connection, _place) = self.bulk_place(&intent.connection, &queue_key(intent)).await?;
        let connection = connection.as_ref();
        // Counted among the work under way, so that the process does not end in the middle of it.
        let _under_way = self.0.tasks.token();
        if self.is_resting() {
            return Ok(false);
        }
        let record = intent.write.record();
        let call = self.call_to_settle(intent);
        let Some(_turns) = self.try_turns_of(intent).await? else { return Ok(false) };
        if matches!(intent.write, Write::Enrol(_)) {
            return self.settle_call(connection, record, &call).await.map(|_| true);
        }
        // Read with the turn in hand: it may have been settled before.
        if let Ok(id) = CandidateId::parse(record) {
            if let Some(candidate) = self.0.store.candidate(&intent.tenant, &id).await.before_sending()? {
                self.settled_candidate(connection, candidate, &call).await?;
                return Ok(true);
            }
        } else if let Ok(id) = AssignmentId::parse(record)
            && let Some(assignment) = self.0.store.assignment(&intent.tenant, &id).await.before_sending()?
        {
            self.settled_assignment(connection, assignment, &call).await?;
            return Ok(true);
        }
        // The record is gone, and nobody is left to be told.
        self.0.store.commit(vec![Change::Settled(record.to_owned())]).await.before_sending()?;
        Ok(true)
    }

    /// Settles registrations in one call, but for those somebody else is about to settle. How many were this one's.
    async fn settle_together(&self, intents: Vec<Intent>) -> Result<usize, Fault> {
        let Some(first) = intents.first() else { return Ok(0) };
        let (name, key, call) = (first.connection.clone(), queue_key(first), self.call_to_settle(first));
        let (connection, _place) = self.bulk_place(&name, &key).await?;
        // Counted among the work under way, so that the process does not end in the middle of it.
        let _under_way = self.0.tasks.token();
        if self.is_resting() {
            return Ok(0);
        }
        let mut open = Vec::with_capacity(intents.len());
        for intent in intents {
            if let Some(turn) = self.0.turns.try_turn(&intent.subject).await.before_sending()?
                && let Some(open_still) = self.still_open(&connection, &intent, turn).await?
            {
                open.push(open_still);
            }
        }
        if open.is_empty() {
            return Ok(0);
        }
        tracing::info!(connection = name, rows = open.len(), "settling registrations in one call");
        let settled = open.len();
        // However often the call is split, it is one attempt: nothing came of what was refused.
        for open in &mut open {
            cut_rest_short(&mut open.intent, self.now());
            open.intent.attempts += 1;
        }
        let mut parts = vec![open];
        let mut end = Ok(());
        while let Some(mut part) = parts.pop() {
            // What cannot be journalled is not sent, and stays unknown.
            let answers = match self.begin_again(&connection, &mut part).await {
                Ok(()) => {
                    let writes: Vec<Write> = part.iter().map(|open| open.intent.write.clone()).collect();
                    self.send(&connection, &writes, &call).await
                }
                Err(fault) => part.iter().map(|_| Err(fault.clone())).collect(),
            };
            if part.len() > 1
                && answers.iter().all(refused_whole)
                && !answers.iter().any(|answer| answer.as_ref().is_err_and(of_the_moment))
            {
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            }
            let (mut changes, mut turns) = (Vec::new(), Vec::with_capacity(part.len()));
            for (Open { intent, candidate, turn }, answer) in part.into_iter().zip(answers) {
                turns.push(turn);
                let answer = answer.map_err(|fault| unless_proved(fault, &candidate_path(&candidate.id)));
                changes.extend(self.candidate_after(&connection, candidate, intent, answer).0);
            }
            end = end.and(self.kept(changes, &name).await);
            drop(turns);
        }
        end.map(|()| settled)
    }

    /// Reads the write and its record as they are now, with the turn in hand, if it may be sent again in a call with others.
    async fn still_open(&self, connection: &Connection, intent: &Intent, turn: Turn) -> Result<Option<Open>, Fault> {
        let record = intent.write.record();
        let Ok(id) = CandidateId::parse(record) else { return Ok(None) };
        let Some(intent) = self.0.store.intent(record).await.before_sending()? else { return Ok(None) };
        let early = intent.under_way || self.0.graces.left(&intent, connection.settle_grace()).is_some();
        if early || matches!(packing(connection, &intent), Packing::Alone) {
            return Ok(None);
        }
        let candidate = self.0.store.candidate(&intent.tenant, &id).await.before_sending()?;
        let open = candidate.filter(|candidate| !candidate.state.ended());
        Ok(open.map(|candidate| Open { intent, candidate, turn }))
    }

    /// Journals one more attempt of each.
    async fn begin_again(&self, connection: &Connection, open: &mut [Open]) -> Result<(), Fault> {
        let now = self.now();
        for Open { intent, .. } in open.iter_mut() {
            intent.started = now;
            intent.under_way = true;
            intent.lingering = true;
            intent.settle_from = connection.settle_from(now);
        }
        let changes = open.iter().map(|open| Change::Intent(open.intent.clone())).collect();
        self.0.store.commit(changes).await.before_sending()
    }

    fn call_to_settle(&self, intent: &Intent) -> Call {
        let exchange = self.background_exchange(format!("settle-{}", intent.write.record()), None);
        let cause = Cause::Settling { resource: resource_of(&intent.write) };
        self.keep_exchange(&exchange, About { tenant: intent.tenant.clone(), cause });
        Call { attempt: Attempt::Settling, lane: Lane::Bulk, exchange }
    }
}

/// Returns the queue in which settling waits for its places.
fn queue_key(intent: &Intent) -> QueueKey {
    QueueKey { tenant: intent.tenant.clone(), operation: "settling".to_owned() }
}

/// Packs the writes that are settled in each call. Those of several tenants never share one: each sees its own calls.
fn calls(connection: &Connection, due: Vec<Intent>) -> Vec<Vec<Intent>> {
    let packings: Vec<Packing> = due.iter().map(|intent| packing(connection, intent)).collect();
    let mut due: Vec<Option<Intent>> = due.into_iter().map(Some).collect();
    packed(&packings, &CallLimits { rows: |most| connection.batch(most), bytes: connection.call_bytes() })
        .into_iter()
        .map(|positions| positions.into_iter().filter_map(|position| due[position].take()).collect())
        .collect()
}

fn packing(connection: &Connection, intent: &Intent) -> Packing {
    match &intent.write {
        Write::Register(registration) if connection.repeat_of(intent) == Repeat::Harmless => {
            match connection.vendor().packing_of_repeated_registration(registration) {
                Packing::Together { key, at_most, bytes } => {
                    Packing::Together { key: format!("{}\n{key}", intent.tenant), at_most, bytes }
                }
                Packing::Alone => Packing::Alone,
            }
        }
        _ => Packing::Alone,
    }
}
