//! What an import consists of: candidates or assignments.

use clap::ValueEnum;

/// The column of initial passwords.
pub(super) const PASSWORD: &str = "initialPassword";

/// What a row of the spreadsheet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// a person to register
    Candidates,
    /// a person to book for an assessment
    Assignments,
}

impl Kind {
    /// Returns the path segment of the API.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Candidates => "candidates",
            Self::Assignments => "assignments",
        }
    }

    /// Returns the columns of a result between those of every kind.
    pub(super) const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Candidates => &["externalId", "userName", PASSWORD],
            Self::Assignments => &["launchUrl", "launchExpiresAt"],
        }
    }
}
