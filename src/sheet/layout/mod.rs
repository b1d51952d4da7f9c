//! Layouts: the columns of the exports of well-known systems, as data files. A layout says what is sent and what is not;
//! it never judges a value.

use std::sync::LazyLock;

use clap::ValueEnum;

use self::file::LayoutFile;

pub(crate) mod file;

/// The systems whose exports are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LayoutName {
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
pub(crate) fn all() -> &'static [LayoutFile] {
    &LAYOUTS
}

/// Returns the layout of a system.
pub(crate) fn find(name: LayoutName) -> Option<&'static LayoutFile> {
    LAYOUTS.get(name as usize)
}
