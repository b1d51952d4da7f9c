//! What a table of candidates or bookings would be as a bulk request: the gateway's own parsers and checks, without a
//! gateway. For programs that send tables and want to show them first.

pub use crate::domain::table::BulkItem;
pub use crate::http::handlers::bulk::preview::{PreviewOptions, PreviewRow, PreviewSummary, preview_table};
