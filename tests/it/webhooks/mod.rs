//! Webhooks from end to end.

mod delivering;
