//! The file format of layouts and of `--map-file`: TOML that says which column is which field.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A mapping of the columns of an export to the gateway's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands::import) struct LayoutFile {
    /// The name for `--layout`.
    #[serde(default)]
    pub(in crate::commands::import) name: String,
    /// Which export of which system it is.
    #[serde(default)]
    pub(in crate::commands::import) about: String,
    /// Where the export is documented.
    #[serde(default)]
    pub(in crate::commands::import) source: String,
    /// Names in the export for each of the gateway's columns, the best first.
    #[serde(default)]
    pub(in crate::commands::import) columns: BTreeMap<String, Names>,
    /// The gateway's columns that take the first of several that is not empty.
    #[serde(default)]
    pub(in crate::commands::import) first_non_empty: Vec<String>,
    /// What values of the export mean, by the gateway's column.
    #[serde(default)]
    pub(in crate::commands::import) values: BTreeMap<String, BTreeMap<String, String>>,
    /// Rows that are left out: values by the column of the export.
    #[serde(default)]
    pub(in crate::commands::import) skip: BTreeMap<String, Vec<String>>,
    /// Columns that are not sent. An asterisk at the end stands for any text.
    #[serde(default)]
    pub(in crate::commands::import) ignored: Vec<String>,
    /// What happens to columns that are not named here.
    #[serde(default)]
    pub(in crate::commands::import) other_columns: OtherColumns,
    /// A column that has its own name in the row below the header if that row is a second header.
    #[serde(default)]
    pub(in crate::commands::import) repeated_header: Option<String>,
}

/// One name or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(in crate::commands::import) enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    pub(in crate::commands::import) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// What happens to columns that a layout does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands::import) enum OtherColumns {
    /// They are errors unless the user says otherwise.
    #[default]
    Refuse,
    /// They are not sent.
    Ignore,
}

impl LayoutFile {
    /// Parses a layout.
    ///
    /// # Errors
    /// The parser's message with the line.
    pub(in crate::commands::import) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml_edit::de::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}
