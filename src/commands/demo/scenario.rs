//! The scenario that covers all three vendors through the public API. Every response is compared with the expected one,
//! and at the end with the simulators' own records.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::Failure;
use crate::commands::demo::client::{Answer, Client};
use crate::commands::demo::expectations::{Expectations, gist};
use crate::commands::demo::people::{Person, Vendor, everybody};
use crate::commands::demo::setup::simulator;
use crate::commands::demo::terminal::{Row, Screen};
use crate::commands::sandbox_config::PROGRAM;
use crate::sandbox::{Sandbox, accounts};

mod delivery;
mod open_ends;
mod sitting;

/// How many times the request whose response was lost is retried.
const MAX_RETRIES: usize = 10;
/// Pause between two retries: the `settle_grace` of the demo's connections.
const GRACE: Duration = Duration::from_secs(1);

/// Registrations; the lost response, its retry and the vendor's record of it; bookings and their links; the enrolment;
/// repeated requests and that no vendor saw them; rejections and that the vendor saw none; results and their events at the
/// LMS; the vendors' records; what is left for a person to do; reading back.
pub(super) const PLANNED: usize = 23 + 3 + (16 + 16) + 1 + (5 + 3) + (2 + 1) + (16 + 16) + (24 + 16) + 7 + (24 + 16);

const REGISTERED: &str = "registered applied";

pub(super) struct Scenario<'a> {
    client: &'a Client,
    sandbox: &'a Sandbox,
    screen: &'a Screen,
    ledger: Expectations,
    class: Vec<Member>,
}

/// A person and the ids the gateway assigned.
struct Member {
    person: Person,
    candidate: Option<String>,
    assignment: Option<String>,
    attempt: Option<Attempt>,
    /// Whether the LMS has got the attempt's result, with a valid signature.
    verified: Option<bool>,
}

/// What the gateway says of an attempt.
struct Attempt {
    /// The path of its result.
    resource: String,
    /// The points given and those that can be had.
    score: Option<String>,
    passed: Option<bool>,
}

impl Attempt {
    fn of(result: &Value) -> Self {
        let score = &result["score"];
        let points = score["given"].as_f64().zip(score["maximum"].as_f64());
        let score = points.map(|(given, maximum)| format!("{given}/{maximum}"));
        let resource = format!("/results/{}", result["id"].as_str().unwrap_or_default());
        Self { resource, score, passed: result["passed"].as_bool() }
    }
}

/// A step in progress, with the number of differences before it.
struct Step<'a> {
    vendor: &'a str,
    what: String,
    differences: usize,
}

impl<'a> Scenario<'a> {
    pub(super) fn new(client: &'a Client, sandbox: &'a Sandbox, screen: &'a Screen) -> Self {
        let member = |person| Member { person, candidate: None, assignment: None, attempt: None, verified: None };
        let class = everybody().into_iter().map(member).collect();
        Self { client, sandbox, screen, ledger: Expectations::new(PLANNED), class }
    }

    /// Runs all steps in order. Returns the rows of the table and the expectations.
    ///
    /// # Errors
    /// If the gateway or a simulator cannot be reached. Unexpected outcomes are counted, not returned as errors.
    pub(super) async fn run(mut self) -> Result<(Vec<Row>, Expectations), Failure> {
        let unlucky = self.members(Vendor::StartExam).last().copied().unwrap_or_default();
        for vendor in Vendor::ALL {
            self.register(vendor, unlucky).await?;
        }
        self.lose_response(unlucky).await?;
        self.ask_again(unlucky).await?;
        for vendor in Vendor::ALL {
            if let Some(assessment) = vendor.assessment() {
                self.assign(vendor, assessment).await?;
            }
        }
        self.enrol().await?;
        self.repeat().await?;
        self.request_unsupported().await?;
        self.be_refused().await?;
        for vendor in Vendor::ALL {
            self.sit(vendor).await?;
        }
        self.hear().await?;
        self.compare().await?;
        self.leave_open_ends().await?;
        let rows = self.read_back().await?;
        Ok((rows, self.ledger))
    }

    async fn register(&mut self, vendor: Vendor, left_out: usize) -> Result<(), Failure> {
        let members: Vec<usize> = self.members(vendor).into_iter().filter(|index| *index != left_out).collect();
        let [first, others @ ..] = &members[..] else { return Ok(()) };
        let step =
            self.begin(vendor.name(), format!("Register {} people, {} in one bulk", members.len(), others.len()));
        let single = self.class[*first].person.registration();
        let rows: Vec<Value> = others.iter().map(|index| self.class[*index].person.row()).collect();
        let answers = self.send_all("/candidates", vendor, &members, &single, &rows).await?;
        let mut applied = 0;
        for (index, status, body) in answers {
            let member = &mut self.class[index];
            let what = format!("registering {} at {}", member.person.given_name, vendor.name());
            self.ledger.expect(what, format!("201 {REGISTERED}"), gist(status, &body));
            member.candidate = text(&body["id"]);
            applied += usize::from(body["outcome"] == "applied");
        }
        self.end(&step, &format!("{applied} applied"))
    }

