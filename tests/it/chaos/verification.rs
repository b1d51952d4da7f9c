//! The end of a fault storm: the callers resolve what is unknown and check every reported outcome.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::callers::{Bulk, Call, Caller, PROGRAM, order, post, record_response, registration};
use super::ledger::{Outcome, Ports, VendorEffects};
use crate::support::gateway::ApiResponse;

impl Caller {
    /// Retries everything that is unresolved until its outcome is known. What only a person can settle is settled
    /// manually as the vendor's log says, and counted.
    pub async fn resolve_everything(&mut self, ports: Ports) -> usize {
        for bulk in std::mem::take(&mut self.bulks) {
            self.finish_bulk(&bulk).await;
            self.bulks.push(bulk);
        }
        for index in 0..self.people.len() {
            let began = Instant::now();
            while self.people[index].is_unresolved() {
                let body = registration(&self.people[index]);
                let response = self.request_and_pause(post("/candidates", &body, None), began).await;
                let person = &mut self.people[index];
                record_response(&mut person.outcomes, &mut person.path, &response);
            }
            while self.people[index].deletions.is_empty() && self.people[index].name_is_unresolved() {
                self.rename_person(index).await;
                pause(began).await;
            }
            while self.people[index].deletions.last().is_some_and(|outcome| *outcome != Outcome::Applied) {
                self.delete_person(index).await;
                pause(began).await;
            }
        }
        for index in 0..self.enrolments.len() {
            let began = Instant::now();
            while self.enrolments[index].outcomes.contains(&Outcome::Unknown)
                && self.enrolments[index].outcomes.last() != Some(&Outcome::Applied)
            {
                let person = self.enrolments[index].person.clone();
                let outcome = self.enrol_person(&person).await;
                self.enrolments[index].outcomes.push(outcome);
                pause(began).await;
            }
        }
        let mut by_hand = 0;
        for index in 0..self.bookings.len() {
            let began = Instant::now();
            while self.bookings[index].is_unresolved() && self.bookings[index].cancellations.is_empty() {
                let body = order(&self.bookings[index]);
                let response = self.request_and_pause(post("/assignments", &body, None), began).await;
                let booking = &mut self.bookings[index];
                record_response(&mut booking.outcomes, &mut booking.path, &response);
            }
            if self.bookings[index].cancellation_is_unresolved() {
                by_hand += usize::from(self.settle_cancellation(index, ports).await);
            }
        }
        by_hand
    }

    /// Returns whether a manual settlement was needed.
    async fn settle_cancellation(&mut self, index: usize, ports: Ports) -> bool {
        let path = self.bookings[index].path.clone().expect("a booking has a record");
        let began = Instant::now();
        loop {
            self.cancel_booking(index).await;
            match self.bookings[index].cancellations.last() {
                Some(Outcome::Applied) => return false,
                Some(Outcome::Unknown) => break,
                _ => pause(began).await,
            }
        }
        let read = self.request(Call { method: Method::GET, path: &path, body: None, key: None }).await;
        assert_eq!(read.text("/state"), "unknown", "{read:?}");
        let subject = format!("{}/{}", self.bookings[index].person, self.bookings[index].test);
        let gone = VendorEffects::read(ports).await.count("thinkexam-main", "unregistered", &subject) > 0;
        let (outcome, state) = if gone { ("applied", "cancelled") } else { ("not_applied", "assigned") };
        let settled = self.request(post(&format!("{path}/settle"), &json!({ "outcome": outcome }), None)).await;
        assert_eq!((settled.status, settled.text("/state")), (200, state), "{settled:?}");
        true
    }

    /// Waits for the operation's end, has its unknown rows reconciled, and records its last results.
    async fn finish_bulk(&mut self, bulk: &Bulk) {
        let began = Instant::now();
        loop {
            let operation = self.request(Call { method: Method::GET, path: &bulk.path, body: None, key: None }).await;
            let progress = &operation.body["progress"];
            if progress["pending"] == 0 && progress["unknown"] == 0 {
                break;
            }
            if progress["pending"] == 0 {
                let retried = self.request(post(&format!("{}/retry", bulk.path), &json!({}), None)).await;
                assert!([202, 503].contains(&retried.status), "{retried:?}");
            }
            pause(began).await;
        }
        let path = format!("{}/items?limit=200", bulk.path);
        let items = self.request(Call { method: Method::GET, path: &path, body: None, key: None }).await;
        // The last result replaces an unknown one: it may be a rejection.
        for row in &bulk.rows {
            let outcomes = self.outcomes(bulk.of_people, *row);
            if !outcomes.contains(&Outcome::Applied) {
                outcomes.clear();
            }
        }
        self.record_results(bulk, items.body["items"].as_array().expect("items"));
    }

    async fn request_and_pause(&mut self, call: Call<'_>, began: Instant) -> ApiResponse {
        let response = self.request(call).await;
        if response.status >= 400 {
            pause(began).await;
        }
        response
    }

    /// Compares every reported outcome, and each record, with what happened; returns the contradictions.
    pub async fn violations(&mut self, effects: &VendorEffects) -> Vec<String> {
        let mut wrong = Vec::new();
        for person in &self.people {
            wrong.extend(person.violations(effects));
        }
        wrong.extend(self.bookings.iter().flat_map(|booking| booking.violations(effects)));
        wrong.extend(self.enrolments.iter().flat_map(|enrolment| enrolment.violations(PROGRAM, effects)));
        let records: Vec<(String, bool)> = self
            .people
            .iter()
            .filter(|person| person.deletions.is_empty())
            .map(|person| {
                let query = format!("/candidates?connection={}&externalId={}", person.connection, person.id);
                (query, effects.count(person.connection, "created", &person.id) == 1)
            })
            .collect();
        for (query, made) in records {
            let found = self.request(Call { method: Method::GET, path: &query, body: None, key: None }).await;
            let states: Vec<&str> = found.body["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|item| item["state"].as_str())
                .collect();
            let known =
                if made { states.contains(&"registered") } else { states.iter().all(|state| *state == "failed") };
            if !known {
                wrong.push(format!("{query}: made {made}, but the record says {states:?}"));
            }
        }
        wrong
    }
}

/// Pauses, and fails after the time only a hang takes. The pause saves CPU; nothing depends on it.
async fn pause(began: Instant) {
    assert!(began.elapsed() < super::TIMEOUT, "it is never known");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
