//! The summary of an import: counts, rows found on record, reasons of refusal with their lines, and what to do next.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::commands::import::api_types::{Item, Problem, Progress, readable};
use crate::commands::import::progress::rows;
use crate::sheet::kind::Kind;

/// Maximum number of reasons listed one by one.
const MAX_REASONS: usize = 12;
/// Maximum number of lines named for a reason.
const MAX_LINES: usize = 5;

/// What is known of all rows so far.
#[derive(Default)]
pub(super) struct Report {
    pub(super) counts: Progress,
    /// Rows whose person or booking was on record already.
    reused: usize,
    /// Rows of these whose record differs.
    differing: usize,
    /// The fields in which records differ, with the number of rows.
    differing_fields: BTreeMap<String, usize>,
    differing_lines: Lines,
    /// Rows that failed although the same rows may succeed later.
    retryable: usize,
    refusals: Reasons,
    unknowns: Reasons,
    /// Each row that is not applied, for programs; people find them in the result.
    failed_rows: Option<Vec<Value>>,
}

/// What the summary is about.
pub(super) struct Subject<'a> {
    pub(super) file: &'a str,
    pub(super) connection: &'a str,
    pub(super) kind: Kind,
    pub(super) operation: &'a str,
    /// The path of the result; none on standard output.
    pub(super) result: Option<&'a str>,
    /// The new path of the earlier result, if it was kept.
    pub(super) kept: Option<&'a str>,
    /// The command that retries the rows.
    pub(super) retry_command: &'a str,
}

/// Line numbers of the spreadsheet: how many, and the first ones.
#[derive(Default)]
struct Lines {
    count: usize,
    first: Vec<u64>,
}

impl Lines {
    fn add(&mut self, line: u64) {
        self.count += 1;
        if self.first.len() < MAX_LINES {
            self.first.push(line);
        }
    }

    /// Formats the lines: `line 4`, `lines 4, 9 and 31 more`.
    fn text(&self) -> String {
        let noun = if self.count == 1 { "line" } else { "lines" };
        let named = self.first.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        match self.count - self.first.len() {
            0 => format!("{noun} {named}"),
            more => format!("{noun} {named} and {more} more"),
        }
    }
}

/// Reasons in the order of their first rows.
#[derive(Default)]
struct Reasons {
    reasons: Vec<(String, Lines)>,
    /// Rows for reasons beyond those listed.
    others: Lines,
}

impl Reasons {
    fn add(&mut self, reason: &str, line: u64) {
        if let Some((_, lines)) = self.reasons.iter_mut().find(|(known, _)| known == reason) {
            lines.add(line);
        } else if self.reasons.len() < MAX_REASONS {
            let mut lines = Lines::default();
            lines.add(line);
            self.reasons.push((reason.to_owned(), lines));
        } else {
            self.others.add(line);
        }
    }

    fn write(&self, text: &mut String) {
        for (reason, lines) in &self.reasons {
            push_line(text, &format!("{}: {reason} ({})", rows(lines.count), lines.text()));
        }
        if self.others.count > 0 {
            push_line(text, &format!("{}: other reasons ({})", rows(self.others.count), self.others.text()));
        }
    }
}

impl Report {
    /// Begins a report; `lists_rows` keeps each row that is not applied for [`Report::json`].
    pub(super) fn new(lists_rows: bool) -> Self {
        Self { failed_rows: lists_rows.then(Vec::new), ..Self::default() }
    }

    /// Counts a row.
    pub(super) fn add(&mut self, line: u64, item: &Item) {
        self.counts.total += 1;
        if item.is_applied() {
            self.add_applied(line, item);
            return;
        }
        if let Some(failed) = &mut self.failed_rows {
            failed.push(failed_row(line, item));
        }
        let problem = item.problem.as_ref();
        if item.is_skipped() {
            self.counts.skipped += 1;
            self.retryable += 1;
            return;
        }
        let reasons = if item.outcome.as_deref() == Some("not_applied") {
            self.counts.not_applied += 1;
            self.retryable += usize::from(problem.is_some_and(|problem| problem.retryable == Some(true)));
            &mut self.refusals
        } else {
            // An outcome unknown to this version is not a success.
            self.counts.unknown += 1;
            &mut self.unknowns
        };
        for reason in reasons_of(item) {
            reasons.add(&reason, line);
        }
    }

    fn add_applied(&mut self, line: u64, item: &Item) {
        self.counts.applied += 1;
        self.reused += usize::from(item.is_reused());
        let fields: Vec<String> = item.differing_fields().map(readable).collect();
        if fields.is_empty() {
            return;
        }
        self.differing += 1;
        self.differing_lines.add(line);
        for field in fields {
            *self.differing_fields.entry(field).or_default() += 1;
        }
    }

    /// Returns whether every row is applied.
    pub(super) fn is_success(&self) -> bool {
        self.counts.applied == self.counts.total
    }

