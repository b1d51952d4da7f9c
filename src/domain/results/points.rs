//! A figure of a score that survives every trip through JSON unchanged.
//!
//! The vendors' figures are doubles, or decimals of a few digits. A double that is written with the fewest digits that
//! identify it and read to the nearest double (`serde_json` with `float_roundtrip`) is the same double again, and a decimal
//! of at most 15 significant digits keeps its digits. So `57.14` stays `57.14` in the store, in versions and in answers. Sums
//! of figures are never computed, and comparisons with a computed percentage allow for [`Points::TOLERANCE`].

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A figure of a score: points, a maximum or a percentage. Finite and exact; never `-0`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Points(f64);

impl Points {
    /// From here on (2⁵³) a double no longer tells whole numbers apart, so that a figure could change.
    pub const LIMIT: f64 = 9_007_199_254_740_992.0;
    /// How far a percentage computed in doubles can be from the true one, with room to spare.
    pub const TOLERANCE: f64 = 1e-9;

    /// Creates a figure; `None` if it is not finite, or so large that a double does not hold it exactly.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns `-0`, which would be shown as such, into `0`.
        (value.is_finite() && value.abs() < Self::LIMIT).then_some(Self(value + 0.0))
    }

    /// Parses a decimal number, with an exponent as .NET writes it. A decimal comma is not guessed at.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        text.parse().ok().filter(|_| numeric).and_then(Self::new)
    }

    /// Returns the figure.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Returns the percentage that these points are of a maximum; `None` if the maximum is not positive.
    #[must_use]
    pub fn percent_of(self, maximum: Self) -> Option<f64> {
        // Multiplied first: 0.7 of 1 is 70, not 70.00000000000001.
        (maximum.0 > 0.0).then(|| self.0 * 100.0 / maximum.0)
    }
}

impl TryFrom<f64> for Points {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("is not a figure of a score")
    }
}

impl From<Points> for f64 {
    fn from(points: Points) -> Self {
        points.0
    }
}

impl PartialEq for Points {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Points {}

impl PartialOrd for Points {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Points {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_figure_survives_json(value in -1e15..1e15_f64) {
            let points = Points::new(value).unwrap();
            let text = serde_json::to_string(&points).unwrap();
            prop_assert_eq!(serde_json::from_str::<Points>(&text).unwrap().get().to_bits(), points.get().to_bits());
        }

        #[test]
        fn a_decimal_keeps_its_digits(whole in 0_u32..1_000_000, fraction in 0_u32..10_000) {
            let text = format!("{whole}.{fraction:04}");
            let shown = serde_json::to_string(&Points::parse(&text).unwrap()).unwrap();
            let shortest = text.trim_end_matches('0');
            let shortest = if shortest.ends_with('.') { format!("{shortest}0") } else { shortest.to_owned() };
            prop_assert_eq!(shown, shortest);
        }
    }

    #[test]
    fn parses_decimal_numbers_only() {
        for (text, value) in [("4", 4.0), (" 57.14 ", 57.14), ("-0.5", -0.5), ("1E-05", 0.000_01), ("-0", 0.0)] {
            assert_eq!(Points::parse(text).map(Points::get), Some(value), "{text}");
        }
        for text in ["", " ", "4,5", "inf", "NaN", "1e999", "9007199254740992", "4 points", "0x10", "e", "--4"] {
            assert_eq!(Points::parse(text), None, "{text}");
        }
        assert!(Points::parse("-0").unwrap().get().is_sign_positive());
    }

    #[test]
    fn percentage_of_a_maximum_is_computed_without_a_detour() {
        let percent = |given, maximum| Points::new(given).unwrap().percent_of(Points::new(maximum).unwrap());
        assert_eq!(percent(0.7, 1.0), Some(70.0));
        assert_eq!(percent(4.0, 0.0), None);
        assert_eq!(percent(4.0, -7.0), None);
    }
}
