//! The documents of the API, separate from the domain's types, so that a rename there cannot change the API by
//! accident. Only enums of words are shared: each states its words (`domain::words`).

pub(super) mod assignment;
pub(super) mod assignment_changes;
pub(super) mod assignment_input;
pub(super) mod audit;
pub(super) mod bulk;
pub(super) mod call_history;
pub(super) mod candidate;
pub(super) mod catalogue;
pub(super) mod client;
pub(super) mod common;
pub(super) mod connection;
pub(super) mod delivery;
pub(super) mod event;
pub(super) mod exchange;
pub(super) mod operation;
pub(super) mod person;
pub(super) mod program;
pub(super) mod report;
pub(super) mod result;
pub(super) mod result_summary;
pub(super) mod result_table;
pub(super) mod webhook;
