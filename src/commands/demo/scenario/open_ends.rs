//! The part of the scenario that leaves something to do, for the console to show: a booking whose outcome only a person can
//! find out, an operation with failed rows, reports of which it is not known whose they are, and a webhook that fails.

use std::time::Instant;

use serde_json::{Value, json};

use super::sitting::{PATIENCE, PAUSES};
use super::{Scenario, describe, text};
use crate::commands::Failure;
use crate::commands::demo::client::Answer;
use crate::commands::demo::expectations::gist;
use crate::commands::demo::people::Vendor;
use crate::commands::demo::setup::simulator;
use crate::commands::sandbox_config::{self, reference_of};
use crate::sandbox::accounts;

/// An assessment at StartExam besides the one that everyone is booked for.
const SECOND_ASSESSMENT: &str = "safety-at-work";
/// Assessments at ThinkExam besides the one that everyone is booked for.
const OTHER_ASSESSMENTS: [&str; 2] = ["aptitude", "safety-basics-final"];
/// The address of a person of the class, with a slip.
const MISSPELT: &str = "mera.joshi@example.com";

impl Scenario<'_> {
    /// Leaves what needs a person.
    pub(super) async fn leave_open_ends(&mut self) -> Result<(), Failure> {
        let archive = self.add_webhook().await?;
        self.book_unsafely().await?;
        self.register_with_mistakes().await?;
        self.report_strangers().await?;
        self.fail_webhook(&archive).await
    }

    /// Adds a webhook whose receiver does not know the secret; returns its path. It gets what the following steps cause.
    async fn add_webhook(&mut self) -> Result<String, Failure> {
        let url = format!("http://{}{}/archive", self.sandbox.lms(), accounts::lms::PATH);
        let webhook = json!({
            "url": url, "description": "An archive that does not know the secret",
            "types": ["operation.completed", "report.parked"],
        });
        let Answer { status, body } = self.client.post("/webhooks", &webhook).await?;
        let found = format!("{status} {}", body["state"].as_str().unwrap_or("–"));
        self.ledger.expect("adding a webhook", "201 enabled", found);
        Ok(format!("/webhooks/{}", text(&body["id"]).unwrap_or_default()))
    }

    /// Books a second test so that the vendor must not be asked again, and loses the response: only a person can find out.
    async fn book_unsafely(&mut self) -> Result<(), Failure> {
        let Some(index) = self.members(Vendor::StartExam).get(1).copied() else { return Ok(()) };
        let name = self.class[index].person.given_name;
        let step = self.begin(Vendor::StartExam.name(), format!("Book {name} again, lose the response"));
        let fault = json!({ "name": "reset_after_effect", "operation": "employees_participants", "times": 1 });
        self.client.inject_fault(self.sandbox.startexam(), fault).await?;
        let mut order = self.order(index, SECOND_ASSESSMENT);
        order["ifExists"] = json!("create_new");
        let Answer { status, body } = self.client.post("/assignments", &order).await?;
        let found = gist(status.into(), &body);
        self.ledger.expect(
            format!("losing the response about the booking of {name}"),
            "504 vendor_timeout unknown",
            found,
        );
        self.end(&step, &format!("{}, for a person to settle", describe(status, &body)))
    }

    /// Registers people in one bulk, some of them into a group that the vendor does not have.
    async fn register_with_mistakes(&mut self) -> Result<(), Failure> {
        let group = accounts::examtesting::GROUPS[0];
        let people = [
            ("emp-3101", "Ada", "Moreau", group),
            ("emp-3102", "Ben", "Fischer", "Group Z"),
            ("emp-3103", "Cleo", "Santos", group),
            ("emp-3104", "Dan", "Petrov", "Group Z"),
        ];
        let step = self.begin(Vendor::ExamTesting.name(), format!("Register {} with a wrong group", people.len()));
        let rows = people.map(|(id, given_name, family_name, group)| {
            let email = format!("{given_name}.{family_name}@example.com").to_lowercase();
            let name = json!({ "givenName": given_name, "familyName": family_name });
            json!({ "externalId": id, "name": name, "email": email, "group": group })
        });
        let bulk = json!({ "connection": Vendor::ExamTesting.connection(), "items": rows });
        let Answer { status, body } = self.client.post("/candidates/bulk", &bulk).await?;
        let summary = &body["summary"];
        let found = format!("{status}, {} applied, {} not applied", summary["applied"], summary["notApplied"]);
        self.ledger.expect("a bulk with a wrong group", "207, 2 applied, 2 not applied", &found);
        self.end(&step, &found)
    }

    /// Has ThinkExam report what fits two bookings, and what fits no candidate.
    async fn report_strangers(&mut self) -> Result<(), Failure> {
        let Some(index) = self.members(Vendor::ThinkExam).last().copied() else { return Ok(()) };
        let step = self.begin(Vendor::ThinkExam.name(), "Report results of it is unclear whom".to_owned());
        for assessment in OTHER_ASSESSMENTS {
            let Answer { status, body } = self.client.post("/assignments", &self.order(index, assessment)).await?;
            let what = format!("booking {assessment} for {}", self.class[index].person.given_name);
            self.ledger.expect(what, "201 assigned applied", gist(status.into(), &body));
        }
        let [first, _] = OTHER_ASSESSMENTS;
        let test = reference_of(first);
        let known = json!({ "email": self.class[index].person.email, "testId": test, "marks": 77, "totalMarks": 100 });
        let unknown = json!({ "email": MISSPELT, "testId": test, "marks": 58, "totalMarks": 100, "unassigned": true });
        for (path, result) in
            [(sandbox_config::common_receiver_path(), known), (sandbox_config::receiver_path(first), unknown)]
        {
            let order = json!({ "url": self.client.url(&path), "results": [result] });
            self.client.control(simulator(self.sandbox, Vendor::ThinkExam), "/_webhooks", &order).await?;
        }
        let parked = self.wait_until("/reports?state=parked", |body| count(body) >= 2).await?;
        let reasons =
            parked["items"].as_array().into_iter().flatten().filter_map(|report| report["parkedFor"].as_str());
        let mut reasons: Vec<&str> = reasons.collect();
        reasons.sort_unstable();
        self.ledger.expect(
            "reports whose it is not known",
            "several_open_bookings, unknown_candidate",
            reasons.join(", "),
        );
        self.end(&step, &format!("{} parked", count(&parked)))
    }

    async fn fail_webhook(&mut self, path: &str) -> Result<(), Failure> {
        let step = self.begin("LMS", "Refuse what another webhook sends".to_owned());
        let webhook = self.wait_until(path, |body| body["state"] == "failing").await?;
        let state = webhook["state"].as_str().unwrap_or("–");
        self.ledger.expect("the state of a webhook whose deliveries are refused", "failing", state);
        self.end(&step, state)
    }

    /// Reads from the gateway until it is so, or for as long as there is patience; returns what it said last.
    async fn wait_until(&self, path: &str, reached: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let Answer { body, .. } = self.client.get(path).await?;
            if reached(&body) || began.elapsed() > PATIENCE {
                return Ok(body);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

fn count(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}
