//! Durations (`"300ms"`, `"30s"`, `"24h"`, `"30d"`) and sizes (`"8MiB"`) as written in the configuration.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration from the configuration: a whole number followed by `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(pub Duration);

/// A number of bytes from the configuration: a whole number followed by `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

const SPAN_FORM: &str = "a duration such as \"300ms\", \"30s\", \"5m\", \"24h\" or \"30d\"";
const SIZE_FORM: &str = "a size such as \"512KiB\" or \"8MiB\"";

impl ConfigDuration {
    /// The longest duration that a configuration may hold: ten years. The sum of any present time and this duration is
    /// a valid timestamp, so arithmetic with configured durations cannot overflow.
    pub const MAX: Self = Self(Duration::from_hours(3_650 * 24));

    /// Parses a duration.
    ///
    /// # Errors
    /// A sentence about the accepted form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let span = match scaled(text, &SPAN_UNITS) {
            Scaled::Value(millis) => Some(Self(Duration::from_millis(millis))),
            Scaled::TooLarge => None,
            Scaled::Malformed => return Err(format!("expected {SPAN_FORM}")),
        };
        span.filter(|span| *span <= Self::MAX).ok_or_else(|| format!("must be at most {}", Self::MAX))
    }
}

impl ByteSize {
    /// Parses a size.
    ///
    /// # Errors
    /// A sentence about the accepted form.
    pub fn parse(text: &str) -> Result<Self, String> {
        match scaled(text, &SIZE_UNITS) {
            Scaled::Value(bytes) => Ok(Self(bytes)),
            Scaled::TooLarge | Scaled::Malformed => Err(format!("expected {SIZE_FORM}")),
        }
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_scaled(f, millis, &SPAN_UNITS)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZE_UNITS)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text { form: SPAN_FORM, parse: Self::parse })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text { form: SIZE_FORM, parse: Self::parse })
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A visitor for text; for a bare number, the usual mistake, the error names the accepted form.
struct Text<T> {
    form: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// A scaled number in its smallest unit, or the reason why there is none.
enum Scaled {
    Value(u64),
    TooLarge,
    Malformed,
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Scaled {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit).filter(|_| digits > 0) else {
        return Scaled::Malformed;
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value.map_or(Scaled::TooLarge, Scaled::Value)
}

fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (unit, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .copied()
        .unwrap_or(units[usize::from(units.len() > 4)]);
    write!(f, "{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations_and_sizes() {
        for (text, millis) in [("300ms", 300), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(ConfigDuration::parse(text), Ok(ConfigDuration(Duration::from_millis(millis))));
            assert_eq!(
                ConfigDuration::parse(&ConfigDuration::parse(text).unwrap().to_string()),
                ConfigDuration::parse(text)
            );
        }
        assert_eq!(ByteSize::parse("8MiB"), Ok(ByteSize(8 << 20)));
        assert_eq!(ByteSize(8 << 20).to_string(), "8MiB");
    }

    #[test]
    fn rejects_everything_else() {
        for text in ["", "30", "s", "-1s", "1.5s", "30 s", "30S", "99999999999999999999d"] {
            assert!(ConfigDuration::parse(text).is_err(), "{text}");
        }
        for text in ["", "8", "8MB", "8 MiB", "-1B"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rejects_durations_that_could_overflow_a_timestamp() {
        assert_eq!(ConfigDuration::parse("3650d"), Ok(ConfigDuration::MAX));
        for text in ["3651d", "87601h", "3000000d", "99999999999999999999d"] {
            assert_eq!(ConfigDuration::parse(text), Err("must be at most 3650d".to_owned()), "{text}");
        }
    }
}
