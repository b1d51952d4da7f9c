//! Outline.

/// Outline.
pub struct Keyring;
/// Outline.
pub struct SealError;
