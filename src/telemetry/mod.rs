//! What the process reports about itself: metrics and spans. Nothing here knows where they go.

pub mod metrics;
pub mod spans;
