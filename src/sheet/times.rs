//! Dates and local times of a spreadsheet, converted to the API's timestamps. What is not certain is left as it is: the
//! gateway refuses it, and the import says what would settle it.

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::sheet::kind::Kind;

/// What a column of times means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeRole {
    /// A date is the beginning of that day.
    Beginning,
    /// A date is the end of that day.
    End,
    /// A date, without time and zone.
    Day,
}

impl TimeRole {
    /// Returns the role of one of the gateway's columns, if it holds times.
    pub(crate) fn of(kind: Kind, column: &str) -> Option<Self> {
        match (kind, column) {
            (Kind::Assignments, "validFrom") => Some(Self::Beginning),
            (Kind::Assignments, "validUntil") => Some(Self::End),
            (Kind::Candidates, "birthDate") => Some(Self::Day),
            _ => None,
        }
    }
}

/// The order of day and month in dates (`--date-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DateFormat {
    /// 03/05/2027 is the 3rd of May
    #[value(name = "dd/mm/yyyy")]
    DayFirst,
    /// 03/05/2027 is the 5th of March
    #[value(name = "mm/dd/yyyy")]
    MonthFirst,
    /// 03.05.2027 is the 3rd of May
    #[value(name = "dd.mm.yyyy")]
    Dotted,
}

/// A time zone as the user gave it.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) name: String,
    zone: TimeZone,
}

impl Zone {
    /// Parses the value of `--time-zone`: a name of the time zone database, `UTC`, or an offset such as `+02:00`.
    ///
    /// # Errors
    /// A sentence about the accepted values.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let zone = if ["utc", "z"].contains(&text.to_lowercase().as_str()) {
            TimeZone::UTC
        } else if text.starts_with(['+', '-']) {
            let offset = parse_offset(text).ok_or("expected an offset such as +02:00 or -05:30")?;
            TimeZone::fixed(offset)
        } else if jiff::tz::db().is_definitively_empty() {
            return Err("this machine has no time zone database (/usr/share/zoneinfo): install tzdata, set TZDIR, or \
                        give an offset such as +02:00"
                .to_owned());
        } else {
            TimeZone::get(text)
                .map_err(|_| "is no time zone; expected a name such as Europe/Berlin, UTC, or +02:00".to_owned())?
        };
        Ok(Self { name: text.to_owned(), zone })
    }

    #[cfg(test)]
    fn posix(text: &str) -> Self {
        Self { name: "here".to_owned(), zone: TimeZone::posix(text).unwrap() }
    }
}

fn parse_offset(text: &str) -> Option<Offset> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text[1..].chars().filter(|sign| *sign != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let in_range = hours <= 14 && minutes < 60;
    in_range.then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()).flatten()
}

/// What is known about dates and times in the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    pub(crate) zone: Option<Zone>,
    pub(crate) format: Option<DateFormat>,
}

/// What a cell says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TimeReading {
    /// Nothing to convert.
    Same,
    /// A timestamp or date in the API's form.
    Converted(String),
    /// A timestamp, and what had to be decided about it.
    Decided(String, Decision),
    /// A date or local time that needs `--time-zone`.
    NeedsZone,
    /// A date that needs `--date-format`.
    NeedsFormat,
}

/// What was decided about a local time that a change of the clocks makes ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The clocks skip the time: it is as much later.
    Skipped,
    /// The time occurs twice: it is the first.
    Repeated,
}

/// A date as written.
enum WrittenDate {
    Certain(Date),
    /// Day and month, or month and day.
    Ambiguous,
}

impl Times {
    /// Reads a cell of a column with this role.
    pub(crate) fn read(&self, role: TimeRole, cell: &str) -> TimeReading {
        let text = cell.trim();
        if text.is_empty() || text.parse::<Timestamp>().is_ok() {
            return TimeReading::Same;
        }
        let (date, rest) = split(text);
        let Some(time) = parse_time(rest) else { return TimeReading::Same };
        let date = match self.parse_date(date) {
            Some(WrittenDate::Certain(date)) => date,
            // A column of dates is also read without the options about times.
            Some(WrittenDate::Ambiguous) if role != TimeRole::Day => return TimeReading::NeedsFormat,
            Some(WrittenDate::Ambiguous) | None => return TimeReading::Same,
        };
        match (role, &self.zone) {
            (TimeRole::Day, _) if self.format.is_none() || time.is_some_and(|time| time != Time::midnight()) => {
                TimeReading::Same
            }
            (TimeRole::Day, _) if text == date.to_string() => TimeReading::Same,
            (TimeRole::Day, _) => TimeReading::Converted(date.to_string()),
            (_, None) => TimeReading::NeedsZone,
            (_, Some(zone)) => {
                let default = if role == TimeRole::End { Time::constant(23, 59, 59, 0) } else { Time::midnight() };
                convert(zone, date.to_datetime(time.unwrap_or(default)))
            }
        }
    }

