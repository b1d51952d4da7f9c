//! The vendor's durations.

/// Maximum of a duration in days; an attempt that takes longer is none.
const MAX_DAYS: u64 = 3_650;

/// Parses a duration `[d.]HH:MM:SS` to seconds (vendor page `/Methods/GetSessionReportV2`). A fraction of a second, as .NET
/// writes it, is cut off.
#[must_use]
pub fn parse_elapsed_time(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('.') {
        // The dot before a colon separates days, one after the last colon a fraction.
        Some((days, clock)) if !days.contains(':') => (number(days, 1..=4)?, clock),
        _ => (0, text),
    };
    let clock = match clock.split_once('.') {
        Some((clock, fraction)) => number(fraction, 1..=9).map(|_| clock)?,
        None => clock,
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    let within = |text: &str, end: u64| number(text, 2..=2).filter(|value| *value < end);
    let (hours, minutes, seconds) = (within(hours, 24)?, within(minutes, 60)?, within(seconds, 60)?);
    (days <= MAX_DAYS).then_some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

fn number(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let digits = length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
