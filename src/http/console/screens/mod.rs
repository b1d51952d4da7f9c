//! The screens of the console, each with its routes, its templates and the few fields of the API's documents that it shows.

pub(super) mod attention;
pub(super) mod reports;
pub(super) mod settle;
pub(super) mod webhooks;
