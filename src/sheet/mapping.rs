//! The mapping of a table's columns to the gateway's: by `--map`, `--map-file` and `--layout`, else by name. A column is
//! either sent or left out by someone's decision; one without a decision is an error that names the cures.

use std::collections::BTreeMap;

use crate::domain::suggest;
use crate::domain::table::columns::{self, CellKind};
use crate::domain::validation::sanitize_for_display;
use crate::sheet::column_letters::column_letters;
use crate::sheet::kind::Kind;
use crate::sheet::layout;
use crate::sheet::layout::file::{LayoutFile, OtherColumns};
use crate::sheet::result_header::is_result_header;
use crate::sheet::source::OddCell;
use crate::sheet::times::TimeRole;
use crate::sheet::wording::Wording;
use crate::sheet::zeros;

/// The columns that an import adds to its result.
const RESULT_PREFIX: &str = "result.";
const RESULT_OUTCOME: &str = "result.outcome";
/// Columns whose values are never shown or repeated.
const SECRET_TARGETS: [&str; 2] = ["password", "photo"];
/// How many of a layout's columns make a table look like that export.
const MIN_LIKENESS: usize = 3;

/// Everything the user has said about columns.
pub(crate) struct Rules<'a> {
    pub(crate) kind: Kind,
    /// Column and target of each `--map`.
    pub(crate) maps: &'a [(String, String)],
    /// Columns of `--ignore`.
    pub(crate) ignore: &'a [String],
    pub(crate) ignore_unknown: bool,
    /// `--map-file` before `--layout`.
    pub(crate) files: Vec<&'a LayoutFile>,
    /// By position, the target of each column that a form lists, or `None` to leave it out.
    pub(crate) choices: Option<&'a [Option<String>]>,
    pub(crate) wording: Wording,
}

/// What becomes of each column.
pub(crate) struct Plan<'a> {
    /// The columns sent, in the order of the table.
    pub(crate) targets: Vec<Target<'a>>,
    /// The positions of the columns that a result may repeat.
    pub(crate) shown: Vec<usize>,
    /// The names of columns that are not sent.
    pub(crate) left_out: Vec<String>,
    /// The number of cells of the header.
    pub(crate) width: usize,
    /// The positions of columns without a name.
    pub(crate) unnamed: Vec<usize>,
    /// Whether content below no name is left out instead of being an error.
    pub(crate) ignores_unnamed: bool,
    pub(crate) wording: Wording,
    /// Whether the table is the result of an import.
    pub(crate) is_result: bool,
    /// The position of the outcome in such a result.
    pub(crate) outcome: Option<usize>,
    /// The position of the notes about zeros in such a result.
    pub(crate) zeros: Option<usize>,
    /// The names of all columns.
    pub(crate) names: Vec<String>,
    /// Rows that are left out, by position and values.
    pub(crate) skip: Vec<(usize, &'a [String])>,
    /// The position and folded name of a column that has its own name in the row below if that is a second header.
    pub(crate) repeated_header: Option<(usize, String)>,
    /// Whether the header is sent as it is.
    pub(crate) is_identity: bool,
}

/// A column that is sent.
pub(crate) struct Target<'a> {
    pub(crate) name: String,
    /// The positions it comes from; the first that is not empty counts.
    pub(crate) sources: Vec<usize>,
    /// What its values mean, by the folded value.
    pub(crate) values: BTreeMap<String, &'a str>,
    pub(crate) role: Option<TimeRole>,
    /// What its cells hold.
    cell: CellKind,
    /// Whether its name, and so what its cells mean, is the caller's own.
    is_open: bool,
}

impl Target<'_> {
    /// Returns whether the column's values must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        SECRET_TARGETS.contains(&self.name.as_str())
    }

    /// Returns whether a cell of a workbook with this content must not be sent.
    pub(crate) fn refuses(&self, odd: OddCell, allows_damaged_ids: bool) -> bool {
        let is_id = matches!(self.cell, CellKind::Id | CellKind::Phone(_));
        match odd {
            OddCell::UncomputedFormula => true,
            _ if is_id => !allows_damaged_ids,
            OddCell::Error => true,
            OddCell::Time | OddCell::Flag => self.cell == CellKind::Text && !self.is_open,
            OddCell::FormattedNumber => false,
        }
    }
}

