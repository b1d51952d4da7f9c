//! The deliveries of a webhook that are not ended, and which of them is sent next. Pure: the time is given.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;

use crate::domain::webhook::{Delivery, DeliveryOrder};

/// Pending deliveries by the numbers of their events.
#[derive(Debug, Default)]
pub(super) struct PendingWindow {
    deliveries: BTreeMap<u64, Delivery>,
    in_flight: BTreeSet<u64>,
}

impl PendingWindow {
    /// Returns how many deliveries are pending.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns how many of them were never attempted.
    pub(super) fn fresh(&self) -> usize {
        self.deliveries.values().filter(|delivery| delivery.attempts.is_empty()).count()
    }

    /// Returns how many of them are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
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
    pub(super) fn reload(&mut self, stored: Vec<Delivery>) {
        let in_flight = &self.in_flight;
        self.deliveries.retain(|sequence, _| in_flight.contains(sequence));
        for delivery in stored {
            self.deliveries.entry(delivery.sequence).or_insert(delivery);
        }
    }

    /// Removes and returns the deliveries of events before this one, but for those in flight.
    pub(super) fn take_before(&mut self, sequence: u64) -> Vec<Delivery> {
        let expired: Vec<u64> = self.deliveries.range(..sequence).map(|(number, _)| *number).collect();
        let expired = expired.into_iter().filter(|number| !self.in_flight.contains(number)).collect::<Vec<_>>();
        expired.iter().filter_map(|number| self.deliveries.remove(number)).collect()
    }

    /// Marks a delivery as in flight.
    pub(super) fn begin(&mut self, sequence: u64) {
        self.in_flight.insert(sequence);
    }

    /// Ends an attempt: the delivery stays as it is now, or leaves if it is no longer pending.
    pub(super) fn end(&mut self, delivery: Delivery) {
        self.in_flight.remove(&delivery.sequence);
        if delivery.due.is_some() {
            self.deliveries.insert(delivery.sequence, delivery);
        } else {
            self.deliveries.remove(&delivery.sequence);
        }
    }

    /// Returns the number of the delivery to send next. While the receiver is probed, it is the one with the fewest attempts,
    /// so that an event that breaks the receiver does not keep the others waiting.
    pub(super) fn next(&self, now: Timestamp, order: DeliveryOrder, is_probe: bool) -> Option<u64> {
        let mut due = self.sendable(order).filter(|delivery| delivery.due.is_some_and(|due| due <= now));
        let next = if is_probe { due.min_by_key(|delivery| delivery.attempts.len()) } else { due.next() };
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

#[cfg(test)]
mod tests;
