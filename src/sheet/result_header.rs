//! How the result sheet of an earlier import is recognised.

/// The columns by which a result sheet is recognised.
const RESULT_COLUMNS: [&str; 2] = ["result.line", "result.outcome"];

/// Returns whether these column names are those of a result sheet.
pub(crate) fn is_result_header<'a>(columns: impl IntoIterator<Item = &'a str>) -> bool {
    let columns: Vec<&str> = columns.into_iter().map(str::trim).collect();
    RESULT_COLUMNS.iter().all(|name| columns.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_sheet_is_recognised_by_its_columns() {
        assert!(is_result_header(["externalId", "result.line", " result.outcome "]));
        assert!(!is_result_header(["externalId", "result.line"]));
        assert!(!is_result_header(["externalId", "result.score", "outcome"]));
    }
}
