//! What the result sheet of an earlier import holds: whether it is one, and its initial passwords, which the gateway
//! returns only once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use crate::domain::table::formulas::unguard;
use crate::secret::Secret;
use crate::sheet::result_header::is_result_header;

/// The column of candidate and assignment ids.
pub(super) const ID: &str = "result.id";
/// The column of initial passwords.
pub(super) const PASSWORD: &str = "result.initialPassword";

/// Returns whether the file is the result sheet of an import.
pub(super) fn is_result(path: &Path) -> io::Result<bool> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_path(path)?;
    let mut header = csv::ByteRecord::new();
    reader.read_byte_record(&mut header)?;
    Ok(is_result_header(header.iter().map(|name| std::str::from_utf8(name).unwrap_or(""))))
}

/// Reads the initial passwords of an earlier result by candidate id; without such a file there are none.
pub(super) fn read_passwords(path: &Path) -> io::Result<HashMap<String, Secret>> {
    let mut found = HashMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
    let place = |headers: &StringRecord, name: &str| headers.iter().position(|header| header == name);
    let headers = reader.headers()?;
    let (Some(id), Some(password)) = (place(headers, ID), place(headers, PASSWORD)) else { return Ok(found) };
    for record in reader.records() {
        let record = record?;
        let cell = |place| record.get(place).map(unguard).filter(|cell| !cell.is_empty());
        if let (Some(id), Some(password)) = (cell(id), cell(password)) {
            found.insert(id.into_owned(), Secret::new(password));
        }
    }
    Ok(found)
}
