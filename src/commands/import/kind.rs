//! What an import consists of: candidates or assignments.

use clap::ValueEnum;

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

    /// Returns the scope that an import of this kind needs.
    pub(super) const fn scope(self) -> &'static str {
        match self {
            Self::Candidates => "candidates:write",
            Self::Assignments => "assignments:write",
        }
    }

    /// Returns what a row that was found on record already is.
    pub(super) const fn reused(self) -> &'static str {
        match self {
            Self::Candidates => "already registered",
            Self::Assignments => "already booked",
        }
    }
}
