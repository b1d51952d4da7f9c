//! Flags in tables: the cells of boolean columns.

/// The sentence for a cell that is no flag.
pub const FLAG_FORM: &str = "must be true or false, yes or no, 1 or 0";

/// Parses a flag: `true` or `false`, `yes` or `no`, `1` or `0`, in any case and with white space around it.
#[must_use]
pub fn parse_flag(cell: &str) -> Option<bool> {
    let cell = cell.trim();
    let is = |words: [&str; 3]| words.iter().any(|word| cell.eq_ignore_ascii_case(word));
    if is(["true", "yes", "1"]) {
        Some(true)
    } else if is(["false", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_words_of_the_sentence() {
        for (cells, flag) in [
            (["true", "TRUE", "True", "yes", "Yes", "YES", "1", " 1 ", "\u{a0}yes"], Some(true)),
            (["false", "FALSE", "False", "no", "No", "NO", "0", " 0", "no\t"], Some(false)),
            (["", "x", "2", "-1", "ja", "y", "on", "true!", "01"], None),
        ] {
            for cell in cells {
                assert_eq!(parse_flag(cell), flag, "{cell:?}");
            }
        }
        for word in FLAG_FORM.trim_start_matches("must be ").split([' ', ',']).filter(|word| !["", "or"].contains(word))
        {
            assert!(parse_flag(word).is_some(), "{word}");
        }
    }
}
