//! The options about the table: where it is, what form it has, and what its columns and values mean.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::sheet::kind::Kind;
use crate::sheet::layout::LayoutName;
use crate::sheet::source::{EncodingName, SourceOptions, parse_separator};
use crate::sheet::times::{DateFormat, Times, Zone};

const COLUMNS: &str = "Columns and values";
const FORM: &str = "Table format";
/// The name of standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(in crate::commands) struct ReadOptions {
    /// The table, with column names in its first row: CSV with any common separator and encoding, or an Excel workbook
    /// (.xlsx); - is standard input
    #[arg(value_name = "FILE", required_unless_present = "list_layouts")]
    file: Option<PathBuf>,
    /// What each row is
    #[arg(long, value_enum, default_value = "candidates")]
    kind: Kind,
    /// Show what would be sent and what is wrong, and send nothing; needs neither gateway nor key
    #[arg(long)]
    dry_run: bool,

    /// Send the column COLUMN as the gateway's TARGET; may be repeated
    #[arg(long = "map", value_name = "COLUMN=TARGET", value_parser = parse_map, help_heading = COLUMNS)]
    maps: Vec<(String, String)>,
    /// A file that says which column is which (TOML)
    #[arg(long, value_name = "FILE", help_heading = COLUMNS)]
    map_file: Option<PathBuf>,
    /// The system whose export the table is
    #[arg(long, value_name = "SYSTEM", value_enum, help_heading = COLUMNS)]
    layout: Option<LayoutName>,
    /// List the columns of each layout, and send nothing
    #[arg(long, help_heading = COLUMNS)]
    list_layouts: bool,
    /// Leave out a column; may be repeated
    #[arg(long, value_name = "COLUMN", help_heading = COLUMNS)]
    ignore: Vec<String>,
    /// Leave out all columns that are unknown
    #[arg(long, help_heading = COLUMNS)]
    ignore_unknown: bool,
    /// The zone of dates and local times: a name such as Europe/Berlin, UTC, or +02:00
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse, allow_hyphen_values = true, help_heading = COLUMNS)]
    time_zone: Option<Zone>,
    /// The order of day and month in dates such as 03/05/2027
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = COLUMNS)]
    date_format: Option<DateFormat>,
    /// Send ids that look as if a spreadsheet had damaged them (1.23457E+11, '00123)
    #[arg(long, help_heading = COLUMNS)]
    allow_damaged_ids: bool,

    /// What separates the cells: one character, or `tab` [default: found in the file]
    #[arg(long, value_name = "CHARACTER", value_parser = parse_separator, help_heading = FORM)]
    separator: Option<u8>,
    /// The encoding [default: found in the file]
    #[arg(long, value_name = "ENCODING", value_enum, help_heading = FORM)]
    encoding: Option<EncodingName>,
    /// The sheet of a workbook [default: the first]
    #[arg(long, value_name = "NAME", help_heading = FORM)]
    sheet: Option<String>,
}

fn parse_map(text: &str) -> Result<(String, String), String> {
    let (column, target) = text.rsplit_once('=').ok_or("expected COLUMN=TARGET, as \"First Name=name.givenName\"")?;
    let (column, target) = (column.trim(), target.trim());
    match (column, target) {
        ("", _) => Err("the column before the equals sign is missing".to_owned()),
        (_, "") => {
            Err(format!("the target after the equals sign is missing; leave a column out with --ignore {column:?}"))
        }
        _ => Ok((column.to_owned(), target.to_owned())),
    }
}

/// Returns the name of a table as its user gave it; `None` is standard input.
pub(super) fn table_name(file: Option<&Path>) -> String {
    file.filter(|file| !is_standard_input(file))
        .map_or_else(|| "standard input".to_owned(), |file| file.display().to_string())
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new(STANDARD_INPUT)
}

impl ReadOptions {
    /// Returns the file; `None` is standard input.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|file| !is_standard_input(file))
    }

    /// Returns the table's name as the user gave it.
    pub(super) fn name(&self) -> String {
        table_name(self.file())
    }

    /// Returns what each row is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether nothing is sent.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Returns whether only the layouts are listed.
    pub(super) fn lists_layouts(&self) -> bool {
        self.list_layouts
    }

    /// Returns whether ids that a spreadsheet may have damaged are sent.
    pub(super) fn allows_damaged_ids(&self) -> bool {
        self.allow_damaged_ids
    }

    pub(super) fn maps(&self) -> &[(String, String)] {
        &self.maps
    }

    pub(super) fn map_file(&self) -> Option<&Path> {
        self.map_file.as_deref()
    }

    pub(super) fn layout(&self) -> Option<LayoutName> {
        self.layout
    }

    pub(super) fn ignore(&self) -> &[String] {
        &self.ignore
    }

    pub(super) fn ignores_unknown(&self) -> bool {
        self.ignore_unknown
    }

    pub(super) fn times(&self) -> Times {
        Times { zone: self.time_zone.clone(), format: self.date_format }
    }

    pub(super) fn source(&self) -> SourceOptions<'_> {
        SourceOptions {
            separator: self.separator,
            encoding: self.encoding,
            sheet: self.sheet.as_deref(),
            ..SourceOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_split_at_its_last_equals_sign() {
        let parsed = |text| parse_map(text).map(|(column, target)| format!("{column}|{target}"));
        assert_eq!(parsed("First Name = name.givenName"), Ok("First Name|name.givenName".to_owned()));
        assert_eq!(parsed("a=b=email"), Ok("a=b|email".to_owned()));
        for (text, message) in
            [("email", "expected COLUMN=TARGET"), ("=email", "column"), ("Team=", "--ignore \"Team\"")]
        {
            assert!(parsed(text).unwrap_err().contains(message), "{text}");
        }
    }
}
