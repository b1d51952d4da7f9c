//! Rows as the `items` of one JSON document, parsed one by one: only the current row is held in memory, wherever
//! `items` is in the document. As strict as any other body.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::domain::error::{Code, Error, FieldError};
use crate::http::dto::bulk::Envelope;
use crate::http::extract::fingerprint::{Fingerprint, SequenceHasher};
use crate::http::extract::strict_json::{DUPLICATE_FIELD, Strict};
use crate::http::extract::validate::{fault_of, parse};
use crate::http::handlers::bulk::rows::{MAX_LENGTH, MAX_VALUES, RawRow, ReadError, RowSink};
use crate::service::{BulkOptions, BulkRow};

/// Maximum number of JSON values beside the rows; a legitimate bulk request has two.
const MAX_ENVELOPE_VALUES: usize = 1000;

/// Parses the document: returns its options and the hash of the whole document.
///
/// # Errors
/// Every error of the bulk request as a whole that can be found by reading to its end.
pub(super) fn read<S: FnMut(Vec<BulkRow>) -> bool>(
    input: impl Read,
    rows: &mut RowSink<S>,
) -> Result<(BulkOptions, Fingerprint), ReadError> {
    let window = Window::default();
    let mut found = ParseState { left: MAX_ENVELOPE_VALUES, ..ParseState::default() };
    let mut reader = serde_json::Deserializer::from_reader(BoundedReader { input, window: &window });
    let document = Document { rows, window: &window, found: &mut found };
    let end = document.deserialize(&mut reader).and_then(|()| {
        window.open();
        reader.end()
    });
    if let Err(error) = end {
        return Err(refusal(&error, &window, found));
    }
    let ParseState { members, items, no_object, list, .. } = found;
    if no_object {
        return Err(fault_of(vec![FieldError::invalid("", "must be an object")]).into());
    }
    let members = Value::Object(members);
    let mut errors = Vec::new();
    let (connection, fail_on_errors) = parse::<Envelope>(&members).unwrap_or_else(|fault| {
        errors = fault.errors;
        (None, None)
    });
    match items {
        Items::Missing => errors.push(FieldError::missing("/items", "is missing")),
        Items::NoList => errors.push(FieldError::invalid("/items", "must be a list")),
        Items::TooMany => errors.push(rows.count_error("/items")),
        Items::All if rows.taken() == 0 => errors.push(rows.count_error("/items")),
        Items::All => {}
    }
    let mut connection = connection;
    if errors.is_empty() {
        connection = rows.connections.agreed(connection, "/connection").unwrap_or_else(|fault| {
            errors.push(fault);
            None
        });
    }
    if !errors.is_empty() {
        return Err(fault_of(errors).into());
    }
    rows.flush()?;
    Ok((BulkOptions { connection, fail_on_errors }, list.within(&members)))
}

fn refusal(error: &serde_json::Error, window: &Window, found: ParseState) -> ReadError {
    if let Some(stop) = found.stop {
        return stop;
    }
    if window.closed() {
        let detail = format!("A row or another field of the bulk request is larger than {MAX_LENGTH} bytes.");
        return Error::new(Code::PayloadTooLarge, detail).into();
    }
    if found.left == 0 {
        let detail = "A row of the bulk request, or the fields beside the rows, exceeds the limit on JSON values.";
        return Error::new(Code::PayloadTooLarge, detail).into();
    }
    Error::new(Code::MalformedJson, format!("{error}.")).into()
}

/// Limits how far the parser may read for the current row or field, so that neither needs much memory.
#[derive(Default)]
struct Window {
    read: Cell<u64>,
    until: Cell<u64>,
}

impl Window {
    /// Starts a new row or field.
    fn open(&self) {
        self.until.set(self.read.get() + MAX_LENGTH as u64);
    }

    fn closed(&self) -> bool {
        self.read.get() >= self.until.get()
    }

    fn note(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes as u64);
    }
}

