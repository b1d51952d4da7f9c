//! What an import consists of: candidates or assignments.

use clap::ValueEnum;

use crate::domain::table::{BulkItem, aliases, columns};

/// What a row of the spreadsheet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// a person to register
    Candidates,
    /// a person to book for an assessment
    Assignments,
}

impl Kind {
    /// Returns the other kind.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Candidates => Self::Assignments,
            Self::Assignments => Self::Candidates,
        }
    }

    /// Returns the path segment of the API.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Candidates => "candidates",
            Self::Assignments => "assignments",
        }
    }

    /// Returns the kind of a bulk request's rows.
    pub(crate) const fn bulk_item(self) -> BulkItem {
        match self {
            Self::Candidates => BulkItem::Candidates,
            Self::Assignments => BulkItem::Assignments,
        }
    }

    /// Returns whether the gateway has this column.
    pub(crate) fn knows_column(self, name: &str) -> bool {
        columns::is_known(self.bulk_item(), name)
    }

    /// Returns ` (did you mean …?)` with the gateway's column that is probably meant, or an empty text.
    pub(crate) fn suggest_column(self, name: &str) -> String {
        aliases::suggest_column(self.bulk_item(), name)
    }

    /// Returns the gateway's column that is probably meant by this name.
    pub(crate) fn meant_column(self, name: &str) -> Option<&'static str> {
        aliases::meant_column(self.bulk_item(), name).filter(|column| self.knows_column(column))
    }

    /// Returns a column for examples.
    pub(crate) const fn example_column(self) -> &'static str {
        match self {
            Self::Candidates => "name.givenName",
            Self::Assignments => "candidate.externalId",
        }
    }

    /// Returns the scope that an import of this kind needs.
    pub(crate) const fn scope(self) -> &'static str {
        match self {
            Self::Candidates => "candidates:write",
            Self::Assignments => "assignments:write",
        }
    }

    /// Returns what a row that was found on record already is.
    pub(crate) const fn reused(self) -> &'static str {
        match self {
            Self::Candidates => "already registered",
            Self::Assignments => "already booked",
        }
    }
}
