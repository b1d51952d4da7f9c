//! The row that names the columns.

use crate::domain::table::is_blank_record;
use crate::sheet::mapping::Rules;
use crate::sheet::source::Source;

/// How many rows may be above the header.
const MAX_TITLE_ROWS: usize = 20;

/// The row that names the columns.
pub(crate) struct Header {
    /// Its line.
    pub(crate) line: u64,
    pub(crate) cells: Vec<String>,
    /// Whether it is the first row of the table.
    pub(crate) is_first: bool,
    /// How many rows are above it.
    pub(crate) title_rows: usize,
}

impl Header {
    /// Finds the header: the first row, or one further down that has more known names, as below the title of a report.
    ///
    /// # Errors
    /// A sentence about the table.
    pub(crate) fn find(source: &Source, rules: &Rules<'_>) -> Result<Self, String> {
        let mut best: Option<(usize, Self)> = None;
        let (mut seen, mut is_first) = (0, true);
        source.read_rows(&mut |line, cells| {
            if is_blank_record(cells.iter().map(String::as_str)) {
                is_first = false;
                return Ok(true);
            }
            let known = rules.count_known(cells);
            // A single word may be a value.
            if best.as_ref().is_none_or(|(most, _)| known > (*most).max(1)) {
                best = Some((known, Self { line, cells: cells.to_vec(), is_first, title_rows: seen }));
            }
            is_first = false;
            seen += 1;
            Ok(seen <= MAX_TITLE_ROWS)
        })?;
        best.map(|(_, header)| header)
            .ok_or_else(|| "is empty; expected a row of column names and a row for each person or booking".to_owned())
    }
}
