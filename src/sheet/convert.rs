//! The conversion of a table to what the gateway reads: CSV in UTF-8, separated by commas, with the gateway's column
//! names. Each row stays on its line, so that a line in a message of the gateway is a line of the user's table. No row
//! is judged here: one that cannot be right is sent as it is, and the gateway refuses it.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Write};

use crate::domain::table::formulas::unguard;
use crate::domain::table::is_blank_record;
use crate::domain::table::lines::LineCounter;
use crate::sheet::column_letters::column_letters;
use crate::sheet::mapping::{Plan, Target, fold};
use crate::sheet::source::{OddCell, Source};
use crate::sheet::times::{Decision, TimeReading, Times};
use crate::sheet::zeros;

/// The outcome of rows that `--only-failed` leaves out.
const APPLIED: &str = "applied";

/// What decides how rows are converted.
pub(crate) struct Conversion<'a> {
    pub(crate) source: &'a Source,
    pub(crate) plan: &'a Plan<'a>,
    /// The line of the header.
    pub(crate) header_line: u64,
    pub(crate) times: &'a Times,
    /// Cells for rows that have none in this column.
    pub(crate) defaults: &'a [(&'static str, String)],
    pub(crate) only_failed: bool,
    pub(crate) allows_damaged_ids: bool,
}

/// What a conversion has done.
#[derive(Default)]
pub(crate) struct Converted {
    /// The line of each row that is sent.
    pub(crate) lines: Vec<u64>,
    /// Whether what is sent differs from the table.
    pub(crate) has_changed: bool,
    /// Lines by what is to be said about them.
    pub(crate) remarks: Remarks,
}

/// Lines that the user should know about.
#[derive(Default)]
pub(crate) struct Remarks {
    pub(crate) needs_zone: Vec<u64>,
    pub(crate) needs_format: Vec<u64>,
    pub(crate) skipped_times: Vec<u64>,
    pub(crate) repeated_times: Vec<u64>,
    /// Rows left out since the layout says so.
    pub(crate) skipped: Vec<u64>,
    /// Rows with cells only in columns that are not sent.
    pub(crate) empty: Vec<u64>,
    /// Rows left out since they are applied already.
    pub(crate) applied: Vec<u64>,
}

/// Why a row is left out.
#[derive(Clone, Copy)]
enum LeftOut {
    /// The layout says so.
    Skipped,
    /// `--only-failed`, and it is applied already.
    Applied,
}

/// The original rows go here: line and cells.
pub(crate) type OriginalSink<'a> = &'a mut dyn FnMut(u64, &[&str]) -> io::Result<()>;

