//! Spreadsheets: reads CSV of any common form and Excel workbooks, finds out which column is which of the gateway's, and
//! converts the rows to what a bulk request reads. It judges no row, sends nothing and logs nothing.
//!
//! * `blob`, `source`: the bytes of a table, and its rows.
//! * `header`, `mapping`, `layout`: the row of column names, and what becomes of each column.
//! * `convert`, `times`, `zeros`: the rows as the gateway reads them.
//! * `notes`, `wording`: what a user should know before the table is sent, in the words of a command line or of a form.

pub(crate) mod blob;
pub(crate) mod choices;
pub(crate) mod column_letters;
pub(crate) mod convert;
pub(crate) mod header;
pub(crate) mod kind;
pub(crate) mod layout;
pub(crate) mod mapping;
pub(crate) mod notes;
pub(crate) mod result_header;
pub(crate) mod source;
pub(crate) mod times;
pub(crate) mod wording;
pub(crate) mod zeros;
