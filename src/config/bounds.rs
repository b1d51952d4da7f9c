//! How short and how long a configured duration may be.

use std::time::Duration;

use crate::domain::units::ConfigDuration;

/// What is wrong with a duration that must not be zero and has an upper bound.
pub(super) fn more_than_zero(span: ConfigDuration, most: Duration) -> Option<String> {
    if span.0.is_zero() { Some("must be more than 0".to_owned()) } else { at_most(span, most) }
}

/// What is wrong with a duration that may be zero and has an upper bound.
pub(super) fn at_most(span: ConfigDuration, most: Duration) -> Option<String> {
    (span.0 > most).then(|| format!("must be at most {}", ConfigDuration(most)))
}
