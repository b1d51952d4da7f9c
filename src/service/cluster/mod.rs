//! What replicas and processes owe each other: the lease that fences an instance, and a clock that no step of the wall clock
//! moves.

pub(super) mod lease;
pub(super) mod steady_clock;
