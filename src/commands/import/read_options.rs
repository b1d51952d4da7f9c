//! The options that say how a table is read.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::import::kind::Kind;

/// What is imported.
#[derive(Args)]
pub(super) struct ReadOptions {
    /// The spreadsheet: comma-separated CSV in UTF-8, with column names in the first line; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What each row is
    #[arg(long, value_enum, default_value = "candidates")]
    kind: Kind,
}

impl ReadOptions {
    /// Returns the file; none means standard input.
    pub(super) fn file(&self) -> Option<&Path> {
        Some(self.file.as_path()).filter(|path| *path != Path::new("-"))
    }

    /// Returns what each row is.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}
