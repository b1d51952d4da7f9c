//! Outline.

/// Outline.
pub struct SqliteStore;
