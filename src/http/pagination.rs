//! Pages of a list and their cursors.

use data_encoding::BASE64URL_NOPAD;

use crate::domain::error::{Error, FieldError};

/// Cuts one page from a list held in memory, and returns it with the cursor of the next page.
///
/// # Errors
/// `validation_failed` for a cursor this function did not make.
pub(super) fn paginate<T>(all: Vec<T>, limit: usize, cursor: Option<&str>) -> Result<(Vec<T>, Option<String>), Error> {
    let start = cursor_position(cursor)?;
    let start = usize::try_from(start).ok().filter(|start| *start <= all.len()).ok_or_else(no_cursor)?;
    let end = (start + limit).min(all.len());
    let next = (end < all.len()).then(|| encode_cursor(end as u64));
    Ok((all.into_iter().skip(start).take(limit).collect(), next))
}

/// Returns the cursor of the page that begins at this position.
pub(super) fn encode_cursor(position: u64) -> String {
    BASE64URL_NOPAD.encode(format!("at:{position}").as_bytes())
}

/// Returns the position that a cursor encodes; without a cursor, the beginning.
///
/// # Errors
/// `validation_failed` for a cursor that [`encode_cursor`] did not make.
pub(super) fn cursor_position(cursor: Option<&str>) -> Result<u64, Error> {
    let Some(cursor) = cursor else { return Ok(0) };
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).unwrap_or_default();
    let position = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_prefix("at:")?.parse().ok());
    position.ok_or_else(no_cursor)
}

fn no_cursor() -> Error {
    Error::from_fields(vec![FieldError::invalid("?cursor", "is not a valid cursor for this list")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_make_up_the_list() {
        let all: Vec<usize> = (0..7).collect();
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let (items, next) = paginate(all.clone(), 3, cursor.as_deref()).unwrap();
            seen.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn invalid_cursor_is_rejected() {
        for cursor in ["", "7", "YXQ6eA", "ä"] {
            assert!(paginate(vec![1], 1, Some(cursor)).is_err(), "{cursor}");
        }
    }
}
