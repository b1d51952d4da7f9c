//! "Did you mean": suggests the nearest valid word.

/// Returns ` (did you mean …?)` with the nearest of these words, or an empty text.
#[must_use]
pub fn word<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let most = (given.chars().count() / 3).max(1);
    let folded = given.to_lowercase();
    known
        .into_iter()
        .filter(|known| *known != given)
        .map(|known| (strsim::damerau_levenshtein(&folded, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map_or_else(String::new, |(_, known)| format!(" (did you mean {known}?)"))
}
