//! Events: made where something happens, committed with it, and read in their order.
//!
//! * `emit`: makes events, so that nothing of a person gets into one.

pub(in crate::service) mod emit;
