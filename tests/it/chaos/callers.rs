//! The callers of a fault storm: each uses the whole API with its own people and records every reported outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use examgate::sandbox::accounts;
use reqwest::Method;
use serde_json::{Value, json};

use super::cluster::Random;
use super::fault_schedule::FaultSchedule;
use super::ledger::{Booking, Enrolment, Outcome, Person};
use crate::support::gateway::{ApiResponse, Gateway};
use crate::support::people::person_at;

const CONNECTIONS: [&str; 3] = ["startexam-main", "thinkexam-main", "examtesting-main"];
pub const PROGRAM: &str = accounts::startexam::PROGRAM_ID;

/// A caller and everything it knows.
pub struct Caller {
    number: usize,
    made: usize,
    gateway: Arc<Gateway>,
    schedule: Arc<FaultSchedule>,
    random: Random,
    pub people: Vec<Person>,
    pub bookings: Vec<Booking>,
    pub enrolments: Vec<Enrolment>,
    /// Operations with the indices of the people or bookings their rows are about.
    pub bulks: Vec<Bulk>,
    /// Number of responses by status and code.
    pub response_counts: BTreeMap<(u16, String), usize>,
    pub replays: usize,
}

/// An operation of a caller.
pub struct Bulk {
    pub path: String,
    pub of_people: bool,
    pub rows: Vec<usize>,
}

/// A request to be sent once.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub key: Option<&'a str>,
}

pub fn post<'a>(path: &'a str, body: &'a Value, key: Option<&'a str>) -> Call<'a> {
    Call { method: Method::POST, path, body: Some(body), key }
}

impl Caller {
    pub fn new(number: usize, gateway: Arc<Gateway>, schedule: Arc<FaultSchedule>, seed: u64) -> Self {
        let random = Random((seed << 16) + number as u64 + 1);
        let (people, bookings, enrolments, bulks) = Default::default();
        let response_counts = BTreeMap::new();
        Self {
            number,
            made: 0,
            gateway,
            schedule,
            random,
            people,
            bookings,
            enrolments,
            bulks,
            response_counts,
            replays: 0,
        }
    }

    /// Does one thing at random.
    pub async fn step(&mut self) {
        match self.random.below(100) {
            0..27 => self.register().await,
            27..31 => self.register_twice_concurrently().await,
            31..41 => self.rename().await,
            41..44 => self.delete().await,
            44..64 => self.book().await,
            64..70 => self.cancel().await,
            70..76 => self.enrol().await,
            76..79 => self.register_many().await,
            79..82 => self.book_many().await,
            82..84 => self.settle_a_known_record().await,
            _ => self.read().await,
        }
    }

    /// Returns a person no vendor has seen yet.
    fn new_person(&mut self, connection: &'static str) -> Person {
        self.made += 1;
        Person { connection, id: format!("c{}n{}", self.number, self.made), ..Person::default() }
    }

