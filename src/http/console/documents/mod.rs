//! The API's JSON documents, as far as pages show them: each once, whatever number of screens reads it. What only one screen
//! reads is in that screen's file.

pub(super) mod assignment;
pub(super) mod candidate;
pub(super) mod connection;
pub(super) mod delivery;
pub(super) mod exchange;
pub(super) mod operation;
pub(super) mod record;
pub(super) mod report;
pub(super) mod result;
pub(super) mod webhook;
