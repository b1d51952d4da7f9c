//! The file format of layouts and of `--map-file`: TOML that says which column is which field.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A mapping of the columns of an export to the gateway's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayoutFile {
    /// The name for `--layout`.
    #[serde(default)]
    pub(crate) name: String,
    /// Which export of which system it is.
    #[serde(default)]
    pub(crate) about: String,
    /// Where the export is documented.
    #[serde(default)]
    pub(crate) source: String,
    /// Names in the export for each of the gateway's columns, the best first.
    #[serde(default)]
    pub(crate) columns: BTreeMap<String, Names>,
    /// The gateway's columns that take the first of several that is not empty.
    #[serde(default)]
    pub(crate) first_non_empty: Vec<String>,
    /// What values of the export mean, by the gateway's column.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, BTreeMap<String, String>>,
    /// Rows that are left out: values by the column of the export.
    #[serde(default)]
    pub(crate) skip: BTreeMap<String, Vec<String>>,
    /// Columns that are not sent. An asterisk at the end matches any text.
    #[serde(default)]
    pub(crate) ignored: Vec<String>,
    /// What happens to columns that are not named here.
    #[serde(default)]
    pub(crate) other_columns: OtherColumns,
    /// A column that has its own name in the row below the header if that row is a second header.
    #[serde(default)]
    pub(crate) repeated_header: Option<String>,
}

/// One name or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// What happens to columns that a layout does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OtherColumns {
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
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml_edit::de::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}