    fn parse_date(&self, text: &str) -> Option<WrittenDate> {
        let separator = ['-', '.', '/'].into_iter().find(|separator| text.contains(*separator))?;
        let numbers: Option<Vec<i16>> = text.split(separator).map(parse_number).collect();
        let [first, second, third] = numbers?[..] else { return None };
        let (year, month, day) = match (separator, self.format) {
            ('-' | '/', _) if first > 31 => (first, second, third),
            ('.', _) | ('/', Some(DateFormat::DayFirst)) => (third, second, first),
            ('/', Some(DateFormat::MonthFirst)) => (third, first, second),
            ('/', _) if third > 31 => return Some(WrittenDate::Ambiguous),
            _ => return None,
        };
        // Two digits would be a guess at the century.
        let is_date = year >= 1000;
        let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
        is_date.then_some(WrittenDate::Certain(date))
    }
}

/// Splits at the first `T` or white space.
fn split(text: &str) -> (&str, &str) {
    match text.find(|sign: char| sign == 'T' || sign == ',' || sign.is_whitespace()) {
        Some(place) => (&text[..place], text[place..].trim_start_matches(['T', ',']).trim_start()),
        None => (text, ""),
    }
}

fn parse_number(text: &str) -> Option<i16> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Parses `18:00`, `18:00:30` or `6:00 PM`; `None` within if there is no time, and without if it is none.
#[expect(clippy::option_option, reason = "no time is not the same as no valid time")]
fn parse_time(text: &str) -> Option<Option<Time>> {
    if text.is_empty() {
        return Some(None);
    }
    let upper = text.to_uppercase();
    let (clock, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(clock), _) => (clock, Some(0)),
        (_, Some(clock)) => (clock, Some(12)),
        (None, None) => (upper.as_str(), None),
    };
    // Fractions of a second, which no spreadsheet shows, do not matter to a window of days.
    let whole = clock.trim().split_once('.').map_or(clock.trim(), |(whole, _)| whole);
    let numbers: Option<Vec<i16>> = whole.split(':').map(parse_number).collect();
    let (hour, minute, second) = match numbers?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let hour = match half {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) => hour % 12 + half,
    };
    let time = Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, 0);
    time.ok().map(Some)
}

