//! `--list-layouts`: what is known of the exports of other systems.

use crate::commands::{Failure, say};
use crate::sheet::layout;

/// Prints the layouts: what each is for, what it sends, and where its columns are documented.
pub(super) fn list_layouts() -> Result<(), Failure> {
    for layout in layout::all() {
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
