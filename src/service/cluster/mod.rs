//! Coordination of the instances that share a store: the lease that fences an instance, and a clock that steps of the
//! wall clock do not move.

pub(super) mod lease;
pub(super) mod steady_clock;