    fn random_connection(&mut self) -> &'static str {
        CONNECTIONS[self.below(CONNECTIONS.len())]
    }

    /// Picks a registered person at random; `None` if there is none.
    fn random_registered(&mut self, wanted: impl Fn(&Person) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.people.len())
            .filter(|index| self.people[*index].is_registered() && wanted(&self.people[*index]))
            .collect();
        if fit.is_empty() { None } else { Some(fit[self.below(fit.len())]) }
    }

    async fn register(&mut self) {
        let connection = self.random_connection();
        let mut person = self.new_person(connection);
        let body = registration(&person);
        let key = (self.random.below(2) == 0).then(|| format!("key-{}", person.id));
        let response = self.request(post("/candidates", &body, key.as_deref())).await;
        record_response(&mut person.outcomes, &mut person.path, &response);
        // The same request again: an applied write is replayed, an unknown one is reconciled.
        if let Some(key) = key
            && self.random.below(2) == 0
        {
            let again = self.request(post("/candidates", &body, Some(&key))).await;
            if Outcome::of(&response) == Outcome::Applied {
                assert_eq!((again.status, &again.body), (response.status, &response.body), "{again:?}");
                assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
                self.replays += 1;
            }
            record_response(&mut person.outcomes, &mut person.path, &again);
        }
        self.people.push(person);
    }

    async fn register_twice_concurrently(&mut self) {
        let connection = self.random_connection();
        let mut person = self.new_person(connection);
        let body = registration(&person);
        let key = (self.random.below(2) == 0).then(|| format!("key-{}", person.id));
        let call = || send_call(&self.gateway, post("/candidates", &body, key.as_deref()));
        let (one, other) = tokio::join!(call(), call());
        if Outcome::of(&one) == Outcome::Applied && Outcome::of(&other) == Outcome::Applied {
            assert_eq!(one.text("/id"), other.text("/id"), "two records of one person");
        }
        for response in [one, other] {
            self.count_response(&response).await;
            record_response(&mut person.outcomes, &mut person.path, &response);
        }
        self.people.push(person);
    }

    async fn rename(&mut self) {
        let Some(index) = self.random_registered(|_| true) else { return };
        self.rename_person(index).await;
    }

    pub async fn rename_person(&mut self, index: usize) {
        self.made += 1;
        let name = format!("King {}", self.made);
        let body = match self.people[index].connection {
            "thinkexam-main" => json!({ "group": accounts::thinkexam::COURSES[self.below(3)] }),
            _ => json!({ "name": { "givenName": "Ada", "familyName": name } }),
        };
        let path = self.people[index].path.clone().expect("a registered person has a record");
        let response = self.request(Call { method: Method::PATCH, path: &path, body: Some(&body), key: None }).await;
        self.people[index].names.push((name, Outcome::of(&response)));
    }

    async fn delete(&mut self) {
        // People with bookings or enrolments stay, or what is unresolved about those could not be retried.
        let bound = self.bookings.iter().map(|booking| &booking.person);
        let bound: Vec<String> =
            bound.chain(self.enrolments.iter().map(|enrolment| &enrolment.person)).cloned().collect();
        let fit = |person: &Person| !person.name_is_unresolved() && !bound.contains(&person.id);
        let Some(index) = self.random_registered(fit) else { return };
        self.delete_person(index).await;
    }

    pub async fn delete_person(&mut self, index: usize) {
        let path = self.people[index].path.clone().expect("a registered person has a record");
        let response = self.request(Call { method: Method::DELETE, path: &path, body: None, key: None }).await;
        let gone = response.status == 404 && !self.people[index].deletions.is_empty();
        self.people[index].deletions.push(if gone { Outcome::Applied } else { Outcome::of(&response) });
    }

    /// Returns a booking that was not requested yet.
    fn new_booking(&mut self, connection: Option<&str>) -> Option<Booking> {
        let fit = |person: &Person| {
            person.connection != "examtesting-main" && connection.is_none_or(|wanted| wanted == person.connection)
        };
        let index = self.random_registered(fit)?;
        let (connection, person) = (self.people[index].connection, self.people[index].id.clone());
        let test = match connection {
            "startexam-main" => accounts::startexam::TESTS[self.below(accounts::startexam::TESTS.len())].0,
            _ => accounts::thinkexam::TESTS[self.below(accounts::thinkexam::TESTS.len())].0,
        };
        if self.bookings.iter().any(|known| known.person == person && known.test == test) {
            return None;
        }
        let mail = connection == "thinkexam-main" && self.random.below(3) == 0;
        let (outcomes, cancellations) = Default::default();
        Some(Booking { connection, person, test, mail, path: None, outcomes, cancellations })
    }

    async fn book(&mut self) {
        let Some(mut booking) = self.new_booking(None) else { return };
        let body = order(&booking);
        let key = (self.random.below(2) == 0).then(|| format!("key-{}-{}", booking.person, booking.test));
        let response = self.request(post("/assignments", &body, key.as_deref())).await;
        record_response(&mut booking.outcomes, &mut booking.path, &response);
        if self.random.below(3) == 0 {
            let again = self.request(post("/assignments", &body, key.as_deref())).await;
            record_response(&mut booking.outcomes, &mut booking.path, &again);
        }
        self.bookings.push(booking);
    }

    async fn cancel(&mut self) {
        let fit: Vec<usize> = (0..self.bookings.len())
            .filter(|index| self.bookings[*index].connection == "thinkexam-main" && self.bookings[*index].is_booked())
            .collect();
        if !fit.is_empty() {
            let index = fit[self.below(fit.len())];
            self.cancel_booking(index).await;
        }
    }

    pub async fn cancel_booking(&mut self, index: usize) {
        let path = self.bookings[index].path.clone().expect("a booking has a record");
        let response = self.request(Call { method: Method::DELETE, path: &path, body: None, key: None }).await;
        self.bookings[index].cancellations.push(Outcome::of(&response));
    }

    async fn enrol(&mut self) {
        let here: Vec<String> = self.enrolments.iter().map(|enrolment| enrolment.person.clone()).collect();
        let fit = |person: &Person| person.connection == "startexam-main" && !here.contains(&person.id);
        let Some(index) = self.random_registered(fit) else { return };
        let person = self.people[index].id.clone();
        let outcome = self.enrol_person(&person).await;
        self.enrolments.push(Enrolment { person, outcomes: vec![outcome] });
    }

    pub async fn enrol_person(&mut self, person: &str) -> Outcome {
        let body = json!({ "connection": "startexam-main", "scope": "all", "register": [person] });
        Outcome::of(&self.request(post(&format!("/programs/{PROGRAM}/employees"), &body, None)).await)
    }

    async fn register_many(&mut self) {
        let connection = self.random_connection();
        let count = 3 + self.below(15);
        let people: Vec<Person> = (0..count).map(|_| self.new_person(connection)).collect();
        let items: Vec<Value> = people.iter().map(registration).collect();
        let rows: Vec<usize> = (self.people.len()..self.people.len() + count).collect();
        self.people.extend(people);
        self.send_many("/candidates/bulk", connection, items, Bulk { path: String::new(), of_people: true, rows })
            .await;
    }

    async fn book_many(&mut self) {
        let connection = CONNECTIONS[self.below(2)];
        let first = self.bookings.len();
        for _ in 0..10 {
            if let Some(booking) = self.new_booking(Some(connection)) {
                self.bookings.push(booking);
            }
        }
        let rows: Vec<usize> = (first..self.bookings.len()).collect();
        if rows.is_empty() {
            return;
        }
        let items = rows.iter().map(|index| order(&self.bookings[*index])).collect();
        let bulk = Bulk { path: String::new(), of_people: false, rows };
        self.send_many("/assignments/bulk", connection, items, bulk).await;
    }

    async fn send_many(&mut self, path: &str, connection: &str, items: Vec<Value>, mut bulk: Bulk) {
        self.made += 1;
        let key = format!("bulk-{}-{}", self.number, self.made);
        let body = json!({ "connection": connection, "items": items });
        let response = self.request(post(path, &body, Some(&key))).await;
        match response.status {
            202 => bulk.path = format!("/operations/{}", response.text("/id")),
            207 => {
                bulk.path = format!("/operations/{}", response.text("/operation"));
                assert!(bulk.path.len() > 12, "{response:?}");
                self.record_results(&bulk, response.body["results"].as_array().expect("results"));
            }
            _ => {
                let outcome = Outcome::of(&response);
                assert_eq!(outcome, Outcome::NotApplied, "a refused bulk was never accepted: {response:?}");
                for row in bulk.rows.clone() {
                    self.outcomes(bulk.of_people, row).push(outcome);
                }
                return;
            }
        }
        if self.random.below(3) == 0 {
            let again = self.request(post(path, &body, Some(&key))).await;
            assert!(again.body.to_string().contains(&bulk.path[12..]), "{again:?} is not {}", bulk.path);
        }
        self.bulks.push(bulk);
    }

    /// Records what an operation reports about its rows.
    pub fn record_results(&mut self, bulk: &Bulk, results: &[Value]) {
        assert_eq!(results.len(), bulk.rows.len(), "every row has its result");
        for (row, result) in bulk.rows.iter().zip(results) {
            let id = result["resource"]["id"].as_str();
            let outcome = Outcome::parse(result["outcome"].as_str().expect("an outcome"));
            self.outcomes(bulk.of_people, *row).push(outcome);
            let (root, path) = if bulk.of_people {
                ("candidates", &mut self.people[*row].path)
            } else {
                ("assignments", &mut self.bookings[*row].path)
            };
            if let Some(id) = id {
                *path = Some(format!("/{root}/{id}"));
            }
        }
    }

    pub fn outcomes(&mut self, of_people: bool, row: usize) -> &mut Vec<Outcome> {
        if of_people { &mut self.people[row].outcomes } else { &mut self.bookings[row].outcomes }
    }

    /// Tries to settle a record whose outcome is known, which must be rejected.
    async fn settle_a_known_record(&mut self) {
        let Some(index) = self.random_registered(|person| !person.name_is_unresolved() && !person.is_unresolved())
        else {
            return;
        };
        let path = format!("{}/settle", self.people[index].path.as_deref().expect("a record"));
        let response = self.request(post(&path, &json!({ "outcome": "not_applied" }), None)).await;
        assert_eq!(response.status, 422, "{response:?}");
    }

    async fn read(&mut self) {
        let Some(index) = self.random_registered(|_| true) else { return };
        let (person, settled) = (&self.people[index], !self.people[index].name_is_unresolved());
        let (path, id) = (person.path.clone().expect("a record"), person.id.clone());
        let query = format!("/candidates?connection={}&externalId={id}", person.connection);
        let read = self.request(Call { method: Method::GET, path: &path, body: None, key: None }).await;
        assert_eq!((read.status, read.text("/externalId")), (200, id.as_str()), "{read:?}");
        assert!(!settled || read.text("/state") == "registered", "{read:?}");
        let found = self.request(Call { method: Method::GET, path: &query, body: None, key: None }).await;
        assert!(found.body["items"].to_string().contains(read.text("/id")), "{found:?}");
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.random.below(most as u64)).expect("it is below a usize")
    }

    pub async fn request(&mut self, call: Call<'_>) -> ApiResponse {
        let response = send_call(&self.gateway, call).await;
        self.count_response(&response).await;
        response
    }

    async fn count_response(&mut self, response: &ApiResponse) {
        assert_ne!(response.status, 500, "{response:?}");
        let code = response.body["code"].as_str().filter(|_| response.status >= 400).unwrap_or_default().to_owned();
        if ["vendor_circuit_open", "connection_saturated", "vendor_rate_limited", "overloaded"].contains(&code.as_str())
        {
            assert!(response.header("retry-after").is_some(), "{response:?}");
            // A caller told to retry later does not retry immediately. Nothing depends on the length of the pause.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        *self.response_counts.entry((response.status, code)).or_default() += 1;
        self.schedule.advance().await;
    }
}

