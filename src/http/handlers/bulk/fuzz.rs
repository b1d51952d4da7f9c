//! Fuzzer entry points for bulk bodies: the result must not depend on how the body is cut into chunks.

use bytes::Bytes;

use crate::domain::error::{Code, Error};
use crate::http::extract::fingerprint::Fingerprint;
use crate::http::handlers::bulk::chunk_reader::ChunkReader;
use crate::http::handlers::bulk::rows::{BulkItem, ConnectionConsensus, ReadError, RowSink};
use crate::http::handlers::bulk::{csv, json, ndjson};
use crate::service::BulkRow;

const KINDS: [BulkItem; 2] = [BulkItem::Candidates, BulkItem::Assignments];
/// Maximum number of rows in a body.
const MAX: u64 = 64;
/// Maximum number of JSON values in a body.
const MAX_VALUES: usize = 10_000;

/// The result of a body: each row's label and error, and the result for the body as a whole.
type Summary<T> = (Vec<(Option<String>, Option<Error>)>, Result<T, ReadError>);

/// Checks a CSV body.
pub(in crate::http) fn table(data: &[u8]) {
    for kind in KINDS {
        let read = |pieces: Vec<Bytes>| {
            summary(kind, |rows| {
                let mut pieces = pieces.into_iter();
                csv::read(ChunkReader::new(move || pieces.next()).without_mark(), rows, false)
            })
        };
        let whole = read(vec![Bytes::copy_from_slice(data)]);
        assert!(whole.0.len() <= breaks(data), "more records than lines");
        assert_eq!(read(cut(data)), whole, "the chunks change the result");
    }
}

/// Checks an NDJSON body.
pub(in crate::http) fn lines(data: &[u8]) {
    for kind in KINDS {
        let read = |pieces: Vec<Bytes>| {
            summary(kind, |rows| {
                let mut pieces = pieces.into_iter();
                ndjson::read(ChunkReader::new(move || pieces.next()).without_mark(), rows)
            })
        };
        let whole = read(vec![Bytes::copy_from_slice(data)]);
        assert!(whole.0.len() <= breaks(data) + 1, "more rows than lines");
        assert_eq!(read(cut(data)), whole, "the chunks change the result");
    }
}

/// Checks a JSON body: it is parsed as strictly as other bodies, and another spelling has the same result.
pub(in crate::http) fn document(data: &[u8]) {
    let strict = crate::http::extract::strict_json::parse_strict(data, MAX_VALUES);
    for kind in KINDS {
        let whole = read(kind, vec![Bytes::copy_from_slice(data)]);
        assert_eq!(read(kind, cut(data)), whole, "the chunks change the result");
        match (&whole.1, &strict) {
            (Ok(result), Ok(value)) => {
                let again = read(kind, vec![Bytes::from(value.to_string())]);
                assert_eq!(again.1.as_ref().ok(), Some(result), "the spelling changes the result");
            }
            (Ok(_), Err(_)) => assert!(strict.is_ok(), "accepted although the strict parser rejects it"),
            (Err(ReadError::Fault(error)), Ok(_)) => {
                assert_ne!(error.code, Code::MalformedJson, "rejected as malformed");
            }
            (Err(_), _) => {}
        }
    }
}

fn read(kind: BulkItem, pieces: Vec<Bytes>) -> Summary<Fingerprint> {
    summary(kind, |rows| {
        let mut pieces = pieces.into_iter();
        json::read(ChunkReader::new(move || pieces.next()), rows).map(|(_, hash)| hash)
    })
}

fn summary<T>(
    kind: BulkItem,
    read: impl FnOnce(&mut RowSink<&mut dyn FnMut(Vec<BulkRow>) -> bool>) -> Result<T, ReadError>,
) -> Summary<T> {
    let mut kept = Vec::new();
    let mut keep = |batch: Vec<BulkRow>| {
        kept.extend(batch.into_iter().map(|BulkRow { item_id, line: _, row }| (item_id, row.err())));
        true
    };
    let result = read(&mut RowSink::new(kind, MAX, ConnectionConsensus::default(), &mut keep));
    (kept, result)
}

/// Cuts the bytes into chunks of one to seven bytes; the bytes themselves give the sizes.
fn cut(mut data: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some(first) = data.first() {
        let (piece, rest) = data.split_at((usize::from(first % 7) + 1).min(data.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        data = rest;
    }
    pieces
}

/// Returns how many lines may end in these bytes; a carriage return alone ends a record too.
fn breaks(data: &[u8]) -> usize {
    data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count()
}
