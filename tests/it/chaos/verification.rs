//! After a fault storm: the callers ask again for whatever nobody knows, and hold every word they were told.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::callers::{Bulk, Call, Caller, PROGRAM, note, order, post, registration};
use super::ledger::{Happened, Ports, Word};
use crate::support::gateway::ApiResponse;

impl Caller {
    /// Asks for everything that is open until it is known; what only a person can settle is settled as the vendor's own log
    /// says, and counted.
    pub async fn clear_up(&mut self, ports: Ports) -> usize {
        for bulk in std::mem::take(&mut self.bulks) {
            self.finish(&bulk).await;
            self.bulks.push(bulk);
        }
        for index in 0..self.people.len() {
            let began = Instant::now();
            while self.people[index].is_open() {
                let body = registration(&self.people[index]);
                let answer = self.ask_late(post("/candidates", &body, None), began).await;
                let person = &mut self.people[index];
                note(&mut person.words, &mut person.path, &answer);
            }
            while self.people[index].deletions.is_empty() && self.people[index].name_is_open() {
                self.rename_to_new(index).await;
                patience(began).await;
            }
            while self.people[index].deletions.last().is_some_and(|word| *word != Word::Applied) {
                self.delete_this(index).await;
                patience(began).await;
            }
        }
        for index in 0..self.enrolments.len() {
            let began = Instant::now();
            while self.enrolments[index].words.contains(&Word::Unknown)
                && self.enrolments[index].words.last() != Some(&Word::Applied)
            {
                let person = self.enrolments[index].person.clone();
                let word = self.enrol_this(&person).await;
                self.enrolments[index].words.push(word);
                patience(began).await;
            }
        }
        let mut by_hand = 0;
        for index in 0..self.bookings.len() {
            let began = Instant::now();
            while self.bookings[index].is_open() && self.bookings[index].cancellations.is_empty() {
                let body = order(&self.bookings[index]);
                let answer = self.ask_late(post("/assignments", &body, None), began).await;
                let booking = &mut self.bookings[index];
                note(&mut booking.words, &mut booking.path, &answer);
            }
            if self.bookings[index].cancellation_is_open() {
                by_hand += usize::from(self.settle_cancellation(index, ports).await);
            }
        }
        by_hand
    }

    /// Whether it took a person's word.
    async fn settle_cancellation(&mut self, index: usize, ports: Ports) -> bool {
        let path = self.bookings[index].path.clone().expect("a booking has a record");
        let began = Instant::now();
        loop {
            self.cancel_this(index).await;
            match self.bookings[index].cancellations.last() {
                Some(Word::Applied) => return false,
                Some(Word::Unknown) => break,
                _ => patience(began).await,
            }
        }
        let read = self.ask(Call { method: Method::GET, path: &path, body: None, key: None }).await;
        assert_eq!(read.text("/state"), "unknown", "{read:?}");
        let subject = format!("{}/{}", self.bookings[index].person, self.bookings[index].test);
        let gone = Happened::at(ports).await.count("thinkexam-main", "unregistered", &subject) > 0;
        let (outcome, state) = if gone { ("applied", "cancelled") } else { ("not_applied", "assigned") };
        let settled = self.ask(post(&format!("{path}/settle"), &json!({ "outcome": outcome }), None)).await;
        assert_eq!((settled.status, settled.text("/state")), (200, state), "{settled:?}");
        true
    }

    /// Waits for the operation's end, has its unknown rows settled, and takes its last word over.
    async fn finish(&mut self, bulk: &Bulk) {
        let began = Instant::now();
        loop {
            let told = self.ask(Call { method: Method::GET, path: &bulk.path, body: None, key: None }).await;
            let progress = &told.body["progress"];
            if progress["pending"] == 0 && progress["unknown"] == 0 {
                break;
            }
            if progress["pending"] == 0 {
                let retried = self.ask(post(&format!("{}/retry", bulk.path), &json!({}), None)).await;
                assert!([202, 503].contains(&retried.status), "{retried:?}");
            }
            patience(began).await;
        }
        let path = format!("{}/items?limit=200", bulk.path);
        let items = self.ask(Call { method: Method::GET, path: &path, body: None, key: None }).await;
        // The last word: where it is a refusal, what was unknown before is known now.
        for row in &bulk.rows {
            let words = self.words(bulk.of_people, *row);
            if !words.contains(&Word::Applied) {
                words.clear();
            }
        }
        self.take(bulk, items.body["items"].as_array().expect("items"));
    }

    async fn ask_late(&mut self, call: Call<'_>, began: Instant) -> ApiResponse {
        let answer = self.ask(call).await;
        if answer.status >= 400 {
            patience(began).await;
        }
        answer
    }

    /// Holds every word against what happened, and each record against it; what is wrong.
    pub async fn untruths(&mut self, happened: &Happened) -> Vec<String> {
        let mut wrong = Vec::new();
        for person in &self.people {
            wrong.extend(person.untruths(happened));
        }
        wrong.extend(self.bookings.iter().flat_map(|booking| booking.untruths(happened)));
        wrong.extend(self.enrolments.iter().flat_map(|enrolment| enrolment.untruths(PROGRAM, happened)));
        let records: Vec<(String, bool)> = self
            .people
            .iter()
            .filter(|person| person.deletions.is_empty())
            .map(|person| {
                let query = format!("/candidates?connection={}&externalId={}", person.connection, person.id);
                (query, happened.count(person.connection, "created", &person.id) == 1)
            })
            .collect();
        for (query, made) in records {
            let found = self.ask(Call { method: Method::GET, path: &query, body: None, key: None }).await;
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

/// Only a hang comes this far. The pause spares the machine; nothing depends on it.
async fn patience(began: Instant) {
    assert!(began.elapsed() < Duration::from_mins(2), "it is never known");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
