//! Any body of a bulk, for the fuzzer: however it is cut into pieces, it says the same.

use bytes::Bytes;

use super::pieces::Pieces;
use super::rows::{Connections, Kind, Rows, Stop};
use super::{csv, json, lines};
use crate::dispatch::BulkRow;
use crate::domain::problem::{Code, Fault};
use crate::http::canonical::Hash;

const KINDS: [Kind; 2] = [Kind::Candidates, Kind::Assignments];
/// Most rows of a body.
const MOST: u64 = 64;
/// Most JSON values of a body.
const MOST_VALUES: usize = 10_000;

/// What became of a body: each row's mark and fault, and what is said of it as a whole.
type Told<T> = (Vec<(Option<String>, Option<Fault>)>, Result<T, Stop>);

/// A table.
pub(in crate::http) fn table(data: &[u8]) {
    for kind in KINDS {
        let read = |pieces: Vec<Bytes>| {
            told(kind, |rows| {
                let mut pieces = pieces.into_iter();
                csv::read(Pieces::new(move || pieces.next()).without_mark(), rows)
            })
        };
        let whole = read(vec![Bytes::copy_from_slice(data)]);
        assert!(whole.0.len() <= breaks(data), "more records than lines");
        assert_eq!(read(cut(data)), whole, "the pieces count");
    }
}

/// Lines of JSON.
pub(in crate::http) fn lines(data: &[u8]) {
    for kind in KINDS {
        let read = |pieces: Vec<Bytes>| {
            told(kind, |rows| {
                let mut pieces = pieces.into_iter();
                lines::read(Pieces::new(move || pieces.next()).without_mark(), rows)
            })
        };
        let whole = read(vec![Bytes::copy_from_slice(data)]);
        assert!(whole.0.len() <= breaks(data) + 1, "more rows than lines");
        assert_eq!(read(cut(data)), whole, "the pieces count");
    }
}

/// One JSON document. It is as strict as the reader of other bodies, and says the same in another spelling.
pub(in crate::http) fn document(data: &[u8]) {
    let strict = crate::http::json::strict(data, MOST_VALUES);
    for kind in KINDS {
        let whole = read(kind, vec![Bytes::copy_from_slice(data)]);
        assert_eq!(read(kind, cut(data)), whole, "the pieces count");
        match (&whole.1, &strict) {
            (Ok(said), Ok(value)) => {
                let again = read(kind, vec![Bytes::from(value.to_string())]);
                assert_eq!(again.1.as_ref().ok(), Some(said), "another spelling says something else");
            }
            (Ok(_), Err(_)) => assert!(strict.is_ok(), "taken, though no other body like it would be"),
            (Err(Stop::Fault(fault)), Ok(_)) => assert_ne!(fault.code, Code::MalformedJson, "refused as malformed"),
            (Err(_), _) => {}
        }
    }
}

fn read(kind: Kind, pieces: Vec<Bytes>) -> Told<Hash> {
    told(kind, |rows| {
        let mut pieces = pieces.into_iter();
        json::read(Pieces::new(move || pieces.next()), rows).map(|(_, hash)| hash)
    })
}

fn told<T>(
    kind: Kind,
    read: impl FnOnce(&mut Rows<&mut dyn FnMut(Vec<BulkRow>) -> bool>) -> Result<T, Stop>,
) -> Told<T> {
    let mut kept = Vec::new();
    let mut keep = |batch: Vec<BulkRow>| {
        kept.extend(batch.into_iter().map(|BulkRow { item_id, row }| (item_id, row.err())));
        true
    };
    let said = read(&mut Rows::new(kind, MOST, Connections::default(), &mut keep));
    (kept, said)
}

/// The bytes in pieces of one to seven, as they say themselves.
fn cut(mut data: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some(first) = data.first() {
        let (piece, rest) = data.split_at((usize::from(first % 7) + 1).min(data.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        data = rest;
    }
    pieces
}

/// How many lines may end in these bytes; a carriage return alone ends a record too.
fn breaks(data: &[u8]) -> usize {
    data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count()
}
