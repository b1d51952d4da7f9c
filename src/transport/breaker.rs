//! Pausing while the vendor fails.

use jiff::Timestamp;

/// Whether calls go out at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Yes.
    Closed,
    /// Not before this moment.
    Open {
        /// When one call may probe.
        until: Timestamp,
    },
    /// One call is probing.
    HalfOpen,
}