    /// Formats the summary for people.
    pub(super) fn text(&self, subject: &Subject<'_>) -> String {
        let Subject { file, operation, connection, kind, result, kept, .. } = subject;
        let Progress { total, applied, not_applied, unknown, skipped, .. } = self.counts;
        let mut text = String::new();
        push_line(&mut text, &format!("{file}: {} to {connection}, {operation}", rows(total)));
        let named = [("applied", applied), ("not applied", not_applied), ("unknown", unknown), ("skipped", skipped)];
        for (name, count) in named {
            let remark = if name == "applied" { self.reuse_remark(*kind) } else { String::new() };
            push_line(&mut text, &format!("  {name:<12}{count:>7}{remark}"));
        }
        if self.differing > 0 {
            push_line(&mut text, &self.difference(*kind));
        }
        self.refusals.write(&mut text);
        self.unknowns.write(&mut text);
        push_line(&mut text, &format!("result: {}", result.unwrap_or("standard output")));
        if let Some(kept) = kept {
            let line = format!("previous result kept (it holds initial passwords the new one lacks): {kept}");
            push_line(&mut text, &line);
        }
        self.write_next_steps(&mut text, subject);
        text
    }

    fn reuse_remark(&self, kind: Kind) -> String {
        let (reused, differing) = (self.reused, self.differing);
        let differs = if differing == 1 { "differs" } else { "differ" };
        match (reused, differing) {
            (0, 0) => String::new(),
            (_, 0) => format!("  ({reused} {})", kind.reused()),
            _ if reused <= differing => format!("  ({differing} {}, {differs}: see existing_differs)", kind.reused()),
            _ => format!("  ({reused} {}, {differing} of them {differs}: see existing_differs)", kind.reused()),
        }
    }

