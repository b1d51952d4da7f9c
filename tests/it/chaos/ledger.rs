//! The outcomes the callers were told, and whether they match what happened.

use std::collections::HashMap;
use std::net::SocketAddr;

use examgate::sandbox::Sandbox;
use serde_json::Value;

use crate::support::gateway::{ApiResponse, http};

/// The vendors by their connections.
pub type Ports = [(&'static str, SocketAddr); 3];

pub fn ports(sandbox: &Sandbox) -> Ports {
    [
        ("startexam-main", sandbox.startexam()),
        ("thinkexam-main", sandbox.thinkexam()),
        ("examtesting-main", sandbox.examtesting()),
    ]
}

/// What a response reports about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    NotApplied,
    Unknown,
}

impl Outcome {
    /// Returns the outcome a response reports for the requested write.
    pub fn of(response: &ApiResponse) -> Self {
        match response.status {
            // Accepted; nothing is known yet.
            202 => Self::Unknown,
            204 => Self::Applied,
            200 | 201 => Self::parse(response.body["outcome"].as_str().unwrap_or("applied")),
            _ => Self::parse(response.text("/outcome")),
        }
    }

    /// Parses an outcome.
    pub fn parse(outcome: &str) -> Self {
        match outcome {
            "applied" => Self::Applied,
            "not_applied" => Self::NotApplied,
            "unknown" => Self::Unknown,
            other => panic!("{other:?} is no outcome"),
        }
    }
}

/// A person to be registered.
#[derive(Debug, Default)]
pub struct Person {
    pub connection: &'static str,
    pub id: String,
    /// The path of the record, once known.
    pub path: Option<String>,
    pub outcomes: Vec<Outcome>,
    /// The last names requested since, with their outcomes.
    pub names: Vec<(String, Outcome)>,
    pub deletions: Vec<Outcome>,
}

/// A booking of a person for a test.
#[derive(Debug)]
pub struct Booking {
    pub connection: &'static str,
    pub person: String,
    pub test: &'static str,
    pub mail: bool,
    pub path: Option<String>,
    pub outcomes: Vec<Outcome>,
    pub cancellations: Vec<Outcome>,
}

/// An employee enrolled in a program.
#[derive(Debug)]
pub struct Enrolment {
    pub person: String,
    pub outcomes: Vec<Outcome>,
}

/// What happened at the vendors: how often each effect occurred.
#[derive(Debug, Default)]
pub struct VendorEffects {
    counts: HashMap<String, usize>,
    names: HashMap<String, String>,
}

/// Returns whether there is an unknown outcome after the last applied one.
fn is_unresolved(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .rev()
        .take_while(|outcome| **outcome != Outcome::Applied)
        .any(|outcome| *outcome == Outcome::Unknown)
}

impl Person {
    pub fn is_unresolved(&self) -> bool {
        is_unresolved(&self.outcomes)
    }

    pub fn is_registered(&self) -> bool {
        self.outcomes.contains(&Outcome::Applied) && self.deletions.is_empty()
    }

    pub fn name_is_unresolved(&self) -> bool {
        is_unresolved(&self.names.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>())
    }

    /// Returns what contradicts the reported outcomes.
    pub fn violations(&self, effects: &VendorEffects) -> Vec<String> {
        let made = effects.count(self.connection, "created", &self.id);
        let mut wrong = contradictions(&self.outcomes, made);
        if self.connection == "startexam-main" && made == 1 && self.deletions.is_empty() {
            let name = effects.names.get(&self.id).map_or("", String::as_str);
            let applied = self.names.iter().rposition(|(_, outcome)| *outcome == Outcome::Applied);
            let mut may_be: Vec<&str> = vec![applied.map_or("King", |index| &self.names[index].0)];
            let after = &self.names[applied.map_or(0, |index| index + 1)..];
            may_be.extend(
                after.iter().filter(|(_, outcome)| *outcome == Outcome::Unknown).map(|(name, _)| name.as_str()),
            );
            if !may_be.contains(&name) {
                wrong.push(format!("the name is {name:?} after {:?}", self.names));
            }
        }
        with_subject(&format!("{} {}", self.connection, self.id), wrong)
    }
}

impl Booking {
    pub fn is_unresolved(&self) -> bool {
        is_unresolved(&self.outcomes)
    }

    pub fn is_booked(&self) -> bool {
        self.outcomes.contains(&Outcome::Applied) && self.cancellations.is_empty()
    }

    pub fn cancellation_is_unresolved(&self) -> bool {
        is_unresolved(&self.cancellations)
    }

    pub fn violations(&self, effects: &VendorEffects) -> Vec<String> {
        let subject = format!("{}/{}", self.person, self.test);
        let count = |change| effects.count(self.connection, change, &subject);
        let mut wrong = contradictions(&self.outcomes, count("created"));
        wrong.extend(contradictions(&self.cancellations, count("unregistered")));
        if count("mail_sent") > usize::from(self.mail) {
            wrong.push(format!("{} mails", count("mail_sent")));
        }
        with_subject(&format!("{} {subject}", self.connection), wrong)
    }
}

impl Enrolment {
    pub fn violations(&self, program: &str, effects: &VendorEffects) -> Vec<String> {
        let made = effects.count("startexam-main", "created", &format!("{program}/{}", self.person));
        with_subject(&format!("enrolment of {}", self.person), contradictions(&self.outcomes, made))
    }
}

fn with_subject(what: &str, wrong: Vec<String>) -> Vec<String> {
    wrong.into_iter().map(|why| format!("{what}: {why}")).collect()
}

/// Compares all outcomes reported for one thing with how often it was done. A rejected retry (`not_applied`) does not
/// revoke what an earlier request may have done.
fn contradictions(outcomes: &[Outcome], done: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    if done > 1 {
        wrong.push(format!("done {done} times"));
    }
    if outcomes.contains(&Outcome::Applied) && done == 0 {
        wrong.push(format!("reported applied and never done: {outcomes:?}"));
    }
    if outcomes.iter().all(|outcome| *outcome == Outcome::NotApplied) && done > 0 {
        wrong.push(format!("reported not_applied and done: {outcomes:?}"));
    }
    wrong
}

impl VendorEffects {
    /// Reads everything that happened at the vendors so far.
    pub async fn read(ports: Ports) -> Self {
        let mut effects = Self::default();
        for (connection, port) in ports {
            let url = format!("http://{port}/_effects?calls=false");
            let log: Value = http().get(url).send().await.expect("the sandbox responds").json().await.expect("JSON");
            assert_eq!(log["effectsDropped"], 0, "the log is too short for this storm");
            for effect in log["effects"].as_array().expect("a list") {
                let text = |name: &str| effect[name].as_str().unwrap_or_default();
                let what = match effect["operation"].as_str() {
                    Some("employees") => text("employee").to_owned(),
                    Some("employees_participants") => format!("{}/{}", text("employee"), text("test")),
                    Some("program_employees") => format!("{}/{}", text("program"), text("employee")),
                    Some("assignTest" | "deassignTest") => format!("{}/{}", local_part(text("email")), text("testId")),
                    _ => local_part(text("email")).to_owned(),
                };
                *effects.counts.entry(format!("{connection} {} {what}", text("change"))).or_default() += 1;
            }
            for employee in log["state"]["employees"].as_array().into_iter().flatten() {
                let id = employee["id"].as_str().expect("an id").to_owned();
                let name = employee["data"]["Last Name"].as_str().unwrap_or_default().to_owned();
                effects.names.insert(id, name);
            }
        }
        effects
    }

    /// Returns how often this was done.
    pub fn count(&self, connection: &str, change: &str, what: &str) -> usize {
        self.counts.get(&format!("{connection} {change} {what}")).copied().unwrap_or(0)
    }
}

/// Waits until no call is open at any vendor.
pub async fn wait_for_open_calls(ports: Ports) {
    let began = std::time::Instant::now();
    for (_, port) in ports {
        loop {
            let url = format!("http://{port}/_effects?state=false");
            let log: Value = http().get(url).send().await.expect("the sandbox responds").json().await.expect("JSON");
            if log["calls"].as_array().expect("calls").iter().all(|call| call["finished"] == true) {
                break;
            }
            assert!(began.elapsed() < super::TIMEOUT, "a call never ends");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}

fn local_part(email: &str) -> &str {
    email.split('@').next().unwrap_or_default()
}
