//! The result of an import: the sheet with one line for each row, and what an earlier one holds.

pub(super) use self::sheet::{Finish, ResultSheet, ResultTarget};

mod former;
mod sheet;
mod temporary_file;
