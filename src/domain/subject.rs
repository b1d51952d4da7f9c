//! Subjects: what writes are ordered by.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{CandidateId, OperationId, WebhookId};

/// What a write is ordered by: no two writes of one subject run at once.
///
/// The text names the subject's lock, in this process and in a shared store, and finds its open intents by their blind
/// index. A change of its form would separate replicas of two versions and orphan intents, so there is one encoder per
/// kind, and none of them may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectKey(String);

impl SubjectKey {
    /// Returns the subject of the writes about a candidate.
    #[must_use]
    pub fn candidate(id: &CandidateId) -> Self {
        Self(id.to_string())
    }

    /// Returns the subject of the writes about a booking, which the connection's adapter tells from others by this text.
    #[must_use]
    pub fn booking(connection: &str, booking: &str) -> Self {
        Self(format!("{connection}\n{booking}"))
    }

    /// Returns the subject recorded for all changes of a connection's programs. Their locks are those of the employees.
    #[must_use]
    pub fn programs(connection: &str) -> Self {
        Self(format!("{connection}\nprograms"))
    }

    /// Returns the subject of the changes of an employee's programs.
    #[must_use]
    pub fn employee(connection: &str, id: &str) -> Self {
        Self(format!("{connection}\nemployee\n{id}"))
    }

    /// Returns the subject of everything that is made of a connection's reports: they are read by one task at a time.
    #[must_use]
    pub fn reports(connection: &str) -> Self {
        Self(format!("{connection}\nreports"))
    }

    /// Returns the subject of a feed, whose lock its reader holds.
    #[must_use]
    pub fn feed(connection: &str, center: &str) -> Self {
        Self(format!("{connection}\nfeed\n{center}\n"))
    }

    /// Returns the subject of the reports that are to be fetched at a connection, whose lock the task that fetches them holds.
    #[must_use]
    pub fn fetches(connection: &str) -> Self {
        Self(format!("{connection}\nfetches"))
    }

    /// Returns the subject of a connection's daily sweep, whose lock the task that sweeps holds.
    #[must_use]
    pub fn sweep(connection: &str) -> Self {
        Self(format!("{connection}\nsweep"))
    }

    /// Returns the subject of an operation, whose lock the instance that runs it holds.
    #[must_use]
    pub fn operation(id: &OperationId) -> Self {
        Self(format!("operation {id}"))
    }

    /// Returns the subject of a webhook, whose lock the instance that sends its deliveries holds.
    #[must_use]
    pub fn webhook(id: &WebhookId) -> Self {
        Self(format!("webhook {id}"))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A subject as an earlier version has stored it.
impl From<String> for SubjectKey {
    fn from(text: String) -> Self {
        Self(text)
    }
}
