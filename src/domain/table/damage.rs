//! Signs that a spreadsheet has damaged an id. A spreadsheet takes an id of digits for a number: it drops leading zeros,
//! rounds long ones to scientific notation, and people work around that with formulas and apostrophes, which end up in
//! the file. What was lost cannot be restored, and a wrong id would register another person, so such ids are refused
//! in tables. JSON is written by programs and not judged.

use std::fmt;

/// The first error values, as spreadsheets with other languages write them without `!` or `?` at their end.
const PLAIN_ERROR_VALUES: [&str; 6] = ["#N/A", "#NV", "#N/D", "#N/B", "#GETTING_DATA", "#I/T"];

/// How an id was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A number rounded to scientific notation (`1.23457E+11`).
    ScientificNotation,
    /// A formula instead of its result (`="00123"`).
    Formula,
    /// An apostrophe that marks the cell as text (`'00124`).
    Apostrophe,
    /// The signs of a column too narrow for its number (`####`).
    NarrowColumn,
    /// The error value of a formula (`#N/A`).
    ErrorValue,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScientificNotation => "a number in scientific notation, whose digits are lost",
            Self::Formula => "a formula instead of its value",
            Self::Apostrophe => "an apostrophe before the value",
            Self::NarrowColumn => "the signs of a column too narrow for its number",
            Self::ErrorValue => "the error value of a formula",
        })
    }
}

impl Damage {
    /// Returns the sentence for a damaged cell, with the cure.
    #[must_use]
    pub fn detail(self) -> String {
        format!(
            "is damaged by a spreadsheet: {self}. Format the column as text, fill in the values again from their \
             source and export again; if they really look like this, send them with allowDamagedIds=true \
             (examgate import: --allow-damaged-ids)"
        )
    }
}

/// Returns the damage that the cell shows. White space around the value does not count.
#[must_use]
pub fn find_damage(cell: &str) -> Option<Damage> {
    let cell = cell.trim();
    if cell.starts_with('=') {
        Some(Damage::Formula)
    } else if cell.starts_with(['\'', '\u{2018}', '\u{2019}']) {
        Some(Damage::Apostrophe)
    } else if cell.len() > 1 && cell.bytes().all(|byte| byte == b'#') {
        Some(Damage::NarrowColumn)
    } else if is_error_value(cell) {
        Some(Damage::ErrorValue)
    } else if is_scientific(cell) {
        Some(Damage::ScientificNotation)
    } else {
        None
    }
}

/// Returns whether the text is an error value, in any language: `#REF!`, `#BEZUG!`, `#¡VALOR!`, `#NOM?`, `#DIV/0!`, and
/// `Err:502` of `LibreOffice`.
fn is_error_value(cell: &str) -> bool {
    if let Some(number) = cell.strip_prefix("Err:") {
        return !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    }
    if PLAIN_ERROR_VALUES.contains(&cell) {
        return true;
    }
    let word = cell.strip_prefix('#').and_then(|rest| rest.strip_suffix(['!', '?']));
    let fits = |c: char| c.is_uppercase() || c.is_ascii_digit() || "/¡¿_".contains(c);
    word.is_some_and(|word| word.chars().any(char::is_alphabetic) && word.chars().all(fits))
}

/// Returns whether the text is a number in scientific notation: `1.23457E+11`, `1,23457E+11`, `1E+11`, `1.2e11`. The
/// exponent's sign or a fraction must be there: `2021E0001` may be an id.
fn is_scientific(cell: &str) -> bool {
    let unsigned = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let Some((mantissa, exponent)) = unsigned.split_once(['e', 'E']) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match mantissa.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let power = exponent.strip_prefix(['+', '-']);
    digits(whole)
        && fraction.is_none_or(digits)
        && digits(power.unwrap_or(exponent))
        && (power.is_some() || fraction.is_some())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::scientific(Damage::ScientificNotation, &["1.23457E+11", "1,23457E+11", "1E+11", "4.91512e+11", "-1.5E-7", " 2.0E+12 ", "1.23457E11", "+1E+3"])]
    #[case::formula(Damage::Formula, &["=\"00123\"", "=00123", "=\"\"00123\"\"", "=A1", " =TEXT(A2;\"0000\")"])]
    #[case::apostrophe(Damage::Apostrophe, &["'00124", "'+491510000001", "\u{2019}00124", "'"])]
    #[case::narrow(Damage::NarrowColumn, &["##", "####", "##########"])]
    #[case::error(Damage::ErrorValue, &["#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#NV", "#BEZUG!", "#WERT!", "#¡VALOR!", "#¿NOMBRE?", "#ERROR!", "Err:502", "#GETTING_DATA"])]
    fn damage_is_found(#[case] damage: Damage, #[case] cells: &[&str]) {
        for cell in cells {
            assert_eq!(find_damage(cell), Some(damage), "{cell}");
        }
    }

    #[rstest]
    #[case::numbers(&["00123", "123456789012", "+491510000001", "-7", "1.5", "1,5", "0"])]
    #[case::letters(&["emp-1", "E12", "1E", "2021E0001", "12E5", "1E+", "E+11", "1.E+5", "abcE+11", "1e5f+2", "a=1", "O'Neil", "d'Arc"])]
    #[case::signs(&["#", "#1", "#12!", "#team", "#Team!", "A#", "## 1", "Err:", "Err:x", "Err"])]
    #[case::empty(&["", " "])]
    fn ids_are_left_alone(#[case] cells: &[&str]) {
        for cell in cells {
            assert_eq!(find_damage(cell), None, "{cell}");
        }
    }

    #[test]
    fn detail_names_the_damage_and_the_cure() {
        let detail = Damage::ScientificNotation.detail();
        for part in
            ["damaged by a spreadsheet", "scientific notation", "Format the column as text", "allowDamagedIds=true"]
        {
            assert!(detail.contains(part), "{detail}");
        }
    }
}
