//! The part of the scenario in which people sit their tests: the simulators state what came of it, and the scores arrive at
//! the gateway, from StartExam's feed and in ThinkExam's webhooks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Attempt, Scenario};
use crate::commands::Failure;
use crate::commands::demo::client::Answer;
use crate::commands::demo::people::Vendor;
use crate::commands::demo::setup::simulator;
use crate::commands::sandbox_config::{self, PASS_PERCENT};

/// The points of the people at a vendor, of 100.
const POINTS: [u32; 8] = [88, 72, 45, 95, 64, 51, 79, 68];
const MAXIMUM: u32 = 100;

/// How long results may take to arrive before they count as missing.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause between two looks, and the longest: each is twice as long as the one before, so that a gateway that cannot
/// answer is not asked all the time.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

impl Scenario<'_> {
    /// Has everyone at a vendor sit the test they are booked for, and reads the results from the gateway.
    pub(super) async fn sit(&mut self, vendor: Vendor) -> Result<(), Failure> {
        let Some((assessment, test)) = vendor.assessment().zip(vendor.test()) else { return Ok(()) };
        let members = self.members(vendor);
        let step = self.begin(vendor.name(), format!("{} people sit {assessment}", members.len()));
        let began = Instant::now();
        match vendor {
            Vendor::StartExam => self.finish_sessions(&members, test).await?,
            Vendor::ThinkExam | Vendor::ExamTesting => self.deliver_webhooks(&members, assessment, test).await?,
        }
        let results = self.wait_for_results(vendor, members.len()).await?;
        let mut arrived = 0;
        for (index, points) in members.into_iter().zip(POINTS) {
            let result = results.iter().find(|result| result["candidate"]["externalId"] == self.external_id(index));
            let attempt = result.map(Attempt::of);
            let word = if points >= PASS_PERCENT { "passed" } else { "failed" };
            let expected = format!("completed fully_graded {points}/{MAXIMUM} {word}");
            let found =
                result.zip(attempt.as_ref()).map_or_else(|| "–".to_owned(), |(result, attempt)| found(result, attempt));
            arrived += usize::from(found == expected);
            self.ledger.expect(format!("the result of {}", self.class[index].person.given_name), expected, found);
            self.class[index].attempt = attempt;
        }
        self.end(&step, &format!("{arrived} scores, after {:.1} seconds", began.elapsed().as_secs_f64()))
    }

    /// Has the simulator finish sessions, and the gateway read the feed: it would do so every ten minutes by itself.
    async fn finish_sessions(&mut self, members: &[usize], test: &str) -> Result<(), Failure> {
        let session = |(index, points): (&usize, u32)| {
            json!({
                "employee": self.external_id(*index), "testId": test, "finished": true, "score": points, "maxScore": MAXIMUM,
                "sections": [{ "title": "Section #1", "score": points, "maxScore": MAXIMUM, "level": "done" }],
            })
        };
        let sessions: Vec<Value> = members.iter().zip(POINTS).map(session).collect();
        self.client.control(simulator(self.sandbox, Vendor::StartExam), "/_sessions", &json!(sessions)).await?;
        let read = format!("/connections/{}/read", Vendor::StartExam.connection());
        let Answer { status, body } = self.client.post(&read, &json!({})).await?;
        if status == 202 { Ok(()) } else { Err(Failure::Other(format!("the feed cannot be read: {status} {body}"))) }
    }

    /// Has the simulator send webhooks to the gateway.
    async fn deliver_webhooks(&mut self, members: &[usize], assessment: &str, test: &str) -> Result<(), Failure> {
        let result = |(index, points): (&usize, u32)| json!({ "email": self.class[*index].person.email, "testId": test, "marks": points, "totalMarks": MAXIMUM });
        let results: Vec<Value> = members.iter().zip(POINTS).map(result).collect();
        let path = sandbox_config::receiver_path(assessment);
        let order = json!({ "url": self.client.url(&path), "results": results });
        self.client.control(simulator(self.sandbox, Vendor::ThinkExam), "/_webhooks", &order).await
    }

    /// Waits until the gateway has so many results at the vendor's connection; returns what there is.
    async fn wait_for_results(&self, vendor: Vendor, count: usize) -> Result<Vec<Value>, Failure> {
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let path = format!("/results?connection={}&activity=completed&limit=100", vendor.connection());
            let Answer { body, .. } = self.client.get(&path).await?;
            let results = body["items"].as_array().cloned().unwrap_or_default();
            if results.len() >= count || began.elapsed() > PATIENCE {
                return Ok(results);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Summarises a result as activity, grading, score and whether it passed.
fn found(result: &Value, attempt: &Attempt) -> String {
    let word = |name: &str| result[name].as_str().unwrap_or("–");
    let passed = match attempt.passed {
        Some(true) => "passed",
        Some(false) => "failed",
        None => "–",
    };
    format!("{} {} {} {passed}", word("activity"), word("grading"), attempt.score.as_deref().unwrap_or("–"))
}