struct BoundedReader<'a, R> {
    input: R,
    window: &'a Window,
}

impl<R: Read> Read for BoundedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.window.closed() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = self.input.read(buffer)?;
        self.window.note(bytes);
        Ok(bytes)
    }
}

/// The state of the parser.
#[derive(Default)]
struct ParseState {
    members: Map<String, Value>,
    items: Items,
    no_object: bool,
    list: SequenceHasher,
    /// JSON values still allowed beside the rows, or in the current row.
    left: usize,
    stop: Option<ReadError>,
}

#[derive(Default, PartialEq)]
enum Items {
    #[default]
    Missing,
    NoList,
    TooMany,
    All,
}

/// Reads a value of the wrong type to its end: it may turn out not to be JSON.
macro_rules! everything_else {
    () => {
        everything_else!(visit_unit(), visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
    };
    ($($visit:ident($($kind:ty)?)),*) => {
        $(fn $visit<E>(self, $(_: $kind)?) -> Result<(), E> {
            self.other();
            Ok(())
        })*
    };
}

struct Document<'a, S> {
    rows: &'a mut RowSink<S>,
    window: &'a Window,
    found: &'a mut ParseState,
}

impl<S> Document<'_, S> {
    /// The document is not an object.
    fn other(self) {
        self.found.no_object = true;
    }
}

impl<'de, S: FnMut(Vec<BulkRow>) -> bool> DeserializeSeed<'de> for Document<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.window.open();
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: FnMut(Vec<BulkRow>) -> bool> Visitor<'de> for Document<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    everything_else!();

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        Strict::at(0, &mut self.found.left).visit_seq(access)?;
        self.other();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { rows, window, found } = self;
        loop {
            window.open();
            let Some(name) = access.next_key::<String>()? else { return Ok(()) };
            if name == "items" {
                if found.items != Items::Missing {
                    return Err(A::Error::custom(DUPLICATE_FIELD));
                }
                access.next_value_seed(List { rows, window, found })?;
                continue;
            }
            if found.members.contains_key(&name) {
                return Err(A::Error::custom(DUPLICATE_FIELD));
            }
            let value = access.next_value_seed(Strict::at(1, &mut found.left))?;
            if let ("connection", Some(connection)) = (name.as_str(), value.as_str()) {
                rows.connections.set_bulk(connection);
            }
            found.members.insert(name, value);
        }
    }
}

struct List<'a, S> {
    rows: &'a mut RowSink<S>,
    window: &'a Window,
    found: &'a mut ParseState,
}

impl<S> List<'_, S> {
    /// `items` is not a list.
    fn other(self) {
        self.found.items = Items::NoList;
    }
}

impl<'de, S: FnMut(Vec<BulkRow>) -> bool> DeserializeSeed<'de> for List<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: FnMut(Vec<BulkRow>) -> bool> Visitor<'de> for List<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    everything_else!();

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        Strict::at(1, &mut self.found.left).visit_map(access)?;
        self.other();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { rows, window, found } = self;
        found.items = Items::All;
        let beside = found.left;
        loop {
            window.open();
            if found.items == Items::TooMany {
                // The rest only needs to be valid JSON.
                match access.next_element::<IgnoredAny>()? {
                    Some(_) => continue,
                    None => break,
                }
            }
            let before = window.read.get();
            found.left = MAX_VALUES;
            let Some(row) = access.next_element_seed(Strict::at(2, &mut found.left))? else { break };
            found.list.add(&row);
            let bytes = usize::try_from(window.read.get() - before).unwrap_or(MAX_LENGTH);
            match rows.take(RawRow::new(None, bytes, Ok(row))) {
                Ok(true) => {}
                Ok(false) => found.items = Items::TooMany,
                Err(stop) => {
                    found.stop = Some(stop);
                    return Err(A::Error::custom("rows are no longer taken"));
                }
            }
        }
        found.left = beside;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
