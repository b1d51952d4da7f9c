//! The screens of the console, each with its routes, its templates and the few fields of the API's documents that it shows.

pub(super) mod attention;
pub(super) mod audit;
pub(super) mod exchanges;
pub(super) mod import;
pub(super) mod people;
pub(super) mod person;
mod person_name;
pub(super) mod settle;
mod timeline;
