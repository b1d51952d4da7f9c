//! Which recorded result holds which attempt after a series has been folded again, also under other settings.

use super::fold::AttemptKey;

/// How the attempts of a series and its recorded results belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptPairs {
    /// For each attempt the position of the result that holds it; `None` for an attempt that has none yet.
    pub results: Vec<Option<usize>>,
    /// The positions of the results that hold no attempt any more: they are superseded.
    pub superseded: Vec<usize>,
}

/// Pairs attempts with recorded results, both in order: equal keys first, and what is left over by position. So a result
/// keeps its attempt while other attempts come and go, and where several attempts became one, the first result holds it.
#[must_use]
pub fn pair_attempts(recorded: &[AttemptKey], attempts: &[AttemptKey]) -> AttemptPairs {
    let mut results: Vec<Option<usize>> =
        attempts.iter().map(|attempt| recorded.iter().position(|key| key == attempt)).collect();
    let left: Vec<usize> = (0..recorded.len()).filter(|position| !results.contains(&Some(*position))).collect();
    let mut left = left.into_iter();
    for result in results.iter_mut().filter(|result| result.is_none()) {
        *result = left.next();
    }
    AttemptPairs { results, superseded: left.collect() }
}
