//! Rows as a source passes them on.

use std::fmt;

/// A function that takes each row with its line, and returns whether it wants more.
pub(super) type RowVisitor<'a> = dyn FnMut(u64, &[String]) -> Result<bool, String> + 'a;

/// A function that returns whether a cell, given by its row (line and cells) and its column, must not be sent since it
/// holds this.
pub(crate) type CellCheck<'a> = dyn Fn(u64, &[String], usize, OddCell) -> bool + 'a;

/// What a cell of a workbook holds instead of text or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OddCell {
    /// A date or a time.
    Time,
    /// TRUE or FALSE.
    Flag,
    /// A number that its format shows as other text.
    FormattedNumber,
    /// The error value of a formula.
    Error,
    /// A formula whose result the workbook does not have.
    UncomputedFormula,
}

impl OddCell {
    /// Returns what to do about such cells.
    pub(super) const fn cure(self) -> &'static str {
        match self {
            Self::Time | Self::Flag | Self::FormattedNumber => {
                "format the column as text and fill in the values again from their source"
            }
            Self::Error => "correct the formula, or replace it with its value",
            Self::UncomputedFormula => "open the workbook in a spreadsheet program and save it again",
        }
    }
}

impl fmt::Display for OddCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "a date or time instead of text",
            Self::Flag => "TRUE or FALSE instead of text",
            Self::FormattedNumber => "a number that its format shows as other text",
            Self::Error => "the error value of a formula",
            Self::UncomputedFormula => "a formula without a result",
        })
    }
}
