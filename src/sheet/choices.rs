//! The words of choices that a form offers, the same as on the command line.

use clap::ValueEnum;

/// Parses the word of a choice.
pub(crate) fn parse<T: ValueEnum>(word: &str) -> Option<T> {
    T::from_str(word, false).ok()
}

/// Returns the words of all choices.
pub(crate) fn words<T: ValueEnum>() -> Vec<String> {
    T::value_variants().iter().filter_map(word).collect()
}

/// Returns the word of a choice.
pub(crate) fn word<T: ValueEnum>(choice: &T) -> Option<String> {
    choice.to_possible_value().map(|value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::times::DateFormat;

    #[test]
    fn each_word_is_read_back_and_others_are_not() {
        let words = words::<DateFormat>();
        assert_eq!(words, ["dd/mm/yyyy", "mm/dd/yyyy", "dd.mm.yyyy"]);
        for written in words {
            let choice: DateFormat = parse(&written).unwrap();
            assert_eq!(word(&choice), Some(written));
        }
        assert_eq!(parse::<DateFormat>("yyyy"), None);
    }
}
