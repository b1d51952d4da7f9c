//! What an HTTP status means where the vendor's own table has no row for it.

use super::client::{Answer, Client};
use crate::domain::problem::Fault;

/// The fault of an answer by its status alone: 429, 503, other 5xx, 3xx, 401 and any other 4xx; `None` for 2xx.
///
/// `code` and `message` are what the vendor said, still as it said it.
#[must_use]
pub fn general_fault(
    client: &Client,
    operation: &'static str,
    answer: &Answer,
    code: Option<&str>,
    message: Option<&str>,
) -> Option<Fault> {
    todo!()
}
