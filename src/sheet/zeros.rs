//! Zeros at the beginning of cells: a spreadsheet program that opens a result and saves it again drops them, and the id that
//! is left may be another person's. So a result notes such cells in a form that no program takes for a number.

/// The column of a result with the notes.
pub(crate) const COLUMN: &str = "result.zeros";

/// Notes the cells that a spreadsheet program would change: `externalId: 00123`.
pub(crate) fn note<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let is_padded =
        |cell: &str| cell.len() > 1 && cell.starts_with('0') && cell.bytes().all(|byte| byte.is_ascii_digit());
    let noted = cells.filter(|(_, cell)| is_padded(cell)).map(|(name, cell)| format!("{name}: {cell}"));
    noted.collect::<Vec<_>>().join("; ")
}

/// Returns the names of the columns whose zeros are gone. `cell` returns the cell of a column.
pub(crate) fn find_lost<'n>(noted: &'n str, cell: impl Fn(&str) -> Option<&'n str>) -> Vec<&'n str> {
    let is_lost = |name: &str, former: &str| {
        cell(name).map(str::trim).is_some_and(|now| {
            let digits = |text: &str| text.trim_start_matches('0').to_owned();
            !now.is_empty() && now.len() < former.len() && digits(now) == digits(former)
        })
    };
    let entries = noted.split("; ").filter_map(|note| note.rsplit_once(": "));
    entries.filter(|(name, former)| is_lost(name, former)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_a_spreadsheet_program_changes_are_noted() {
        let cells = [
            ("id", "00123"),
            ("code", "0"),
            ("phone", "+49"),
            ("zip", "01234"),
            ("x", "0a"),
            ("y", "1.0"),
            ("z", "000"),
        ];
        assert_eq!(note(cells.into_iter()), "id: 00123; zip: 01234; z: 000");
        assert_eq!(note([("id", "123")].into_iter()), "");
    }

    #[test]
    fn lost_zeros_are_found_and_corrections_are_not() {
        let lost = |id: &'static str, zip: &'static str| {
            let cell =
                move |name: &str| [("id", id), ("a: b", zip)].into_iter().find(|(it, _)| *it == name).map(|(_, it)| it);
            find_lost("id: 00123; a: b: 000; gone: 01", cell)
        };
        assert_eq!(lost("123", "0"), ["id", "a: b"]);
        assert_eq!(lost("0123", "000"), ["id"]);
        for (id, zip) in [("00123", "000"), ("124", "7"), ("", ""), ("000123", "0000")] {
            assert_eq!(lost(id, zip), <[&str; 0]>::default(), "{id} {zip}");
        }
    }
}
