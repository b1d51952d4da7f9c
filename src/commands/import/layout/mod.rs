//! Layouts: the columns of the exports of well-known systems, as data files. A layout says what is sent and what is not;
//! it never judges a value.

use std::sync::LazyLock;

use clap::ValueEnum;

use self::file::LayoutFile;
use crate::commands::{Failure, say};

pub(super) mod file;

/// The systems whose exports are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum LayoutName {
    Moodle,
    Canvas,
    #[value(name = "oneroster")]
    OneRoster,
    #[value(name = "successfactors")]
    SuccessFactors,
    Workday,
    #[value(name = "bamboohr")]
    BambooHr,
}

/// The embedded files, in the order of [`LayoutName`].
const FILES: [&str; 6] = [
    include_str!("../layouts/moodle.toml"),
    include_str!("../layouts/canvas.toml"),
    include_str!("../layouts/oneroster.toml"),
    include_str!("../layouts/successfactors.toml"),
    include_str!("../layouts/workday.toml"),
    include_str!("../layouts/bamboohr.toml"),
];

/// A test parses each file, so none is left out here.
static LAYOUTS: LazyLock<Vec<LayoutFile>> =
    LazyLock::new(|| FILES.iter().filter_map(|text| LayoutFile::parse(text).ok()).collect());

/// Returns all layouts.
pub(super) fn all() -> &'static [LayoutFile] {
    &LAYOUTS
}

/// Returns the layout of a system.
pub(super) fn find(name: LayoutName) -> Option<&'static LayoutFile> {
    LAYOUTS.get(name as usize)
}

/// Prints the layouts: what each is for, what it sends, and where its columns are documented.
pub(super) fn list() -> Result<(), Failure> {
    for layout in all() {
        say(format_args!("{}\n  {}\n  {}", layout.name, layout.about, layout.source))?;
        let width = layout.columns.keys().map(String::len).max().unwrap_or_default();
        for (target, names) in &layout.columns {
            say(format_args!("    {target:<width$}  {}", names.as_slice().join(" | ")))?;
        }
        say("")?;
    }
    say(
        "For another export: --map-file FILE, in the format that docs/OPERATIONS.md describes, or --map for each column.",
    )
}
