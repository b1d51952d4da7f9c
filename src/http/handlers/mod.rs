//! Handlers, one file per resource: each takes an extracted request, calls the service and builds the response.

pub(super) mod assignments;
pub(super) mod audit;
pub(super) mod bulk;
pub(super) mod candidates;
pub(super) mod catalogue;
pub(super) mod client;
pub(super) mod deliveries;
pub(super) mod events;
pub(super) mod exchanges;
pub(super) mod health;
pub(super) mod operation_events;
pub(super) mod operations;
pub(super) mod programs;
pub(super) mod receivers;
pub(super) mod reports;
pub(super) mod results;
pub(super) mod swagger_ui;
pub(super) mod webhooks;
