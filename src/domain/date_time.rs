//! Reads date-times (RFC 3339) and says in a sentence what is wrong with others, because the parser's own messages are
//! for programmers.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

/// The form that every date-time has.
const FORM: &str = "2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00";

/// The latest date-time, as the messages show it.
const LATEST: &str = "9999-12-30T22:00:00Z";
/// The earliest date-time: RFC 3339 knows no years before 0.
const EARLIEST: &str = "0000-01-01T00:00:00Z";

/// Parses a date-time.
///
/// # Errors
/// A sentence that says what is missing or wrong.
pub fn parse_date_time(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Timestamp>() {
        Ok(time) if is_before_year_zero(time) => Err(too_early()),
        Ok(time) => Ok(time),
        Err(_) if text.trim().parse::<Timestamp>().is_ok() => Err("has white space around it; remove it".to_owned()),
        Err(_) => Err(explain(text.trim())),
    }
}

fn is_before_year_zero(time: Timestamp) -> bool {
    EARLIEST.parse::<Timestamp>().is_ok_and(|earliest| time < earliest)
}

fn too_early() -> String {
    format!("is too early; the earliest date-time is {EARLIEST}")
}

/// Says what is wrong with a text that is no date-time.
fn explain(text: &str) -> String {
    let civil = |text: &str| text.parse::<DateTime>().is_ok();
    if text.parse::<Date>().is_ok() && !text.contains(':') {
        return format!("is a date without time and UTC offset; expected a date-time of the form {FORM}");
    }
    let (local, offset) = split_offset(text);
    if offset.is_none() && civil(local) {
        return format!("has no UTC offset; expected a date-time of the form {FORM}");
    }
    // A local time that exists, with an offset, is only refused beyond the ends of the calendar.
    if offset.is_some() && civil(local) {
        return if local.starts_with('-') { too_early() } else { too_late() };
    }
    let digits = local.strip_prefix('+').unwrap_or(local).bytes().take_while(u8::is_ascii_digit).count();
    if digits > 4 && !local.starts_with('0') && local.contains(['-', ':']) {
        return too_late();
    }
    if local.starts_with('-') && local.contains(':') {
        return too_early();
    }
    if has_form(local, "dddd-dd-ddTdd:dd") || local.len() == 10 && has_form(local, "dddd-dd-dd") {
        return format!("names a day or time that does not exist; expected a date-time of the form {FORM}");
    }
    "is not a date-time of the form 2026-11-22T10:00:00Z".to_owned()
}

fn too_late() -> String {
    format!("is too late; the latest date-time is {LATEST}")
}

/// Splits a UTC offset off: `Z`, `+02:00`, `-0500`.
fn split_offset(text: &str) -> (&str, Option<&str>) {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return (local, Some("Z"));
    }
    // A sign before the time belongs to the date.
    let time = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let sign = text[time..].find(['+', '-']).map(|at| time + at);
    sign.map_or((text, None), |at| (&text[..at], Some(&text[at..])))
}

/// Returns whether the text begins with digits and separators at the places of this form, whatever they say.
fn has_form(local: &str, form: &str) -> bool {
    local.len() >= form.len()
        && local.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b't' | b' '),
            other => byte == other,
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::utc("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z")]
    #[case::offset("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00Z")]
    #[case::fraction("2026-11-22T10:00:00.5Z", "2026-11-22T10:00:00.5Z")]
    #[case::latest(LATEST, LATEST)]
    #[case::earliest(EARLIEST, "0000-01-01T00:00:00Z")]
    fn date_time_is_read(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(parse_date_time(text).unwrap().to_string(), expected);
    }

    #[rstest]
    #[case::too_late("is too late; the latest date-time is 9999-12-30T22:00:00Z", &["9999-12-31T23:59:59Z", "9999-12-31T00:00:00+01:00", "9999-12-31T23:59:59.999Z", "10000-01-01T00:00:00Z", "+010000-01-01T00:00:00Z", "99999-12-31T23:59:59Z", "9999-12-30T23:00:00Z"])]
    #[case::too_early("is too early; the earliest date-time is 0000-01-01T00:00:00Z", &["-000001-12-31T23:59:59Z", "0000-01-01T00:00:00+01:00", "-0001-01-01T00:00:00Z", "-009999-01-01T00:00:00Z"])]
    #[case::no_time("is a date without time and UTC offset; expected a date-time of the form 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00", &["2027-05-03", "20270503", " 2027-05-03 "])]
    #[case::no_offset("has no UTC offset; expected a date-time of the form 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00", &["2027-05-03 18:00", "2027-05-03T18:00", "2027-05-03T18:00:00", "2027-05-03T18:00:00.25", "9999-12-31T23:59:59"])]
    #[case::no_such_day("names a day or time that does not exist; expected a date-time of the form 2026-11-22T10:00:00Z or 2026-11-22T12:00:00+02:00", &["2027-02-30T00:00:00Z", "2027-13-01T00:00:00Z", "2027-05-03T25:00:00Z", "2027-05-03T24:00:00+02:00", "2027-05-03 18:60", "2027-02-29"])]
    #[case::padding("has white space around it; remove it", &["2027-03-01T00:00:00Z ", " 2027-03-01T00:00:00+01:00", "\u{a0}2027-03-01T00:00:00Z"])]
    #[case::other("is not a date-time of the form 2026-11-22T10:00:00Z", &["", "soon", "03/05/2027", "03.05.2027 18:00", "2027", "1795348800", "12:00", "tomorrow-12:00", "2027-5-3T1:00Z", "02027-03-01T00:00:00Z"])]
    fn wrong_date_time_is_explained(#[case] sentence: &str, #[case] texts: &[&str]) {
        for text in texts {
            assert_eq!(parse_date_time(text).unwrap_err(), sentence, "{text:?}");
        }
    }

    #[test]
    fn every_prefix_and_mutation_is_explained_without_a_panic() {
        for text in ["9999-12-31T23:59:59+02:00", "ä026-11-22T10:00:00Z", "2026-11-22ä10:00:00é"] {
            for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                let _ = parse_date_time(&text[..end]);
                let _ = parse_date_time(&text[end..]);
            }
        }
    }
}
