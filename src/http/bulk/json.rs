//! Rows as the `items` of one JSON document, read one by one: only the row at hand is held, wherever `items` stands in the
//! document. As strict as any other body.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::rows::{LONGEST, MOST_VALUES, Rows, Stop};
use crate::dispatch::{BulkEnvelope, BulkRow};
use crate::domain::problem::{Code, Fault, FieldFault};
use crate::http::canonical::{Hash, Many};
use crate::http::dto::bulk::Envelope;
use crate::http::input::{accepted, fault_of};
use crate::http::json::{Strict, TWICE};

/// Most JSON values beside the rows; an honest bulk has two.
const MOST_BESIDE: usize = 1000;

/// Reads the document: what it says besides its rows, and the hash of all it says.
///
/// # Errors
/// What is wrong with the bulk as a whole, all of it where it can be read to its end.
pub(super) fn read<S: FnMut(Vec<BulkRow>) -> bool>(
    input: impl Read,
    rows: &mut Rows<S>,
) -> Result<(BulkEnvelope, Hash), Stop> {
    let window = Window::default();
    let mut found = Found { left: MOST_BESIDE, ..Found::default() };
    let mut reader = serde_json::Deserializer::from_reader(Windowed { input, window: &window });
    let document = Document { rows, window: &window, found: &mut found };
    let end = document.deserialize(&mut reader).and_then(|()| {
        window.open();
        reader.end()
    });
    if let Err(error) = end {
        return Err(refusal(&error, &window, found));
    }
    let Found { members, items, no_object, list, .. } = found;
    if no_object {
        return Err(fault_of(vec![FieldFault::invalid("", "must be an object")]).into());
    }
    let members = Value::Object(members);
    let mut faults = Vec::new();
    let (connection, fail_on_errors) = accepted::<Envelope>(&members).unwrap_or_else(|fault| {
        faults = fault.errors;
        (None, None)
    });
    match items {
        Items::Missing => faults.push(FieldFault::missing("/items", "is missing")),
        Items::NoList => faults.push(FieldFault::invalid("/items", "must be a list")),
        Items::TooMany => faults.push(rows.count_fault("/items")),
        Items::All if rows.taken() == 0 => faults.push(rows.count_fault("/items")),
        Items::All => {}
    }
    let mut connection = connection;
    if faults.is_empty() {
        connection = rows.connections.agreed(connection, "/connection").unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
    }
    if !faults.is_empty() {
        return Err(fault_of(faults).into());
    }
    rows.flush()?;
    Ok((BulkEnvelope { connection, fail_on_errors }, list.within(&members)))
}

fn refusal(error: &serde_json::Error, window: &Window, found: Found) -> Stop {
    if let Some(stop) = found.stop {
        return stop;
    }
    if window.closed() {
        let detail = format!("A row or another member of the bulk is larger than {LONGEST} bytes.");
        return Fault::new(Code::PayloadTooLarge, detail).into();
    }
    if found.left == 0 {
        let detail = "A row of the bulk, or what stands beside the rows, has more values than may be.";
        return Fault::new(Code::PayloadTooLarge, detail).into();
    }
    Fault::new(Code::MalformedJson, format!("{error}.")).into()
}

/// How far the reader may go until somebody says that it is worth it: no row or member needs much room.
#[derive(Default)]
struct Window {
    read: Cell<u64>,
    until: Cell<u64>,
}

impl Window {
    /// A new row or member begins.
    fn open(&self) {
        self.until.set(self.read.get() + LONGEST as u64);
    }

    fn closed(&self) -> bool {
        self.read.get() >= self.until.get()
    }

    fn note(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes as u64);
    }
}

struct Windowed<'a, R> {
    input: R,
    window: &'a Window,
}

impl<R: Read> Read for Windowed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.window.closed() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = self.input.read(buffer)?;
        self.window.note(bytes);
        Ok(bytes)
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    members: Map<String, Value>,
    items: Items,
    no_object: bool,
    list: Many,
    /// Values that may still come beside the rows, or in the row at hand.
    left: usize,
    stop: Option<Stop>,
}

#[derive(Default, PartialEq)]
enum Items {
    #[default]
    Missing,
    NoList,
    TooMany,
    All,
}

/// What is no object or no list is read to its end all the same: it may turn out not to be JSON.
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
    rows: &'a mut Rows<S>,
    window: &'a Window,
    found: &'a mut Found,
}

impl<S> Document<'_, S> {
    /// It is no object.
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
                    return Err(A::Error::custom(TWICE));
                }
                access.next_value_seed(List { rows, window, found })?;
                continue;
            }
            if found.members.contains_key(&name) {
                return Err(A::Error::custom(TWICE));
            }
            let value = access.next_value_seed(Strict::at(1, &mut found.left))?;
            if let ("connection", Some(connection)) = (name.as_str(), value.as_str()) {
                rows.connections.told(connection);
            }
            found.members.insert(name, value);
        }
    }
}

struct List<'a, S> {
    rows: &'a mut Rows<S>,
    window: &'a Window,
    found: &'a mut Found,
}

impl<S> List<'_, S> {
    /// It is no list.
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
                // The rest only has to be JSON.
                match access.next_element::<IgnoredAny>()? {
                    Some(_) => continue,
                    None => break,
                }
            }
            let before = window.read.get();
            found.left = MOST_VALUES;
            let Some(row) = access.next_element_seed(Strict::at(2, &mut found.left))? else { break };
            found.list.add(&row);
            let bytes = usize::try_from(window.read.get() - before).unwrap_or(LONGEST);
            match rows.take(Ok(row), bytes) {
                Ok(true) => {}
                Ok(false) => found.items = Items::TooMany,
                Err(stop) => {
                    found.stop = Some(stop);
                    return Err(A::Error::custom("nobody takes the rows"));
                }
            }
        }
        found.left = beside;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
