//! The part of the scenario in which the results reach an LMS: the gateway delivers their events to its webhook, and the LMS
//! verifies the signatures with a verifier of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use super::Scenario;
use super::sitting::{PATIENCE, PAUSES};
use crate::commands::Failure;

impl Scenario<'_> {
    /// Waits until the LMS has got every result, and checks what it says of the deliveries.
    pub(super) async fn hear(&mut self) -> Result<(), Failure> {
        let results: Vec<(usize, String)> = (0..self.class.len())
            .filter_map(|index| Some((index, self.class[index].attempt.as_ref()?.resource.clone())))
            .collect();
        let step = self.begin("LMS", format!("Hear of {} results by webhook", results.len()));
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        let verified = loop {
            let ledger = self.client.ledger(self.sandbox.lms()).await?;
            let verified = verified_results(&ledger);
            if results.iter().all(|(_, resource)| verified.contains(resource)) || began.elapsed() > PATIENCE {
                break verified;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        };
        let mut arrived = 0;
        for (index, resource) in results {
            let is_verified = verified.contains(&resource);
            let name = self.class[index].person.given_name;
            self.ledger.expect(format!("the LMS has a signed event about the result of {name}"), true, is_verified);
            self.class[index].verified = Some(is_verified);
            arrived += usize::from(is_verified);
        }
        self.end(&step, &format!("{arrived} events, signatures verified"))
    }
}

/// Returns the paths of the results whose publication the LMS has accepted, with a valid signature.
fn verified_results(ledger: &Value) -> BTreeSet<String> {
    let webhooks = ledger["webhooks"].as_array().into_iter().flatten();
    let accepted = webhooks.filter(|webhook| {
        webhook["verified"] == true && webhook["accepted"] == true && webhook["body"]["type"] == "result.published"
    });
    accepted.filter_map(|webhook| webhook["body"]["data"]["resource"].as_str()).map(str::to_owned).collect()
}
