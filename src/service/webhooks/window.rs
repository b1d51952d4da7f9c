//! The deliveries of a webhook that may be sent, as far as they are in memory, and which of them is sent next. Pure: the time is
//! given.
//!
//! A delivery that waits behind an earlier one of its assignment is in the store only, and is read when that one has ended. So
//! no number of assignments that are held up takes the place of others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::ids::AssignmentId;
use crate::domain::webhook::{Delivery, DeliveryOrder};

/// Which of the deliveries that are due is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// The one with the fewest attempts, while the receiver is probed: an event that breaks the receiver does not keep the others
    /// waiting.
    Probe,
    /// One that was never attempted, if there is one: those that are attempted again do not keep it waiting.
    Fresh,
    /// That of the first event.
    First,
}

/// Pending deliveries by the numbers of their events.
#[derive(Debug, Default)]
pub(super) struct PendingWindow {
    deliveries: BTreeMap<u64, Delivery>,
    in_flight: BTreeSet<u64>,
    /// The assignments of deliveries in memory of which the store may have later ones.
    followed: HashSet<AssignmentId>,
}

impl PendingWindow {
    /// Returns how many deliveries are in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns how many of them are due by a time and were never attempted.
    pub(super) fn fresh(&self, by: Timestamp) -> usize {
        let fresh = self.deliveries.values().filter(|delivery| delivery.attempts.is_empty());
        fresh.filter(|delivery| is_due(delivery, by)).count()
    }

    /// Returns how many of them are due.
    pub(super) fn due(&self, now: Timestamp) -> usize {
        self.deliveries.values().filter(|delivery| is_due(delivery, now)).count()
    }

    /// Returns how many of them are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether the delivery of an event is in flight.
    pub(super) fn is_in_flight(&self, sequence: u64) -> bool {
        self.in_flight.contains(&sequence)
    }

    /// Returns the delivery of an event.
    pub(super) fn get(&self, sequence: u64) -> Option<&Delivery> {
        self.deliveries.get(&sequence)
    }

    /// Adds deliveries that were made now.
    pub(super) fn extend(&mut self, made: impl IntoIterator<Item = Delivery>) {
        self.deliveries.extend(made.into_iter().map(|delivery| (delivery.sequence, delivery)));
    }

    /// Returns the numbers of the deliveries that are not in flight.
    pub(super) fn waiting(&self) -> Vec<u64> {
        self.deliveries.keys().copied().filter(|number| !self.in_flight.contains(number)).collect()
    }

    /// Replaces a delivery by what the store has; it stays in flight if it is.
    pub(super) fn replace(&mut self, stored: Delivery) {
        self.deliveries.insert(stored.sequence, stored);
    }

    /// Replaces all deliveries that are not in flight by what the store has.
    pub(super) fn reload(&mut self, stored: Vec<Delivery>, order: DeliveryOrder) {
        let in_flight = &self.in_flight;
        self.deliveries.retain(|sequence, _| in_flight.contains(sequence));
        self.followed = self.deliveries.values().filter_map(|delivery| delivery.assignment.clone()).collect();
        self.merge(stored, order);
    }

    /// As [`Self::reload`], of what the store has of events up to this one. Of later events, deliveries without an assignment stay.
    /// Those of an assignment leave, since an earlier one may have become pending: returns the assignments, whose first deliveries
    /// are to be read.
    pub(super) fn reload_to(
        &mut self,
        looked_to: u64,
        stored: Vec<Delivery>,
        order: DeliveryOrder,
    ) -> Vec<AssignmentId> {
        let (in_flight, mut left) = (&self.in_flight, Vec::new());
        self.deliveries.retain(|sequence, delivery| {
            if in_flight.contains(sequence) {
                return true;
            }
            let assignment = delivery.assignment.as_ref().filter(|_| order == DeliveryOrder::Resource);
            let is_later = *sequence > looked_to;
            left.extend(assignment.filter(|_| is_later).cloned());
            is_later && assignment.is_none()
        });
        self.forget_followers();
        self.merge(stored, order);
        left
    }

    /// Adds deliveries of the store, or replaces them by what it has, but for those in flight. In order, later ones of the same
    /// assignments leave: one before them has become pending again, and they are read once it has ended.
    pub(super) fn merge(&mut self, stored: Vec<Delivery>, order: DeliveryOrder) {
        if order == DeliveryOrder::Resource {
            self.remove_later(&stored);
        }
        for delivery in stored {
            self.followed.extend(delivery.assignment.clone());
            if !self.in_flight.contains(&delivery.sequence) {
                self.deliveries.insert(delivery.sequence, delivery);
            }
        }
    }