    /// Sends the first member's request alone and the others' rows in one bulk. Returns status and body for each
    /// member; a row without a result has status 0.
    async fn send_all(
        &self,
        path: &str,
        vendor: Vendor,
        members: &[usize],
        single: &Value,
        rows: &[Value],
    ) -> Result<Vec<(usize, u64, Value)>, Failure> {
        let Answer { status, body } = self.client.post(path, single).await?;
        let bulk = json!({ "connection": vendor.connection(), "items": rows });
        let bulk = self.client.post(&format!("{path}/bulk"), &bulk).await?.body;
        let others = (0..rows.len()).map(|row| {
            let result = &bulk["results"][row];
            let body = if result["resource"].is_object() { &result["resource"] } else { &result["problem"] };
            (result["status"].as_u64().unwrap_or_default(), body.clone())
        });
        let all = [(u64::from(status), body)].into_iter().chain(others);
        Ok(members.iter().zip(all).map(|(member, (status, body))| (*member, status, body)).collect())
    }

    async fn lose_response(&mut self, index: usize) -> Result<(), Failure> {
        let name = self.class[index].person.given_name;
        let step = self.begin(Vendor::StartExam.name(), format!("Register {name}, lose the response"));
        let fault = json!({ "name": "reset_after_effect", "operation": "employees", "times": 1 });
        self.client.inject_fault(self.sandbox.startexam(), fault).await?;
        let answer = self.register_once(index).await?;
        let found = gist(answer.status.into(), &answer.body);
        self.ledger.expect(format!("losing the response about {name}"), "504 vendor_timeout unknown", &found);
        let outcome = answer.body["outcome"].as_str().unwrap_or("–");
        self.end(&step, &format!("{}, {outcome}", describe(answer.status, &answer.body)))
    }

    async fn ask_again(&mut self, index: usize) -> Result<(), Failure> {
        let name = self.class[index].person.given_name;
        let step = self.begin(Vendor::StartExam.name(), "Retry the same request".to_owned());
        let mut body = self.register_once(index).await?.body;
        // Pause as `Retry-After` asks: the vendor may still be processing the request it did not answer.
        for _ in 0..MAX_RETRIES {
            if body["outcome"] != "unknown" {
                break;
            }
            tokio::time::sleep(GRACE).await;
            body = self.register_once(index).await?.body;
        }
        let word = |member: &str| body[member].as_str().unwrap_or("–").to_owned();
        let found = format!("{} {}", word("state"), word("outcome"));
        self.ledger.expect(format!("retrying the request about {name}"), REGISTERED, &found);
        let effects = self.client.effects(self.sandbox.startexam()).await?;
        let times = times_registered(&effects, &self.class[index].person);
        self.ledger.expect(format!("times StartExam has {name}"), 1, times);
        self.class[index].candidate = text(&body["id"]);
        self.end(&step, &format!("{}, {name} exists {}", word("outcome"), often(times)))
    }

    async fn register_once(&self, index: usize) -> Result<Answer, Failure> {
        let person = &self.class[index].person;
        self.client.post_once("/candidates", &format!("demo-{}", person.external_id), &person.registration()).await
    }

    async fn assign(&mut self, vendor: Vendor, assessment: &str) -> Result<(), Failure> {
        let members = self.members(vendor);
        let [first, others @ ..] = &members[..] else { return Ok(()) };
        let step = self.begin(vendor.name(), format!("Assign {assessment}"));
        let single = self.order(*first, assessment);
        let rows: Vec<Value> = others.iter().map(|index| self.order(*index, assessment)).collect();
        let answers = self.send_all("/assignments", vendor, &members, &single, &rows).await?;
        let (mut applied, mut links) = (0, 0);
        for (index, status, body) in answers {
            let member = &mut self.class[index];
            let name = member.person.given_name;
            self.ledger.expect(format!("assigning {name}"), "201 assigned applied", gist(status, &body));
            let launch = body["launch"]["url"].is_string();
            self.ledger.expect(format!("a launch link for {name}"), true, launch);
            member.assignment = text(&body["id"]);
            applied += usize::from(body["outcome"] == "applied");
            links += usize::from(launch);
        }
        self.end(&step, &format!("{applied} applied, {links} launch links"))
    }

