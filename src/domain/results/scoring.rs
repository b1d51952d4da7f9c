//! What reported figures are worth: a score, none, or figures that cannot be; and whether a score passes.

use serde::{Deserialize, Serialize};

use super::points::Points;
use crate::domain::words::words;

/// The largest difference between the vendor's percentage and the one of its figures that needs no warning: the vendor
/// rounds or cuts to two decimals.
const PERCENT_DIFFERENCE: f64 = 0.01;
/// The percentages that can be.
const PERCENT_RANGE: std::ops::RangeInclusive<f64> = -100.0..=1000.0;

/// The score of a finished attempt. Negative points are points, and points may exceed the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// The points given.
    pub given: Points,
    /// The points that can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Points>,
    /// The vendor's own percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Points>,
}

impl Score {
    /// Returns the vendor's percentage, else that of the points; for comparisons, never shown.
    #[must_use]
    pub fn comparable_percent(&self) -> Option<f64> {
        self.percent.map(Points::get).or_else(|| self.given.percent_of(self.maximum?))
    }

    /// Returns whether the vendor's percentage differs from that of its points by more than 0.01.
    #[must_use]
    pub fn percent_differs(&self) -> bool {
        let computed = self.maximum.and_then(|maximum| self.given.percent_of(maximum));
        computed.zip(self.percent).is_some_and(|(computed, percent)| {
            (computed - percent.get()).abs() > PERCENT_DIFFERENCE + Points::TOLERANCE
        })
    }
}

/// The score of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartScore {
    /// The points given.
    pub given: Points,
    /// The points that can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Points>,
}

/// A figure as reported. What is unreadable is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// A number.
    Points(Points),
    /// Something that is not a number.
    Unreadable,
}

impl Figure {
    /// Returns the number.
    #[must_use]
    pub const fn points(self) -> Option<Points> {
        match self {
            Self::Points(points) => Some(points),
            Self::Unreadable => None,
        }
    }
}

/// The figures of a score as reported; see [`ScoreVerdict`] for what they are worth. An absent figure is not
/// zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedScore {
    /// The points given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Figure>,
    /// The points that can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Figure>,
    /// The vendor's own percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Figure>,
}

/// What reported figures are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreVerdict {
    /// There is no score.
    Absent,
    /// There is one.
    Plausible(Score),
    /// The figures cannot be: one is not a number, the maximum is negative, or zero with points given, or the percentage
    /// is outside −100 to 1000.
    Implausible,
}

impl ReportedScore {
    /// Returns what the figures are worth.
    #[must_use]
    pub fn verdict(&self) -> ScoreVerdict {
        let Self { given, maximum, percent } = *self;
        if [given, maximum, percent].contains(&Some(Figure::Unreadable)) {
            return ScoreVerdict::Implausible;
        }
        let [given, maximum, percent] = [given, maximum, percent].map(|figure| figure.and_then(Figure::points));
        let (points, most) = (given.map(Points::get), maximum.map(Points::get));
        let impossible_maximum =
            most.is_some_and(|most| most < 0.0 || most == 0.0 && points.is_some_and(|points| points != 0.0));
        if impossible_maximum || percent.is_some_and(|percent| !PERCENT_RANGE.contains(&percent.get())) {
            return ScoreVerdict::Implausible;
        }
        given.map_or(ScoreVerdict::Absent, |given| ScoreVerdict::Plausible(Score { given, maximum, percent }))
    }
}

words! {
    /// Which of several finished attempts counts.
    #[derive(Default)]
    pub enum Counts {
        /// The latest.
        #[default]
        Latest "latest",
        /// The one with the highest percentage.
        Best "best",
        /// The first.
        First "first",
    }
}

/// What passes an assessment. Empty: nothing is said about passing. If both are set, both must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRule {
    percent: Option<Points>,
    levels: Vec<String>,
}

impl PassRule {
    /// Creates a rule.
    ///
    /// # Errors
    /// The faulty key of the catalogue and what to do about it.
    pub fn checked(percent: Option<f64>, levels: Vec<String>) -> Result<Self, (&'static str, String)> {
        let percent = match percent {
            None => None,
            Some(percent) => {
                let valid = Points::new(percent).filter(|percent| (0.0..=100.0).contains(&percent.get()));
                Some(valid.ok_or_else(|| ("pass_percent", "must be from 0 to 100".to_owned()))?)
            }
        };
        if levels.iter().any(|level| level.trim().is_empty()) {
            return Err(("pass_levels", "must not contain a blank word; name the vendor's levels".to_owned()));
        }
        Ok(Self { percent, levels })
    }

    /// Returns whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.percent.is_none() && self.levels.is_empty()
    }

    /// Returns whether a finished attempt has passed; `None` if there is no rule, or the vendor does not report what would
    /// decide.
    #[must_use]
    pub fn passed(&self, score: Option<&Score>, level: Option<&str>) -> Option<bool> {
        let by_percent = self.percent.map(|least| {
            score.and_then(Score::comparable_percent).map(|percent| percent + Points::TOLERANCE >= least.get())
        });
        let by_level = Some(&self.levels)
            .filter(|levels| !levels.is_empty())
            .map(|levels| level.map(|level| levels.iter().any(|known| known == level)));
        let conditions: Vec<Option<bool>> = [by_percent, by_level].into_iter().flatten().collect();
        if conditions.contains(&Some(false)) {
            return Some(false);
        }
        // Without a condition, or with one that cannot be judged, nothing is known.
        if conditions.is_empty() || conditions.contains(&None) { None } else { Some(true) }
    }
}

/// How an assessment's attempts are judged, from its entry in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoringRules {
    /// Whether the assessment has a score.
    pub scored: bool,
    /// What passes it.
    pub pass: PassRule,
    /// Which attempt counts.
    pub counts: Counts,
}

impl ScoringRules {
    /// Checks that the rules fit each other.
    ///
    /// # Errors
    /// The faulty key of the catalogue and what to do about it.
    pub fn checked(self) -> Result<Self, (&'static str, String)> {
        if !self.scored && !self.pass.is_empty() {
            let detail = "cannot be false where pass_percent or pass_levels is set: remove one of them";
            return Err(("scored", detail.to_owned()));
        }
        if !self.scored && self.counts == Counts::Best {
            return Err((
                "counts",
                "\"best\" compares scores: use \"latest\" or \"first\" with scored = false".to_owned(),
            ));
        }
        Ok(self)
    }
}

impl Default for ScoringRules {
    fn default() -> Self {
        Self { scored: true, pass: PassRule::default(), counts: Counts::default() }
    }
}
