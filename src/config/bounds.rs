//! Lower and upper bounds of configured durations.

use std::time::Duration;

use crate::domain::units::ConfigDuration;

/// Checks a duration that must be above zero and within an upper bound.
pub(super) fn more_than_zero(span: ConfigDuration, most: Duration) -> Result<(), String> {
    if span.0.is_zero() { Err("must be more than 0".to_owned()) } else { at_most(span, most) }
}

/// Checks a duration that must be within a lower and an upper bound.
pub(super) fn within(span: ConfigDuration, least: Duration, most: Duration) -> Result<(), String> {
    if span.0 < least { Err(format!("must be at least {}", ConfigDuration(least))) } else { at_most(span, most) }
}

/// Checks a duration that may be zero and must be within an upper bound.
pub(super) fn at_most(span: ConfigDuration, most: Duration) -> Result<(), String> {
    if span.0 > most { Err(format!("must be at most {}", ConfigDuration(most))) } else { Ok(()) }
}
