//! The form of a command's output: text for people, JSON for programs.

use clap::ValueEnum;
use serde::Serialize;

use super::{Failure, say};

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Text for people
    Text,
    /// One JSON document
    Json,
}

impl OutputFormat {
    /// Prints this line if the output is text.
    pub(super) fn say(self, line: impl std::fmt::Display) -> Result<(), Failure> {
        if self == Self::Text { say(line) } else { Ok(()) }
    }

    /// Prints this document if the output is JSON.
    pub(super) fn say_document(self, document: &impl Serialize) -> Result<(), Failure> {
        if self == Self::Text {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(document).map_err(|error| Failure::other("the output", error))?;
        say(text)
    }

    /// Prints this document on a line of its own if the output is JSON: one of many.
    pub(super) fn say_line(self, document: &impl Serialize) -> Result<(), Failure> {
        if self == Self::Text {
            return Ok(());
        }
        let text = serde_json::to_string(document).map_err(|error| Failure::other("the output", error))?;
        say(text)
    }
}
