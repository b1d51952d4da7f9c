//! `--dry-run`: what an import would send and what the gateway would refuse, found with the gateway's own checks and
//! without a gateway. What depends on the connection (a vendor's limits, people already registered) shows only when the
//! table is sent.

use std::io::BufReader;

use comfy_table::{ContentArrangement, Table as Grid, presets};
use serde_json::{Value, json};

use crate::commands::import::progress::rows;
use crate::commands::import::table::{Table, TableRequest};
use crate::commands::{Failure, Process, say};
use crate::domain::error::FieldError;
use crate::domain::validation::sanitize_for_display;
use crate::http::preview::{PreviewOptions, PreviewRow, preview_table};
use crate::sheet::kind::Kind;
use crate::sheet::notes;

/// How many rows a preview for people shows, and how many that are wrong.
const MAX_SHOWN: usize = 10;
const MAX_WRONG: usize = 50;
/// Maximum length of a cell that is shown.
const MAX_CELL: usize = 40;
const DAMAGED_ID: &str = "damaged_id";

/// What a preview has found.
#[derive(Default)]
struct Findings {
    rows: usize,
    wrong: usize,
    damaged: Vec<u64>,
    /// The first rows that would be accepted, or all of them.
    good: Vec<(u64, Value)>,
    faults: Vec<(u64, Vec<FieldError>)>,
}

/// Shows what would be sent.
///
/// # Errors
/// [`Failure::Usage`] with what is wrong with the whole table; [`Failure::Other`] if rows are wrong.
pub(super) fn run(
    request: &TableRequest<'_>,
    connection: Option<&str>,
    as_json: bool,
    process: &Process,
) -> Result<(), Failure> {
    let table = Table::open(request, process).map_err(Failure::Usage)?;
    let options = PreviewOptions {
        kind: request.read.kind().bulk_item(),
        connection: connection.map(str::to_owned),
        allow_damaged_ids: request.read.allows_damaged_ids(),
    };
    let mut findings = Findings::default();
    let read = preview_table(BufReader::new(table.reader()), options, |row| findings.add(&table, row, as_json));
    if let Err(error) = read {
        let fields = error.errors.iter().map(|field| format!("{}: {}", table.name(), field.detail));
        let all: Vec<String> = fields.collect();
        return Err(Failure::Usage(if all.is_empty() {
            vec![format!("{}: {}", table.name(), error.detail)]
        } else {
            all
        }));
    }
    if as_json {
        findings.print_json(&table, request.read.kind(), connection)?;
    } else {
        findings.print_text(&table, connection)?;
    }
    match findings.wrong {
        0 => Ok(()),
        wrong => Err(Failure::Other(format!("{wrong} of {} would be refused; nothing was sent", rows(findings.rows)))),
    }
}

impl Findings {
    fn add(&mut self, table: &Table, row: PreviewRow, keeps_all: bool) {
        let line = table.line(self.rows);
        self.rows += 1;
        match row.result {
            Ok(value) if keeps_all || self.good.len() < MAX_SHOWN => self.good.push((line, value)),
            Ok(_) => {}
            Err(error) => {
                self.wrong += 1;
                if error.errors.iter().any(|field| field.code == DAMAGED_ID) {
                    self.damaged.push(line);
                }
                if keeps_all || self.faults.len() < MAX_WRONG {
                    self.faults.push((line, error.errors));
                }
            }
        }
    }

