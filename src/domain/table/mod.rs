//! Tables of candidates and of bookings as people bring them: how text is split into records and lines, which columns
//! there are and what their cells hold, and how to tell that a spreadsheet has damaged an id.
//!
//! Shared by everything that reads tables. It reads no file and sends nothing; it never repairs a value or guesses a
//! column, but says what is wrong and what was probably meant.

pub mod aliases;
pub mod columns;
pub mod damage;
pub mod flags;
pub mod formulas;
pub mod lines;
pub mod records;

use crate::domain::operation::OperationKind;

/// The kind of a bulk request's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkItem {
    /// Candidates to register.
    Candidates,
    /// Assignments to book.
    Assignments,
}

impl From<BulkItem> for OperationKind {
    fn from(kind: BulkItem) -> Self {
        match kind {
            BulkItem::Candidates => Self::Candidates,
            BulkItem::Assignments => Self::Assignments,
        }
    }
}

/// Returns whether all cells of the record are empty or hold only white space: spreadsheets write such records for rows
/// that are formatted, but not filled. They are empty lines, not rows.
#[must_use]
pub fn is_blank_record<'a>(cells: impl IntoIterator<Item = &'a str>) -> bool {
    cells.into_iter().all(|cell| cell.trim().is_empty())
}

/// Returns the separator that the record declares (`sep=;`, which spreadsheets write and read as the first line of a
/// file). The cells are those found with commas as separators.
#[must_use]
pub fn declared_separator(cells: &[&str]) -> Option<char> {
    let (first, rest) = cells.split_first()?;
    let mut declared =
        first.trim_end_matches(['\r', '\n']).strip_prefix("sep=").or_else(|| first.strip_prefix("SEP="))?.chars();
    match (declared.next(), declared.next()) {
        // The comma itself separates the cells of this record.
        (None, _) if !rest.is_empty() && is_blank_record(rest.iter().copied()) => Some(','),
        (Some(separator), None) if is_blank_record(rest.iter().copied()) => Some(separator),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_blank_cells_are_empty_lines() {
        for cells in [&[""][..], &["", ""], &[" ", "\u{a0}", "\t"], &[]] {
            assert!(is_blank_record(cells.iter().copied()), "{cells:?}");
        }
        for cells in [&["x"][..], &["", "0"], &["\u{200b}"]] {
            assert!(!is_blank_record(cells.iter().copied()), "{cells:?}");
        }
    }

    #[test]
    fn separator_line_is_recognised() {
        for (cells, separator) in [
            (&["sep=", ""][..], Some(',')),
            (&["sep=", "", "", ""], Some(',')),
            (&["SEP=", ""], Some(',')),
            (&["sep=,"], Some(',')),
            (&["sep=;"], Some(';')),
            (&["sep=;", "", ""], Some(';')),
            (&["sep=\t"], Some('\t')),
            (&["sep=|"], Some('|')),
            (&["sep="], None),
            (&["sep=ab"], None),
            (&["sep=", "x"], None),
            (&["externalId", "sep=,"], None),
            (&[], None),
        ] {
            assert_eq!(declared_separator(cells), separator, "{cells:?}");
        }
    }
}
