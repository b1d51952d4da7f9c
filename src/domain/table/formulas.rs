//! The defence of a sheet against formulas: an apostrophe before each text that a spreadsheet program would evaluate
//! (<https://owasp.org/www-community/attacks/CSV_Injection>).
//!
//! In locales that separate by semicolons, a program may split a cell despite its quotation marks, since these are not
//! next to semicolons. So the text after each separator in use anywhere counts as a cell of its own. Text that begins
//! with apostrophes before such a sign gets one more: only so can [`unguard`] restore every cell exactly.

use std::borrow::Cow;

/// Signs that begin a formula, with their full-width forms, which East Asian versions evaluate too.
const FORMULA_SIGNS: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
/// Characters at the beginning of a cell that a program drops, so that it evaluates what follows.
const CONTROLS: [char; 3] = ['\t', '\r', '\n'];
/// Characters after which a program may begin a new cell.
const SEPARATORS: [char; 5] = [';', '|', '\t', '\r', '\n'];

/// Puts an apostrophe before each formula of the cell.
#[must_use]
pub fn guard(cell: &str) -> Cow<'_, str> {
    let places = find_formulas(cell);
    if places.is_empty() {
        return Cow::Borrowed(cell);
    }
    let mut guarded = String::with_capacity(cell.len() + places.len());
    let mut copied = 0;
    for place in places {
        guarded.push_str(&cell[copied..place]);
        guarded.push('\'');
        copied = place;
    }
    guarded.push_str(&cell[copied..]);
    Cow::Owned(guarded)
}

/// Removes the apostrophes that [`guard`] has put in.
#[must_use]
pub fn unguard(cell: &str) -> Cow<'_, str> {
    let mut places = find_formulas(cell);
    places.retain(|place| cell[*place..].starts_with('\''));
    if places.is_empty() {
        return Cow::Borrowed(cell);
    }
    let mut plain = String::with_capacity(cell.len());
    let mut copied = 0;
    for place in places {
        plain.push_str(&cell[copied..place]);
        copied = place + 1;
    }
    plain.push_str(&cell[copied..]);
    Cow::Owned(plain)
}

/// The position in a part of a cell, up to its first character that is neither space, quotation mark nor apostrophe.
#[derive(Clone, Copy)]
enum Beginning {
    /// Before any apostrophe.
    Blank,
    /// Behind an unbroken run of apostrophes that begins at this byte.
    Apostrophes(usize),
}

/// Returns the byte at which each formula begins: that of its sign, or of the apostrophes right before it.
fn find_formulas(cell: &str) -> Vec<usize> {
    let mut places = Vec::new();
    let mut beginning = Some(Beginning::Blank);
    let mut in_first_part = true;
    for (place, sign) in cell.char_indices() {
        match (beginning, sign) {
            (Some(Beginning::Blank), ' ' | '"') | (Some(Beginning::Apostrophes(_)), '\'') => continue,
            (Some(Beginning::Blank), '\'') => {
                beginning = Some(Beginning::Apostrophes(place));
                continue;
            }
            (Some(state), _) if FORMULA_SIGNS.contains(&sign) || (in_first_part && CONTROLS.contains(&sign)) => {
                places.push(match state {
                    Beginning::Blank => place,
                    Beginning::Apostrophes(first) => first,
                });
            }
            _ => {}
        }
        beginning = SEPARATORS.contains(&sign).then_some(Beginning::Blank);
        in_first_part = false;
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formulas_get_an_apostrophe() {
        for cell in ["=1+1", "+491510000001", "-7", "@a", "\ta", "\ra", "\na", "\u{ff1d}1", "'=1", "''-7"] {
            assert_eq!(guard(cell), format!("'{cell}"));
        }
        for cell in ["", "a=1", "'00123", "'", "O'Neill", "cand_1", "https://a.example/?a=-1", "a; b", "/a: b; /c: d"] {
            assert_eq!(guard(cell), cell);
        }
    }

    #[test]
    fn formulas_after_separators_get_an_apostrophe() {
        for (cell, safe) in [
            ("a;=1+1;", "a;'=1+1;"),
            ("a; =1+1", "a; '=1+1"),
            ("a;'=1", "a;''=1"),
            ("=1;-2\n@x", "'=1;'-2\n'@x"),
            ("a\";\"=1", "a\";\"'=1"),
            ("a|+1\t+2", "a|'+1\t'+2"),
        ] {
            assert_eq!(guard(cell), safe);
            assert_eq!(unguard(safe), cell);
        }
    }

    #[test]
    fn text_that_was_not_guarded_is_left_alone() {
        for cell in ["+49", "-7", "'00124", "'a", "", "a;+1"] {
            assert_eq!(unguard(cell), cell);
        }
    }

    proptest! {
        #[test]
        fn unguard_restores_every_cell(cell in r#"([=+\-@'" ;|\t\r\n,a0]|\PC){0,12}"#) {
            let guarded = guard(&cell).into_owned();
            prop_assert_eq!(unguard(&guarded), cell.as_str());
            // No part of the guarded cell begins with a sign that a program would evaluate.
            for part in guarded.split(SEPARATORS) {
                prop_assert!(!part.trim_start_matches([' ', '"']).starts_with(FORMULA_SIGNS));
            }
            prop_assert!(!guarded.starts_with(CONTROLS));
        }
    }
}