    fn print_text(&self, table: &Table, connection: Option<&str>) -> Result<(), Failure> {
        let to = connection.map(|connection| format!(" to {connection}")).unwrap_or_default();
        say(format_args!("{}: {}{to}; nothing is sent", table.name(), rows(self.rows)))?;
        for note in table.notes() {
            say(note)?;
        }
        if !self.good.is_empty() {
            say(self.grid())?;
        }
        let others = (self.rows - self.wrong).saturating_sub(self.good.len());
        if others > 0 {
            say(format_args!("and {} more", rows(others)))?;
        }
        for (line, errors) in &self.faults {
            for error in errors {
                let place = if error.pointer.is_empty() { String::new() } else { format!("{}: ", error.pointer) };
                say(format_args!("line {line}: {place}{}", sanitize_for_display(&error.detail, 500)))?;
            }
        }
        if self.wrong > self.faults.len() {
            say(format_args!("and {} more with errors", rows(self.wrong - self.faults.len())))?;
        }
        if !self.damaged.is_empty() {
            let lines = notes::lines(&self.damaged);
            say(format_args!("If these ids are right as they are ({lines}), send them with --allow-damaged-ids."))?;
        }
        Ok(())
    }

    /// Builds a table of the first rows.
    fn grid(&self) -> Grid {
        let mut names: Vec<String> = Vec::new();
        let rows: Vec<Vec<(String, String)>> = self.good.iter().map(|(_, row)| flatten(row)).collect();
        for (name, _) in rows.iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(["line"].into_iter().chain(names.iter().map(String::as_str)));
        for ((line, _), cells) in self.good.iter().zip(&rows) {
            let values =
                names.iter().map(|name| cells.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value));
            grid.add_row([line.to_string()].into_iter().chain(values.map(shown_cell)));
        }
        grid
    }

    fn print_json(&self, table: &Table, kind: Kind, connection: Option<&str>) -> Result<(), Failure> {
        let rows = self.good.iter().map(|(line, row)| json!({ "line": line, "row": row }));
        let wrong = self.faults.iter().map(|(line, errors)| {
            let errors = errors
                .iter()
                .map(|error| json!({ "pointer": error.pointer, "code": error.code, "detail": error.detail }));
            json!({ "line": line, "errors": errors.collect::<Vec<_>>() })
        });
        let document = json!({
            "file": table.name(),
            "kind": kind.word(),
            "connection": connection,
            "dryRun": true,
            "summary": { "total": self.rows, "accepted": self.rows - self.wrong, "refused": self.wrong },
            "notes": table.notes(),
            "rows": rows.collect::<Vec<_>>(),
            "refused": wrong.collect::<Vec<_>>(),
        });
        say(format_args!("{document:#}"))
    }
}

/// Returns the value as a preview for people shows it: in quotation marks if white space around it is sent.
fn shown_cell(value: &str) -> String {
    let shown = sanitize_for_display(value.trim(), MAX_CELL);
    if value.trim() == value {
        return shown;
    }
    let rest = value.trim_start();
    let blanks = |text: &str| " ".repeat(text.chars().count().min(MAX_CELL));
    format!("\"{}{shown}{}\"", blanks(&value[..value.len() - rest.len()]), blanks(&rest[rest.trim_end().len()..]))
}

/// Lists the fields of a row with their paths: `name.givenName`.
fn flatten(row: &Value) -> Vec<(String, String)> {
    fn visit(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| visit(&below(name), value, fields)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| visit(&below(&index.to_string()), value, fields));
            }
            Value::String(text) => fields.push((path.to_owned(), text.clone())),
            other => fields.push((path.to_owned(), other.to_string())),
        }
    }
    let mut fields = Vec::new();
    visit("", row, &mut fields);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_that_is_sent_is_shown() {
        let shown = ["onboarding", " onboarding", "a b ", ""].map(shown_cell);
        assert_eq!(shown, ["onboarding", "\" onboarding\"", "\"a b \"", ""]);
    }

    #[test]
    fn fields_have_their_paths() {
        let row = json!({ "externalId": "1", "name": { "givenName": "Ana" }, "active": true,
                          "phoneNumbers": [{ "type": "work", "value": "2" }] });
        let expected = [
            ("externalId", "1"),
            ("name.givenName", "Ana"),
            ("active", "true"),
            ("phoneNumbers.0.type", "work"),
            ("phoneNumbers.0.value", "2"),
        ];
        let mut found = flatten(&row);
        found.sort();
        let mut expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        expected.sort();
        assert_eq!(found, expected);
    }
}