    /// Removes the deliveries that are not in flight of which there is an earlier one of the same assignment among these.
    fn remove_later(&mut self, these: &[Delivery]) {
        let mut first: HashMap<&AssignmentId, u64> = HashMap::new();
        for delivery in these {
            if let Some(assignment) = &delivery.assignment {
                let number = first.entry(assignment).or_insert(delivery.sequence);
                *number = delivery.sequence.min(*number);
            }
        }
        let in_flight = &self.in_flight;
        self.deliveries.retain(|sequence, delivery| {
            let before = delivery.assignment.as_ref().and_then(|assignment| first.get(assignment));
            before.is_none_or(|before| sequence <= before) || in_flight.contains(sequence)
        });
    }

    /// Takes note that the store has a later delivery of an assignment that has one here.
    pub(super) fn note_follower(&mut self, assignment: &AssignmentId) {
        self.followed.insert(assignment.clone());
    }

    /// Removes the deliveries of these events, but for those in flight.
    pub(super) fn remove(&mut self, sequences: &[u64]) {
        for sequence in sequences.iter().filter(|sequence| !self.in_flight.contains(sequence)) {
            self.deliveries.remove(sequence);
        }
        self.forget_followers();
    }

    /// Forgets the followers of assignments of which no delivery is in memory any more.
    fn forget_followers(&mut self) {
        let present: HashSet<&AssignmentId> =
            self.deliveries.values().filter_map(|delivery| delivery.assignment.as_ref()).collect();
        self.followed.retain(|assignment| present.contains(assignment));
    }

    /// Removes the deliveries that are due last, until there are at most so many or the others are due; in order, with later ones of
    /// the same assignments. Returns whether it has removed any, which are in the store only from then on.
    pub(super) fn shrink(&mut self, now: Timestamp, most: usize, order: DeliveryOrder) -> bool {
        let excess = self.deliveries.len().saturating_sub(most);
        if excess == 0 {
            return false;
        }
        let waiting = self.deliveries.values().filter(|delivery| !is_due(delivery, now));
        let waiting = waiting.filter(|delivery| !self.in_flight.contains(&delivery.sequence));
        let mut waiting: Vec<_> = waiting.map(|delivery| (delivery.due, delivery.sequence)).collect();
        waiting.sort_unstable();
        let last = waiting.into_iter().rev().take(excess);
        let removed: Vec<Delivery> = last.filter_map(|(_, sequence)| self.deliveries.remove(&sequence)).collect();
        if order == DeliveryOrder::Resource {
            self.remove_later(&removed);
        }
        self.forget_followers();
        !removed.is_empty()
    }

    /// Marks a delivery as in flight.
    pub(super) fn begin(&mut self, sequence: u64) {
        self.in_flight.insert(sequence);
    }

    /// Ends an attempt: the delivery stays as it is now, or leaves if it is no longer pending. Returns its assignment if the store
    /// may have a delivery that has waited for its end.
    pub(super) fn end(&mut self, delivery: Delivery) -> Option<AssignmentId> {
        self.in_flight.remove(&delivery.sequence);
        if delivery.due.is_some() {
            self.deliveries.insert(delivery.sequence, delivery);
            return None;
        }
        self.deliveries.remove(&delivery.sequence);
        delivery.assignment.and_then(|assignment| self.followed.take(&assignment))
    }

    /// Returns the number of the delivery to send next.
    pub(super) fn next(&self, now: Timestamp, order: DeliveryOrder, preference: Preference) -> Option<u64> {
        let mut due = self.sendable(order).filter(|delivery| is_due(delivery, now));
        let next = match preference {
            Preference::Probe => due.min_by_key(|delivery| delivery.attempts.len()),
            Preference::Fresh => due.min_by_key(|delivery| !delivery.attempts.is_empty()),
            Preference::First => due.next(),
        };
        next.map(|delivery| delivery.sequence)
    }

    /// Returns when the next delivery is due.
    pub(super) fn next_due(&self, order: DeliveryOrder) -> Option<Timestamp> {
        self.sendable(order).filter_map(|delivery| delivery.due).min()
    }

    /// Lists the deliveries that may be sent once they are due, in the order of their events.
    fn sendable(&self, order: DeliveryOrder) -> impl Iterator<Item = &Delivery> {
        let mut begun = HashSet::new();
        self.deliveries.values().filter(move |delivery| {
            let is_first = match (order, &delivery.assignment) {
                (DeliveryOrder::Resource, Some(assignment)) => begun.insert(assignment),
                _ => true,
            };
            is_first && !self.in_flight.contains(&delivery.sequence)
        })
    }
}

fn is_due(delivery: &Delivery, now: Timestamp) -> bool {
    delivery.due.is_some_and(|due| due <= now)
}

#[cfg(test)]
mod tests;
