//! Rows as NDJSON (`application/x-ndjson`): a line that cannot be parsed fails alone. Blank lines are not rows.

use std::io::BufRead;

use crate::domain::error::{Code, Error};
use crate::http::extract::strict_json::{ParseError, parse_strict};
use crate::http::handlers::bulk::rows::{MAX_LENGTH, MAX_VALUES, RawRow, ReadError, RowSink};

/// Parses every line.
///
/// # Errors
/// `validation_failed` for too many rows, or none.
pub(super) fn read<S: FnMut(Vec<crate::service::BulkRow>) -> bool>(
    mut input: impl BufRead,
    rows: &mut RowSink<S>,
) -> Result<(), ReadError> {
    let mut line = Vec::new();
    let mut number: u64 = 0;
    while let Some(length) = next(&mut input, &mut line) {
        number += 1;
        let text = line.trim_ascii();
        if text.is_empty() && length <= MAX_LENGTH {
            continue;
        }
        let row = if length > MAX_LENGTH {
            Err(malformed(number, &format!("It is longer than {MAX_LENGTH} bytes.")))
        } else {
            parse_strict(text, MAX_VALUES).map_err(|refusal| match refusal {
                ParseError::Malformed(detail) | ParseError::TooMany(detail) => malformed(number, &detail),
            })
        };
        if !rows.take(RawRow::new(Some(number), length, row))? {
            return Err(Error::from_fields(vec![rows.count_error("")]).into());
        }
    }
    if rows.taken() == 0 {
        return Err(Error::from_fields(vec![rows.count_error("")]).into());
    }
    rows.flush()
}

/// Reads to the end of the line and returns its length; keeps only the beginning of a line that is too long.
fn next(input: &mut impl BufRead, line: &mut Vec<u8>) -> Option<usize> {
    line.clear();
    let mut length = 0;
    loop {
        // The reader never fails; an error would only mean its end.
        let available = input.fill_buf().unwrap_or_default();
        if available.is_empty() {
            return (length > 0).then_some(length);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = MAX_LENGTH.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        length += part.len();
        let consumed = part.len() + usize::from(end.is_some());
        input.consume(consumed);
        if end.is_some() {
            return Some(length);
        }
    }
}

fn malformed(line: u64, detail: &str) -> Error {
    Error::new(Code::MalformedJson, format!("Line {line}: {detail}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::handlers::bulk::chunk_reader::tests::{crumbled, cut};
    use crate::http::handlers::bulk::rows::BulkItem;
    use crate::http::handlers::bulk::rows::tests::{kept, summary};

    type Summary = (Result<(), ReadError>, Vec<(Option<String>, Vec<String>)>);

    fn of(input: impl BufRead, most: u64) -> Summary {
        let (kept, mut rows) = kept(BulkItem::Candidates, most, None);
        let end = read(input, &mut rows);
        (end, summary(&kept))
    }

    fn row(mark: &str) -> (Option<String>, Vec<String>) {
        (Some(mark.to_owned()), Vec::new())
    }

    fn broken() -> (Option<String>, Vec<String>) {
        (None, vec!["malformed_json".to_owned()])
    }

    #[test]
    fn malformed_line_fails_alone_with_its_number() {
        let text = b"{\"itemId\":\"a\"}\r\n\n  \t\r\n{\"itemId\":\n{\"itemId\":\"b\"}\n\"\xff\"\n{\"a\":1,\"a\":2}\n{\"itemId\":\"c\"}";
        let (kept, mut rows) = kept(BulkItem::Candidates, 10, None);
        read(crumbled(text), &mut rows).unwrap();
        assert_eq!(summary(&kept), [row("a"), broken(), row("b"), broken(), broken(), row("c")]);
        let details: Vec<String> =
            kept.borrow().iter().filter_map(|row| Some(row.row.as_ref().err()?.detail.clone())).collect();
        assert!(details[0].starts_with("Line 4: EOF"), "{details:?}");
        assert!(details[1].starts_with("Line 6: ") && details[2].starts_with("Line 7: "), "{details:?}");
    }

    #[test]
    fn endless_line_uses_bounded_memory() {
        let mut text = vec![b' '; MAX_LENGTH + 1];
        text.extend_from_slice(b"\n{\"itemId\":\"a\"}\n");
        assert_eq!(of(cut(&text, &[100, 5000, 70_000]), 10), (Ok(()), vec![broken(), row("a")]));
        let longest = format!("{{\"itemId\":\"a\"{}}}", " ".repeat(MAX_LENGTH - 14));
        assert_eq!(longest.len(), MAX_LENGTH);
        assert_eq!(of(longest.as_bytes(), 10), (Ok(()), vec![row("a")]));
    }

    #[test]
    fn number_of_rows_is_checked() {
        for (text, most) in [("", 2), ("\n \r\n", 2), ("{}\n{}\n{}\n", 2)] {
            let (Err(ReadError::Fault(error)), _) = of(text.as_bytes(), most) else { panic!("{text:?}") };
            assert_eq!((error.code, error.errors[0].pointer.as_str()), (Code::ValidationFailed, ""));
        }
        assert_eq!(of(&b"{}\n{}\n\n"[..], 2).0, Ok(()));
    }

    proptest! {
        #[test]
        fn chunking_does_not_change_the_result(
            text in "(\\{\"itemId\":\"[a-zäß]{0,3}\"\\}|[\\{\\}\",: ]{0,4}|\r)(\n|\r\n)?".prop_map(String::from),
            more in "([\\{\\}\"\n\r:a]|\\{\\}\n){0,40}",
            places in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let bytes = [text.as_bytes(), more.as_bytes()].concat();
            let whole = of(&bytes[..], 100);
            prop_assert_eq!(of(cut(&bytes, &places), 100), whole);
        }
    }
}