async fn send_call(gateway: &Gateway, call: Call<'_>) -> ApiResponse {
    let mut request = gateway.request(call.method, call.path);
    if let Some(key) = call.key {
        request = request.header("Idempotency-Key", key);
    }
    if let Some(body) = call.body {
        request = request.json(body);
    }
    request.send().await
}

pub fn record_response(outcomes: &mut Vec<Outcome>, path: &mut Option<String>, response: &ApiResponse) {
    outcomes.push(Outcome::of(response));
    // A rejection may name the record that caused the conflict, which is not this one.
    if let Some(resource) = response.body["resource"].as_str().filter(|_| Outcome::of(response) == Outcome::Unknown) {
        *path = Some(resource.to_owned());
    }
    if let Some(id) = response.body["id"].as_str().filter(|_| response.status < 300) {
        let root = if id.starts_with("cand_") { "candidates" } else { "assignments" };
        *path = Some(format!("/{root}/{id}"));
    }
}

pub fn registration(person: &Person) -> Value {
    person_at(person.connection, &person.id)
}

pub fn order(booking: &Booking) -> Value {
    let mut order = json!({ "candidate": { "externalId": booking.person }, "assessment": booking.test });
    order["connection"] = json!(booking.connection);
    if booking.mail {
        order["notify"] = json!("vendor_email");
    }
    order
}