    async fn enrol(&mut self) -> Result<(), Failure> {
        let employees: Vec<&str> =
            self.members(Vendor::StartExam).iter().map(|index| self.external_id(*index)).collect();
        let step = self.begin(Vendor::StartExam.name(), format!("Enrol {} in {PROGRAM}", employees.len()));
        let order = json!({ "scope": "all", "register": employees });
        let Answer { status, body } = self.client.post(&format!("/programs/{PROGRAM}/employees"), &order).await?;
        let describe = |body: &Value| {
            let outcome = body["outcome"].as_str().unwrap_or("–");
            format!("{outcome}, {} attempts", body["attemptsRegistered"])
        };
        let found = format!("{status} {} employees, {}", body["employeesRegistered"], describe(&body));
        let attempts = employees.len() * accounts::startexam::TESTS.len();
        let expected = format!("200 {} employees, applied, {attempts} attempts", employees.len());
        self.ledger.expect(format!("enrolling in {PROGRAM}"), expected, found);
        self.end(&step, &describe(&body))
    }

    /// Sends the same requests a second time: the gateway answers from its records and calls no vendor.
    async fn repeat(&mut self) -> Result<(), Failure> {
        let mut requests = Vec::new();
        for vendor in Vendor::ALL {
            let Some(first) = self.members(vendor).first().copied() else { continue };
            requests.push(("/candidates", self.class[first].person.registration(), format!("200 {REGISTERED}")));
            if let Some(assessment) = vendor.assessment() {
                requests.push(("/assignments", self.order(first, assessment), "200 assigned applied".to_owned()));
            }
        }
        let step = self.begin("all three", format!("Send {} requests a second time", requests.len()));
        let before = self.calls().await?;
        let mut reused = 0;
        for (path, body, expected) in requests {
            let answer = self.client.post(path, &body).await?;
            self.ledger.expect(format!("a second POST {path}"), expected, gist(answer.status.into(), &answer.body));
            reused += usize::from(answer.status == 200);
        }
        let after = self.calls().await?;
        for (vendor, (before, after)) in Vendor::ALL.into_iter().zip(before.iter().zip(&after)) {
            self.ledger.expect(format!("calls {} has seen after the repeated requests", vendor.name()), before, after);
        }
        let rest = if before == after { "no vendor called" } else { "vendors called" };
        self.end(&step, &format!("{reused} × 200, {rest}"))
    }

    /// Requests something the vendor does not support: the gateway rejects it before sending anything.
    async fn request_unsupported(&mut self) -> Result<(), Failure> {
        let step = self.begin(Vendor::ThinkExam.name(), "Request an unsupported time window".to_owned());
        let Some(first) = self.members(Vendor::ThinkExam).first().copied() else { return Ok(()) };
        let mut order = self.order(first, "aptitude");
        order["validUntil"] = json!("2099-12-31T00:00:00Z");
        let before = self.calls().await?;
        let Answer { status, body } = self.client.post("/assignments", &order).await?;
        let found = format!("{} {}", gist(status.into(), &body), body["errors"][0]["pointer"].as_str().unwrap_or("–"));
        let expected = "422 capability_unsupported not_applied /validUntil";
        self.ledger.expect("a time window at ThinkExam", expected, found);
        let unseen = before == self.calls().await?;
        self.ledger.expect("ThinkExam never saw the booking with a time window", true, unseen);
        self.end(&step, &describe(status, &body))
    }

    /// Requests something that the vendor rejects: the gateway maps the error to its own code.
    async fn be_refused(&mut self) -> Result<(), Failure> {
        let step = self.begin(Vendor::ExamTesting.name(), "Register into an unknown group".to_owned());
        let body = json!({
            "connection": Vendor::ExamTesting.connection(),
            "externalId": "emp-3999",
            "name": { "givenName": "Zoe", "familyName": "Ward" },
            "email": "zoe.ward@example.com",
            "group": "Group Z",
        });
        let Answer { status, body } = self.client.post("/candidates", &body).await?;
        let found = format!("{}, vendor code {}", gist(status.into(), &body), body["vendor"]["code"]);
        let expected = "422 group_not_found not_applied, vendor code \"1005\"";
        self.ledger.expect("an unknown group at ExamTesting", expected, found);
        self.end(&step, &describe(status, &body))
    }

    /// Checks the vendors' own records: every person and every booking exists exactly once.
    async fn compare(&mut self) -> Result<(), Failure> {
        let step = self.begin("all three", "Compare with the vendors' records".to_owned());
        let (mut people, mut bookings) = (0, 0);
        for vendor in Vendor::ALL {
            let effects = self.client.effects(simulator(self.sandbox, vendor)).await?;
            for index in self.members(vendor) {
                let person = &self.class[index].person;
                let registered = times_registered(&effects, person);
                self.ledger.expect(format!("times {} has {}", vendor.name(), person.given_name), 1, registered);
                people += usize::from(registered == 1);
                if vendor.assessment().is_some() {
                    let booked = times_booked(&effects, person);
                    let what = format!("times {} has booked {}", vendor.name(), person.given_name);
                    self.ledger.expect(what, 1, booked);
                    bookings += usize::from(booked == 1);
                }
            }
        }
        self.end(&step, &format!("{people} people, {bookings} bookings, each once"))
    }

