//! The API's JSON documents, as far as pages show them: each once, whatever number of screens reads it. What only one screen
//! reads is in that screen's file.

pub(super) mod assignment;
pub(super) mod candidate;
pub(super) mod connection;
pub(super) mod delivery;
pub(super) mod exchange;
pub(super) mod operation;
pub(super) mod record;
pub(super) mod report;
pub(super) mod result;
pub(super) mod webhook;

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;
    use crate::http::openapi;

    /// Reads the examples that the API gives of a document.
    fn read<T: DeserializeOwned>(api: &Value, name: &str) -> Vec<T> {
        let examples = api["components"]["schemas"][name]["examples"].as_array().unwrap();
        let read = |example: &Value| {
            serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{name}: {error}: {example}"))
        };
        examples.iter().map(read).collect()
    }

    #[test]
    fn each_document_reads_what_the_api_gives_as_an_example() {
        let api = serde_json::to_value(openapi::document(None)).unwrap();
        let read = [
            read::<candidate::Candidate>(&api, "Candidate").len(),
            read::<assignment::Assignment>(&api, "Assignment").len(),
            read::<operation::Operation>(&api, "Operation").len(),
            read::<report::Report>(&api, "Report").len(),
            read::<result::ExamResult>(&api, "ExamResult").len(),
            read::<result::ResultVersion>(&api, "ResultVersion").len(),
            read::<webhook::Webhook>(&api, "Webhook").len(),
            read::<delivery::WebhookPing>(&api, "WebhookPing").len(),
            read::<delivery::Delivery>(&api, "Delivery").len(),
            read::<connection::Connection>(&api, "Connection").len(),
            read::<exchange::Exchange>(&api, "Exchange").len(),
        ];
        assert!(read.iter().all(|examples| *examples > 0), "{read:?}");
    }
}
