//! One file per resource: each handler reads an extracted request, calls the service and makes the response.

pub(super) mod assignments;
pub(super) mod bulk;
pub(super) mod candidates;
pub(super) mod catalogue;
pub(super) mod exchanges;
pub(super) mod health;
pub(super) mod operation_events;
pub(super) mod operations;
pub(super) mod programs;
pub(super) mod swagger_ui;