fn convert(zone: &Zone, local: DateTime) -> TimeReading {
    let ambiguous = zone.zone.to_ambiguous_timestamp(local);
    let offset = ambiguous.offset();
    // Beyond the timestamps' range: the gateway says which one is the latest.
    let Ok(timestamp) = ambiguous.compatible() else { return TimeReading::Converted(format!("{local}Z")) };
    let text = timestamp.to_string();
    match offset {
        AmbiguousOffset::Unambiguous { .. } => TimeReading::Converted(text),
        AmbiguousOffset::Gap { .. } => TimeReading::Decided(text, Decision::Skipped),
        AmbiguousOffset::Fold { .. } => TimeReading::Decided(text, Decision::Repeated),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Central Europe without the database.
    fn here(format: Option<DateFormat>) -> Times {
        Times { zone: Some(Zone::posix("CET-1CEST,M3.5.0,M10.5.0/3")), format }
    }

    #[rstest]
    #[case::date_ends_the_day(TimeRole::End, "2027-05-03", "2027-05-03T21:59:59Z")]
    #[case::date_begins_the_day(TimeRole::Beginning, "2027-05-03", "2027-05-02T22:00:00Z")]
    #[case::winter(TimeRole::End, "2027-12-03", "2027-12-03T22:59:59Z")]
    #[case::minutes(TimeRole::End, "2027-05-03 18:00", "2027-05-03T16:00:00Z")]
    #[case::seconds(TimeRole::End, " 2027-05-03T18:00:30 ", "2027-05-03T16:00:30Z")]
    #[case::fraction(TimeRole::End, "2027-05-03T18:00:30.5", "2027-05-03T16:00:30Z")]
    #[case::german(TimeRole::End, "3.5.2027 18:00", "2027-05-03T16:00:00Z")]
    #[case::year_first(TimeRole::Beginning, "2027/05/03", "2027-05-02T22:00:00Z")]
    #[case::afternoon(TimeRole::End, "2027-05-03 6:00 PM", "2027-05-03T16:00:00Z")]
    #[case::midnight(TimeRole::End, "2027-05-03 12:30 am", "2027-05-02T22:30:00Z")]
    fn local_times_become_timestamps(#[case] role: TimeRole, #[case] cell: &str, #[case] timestamp: &str) {
        assert_eq!(here(None).read(role, cell), TimeReading::Converted(timestamp.to_owned()));
    }

    #[rstest]
    #[case::timestamp("2027-05-03T18:00:00Z")]
    #[case::offset("2027-05-03T18:00:00+02:00")]
    #[case::empty(" ")]
    #[case::word("tomorrow")]
    #[case::two_digit_year("03.05.27")]
    #[case::no_such_day("31.02.2027")]
    #[case::no_such_time("2027-05-03 25:00")]
    #[case::half_past_thirteen("2027-05-03 13:30 PM")]
    #[case::number("46510")]
    #[case::far_future("9999-12-31T23:59:59Z")]
    fn other_values_stay(#[case] cell: &str) {
        assert_eq!(here(Some(DateFormat::DayFirst)).read(TimeRole::End, cell), TimeReading::Same);
    }

    #[rstest]
    #[case::day_first("03/05/2027", DateFormat::DayFirst, "2027-05-03T21:59:59Z")]
    #[case::month_first("03/05/2027", DateFormat::MonthFirst, "2027-03-05T22:59:59Z")]
    #[case::with_time("3/5/2027 18:00", DateFormat::DayFirst, "2027-05-03T16:00:00Z")]
    fn the_format_orders_day_and_month(#[case] cell: &str, #[case] format: DateFormat, #[case] timestamp: &str) {
        assert_eq!(here(Some(format)).read(TimeRole::End, cell), TimeReading::Converted(timestamp.to_owned()));
        for unsettled in [None, Some(DateFormat::Dotted)] {
            assert_eq!(here(unsettled).read(TimeRole::End, cell), TimeReading::NeedsFormat);
        }
    }

    #[test]
    fn changes_of_the_clocks_are_decided() {
        let decided = |text: &str, decision| TimeReading::Decided(text.to_owned(), decision);
        let read = |cell| here(None).read(TimeRole::End, cell);
        assert_eq!(read("2027-03-28 02:30"), decided("2027-03-28T01:30:00Z", Decision::Skipped));
        assert_eq!(read("2027-10-31 02:30"), decided("2027-10-31T00:30:00Z", Decision::Repeated));
    }

    #[test]
    fn without_a_zone_local_times_are_counted() {
        let times = Times::default();
        for cell in ["2027-05-03", "2027-05-03 18:00", "03.05.2027"] {
            assert_eq!(times.read(TimeRole::End, cell), TimeReading::NeedsZone);
        }
        assert_eq!(times.read(TimeRole::End, "2027-05-03T18:00:00Z"), TimeReading::Same);
    }

    #[test]
    fn birth_dates_are_converted_if_the_format_is_given() {
        let read = |format, cell| Times { zone: None, format }.read(TimeRole::Day, cell);
        let day_first = Some(DateFormat::DayFirst);
        assert_eq!(read(day_first, "31/01/1990"), TimeReading::Converted("1990-01-31".to_owned()));
        assert_eq!(read(Some(DateFormat::Dotted), "31.1.1990"), TimeReading::Converted("1990-01-31".to_owned()));
        assert_eq!(read(day_first, "1990-01-31"), TimeReading::Same);
        assert_eq!(read(day_first, "1990-01-31 00:00:00"), TimeReading::Converted("1990-01-31".to_owned()));
        assert_eq!(read(None, "31.01.1990"), TimeReading::Same);
        assert_eq!(read(None, "31/01/1990"), TimeReading::Same);
    }

    #[rstest]
    #[case("UTC", "2027-05-03T18:00:00Z")]
    #[case("z", "2027-05-03T18:00:00Z")]
    #[case("+02:00", "2027-05-03T16:00:00Z")]
    #[case("-0530", "2027-05-03T23:30:00Z")]
    #[case("+2", "2027-05-03T16:00:00Z")]
    fn zones_need_no_database(#[case] zone: &str, #[case] timestamp: &str) {
        let times = Times { zone: Some(Zone::parse(zone).unwrap()), format: None };
        assert_eq!(times.read(TimeRole::End, "2027-05-03 18:00"), TimeReading::Converted(timestamp.to_owned()));
    }

    #[test]
    fn other_zones_are_refused() {
        for text in ["", "Europe/Brelin", "+15:00", "+", "+2:7", "+02:60", "+ab"] {
            assert!(Zone::parse(text).is_err(), "{text:?}");
        }
    }
}
