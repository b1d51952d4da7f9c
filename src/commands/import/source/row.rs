//! Rows as a source passes them on.

/// A function that takes each row with its line, and returns whether it wants more.
pub(super) type RowVisitor<'a> = dyn FnMut(u64, &[String]) -> Result<bool, String> + 'a;