    /// Reads everyone back from the gateway.
    async fn read_back(&mut self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for member in &self.class {
            let Person { vendor, given_name, .. } = &member.person;
            let candidate = self.read("/candidates", member.candidate.as_deref()).await?;
            let found = gist(candidate.status.into(), &candidate.body);
            let mut as_expected = found == format!("200 {REGISTERED}");
            self.ledger.expect(format!("reading {given_name} back"), format!("200 {REGISTERED}"), found);
            let mut link = None;
            if vendor.assessment().is_some() {
                let assignment = self.read("/assignments", member.assignment.as_deref()).await?;
                let found = gist(assignment.status.into(), &assignment.body);
                as_expected &= found == "200 assigned applied";
                let what = format!("reading the assignment of {given_name} back");
                self.ledger.expect(what, "200 assigned applied", found);
                link = text(&assignment.body["launch"]["url"]);
            }
            let word = |name: &str| text(&candidate.body[name]).unwrap_or_else(|| "–".to_owned());
            rows.push(Row {
                person: given_name,
                vendor: vendor.name(),
                candidate: member.candidate.clone(),
                state: word("state"),
                outcome: word("outcome"),
                assignment: member.assignment.clone(),
                score: member.attempt.as_ref().and_then(|attempt| attempt.score.clone()),
                passed: member.attempt.as_ref().and_then(|attempt| attempt.passed),
                verified: member.verified,
                link,
                as_expected,
            });
        }
        self.screen.advance(self.ledger.checked);
        Ok(rows)
    }

    async fn read(&self, collection: &str, id: Option<&str>) -> Result<Answer, Failure> {
        match id {
            Some(id) => self.client.get(&format!("{collection}/{id}")).await,
            None => Ok(Answer { status: 0, body: Value::Null }),
        }
    }

    /// Returns how many calls each simulator has received. Reads of the feed do not count: the gateway makes them at times of
    /// its own.
    async fn calls(&self) -> Result<Vec<usize>, Failure> {
        let mut counts = Vec::new();
        for vendor in Vendor::ALL {
            let log = self.client.calls(simulator(self.sandbox, vendor)).await?;
            let calls =
                log["calls"].as_array().ok_or_else(|| Failure::Other("a simulator lists no calls".to_owned()))?;
            let is_read =
                |call: &&Value| ["sessions", "session", "tests"].iter().any(|name| call["operation"] == *name);
            counts.push(calls.iter().filter(|call| !is_read(call)).count());
        }
        Ok(counts)
    }

    fn members(&self, vendor: Vendor) -> Vec<usize> {
        (0..self.class.len()).filter(|index| self.class[*index].person.vendor == vendor).collect()
    }

    fn external_id(&self, index: usize) -> &str {
        &self.class[index].person.external_id
    }

    fn order(&self, index: usize, assessment: &str) -> Value {
        json!({ "candidate": { "externalId": self.external_id(index) }, "assessment": assessment })
    }

    fn begin<'s>(&self, vendor: &'s str, what: String) -> Step<'s> {
        self.screen.doing(vendor, &what);
        Step { vendor, what, differences: self.ledger.differences.len() }
    }

    fn end(&self, step: &Step<'_>, result: &str) -> Result<(), Failure> {
        self.screen.advance(self.ledger.checked);
        let as_expected = self.ledger.differences.len() == step.differences;
        self.screen.step(as_expected, step.vendor, &step.what, result)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Formats status and problem code.
fn describe(status: u16, body: &Value) -> String {
    format!("{status} {}", body["code"].as_str().unwrap_or("–"))
}

fn often(times: usize) -> String {
    match times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    }
}

fn times_registered(effects: &Value, person: &Person) -> usize {
    match person.vendor {
        Vendor::StartExam => times_created(effects, "employees", "employee", &person.external_id),
        Vendor::ThinkExam => times_created(effects, "bulkCandidateRegister", "email", &person.email),
        Vendor::ExamTesting => times_created(effects, "add", "email", &person.email),
    }
}

fn times_booked(effects: &Value, person: &Person) -> usize {
    match person.vendor {
        Vendor::StartExam => times_created(effects, "employees_participants", "employee", &person.external_id),
        Vendor::ThinkExam => times_created(effects, "assignTest", "email", &person.email),
        Vendor::ExamTesting => 0,
    }
}

fn times_created(effects: &Value, operation: &str, key: &str, value: &str) -> usize {
    let effects = effects["effects"].as_array().into_iter().flatten();
    let created =
        |effect: &&Value| effect["operation"] == operation && effect["change"] == "created" && effect[key] == value;
    effects.filter(created).count()
}