impl Conversion<'_> {
    /// Converts the table into `output` and passes each row as it was to `original`.
    ///
    /// # Errors
    /// A sentence about the table, or about the temporary file.
    pub(crate) fn run(&self, output: impl Write, original: OriginalSink<'_>) -> Result<Converted, String> {
        let added: Vec<_> =
            self.defaults.iter().filter(|(name, _)| !self.plan.targets.iter().any(|it| it.name == *name)).collect();
        let names = self.plan.targets.iter().map(|target| target.name.as_str());
        let header: Vec<&str> = names.chain(added.iter().map(|(name, _)| *name)).collect();
        let mut writer = LineWriter::new(output);
        writer.write(self.header_line, header.iter().copied()).map_err(temporary)?;
        let mut converted =
            Converted { has_changed: !self.plan.is_identity || !added.is_empty(), ..Converted::default() };
        let is_first = Cell::new(true);
        let must_refuse = |line, cells: &[String], column, odd| {
            let plain = self.unguarded(cells);
            line > self.header_line
                && self.refuses(&plain, column, odd)
                && !(is_first.get() && self.is_second_header(cells))
                && self.left_out(&plain).is_none()
        };
        self.source.read_checked_rows(&must_refuse, &mut |line, cells| {
            if line <= self.header_line {
                return Ok(true);
            }
            let is_label = is_first.take() && self.is_second_header(cells);
            let cells = self.unguarded(cells);
            if is_label
                || is_blank_record(cells.iter().map(AsRef::as_ref))
                || self.is_left_out(line, &cells, &mut converted)
            {
                converted.has_changed |= is_label;
                return Ok(true);
            }
            self.check_unnamed(line, &cells)?;
            self.check_zeros(line, &cells)?;
            let mut row = self.convert_row(line, &cells, &mut converted);
            if is_blank_record(row.iter().map(AsRef::as_ref)) {
                converted.remarks.empty.push(line);
                converted.has_changed = true;
                return Ok(true);
            }
            // A row that is cut short stays too short.
            let mut is_whole = row.len() == self.plan.targets.len();
            if is_whole {
                row.extend(added.iter().map(|(_, value)| Cow::Borrowed(value.as_str())));
                let surplus = self.surplus(&cells, &mut converted);
                is_whole = surplus.is_empty();
                row.extend(surplus);
            }
            converted.lines.push(line);
            writer.write(line, row.iter().map(AsRef::as_ref)).map_err(temporary)?;
            // It is unknown which cell of a row with too many or too few belongs to which column. The result must not assign
            // them: imported again, it would send another person.
            let cell = |position: &usize| cells.get(*position).filter(|_| is_whole).map_or("", AsRef::as_ref);
            let shown: Vec<&str> = self.plan.shown.iter().map(cell).collect();
            original(line, &shown).map_err(temporary)?;
            Ok(true)
        })?;
        writer.finish().map_err(temporary)?;
        Ok(converted)
    }

    fn is_second_header(&self, cells: &[String]) -> bool {
        let Some((position, name)) = &self.plan.repeated_header else { return false };
        cells.get(*position).is_some_and(|cell| fold(cell) == *name)
    }

    fn unguarded<'c>(&self, cells: &'c [String]) -> Vec<Cow<'c, str>> {
        cells
            .iter()
            .map(|cell| if self.plan.is_result { unguard(cell) } else { Cow::Borrowed(cell.as_str()) })
            .collect()
    }

    /// Returns why the row is left out, by a decision of the user or of the layout.
    fn left_out(&self, cells: &[Cow<'_, str>]) -> Option<LeftOut> {
        let cell = |position: usize| cells.get(position).map_or("", |cell| cell.trim());
        let is_skipped = self.plan.skip.iter().any(|(position, values)| {
            let folded = fold(cell(*position));
            values.iter().any(|value| fold(value) == folded)
        });
        if is_skipped {
            return Some(LeftOut::Skipped);
        }
        let is_applied = self.only_failed && self.plan.outcome.is_some_and(|position| cell(position) == APPLIED);
        is_applied.then_some(LeftOut::Applied)
    }

    /// Notes the row if it is left out, and returns whether it is.
    fn is_left_out(&self, line: u64, cells: &[Cow<'_, str>], converted: &mut Converted) -> bool {
        match self.left_out(cells) {
            None => return false,
            Some(LeftOut::Skipped) => converted.remarks.skipped.push(line),
            Some(LeftOut::Applied) => converted.remarks.applied.push(line),
        }
        converted.has_changed = true;
        true
    }

    /// Returns whether a cell of a row that is sent must not be sent. One is sent if those that its target prefers are
    /// blank.
    ///
    /// A row of formulas without a result is not known to be blank, so they are refused there, too.
    fn refuses(&self, cells: &[Cow<'_, str>], column: usize, odd: OddCell) -> bool {
        let is_blank = |position: &usize| cells.get(*position).is_none_or(|cell| cell.trim().is_empty());
        self.plan.targets.iter().any(|target| {
            target.refuses(odd, self.allows_damaged_ids)
                && target
                    .sources
                    .iter()
                    .position(|source| *source == column)
                    .is_some_and(|rank| target.sources[..rank].iter().all(is_blank))
        })
    }

    /// Refuses content in a column without a name: it would be lost.
    fn check_unnamed(&self, line: u64, cells: &[Cow<'_, str>]) -> Result<(), String> {
        if self.plan.ignores_unnamed {
            return Ok(());
        }
        let width = self.plan.width;
        let beyond = (width..cells.len()).filter(|_| self.source.omits_empty_cells());
        let is_filled = |position: &usize| cells.get(*position).is_some_and(|cell| !cell.trim().is_empty());
        match self.plan.unnamed.iter().copied().chain(beyond).find(is_filled) {
            None => Ok(()),
            Some(position) => Err(format!(
                "line {line} has a value in column {}, which has no name; name the column, delete it, or {}",
                column_letters(position),
                self.plan.wording.choose("leave it out with --ignore-unknown", "leave it out")
            )),
        }
    }

    /// Refuses a row of a result from which a spreadsheet program has removed the zeros at the beginning of a cell.
    fn check_zeros(&self, line: u64, cells: &[Cow<'_, str>]) -> Result<(), String> {
        let noted = self.plan.zeros.and_then(|position| cells.get(position)).map_or("", AsRef::as_ref);
        let cell = |name: &str| {
            let position = self.plan.names.iter().position(|known| known == name)?;
            cells.get(position).map(|cell| &**cell)
        };
        match zeros::find_lost(noted, cell).first().filter(|_| !self.allows_damaged_ids) {
            None => Ok(()),
            Some(name) => Err(format!(
                "line {line}: a spreadsheet program has removed the zeros at the beginning of {name}; format the column as \
                 text and write them again ({} shows them), or {}",
                zeros::COLUMN,
                self.plan.wording.choose("send the row as it is with --allow-damaged-ids", "allow damaged ids")
            )),
        }
    }

    /// Returns the cells to send; fewer than the header has if the row ends before a column that is sent.
    fn convert_row<'c>(&'c self, line: u64, cells: &'c [Cow<'c, str>], converted: &mut Converted) -> Vec<Cow<'c, str>> {
        let is_cut = |target: &&Target<'_>| {
            !self.source.omits_empty_cells() && target.sources.iter().all(|position| *position >= cells.len())
        };
        let targets = self.plan.targets.iter().take_while(|target| !is_cut(target));
        targets.map(|target| self.convert_cell(line, target, cells, converted)).collect()
    }

    fn convert_cell<'c>(
        &'c self,
        line: u64,
        target: &'c Target<'_>,
        cells: &'c [Cow<'c, str>],
        converted: &mut Converted,
    ) -> Cow<'c, str> {
        let values = target.sources.iter().filter_map(|position| cells.get(*position));
        let values = values.map(AsRef::as_ref);
        let original: &str =
            values.clone().find(|value| !value.trim().is_empty()).or(values.clone().next()).unwrap_or("");
        let value = match target.values.get(&fold(original)) {
            Some(meaning) => Cow::Borrowed(*meaning),
            None => Cow::Borrowed(original),
        };
        let value = match target.role {
            Some(role) => Self::convert_time(line, self.times.read(role, &value), value, converted),
            None => value,
        };
        let default = self.defaults.iter().find(|(name, _)| *name == target.name && value.trim().is_empty());
        let value = default.map_or(value, |(_, default)| Cow::Borrowed(default.as_str()));
        converted.has_changed |= value != original;
        value
    }

    fn convert_time<'c>(
        line: u64,
        reading: TimeReading,
        value: Cow<'c, str>,
        converted: &mut Converted,
    ) -> Cow<'c, str> {
        let remarks = &mut converted.remarks;
        let (remark, value) = match reading {
            TimeReading::Same => (None, value),
            TimeReading::Converted(timestamp) => (None, timestamp.into()),
            TimeReading::Decided(timestamp, Decision::Skipped) => (Some(&mut remarks.skipped_times), timestamp.into()),
            TimeReading::Decided(timestamp, Decision::Repeated) => {
                (Some(&mut remarks.repeated_times), timestamp.into())
            }
            TimeReading::NeedsZone => (Some(&mut remarks.needs_zone), value),
            TimeReading::NeedsFormat => (Some(&mut remarks.needs_format), value),
        };
        if let Some(lines) = remark
            && lines.last() != Some(&line)
        {
            lines.push(line);
        }
        value
    }

    /// Returns the cells beyond the header, as when a comma in a name is not quoted: with them the gateway refuses the
    /// row instead of registering a shifted one.
    fn surplus<'c>(&self, cells: &'c [Cow<'c, str>], converted: &mut Converted) -> Vec<Cow<'c, str>> {
        let surplus = cells.get(self.plan.width..).unwrap_or_default();
        let is_blank = is_blank_record(surplus.iter().map(AsRef::as_ref));
        converted.has_changed |= is_blank && !surplus.is_empty();
        let is_dropped = is_blank || self.source.omits_empty_cells();
        if is_dropped { Vec::new() } else { surplus.iter().map(|cell| Cow::Borrowed(cell.as_ref())).collect() }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn temporary(error: io::Error) -> String {
    format!("the temporary file cannot be written: {error}")
}

/// A writer of CSV that puts each record on its line.
struct LineWriter<W: Write> {
    inner: io::BufWriter<W>,
    lines: LineCounter,
    record: Vec<u8>,
}

impl<W: Write> LineWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner: io::BufWriter::new(inner), lines: LineCounter::default(), record: Vec::new() }
    }

    /// Writes a record on this line. If line breaks within cells of a workbook have used it up, it comes later.
    fn write<'a>(&mut self, line: u64, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
        self.record.clear();
        self.record.resize(usize::try_from(line.saturating_sub(self.lines.number())).unwrap_or_default(), b'\n');
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                self.record.push(b',');
            }
            if cell.contains([',', '"', '\r', '\n']) {
                self.record.push(b'"');
                self.record.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
                self.record.push(b'"');
            } else {
                self.record.extend_from_slice(cell.as_bytes());
            }
        }
        self.record.push(b'\n');
        self.lines.pass(&self.record);
        self.inner.write_all(&self.record)
    }

    fn finish(mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
