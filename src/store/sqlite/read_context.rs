//! The context of the statements that read.

use rusqlite::Connection;

use crate::store::codec::RecordCodec;
use crate::store::sqlite::late_index::UnmergedEntries;

/// What a read needs. Rows and entries have to be of the same view: a reader of the file sees what is committed, a job of
/// the writer also what the jobs before it in its transaction have done.
#[derive(Clone, Copy)]
pub(super) struct ReadContext<'a> {
    pub(super) connection: &'a Connection,
    /// The entries that are not in the table of the index yet.
    pub(super) entries: &'a dyn UnmergedEntries,
    pub(super) records: &'a RecordCodec,
}
