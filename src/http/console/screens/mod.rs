//! The screens of the console, each with its routes, its templates and the documents of the API that no other screen reads.

pub(super) mod assessments;
pub(super) mod attention;
pub(super) mod audit;
mod call_charts;
pub(super) mod connections;
pub(super) mod exchanges;
pub(super) mod import;
mod operation_rows;
mod operation_table;
pub(super) mod operations;
pub(super) mod people;
pub(super) mod person;
pub(super) mod reports;
mod result_versions;
pub(super) mod results;
pub(super) mod settle;
mod timeline;
pub(super) mod webhooks;