    /// Says which fields of the rows differ from the records.
    fn difference(&self, kind: Kind) -> String {
        let fields = self.differing_fields.iter().map(|(field, count)| {
            if *count == self.differing { field.clone() } else { format!("{field} ({})", rows(*count)) }
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        let cure = match kind {
            Kind::Candidates => "; --if-exists update changes it, where the vendor can",
            Kind::Assignments => "",
        };
        format!(
            "existing_differs: {}: the record has another {fields} and was not changed ({}){cure}",
            rows(self.differing),
            self.differing_lines.text()
        )
    }

    fn write_next_steps(&self, text: &mut String, subject: &Subject<'_>) {
        let Progress { not_applied, unknown, skipped, .. } = self.counts;
        if unknown > 0 {
            push_line(
                text,
                "The gateway keeps reconciling unknown rows; run the same command later to see the outcome.",
            );
        }
        if self.retryable > 0 {
            push_line(text, &format!("Retry {} unchanged: {}", rows(self.retryable), subject.retry_command));
        }
        let to_correct = (not_applied + skipped).saturating_sub(self.retryable);
        if to_correct > 0 {
            let with_result = subject.result.map_or_else(String::new, |result| {
                format!(", or correct them in {result} and import that with --only-failed")
            });
            let file = subject.file;
            push_line(
                text,
                &format!(
                    "Correct {} in {file} and import it again: applied rows are reused{with_result}.",
                    rows(to_correct)
                ),
            );
        }
    }

    /// Returns the summary for programs.
    pub(super) fn json(&self, subject: &Subject<'_>) -> Value {
        let Subject { file, operation, connection, kind, result, kept, retry_command: _ } = subject;
        let Progress { total, applied, not_applied, unknown, skipped, .. } = self.counts;
        json!({
            "file": file,
            "operation": operation,
            "connection": connection,
            "kind": kind.word(),
            "summary": {
                "total": total,
                "applied": applied,
                "notApplied": not_applied,
                "unknown": unknown,
                "skipped": skipped,
                "reused": self.reused,
                "existingDiffers": self.differing,
                "differingFields": self.differing_fields,
                "retryable": self.retryable,
            },
            "result": result,
            "keptResult": kept,
            "rows": self.failed_rows,
        })
    }
}

/// Returns why a row failed, field by field.
fn reasons_of(item: &Item) -> Vec<String> {
    let Some(problem) = &item.problem else { return vec!["no reason given".to_owned()] };
    if !problem.errors.is_empty() {
        let mut reasons: Vec<String> = problem.errors.iter().map(|error| readable(&error.sentence())).collect();
        reasons.dedup();
        return reasons;
    }
    let code = problem.code.as_deref().unwrap_or("no code");
    vec![readable(&format!("{code}: {}", problem.explanation()))]
}

fn failed_row(line: u64, item: &Item) -> Value {
    let problem = item.problem.as_ref();
    json!({
        "line": line,
        "outcome": item.outcome,
        "code": problem.and_then(|problem| problem.code.clone()),
        "detail": problem.map(Problem::explanation),
        "pointers": problem.map(|problem| problem.errors.iter().map(|error| error.pointer.clone()).collect::<Vec<_>>()),
    })
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(items: &[Value]) -> Report {
        let mut report = Report::new(true);
        for (index, item) in items.iter().enumerate() {
            let mut item = item.clone();
            item["index"] = index.into();
            report.add(index as u64 + 2, &serde_json::from_value(item).unwrap());
        }
        report
    }

    fn subject(kind: Kind) -> Subject<'static> {
        Subject {
            file: "people.csv",
            connection: "main",
            kind,
            operation: "op_7",
            result: Some("people.result.csv"),
            kept: None,
            retry_command: "examgate import people.csv --connection main --retry",
        }
    }

    fn reused(fields: &[&str]) -> Value {
        let warnings: Vec<Value> =
            fields.iter().map(|field| json!({ "code": "existing_differs", "pointer": field })).collect();
        json!({ "status": 200, "outcome": "applied", "resource": { "id": "cand_1", "warnings": warnings } })
    }

    fn refused(code: &str, pointer: &str, detail: &str) -> Value {
        json!({ "status": 422, "outcome": "not_applied", "problem": {
            "code": code, "detail": "1 field", "retryable": false, "errors": [{ "pointer": pointer, "detail": detail }] } })
    }

    #[test]
    fn a_clean_import_has_nothing_to_add() {
        let report = report(&[json!({ "status": 201, "outcome": "applied" }), reused(&[])]);
        assert!(report.is_success());
        assert_eq!(
            report.text(&subject(Kind::Candidates)),
            "people.csv: 2 rows to main, op_7\n  \
             applied           2  (1 already registered)\n  \
             not applied       0\n  \
             unknown           0\n  \
             skipped           0\n\
             result: people.result.csv\n"
        );
    }

    #[test]
    fn rows_that_differ_from_their_records_are_named() {
        let text = report(&[reused(&["/email"])]).text(&subject(Kind::Candidates));
        assert!(
            text.contains("  applied           1  (1 already registered, differs: see existing_differs)\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "existing_differs: 1 row: the record has another /email and was not changed (line 2); --if-exists update \
                 changes it, where the vendor can\n"
            ),
            "{text}"
        );
        let report = report(&[reused(&["/validUntil", "/center"]), reused(&[]), reused(&["/center"])]);
        let text = report.text(&subject(Kind::Assignments));
        assert!(text.contains("(3 already booked, 2 of them differ: see existing_differs)\n"), "{text}");
        assert!(text.contains("2 rows: the record has another /center, /validUntil (1 row) and was"), "{text}");
    }

    #[test]
    fn reasons_are_grouped_with_their_lines() {
        let email = || refused("validation_failed", "/email", "is not an e-mail address");
        let vendor = json!({ "status": 503, "outcome": "not_applied", "problem": {
            "code": "vendor_unreachable", "detail": "No connection.", "retryable": true } });
        let unknown =
            json!({ "status": 504, "outcome": "unknown", "problem": { "code": "vendor_timeout", "detail": "Late." } });
        let skipped = json!({ "status": 424, "outcome": "not_applied", "problem": { "code": "skipped" } });
        let mut items = vec![email(), vendor, email(), unknown, skipped];
        items.extend((0..6).map(|_| email()));
        let report = report(&items);
        assert!(!report.is_success());
        assert_eq!(
            report.text(&subject(Kind::Candidates)),
            "people.csv: 11 rows to main, op_7\n  \
             applied           0\n  \
             not applied       9\n  \
             unknown           1\n  \
             skipped           1\n\
             8 rows: /email is not an e-mail address (lines 2, 4, 7, 8, 9 and 3 more)\n\
             1 row: vendor_unreachable: No connection. (line 3)\n\
             1 row: vendor_timeout: Late. (line 5)\n\
             result: people.result.csv\n\
             The gateway keeps reconciling unknown rows; run the same command later to see the outcome.\n\
             Retry 2 rows unchanged: examgate import people.csv --connection main --retry\n\
             Correct 8 rows in people.csv and import it again: applied rows are reused, or correct them in \
             people.result.csv and import that with --only-failed.\n"
        );
    }

    #[test]
    fn the_list_of_reasons_is_bounded() {
        let items: Vec<Value> =
            (0..MAX_REASONS + 3).map(|row| refused("v", "/email", &format!("reason {row}"))).collect();
        let text = report(&items).text(&subject(Kind::Candidates));
        assert_eq!(text.matches("1 row: /email reason").count(), MAX_REASONS);
        assert!(text.contains("3 rows: other reasons (lines 14, 15, 16)\n"), "{text}");
    }

    #[test]
    fn programs_get_every_row_that_is_not_applied() {
        let report = report(&[reused(&["/email"]), refused("validation_failed", "/email", "is missing")]);
        assert_eq!(
            report.json(&subject(Kind::Candidates)),
            json!({
                "file": "people.csv", "operation": "op_7", "connection": "main", "kind": "candidates",
                "summary": { "total": 2, "applied": 1, "notApplied": 1, "unknown": 0, "skipped": 0, "reused": 1,
                             "existingDiffers": 1, "differingFields": { "/email": 1 }, "retryable": 0 },
                "result": "people.result.csv", "keptResult": null,
                "rows": [{ "line": 3, "outcome": "not_applied", "code": "validation_failed",
                           "detail": "1 field; /email is missing", "pointers": ["/email"] }]
            })
        );
    }
}
