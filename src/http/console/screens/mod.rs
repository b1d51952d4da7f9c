//! The screens of the console, each with its routes, its templates and the few fields of the API's documents that it shows.

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
mod person_name;
pub(super) mod reports;
mod result_content;
pub(super) mod results;
pub(super) mod settle;
mod timeline;
pub(super) mod webhooks;
