//! Events: made where something happens, committed with it, and read in their order.
//!
//! * `emit`: makes events, so that nothing of a person gets into one.
//! * `heads`: what wakes those that wait for events.
//! * `reading`: what clients read, from a position on.
//! * `upkeep`: numbers events on a shared store, and removes those that are no longer kept.
//! * `connection_monitor`: reports connections whose state has changed.

mod connection_monitor;
pub(in crate::service) mod emit;
mod heads;
mod reading;
#[cfg(test)]
mod tests;
mod upkeep;

pub(in crate::service) use self::heads::EventHeads;
pub use self::reading::{EventQuery, EventReader, EventStart};
