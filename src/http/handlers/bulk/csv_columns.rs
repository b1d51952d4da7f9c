//! The columns of a CSV body and the JSON of its rows.

use serde_json::{Map, Value, json};

use crate::domain::error::FieldError;
use crate::domain::table::BulkItem;
use crate::domain::table::aliases::suggest_column;
use crate::domain::table::columns::{CellKind, ColumnTarget, find};
use crate::domain::table::damage::find_damage;
use crate::domain::table::flags::{FLAG_FORM, parse_flag};
use crate::domain::validation::{pointer_token, sanitize_for_display};

/// Maximum number of columns with a name; the widest legitimate body has about a hundred.
const MAX_COLUMNS: usize = 1000;
/// Maximum number of unknown columns that get a suggestion: each costs some time.
const MAX_SUGGESTIONS: usize = 50;

/// The columns of a CSV body, in its order. A column without a name has no field; its cells must be blank.
#[derive(Debug, PartialEq)]
pub(super) struct CsvColumns {
    /// Up to the last column with a name.
    targets: Vec<Option<ColumnTarget>>,
    /// The number of cells in the header.
    header_width: usize,
}

impl CsvColumns {
    /// Parses the header into columns.
    ///
    /// # Errors
    /// Every unknown or duplicate column, with the pointer its field would have.
    pub(super) fn of(kind: BulkItem, header: &[&str]) -> Result<Self, Vec<FieldError>> {
        let mut names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        // Spreadsheets write empty columns for cells that are formatted, but not filled.
        let width = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        names.truncate(width);
        if names.iter().filter(|name| !name.is_empty()).count() > MAX_COLUMNS {
            let detail = format!("the header has more than {MAX_COLUMNS} columns");
            return Err(vec![FieldError::invalid("", detail)]);
        }
        let targets: Vec<Option<ColumnTarget>> = names.iter().map(|name| find(kind, name)).collect();
        if targets.iter().all(Option::is_none)
            && let Some(separator) = other_separator(&names)
        {
            let detail = format!(
                "the header names no known column; its {separator} should be commas: save it as CSV UTF-8 with \
                 commas, or send it with `examgate import`"
            );
            return Err(vec![FieldError::invalid("", detail)]);
        }
        let errors = header_errors(kind, &names, &targets);
        if errors.is_empty() { Ok(Self { targets, header_width: header.len() }) } else { Err(errors) }
    }

    /// Returns the positions, from 1, of columns without a name.
    pub(super) fn unnamed(&self) -> Vec<usize> {
        (1..).zip(&self.targets).filter(|(_, target)| target.is_none()).map(|(position, _)| position).collect()
    }

    /// Builds the JSON of the row on this line from its cells, and the errors that only its cells show; an empty cell is
    /// a field not given.
    ///
    /// # Errors
    /// A sentence about a row with too few cells, or with content where no column has a name.
    pub(super) fn row(
        &self,
        line: u64,
        cells: &[&str],
        allow_damaged_ids: bool,
    ) -> Result<(Value, Vec<FieldError>), String> {
        let width = self.targets.len();
        if cells.len() < width {
            return Err(format!("the record of line {line} has {}, the header {width}", counted(cells.len())));
        }
        let target = |index: usize| self.targets.get(index).and_then(Option::as_ref);
        let stray =
            cells.iter().enumerate().position(|(index, cell)| target(index).is_none() && !cell.trim().is_empty());
        if let Some(index) = stray {
            let number = index + 1;
            return Err(if index < self.header_width {
                format!("the record of line {line} has content in column {number}, which has no name in the header")
            } else {
                format!("the record of line {line} has {}, the header {}", counted(cells.len()), self.header_width)
            });
        }
        let (mut row, mut errors) = (Map::new(), Vec::new());
        for (target, cell) in
            self.targets.iter().zip(cells).filter_map(|(target, cell)| Some((target.as_ref()?, *cell)))
        {
            if let Some(error) = put_cell(&mut row, target, cell, allow_damaged_ids) {
                errors.push(error);
            }
        }
        Ok((Value::Object(row), errors))
    }
}

fn counted(cells: usize) -> String {
    if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") }
}

/// Puts a cell into the row, unless it is empty. Returns what is wrong with it; a cell that is wrong is text.
fn put_cell(
    row: &mut Map<String, Value>,
    target: &ColumnTarget,
    cell: &str,
    allow_damaged_ids: bool,
) -> Option<FieldError> {
    let ColumnTarget { path, cell: kind } = target;
    let cell = if matches!(kind, CellKind::Word | CellKind::Flag) { cell.trim() } else { cell };
    if cell.is_empty() {
        return None;
    }
    let pointer = pointer(path);
    let damaged = |pointer: String| {
        let damage = find_damage(cell).filter(|_| !allow_damaged_ids)?;
        Some(FieldError::new(pointer, FieldError::DAMAGED_ID, damage.detail()))
    };
    match kind {
        CellKind::Text | CellKind::Word => {
            put(row, path, Value::from(cell));
            None
        }
        CellKind::Id => {
            put(row, path, Value::from(cell));
            damaged(pointer)
        }
        CellKind::Flag => {
            let flag = parse_flag(cell);
            put(row, path, flag.map_or_else(|| Value::from(cell), Value::Bool));
            flag.is_none().then(|| FieldError::invalid(pointer, FLAG_FORM))
        }
        CellKind::Phone(kind) => {
            let Value::Array(numbers) = row.entry("phoneNumbers").or_insert_with(|| json!([])) else { return None };
            numbers.push(json!({ "type": kind, "value": cell }));
            damaged(format!("{pointer}/{}/value", numbers.len() - 1))
        }
    }
}

/// Returns the errors of the header: its unknown and duplicate columns.
fn header_errors(kind: BulkItem, names: &[&str], targets: &[Option<ColumnTarget>]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, (name, target)) in names.iter().zip(targets).enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        let at = sanitize_for_display(&pointer(&name.split('.').collect::<Vec<_>>()), 200);
        let number = index + 1;
        if target.is_none() {
            let hint = if errors.len() < MAX_SUGGESTIONS { suggest_column(kind, name) } else { String::new() };
            let detail = format!("unknown column {number} `{}`{hint}", sanitize_for_display(name, 100));
            errors.push(FieldError::new(at, FieldError::UNKNOWN, detail));
        } else if let Some(earlier) = names[..index].iter().position(|earlier| earlier == name) {
            let detail = format!("is a duplicate column: {number} has the same name as {}", earlier + 1);
            errors.push(FieldError::invalid(at, detail));
        }
    }
    errors
}

fn pointer(path: &[impl AsRef<str>]) -> String {
    path.iter().flat_map(|name| ["/".to_owned(), pointer_token(name.as_ref())]).collect()
}

fn other_separator(names: &[&str]) -> Option<&'static str> {
    let found = [';', '\t', '|'].into_iter().find(|character| names.iter().any(|name| name.contains(*character)));
    found.map(separator_name)
}

/// Returns the name of a separator, in the plural.
pub(super) const fn separator_name(separator: char) -> &'static str {
    match separator {
        ';' => "semicolons",
        '\t' => "tabs",
        '|' => "vertical bars",
        _ => "other characters",
    }
}

fn put(row: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut node = row;
    for name in parents {
        let inner = node.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        match inner {
            Value::Object(members) => node = members,
            // No column is both a field and an object of fields.
            _ => return,
        }
    }
    node.insert(last.clone(), value);
}

#[cfg(test)]
mod tests;
