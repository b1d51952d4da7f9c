//! Names of columns, as spreadsheet programs show them.

/// Returns the letters of a column: `A`, …, `Z`, `AA`, ….
pub(crate) fn column_letters(position: usize) -> String {
    let mut letters = String::new();
    let mut rest = position + 1;
    while rest > 0 {
        let digit = u8::try_from((rest - 1) % 26).unwrap_or_default();
        letters.insert(0, char::from(b'A' + digit));
        rest = (rest - 1) / 26;
    }
    letters
}