/// What to propose for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// The rules say that it is sent as this.
    Known(String),
    /// Its name probably means this.
    Guessed(String),
    /// It is not sent.
    LeaveOut,
}

/// What a column name means by the rules.
enum Meaning<'a> {
    /// Sent as this target: by `--map` (rank 0), or by the file or name with this rank, and this place among the names
    /// for the target.
    Send {
        target: String,
        rank: usize,
        place: usize,
        file: Option<&'a LayoutFile>,
    },
    LeaveOut,
    Unknown,
}

impl<'a> Rules<'a> {
    /// Returns a sentence for each target that does not exist, and for each column that is mapped twice or also left out.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, (column, target)) in self.maps.iter().enumerate() {
            faults.extend(self.check_target(target, &format!("--map \"{column}={target}\"")));
            if self.maps[..index].iter().any(|(earlier, _)| fold(earlier) == fold(column)) {
                faults.push(format!("--map: {column:?} is mapped twice"));
            }
            if self.ignore.iter().any(|ignored| fold(ignored) == fold(column)) {
                faults.push(format!("--map and --ignore both name the column {column:?}; omit one of them"));
            }
        }
        for file in &self.files {
            let place = if file.name.is_empty() { "--map-file".to_owned() } else { format!("--layout {}", file.name) };
            let mut unknown = file.columns.keys().filter_map(|target| self.check_target(target, &place)).peekable();
            if unknown.peek().is_some() && !file.name.is_empty() {
                faults.push(format!("{place} is for candidates, not for {}; omit it and use --map", self.kind.word()));
            } else {
                faults.extend(unknown);
            }
        }
        faults
    }

    fn check_target(&self, target: &str, place: &str) -> Option<String> {
        (!self.kind.knows_column(target)).then(|| {
            let suggestion = self.kind.suggest_column(target);
            format!("{place}: {target:?} is no column of {}{suggestion}", self.kind.word())
        })
    }

    /// Counts the names in a row that are known as columns.
    pub(crate) fn count_known(&self, cells: &[String]) -> usize {
        let is_known = |cell: &&String| {
            let name = cell.trim();
            !name.is_empty() && (name.starts_with(RESULT_PREFIX) || !matches!(self.meaning(name), Meaning::Unknown))
        };
        cells.iter().filter(is_known).count()
    }

    fn meaning(&self, name: &str) -> Meaning<'a> {
        let folded = fold(name);
        if let Some((_, target)) = self.maps.iter().find(|(column, _)| fold(column) == folded) {
            return Meaning::Send { target: target.clone(), rank: 0, place: 0, file: None };
        }
        if self.ignore.iter().any(|column| fold(column) == folded) {
            return Meaning::LeaveOut;
        }
        for (rank, file) in self.files.iter().enumerate() {
            for (target, names) in &file.columns {
                if let Some(place) = names.as_slice().iter().position(|known| fold(known) == folded) {
                    return Meaning::Send { target: target.clone(), rank: rank + 1, place, file: Some(*file) };
                }
            }
        }
        if self.kind.knows_column(name) {
            return Meaning::Send { target: name.to_owned(), rank: self.files.len() + 1, place: 0, file: None };
        }
        let is_ignored = |file: &&LayoutFile| file.ignored.iter().any(|pattern| matches(pattern, &folded));
        if self.files.iter().copied().any(|file| is_ignored(&file)) { Meaning::LeaveOut } else { Meaning::Unknown }
    }

    /// Returns the column as it was chosen: by the rules of the layout, if that says the same.
    fn chosen(&self, position: usize, name: &str, target: &str) -> SentColumn<'a> {
        match self.meaning(name) {
            Meaning::Send { target: proposed, place, file: Some(file), .. } if proposed == target => {
                SentColumn { position, target: proposed, rank: 0, place, file: Some(file) }
            }
            _ => SentColumn { position, target: target.to_owned(), rank: 0, place: 0, file: None },
        }
    }

    /// Returns the target of a column by the rules, else the one that its name probably means.
    pub(crate) fn propose(&self, name: &str) -> Proposal {
        match self.meaning(name) {
            Meaning::Send { target, .. } => Proposal::Known(target),
            Meaning::LeaveOut => Proposal::LeaveOut,
            Meaning::Unknown if name.is_empty() => Proposal::LeaveOut,
            Meaning::Unknown => {
                self.kind.meant_column(name).map_or(Proposal::LeaveOut, |target| Proposal::Guessed(target.to_owned()))
            }
        }
    }

    fn ignores_unknown(&self) -> bool {
        self.ignore_unknown || self.files.iter().any(|file| file.other_columns == OtherColumns::Ignore)
    }

    /// Plans what becomes of each column of this header.
    ///
    /// # Errors
    /// A line for each error, and one with the cures.
    pub(crate) fn plan(&self, header: &[String]) -> Result<Plan<'a>, Vec<String>> {
        let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
        let is_result = is_result_header(names.iter().copied());
        let (mut sent, mut left_out, mut unnamed, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (position, name) in names.iter().enumerate() {
            if let Some(choice) = self.choices.and_then(|choices| choices.get(position)) {
                match choice {
                    Some(target) => sent.push(self.chosen(position, name, target)),
                    None if name.is_empty() => unnamed.push(position),
                    None => left_out.push((*name).to_owned()),
                }
            } else if name.is_empty() {
                unnamed.push(position);
            } else if is_result && name.starts_with(RESULT_PREFIX) {
                // An import's own columns need no mention.
            } else {
                match self.meaning(name) {
                    Meaning::Send { target, rank, place, file } => {
                        sent.push(SentColumn { position, target, rank, place, file });
                    }
                    Meaning::LeaveOut => left_out.push((*name).to_owned()),
                    Meaning::Unknown if self.ignores_unknown() => {
                        let suggestion = self.kind.suggest_column(name);
                        left_out.push(format!("{name}{suggestion}"));
                    }
                    Meaning::Unknown => unknown.push(position),
                }
            }
        }
        let mut faults = self.missing_maps(&names);
        let targets = self.join(sent, &names, &mut left_out, &mut faults);
        faults.extend(self.unknown_columns(&unknown, &names));
        if targets.is_empty() && faults.is_empty() {
            let cure = self.wording.choose(
                "name the columns as the gateway does, or map them with --map",
                "choose a field for at least one",
            );
            faults.push(format!("no column is sent; {cure}"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let is_secret = |position: &usize| targets.iter().any(|it| it.is_secret() && it.sources.contains(position));
        let is_own = |position: &usize| is_result && names[*position].starts_with(RESULT_PREFIX);
        let shown = (0..names.len()).filter(|at| !names[*at].is_empty() && !is_secret(at) && !is_own(at)).collect();
        let find = |name: &String| names.iter().position(|known| fold(known) == fold(name));
        let skip = self.files.iter().flat_map(|file| &file.skip);
        let mut repeated = self.files.iter().filter_map(|file| file.repeated_header.as_ref());
        Ok(Plan {
            shown,
            unnamed,
            wording: self.wording,
            ignores_unnamed: self.ignores_unknown(),
            is_result,
            outcome: names.iter().position(|name| is_result && *name == RESULT_OUTCOME),
            zeros: names.iter().position(|name| is_result && *name == zeros::COLUMN),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            skip: skip.filter_map(|(column, values)| Some((find(column)?, values.as_slice()))).collect(),
            repeated_header: repeated.find_map(|name| Some((find(name)?, fold(name)))),
            width: names.len(),
            is_identity: targets.len() == names.len() && targets.iter().zip(&names).all(|(it, name)| it.name == *name),
            targets,
            left_out,
        })
    }

    /// Returns an error for each `--map` whose column the table does not have.
    fn missing_maps(&self, names: &[&str]) -> Vec<String> {
        let missing = self.maps.iter().filter(|(column, _)| !names.iter().any(|name| fold(name) == fold(column)));
        missing
            .map(|(column, _)| {
                let suggestion = suggest::word(column, names.iter().copied().filter(|name| !name.is_empty()));
                format!("--map: the table has no column {column:?}{suggestion}")
            })
            .collect()
    }

    /// Joins the columns of each target. What the user or an earlier file says wins over what a name says.
    fn join(
        &self,
        sent: Vec<SentColumn<'a>>,
        names: &[&str],
        left_out: &mut Vec<String>,
        faults: &mut Vec<String>,
    ) -> Vec<Target<'a>> {
        let mut groups: Vec<(String, Vec<SentColumn<'a>>)> = Vec::new();
        for column in sent {
            match groups.iter_mut().find(|(target, _)| *target == column.target) {
                Some((_, group)) => group.push(column),
                None => groups.push((column.target.clone(), vec![column])),
            }
        }
        let mut targets = Vec::new();
        for (name, mut group) in groups {
            group.sort_by_key(|column| (column.rank, column.place));
            let best = group[0].rank;
            left_out.extend(group.iter().filter(|column| column.rank > best).map(|it| names[it.position].to_owned()));
            group.retain(|column| column.rank == best);
            if let [first, second, ..] = group.as_slice()
                && !first.file.is_some_and(|file| file.first_non_empty.contains(&name))
            {
                let [one, other] = [first, second].map(|column| shown_column(column.position, names));
                let cure = self.wording.choose("leave one out with --ignore", "leave one out");
                faults.push(format!("{one} and {other} are both sent as {name}; {cure}"));
            }
            let file = group[0].file;
            let values = file.and_then(|file| file.values.get(&name)).into_iter().flatten();
            targets.push(Target {
                role: TimeRole::of(self.kind, &name),
                cell: columns::find(self.kind.bulk_item(), &name).map_or(CellKind::Text, |found| found.cell),
                is_open: name.starts_with(columns::open_prefix(self.kind.bulk_item())),
                values: values.map(|(value, meaning)| (fold(value), meaning.as_str())).collect(),
                sources: group.iter().map(|column| column.position).collect(),
                name,
            });
        }
        targets.sort_by_key(|target| target.sources.iter().min().copied());
        targets
    }

    fn unknown_columns(&self, unknown: &[usize], names: &[&str]) -> Vec<String> {
        let Some(first) = unknown.first() else { return Vec::new() };
        let mut lines: Vec<String> = unknown
            .iter()
            .map(|position| {
                let suggestion = self.kind.suggest_column(names[*position]);
                format!("{} is unknown{suggestion}", shown_column(*position, names))
            })
            .collect();
        let other = self.kind.other();
        if names.iter().filter(|name| !name.is_empty()).all(|name| other.knows_column(name)) {
            lines.push(format!("these are the columns of {0}: add --kind {0}", other.word()));
            return lines;
        }
        let name = sanitize_for_display(names[*first], 100);
        let suggestion = self.kind.suggest_column(names[*first]);
        let meant = suggestion.strip_prefix(" (did you mean ").and_then(|rest| rest.strip_suffix("?)"));
        let target = meant.unwrap_or(self.kind.example_column());
        lines.push(format!(
            "send a column with --map \"{name}={target}\", leave one out with --ignore \"{name}\", or leave out all \
             unknown ones with --ignore-unknown"
        ));
        lines.extend(self.similar_layout(names));
        lines
    }

    /// Suggests the layout that knows most of these names.
    fn similar_layout(&self, names: &[&str]) -> Option<String> {
        let likeness = |layout: &LayoutFile| {
            let is_present = |known: &String| names.iter().any(|name| fold(name) == fold(known));
            layout.columns.values().filter(|known| known.as_slice().iter().any(is_present)).count()
        };
        let candidates = layout::all().iter().filter(|_| self.kind == Kind::Candidates && self.files.is_empty());
        // The first of equals: no rule distinguishes exports with the same names.
        let best = candidates.rev().max_by_key(|layout| likeness(layout))?;
        (likeness(best) >= MIN_LIKENESS)
            .then(|| format!("the table looks like an export of {}: try --layout {}", best.about, best.name))
    }
}

/// A column of the table that is sent.
struct SentColumn<'a> {
    position: usize,
    target: String,
    rank: usize,
    place: usize,
    file: Option<&'a LayoutFile>,
}

/// Folds a name for comparison: case and white space do not matter.
pub(crate) fn fold(name: &str) -> String {
    name.chars().filter(|sign| !sign.is_whitespace()).flat_map(char::to_lowercase).collect()
}

fn matches(pattern: &str, folded: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => folded.starts_with(&fold(beginning)),
        None => fold(pattern) == folded,
    }
}

/// Names a column as a spreadsheet program does: `column C "First Name"`.
fn shown_column(position: usize, names: &[&str]) -> String {
    format!("column {} \"{}\"", column_letters(position), sanitize_for_display(names[position], 100))
}

#[cfg(test)]
mod tests;
