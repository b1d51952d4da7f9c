//! Results as a table (CSV): one row each, for people who work with spreadsheets. Parts are left out, since each test has
//! other ones.

use std::fmt::Display;
use std::io;

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};
use serde_json::{Value, json};

use super::result::{ExamResult, Score};
use crate::domain::table::formulas::guard;

/// Without it, Excel takes UTF-8 for the encoding of its locale.
pub(in crate::http) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The columns: who, what, how it went, then what a program needs to find the records again. Named like the fields of a
/// result, nested fields with a dot.
const COLUMNS: [&str; 25] = [
    "candidate.externalId",
    "assessment",
    "assignment.reference",
    "attempt.number",
    "attempt.startedAt",
    "attempt.completedAt",
    "attempt.elapsedSeconds",
    "attempt.closedBy",
    "activity",
    "grading",
    "score.given",
    "score.maximum",
    "score.percent",
    "level",
    "passed",
    "counts",
    "warnings",
    "asOf",
    "connection",
    "candidate.id",
    "assignment.id",
    "id",
    "version",
    "superseded",
    "meta.lastModified",
];

/// A part of the table, being written.
pub(in crate::http) struct ResultTable(Writer<Vec<u8>>);

impl ResultTable {
    /// Begins the table with its header.
    pub(in crate::http) fn begin() -> io::Result<Self> {
        let mut table = Self(writer(BYTE_ORDER_MARK.to_vec()));
        table.0.write_record(COLUMNS)?;
        Ok(table)
    }

    /// Continues the table.
    pub(in crate::http) fn proceed() -> Self {
        Self(writer(Vec::new()))
    }

    /// Appends a row.
    pub(in crate::http) fn add(&mut self, result: &ExamResult) -> io::Result<()> {
        self.0.write_record(row(result))?;
        Ok(())
    }

    /// Returns the text of this part.
    pub(in crate::http) fn into_text(self) -> io::Result<Vec<u8>> {
        self.0.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

/// Continues a text as a table whose cells are all quoted.
pub(in crate::http) fn writer(text: Vec<u8>) -> Writer<Vec<u8>> {
    WriterBuilder::new().quote_style(QuoteStyle::Always).terminator(Terminator::CRLF).from_writer(text)
}

/// Returns the cells of a row. Texts that a spreadsheet would evaluate get an apostrophe; figures are numbers, also
/// negative ones.
fn row(result: &ExamResult) -> [String; COLUMNS.len()] {
    let ExamResult { id, version, connection, content, counts, as_of, source: _, meta } = result;
    let attempt = &content.attempt;
    let score =
        |figure: fn(&Score) -> Option<f64>| content.score.as_ref().and_then(figure).map_or_else(String::new, cell);
    let warnings: Vec<&str> = content.warnings.iter().map(|warning| warning.code.as_str()).collect();
    [
        text(content.candidate.external_id.as_deref()),
        text(Some(&content.assessment)),
        text(content.assignment.as_ref().and_then(|assignment| assignment.reference.as_deref())),
        cell(attempt.number),
        attempt.started_at.map_or_else(String::new, cell),
        attempt.completed_at.map_or_else(String::new, cell),
        attempt.elapsed_seconds.map_or_else(String::new, cell),
        attempt.closed_by.map_or_else(String::new, |word| cell(word.as_str())),
        cell(content.activity.as_str()),
        cell(content.grading.as_str()),
        score(|score| Some(score.given)),
        score(|score| score.maximum),
        score(|score| score.percent),
        text(content.level.as_deref()),
        content.passed.map_or_else(String::new, cell),
        cell(counts),
        warnings.join("; "),
        cell(as_of),
        cell(connection),
        cell(&content.candidate.id),
        content.assignment.as_ref().map_or_else(String::new, |assignment| assignment.id.clone()),
        cell(id),
        cell(version),
        cell(content.superseded),
        cell(meta.last_modified),
    ]
}

fn cell(value: impl Display) -> String {
    value.to_string()
}

/// Returns the cell of a text that a caller or a vendor chose.
fn text(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| guard(value).into_owned())
}

/// Builds the example of a table: its header and a row.
pub(in crate::http) fn result_table_example() -> Value {
    let quoted = |cells: &[&str]| cells.iter().map(|cell| format!("\"{cell}\"")).collect::<Vec<_>>().join(",");
    let row = [
        "emp-1001",
        "rust-101",
        "order-7781",
        "1",
        "2035-03-02T09:00:00.000Z",
        "2035-03-02T09:12:34.000Z",
        "754",
        "candidate",
        "completed",
        "fully_graded",
        "4",
        "7",
        "57.14",
        "Medium",
        "true",
        "true",
        "",
        "2035-03-02T09:20:00.000Z",
        "startexam-main",
        "cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f",
        "asg_0192f0c1a3b47c8d9e0f1a2b3c4d5e70",
        "res_0192f0c1a3b47c8d9e0f1a2b3c4d5e73",
        "2",
        "false",
        "2035-03-02T09:20:03.871Z",
    ];
    json!(format!("\u{feff}{}\r\n{}\r\n", quoted(&COLUMNS), quoted(&row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::results as domain;
    use crate::domain::results::Points;
    use crate::http::dto::result::tests::full_view;
    use crate::service::ResultView;

    fn table(views: Vec<ResultView>) -> String {
        let mut table = ResultTable::begin().unwrap();
        for view in views {
            table.add(&view.into()).unwrap();
        }
        String::from_utf8(table.into_text().unwrap()).unwrap()
    }

    fn cells(view: ResultView) -> Vec<(&'static str, String)> {
        COLUMNS.into_iter().zip(row(&view.into())).collect()
    }

    #[test]
    fn a_table_is_as_its_example() {
        assert_eq!(json!(table(vec![full_view()])), result_table_example());
    }

    #[test]
    fn later_parts_have_no_header() {
        let mut part = ResultTable::proceed();
        part.add(&full_view().into()).unwrap();
        let whole = table(vec![full_view(), full_view()]);
        let first = table(vec![full_view()]);
        assert_eq!(whole, first + std::str::from_utf8(&part.into_text().unwrap()).unwrap());
    }

    #[test]
    fn texts_are_no_formulas_and_figures_are_numbers() {
        let mut view = full_view();
        view.external_id = Some("=HYPERLINK(1)".into());
        view.reference = Some("+49;=1".to_owned());
        view.assessment = "@test".to_owned();
        view.result.state.level = Some("-x".to_owned());
        let points = |value| Points::new(value).unwrap();
        view.result.state.score =
            Some(domain::Score { given: points(-0.5), maximum: None, percent: Some(points(-5.0)) });
        let cells = cells(view);
        let cell = |column: &str| cells.iter().find(|(name, _)| *name == column).unwrap().1.as_str();
        assert_eq!(cell("candidate.externalId"), "'=HYPERLINK(1)");
        assert_eq!(cell("assignment.reference"), "'+49;'=1");
        assert_eq!(cell("assessment"), "'@test");
        assert_eq!(cell("level"), "'-x");
        assert_eq!((cell("score.given"), cell("score.maximum"), cell("score.percent")), ("-0.5", "", "-5"));
    }

    #[test]
    fn what_is_unknown_is_an_empty_cell() {
        let mut view = full_view();
        let state = &mut view.result.state;
        (state.score, state.passed, state.level, state.assignment) = (None, None, None, None);
        view.external_id = None;
        let cells = cells(view);
        for column in
            ["candidate.externalId", "score.given", "passed", "level", "assignment.id", "assignment.reference"]
        {
            assert!(cells.contains(&(column, String::new())), "{column}: {cells:?}");
        }
    }
}
