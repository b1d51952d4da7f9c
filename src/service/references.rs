//! References to the catalogue and to vendors: finds the assessment or program that a request names, and says what was
//! probably meant if there is none. Suggests only what the client may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::capability::WriteKind;
use crate::domain::error::{Code, Error, FieldError};
use crate::domain::program::ProgramRef;
use crate::domain::suggest;
use crate::service::RequestContext;
use crate::service::catalogue::CatalogueEntry;
use crate::service::connections::{Connection, short};
use crate::service::errors::reference;
use crate::service::snapshot::Snapshot;

impl Snapshot {
    /// Selects the connection of an order: the one it names, else that of the assessment's catalogue entry, else the
    /// client's default, else the only one there is.
    ///
    /// # Errors
    /// As [`Snapshot::select_connection`]; `invalid_reference` instead of `connection_required` if the assessment is
    /// probably a mistyped catalogue id, or an id of none of the vendors.
    pub(super) fn connection_of_assessment(
        &self,
        caller: &RequestContext,
        named: Option<&str>,
        assessment: &str,
    ) -> Result<Arc<Connection>, Error> {
        let accepts = |connection: &Connection| {
            connection.require_capability(WriteKind::AssignmentsCreate).is_ok()
                && connection.vendor().assessment_ref(assessment).is_some()
        };
        let mistyped = |meant: &str| no_assessment("/assessment", meant);
        self.connection_of_entry(caller, named, (&self.catalogue.assessments, assessment), accepts, mistyped)
    }

    /// Selects the connection of a program, as [`Snapshot::connection_of_assessment`] does for an assessment.
    ///
    /// # Errors
    /// As [`Snapshot::select_connection`]; `program_not_found` instead of `connection_required` if the program is
    /// probably a mistyped catalogue id, or an id of none of the vendors.
    pub(super) fn connection_of_program(
        &self,
        caller: &RequestContext,
        named: Option<&str>,
        program: &str,
    ) -> Result<Arc<Connection>, Error> {
        let accepts = |connection: &Connection| {
            connection.require_capability(WriteKind::ProgramsEmployees).is_ok()
                && connection.vendor().program_ref(program).is_some()
        };
        let mistyped = |meant: &str| no_program(program, meant);
        self.connection_of_entry(caller, named, (&self.catalogue.programs, program), accepts, mistyped)
    }

    /// Selects the connection of the entry that this text names. If none can be selected and the text is probably a
    /// mistyped catalogue id, the error is `mistyped` with the suggestion to make.
    fn connection_of_entry(
        &self,
        caller: &RequestContext,
        named: Option<&str>,
        (entries, text): (&BTreeMap<String, CatalogueEntry>, &str),
        accepts: impl Fn(&Connection) -> bool,
        mistyped: impl Fn(&str) -> Error,
    ) -> Result<Arc<Connection>, Error> {
        let of_entry = entries.get(text).map(|entry| entry.connection.as_str());
        self.select_connection(caller, named, of_entry).map_err(|error| {
            if error.code != Code::ConnectionRequired {
                return error;
            }
            self.is_mistyped(caller, entries, text, accepts).map_or(error, |meant| mistyped(&meant))
        })
    }

    /// Returns the vendor's id of an assessment: from the catalogue, else the text in the vendor's own form.
    pub(super) fn assessment_ref(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        text: &str,
        pointer: &str,
    ) -> Result<String, Error> {
        let entries = &self.catalogue.assessments;
        if let Some(entry) = entries.get(text) {
            if entry.connection == connection.name {
                return Ok(entry.reference.clone());
            }
            let detail = format!("the assessment belongs to the connection `{}`", entry.connection);
            return Err(connection.tag_connection(reference(FieldError::invalid(pointer, detail))));
        }
        // A vendor may accept any text: what may be valid is passed on, even if it resembles a catalogue id.
        connection.vendor().assessment_ref(text).ok_or_else(|| {
            let here = usable(caller, entries).filter(|entry| entry.connection == connection.name);
            connection.tag_connection(no_assessment(pointer, &suggestion(text, here)))
        })
    }

    /// Returns the vendor's reference of a program: from the catalogue, else the text in the vendor's own form.
    pub(super) fn program_ref(
        &self,
        caller: &RequestContext,
        connection: &Connection,
        program: &str,
    ) -> Result<ProgramRef, Error> {
        let entries = &self.catalogue.programs;
        let text = match entries.get(program) {
            Some(entry) if entry.connection == connection.name => &entry.reference,
            Some(_) => "",
            None => program,
        };
        connection.vendor().program_ref(text).ok_or_else(|| {
            let here = usable(caller, entries).filter(|entry| entry.connection == connection.name);
            connection.tag_connection(no_program(program, &suggestion(program, here)))
        })
    }

    /// Returns the suggestion to make, perhaps empty, if a request that names no connection means a catalogue id by
    /// this text; `None` if the text may be an id at one of the connections.
    fn is_mistyped(
        &self,
        caller: &RequestContext,
        entries: &BTreeMap<String, CatalogueEntry>,
        text: &str,
        accepts: impl Fn(&Connection) -> bool,
    ) -> Option<String> {
        let meant = suggestion(text, usable(caller, entries));
        let mut connections = self.connections.values().filter(|one| caller.connections.contains(&one.name));
        (!meant.is_empty() || !connections.any(|connection| accepts(connection))).then_some(meant)
    }
}

/// Returns the catalogue entries the caller may use.
fn usable<'a>(
    caller: &RequestContext,
    entries: &'a BTreeMap<String, CatalogueEntry>,
) -> impl Iterator<Item = &'a CatalogueEntry> {
    entries.values().filter(|entry| caller.connections.contains(&entry.connection))
}

fn suggestion<'a>(text: &str, entries: impl Iterator<Item = &'a CatalogueEntry>) -> String {
    suggest::word(text, entries.map(|entry| entry.id.as_str()))
}

fn no_assessment(pointer: &str, meant: &str) -> Error {
    let detail = format!("is neither in the catalogue nor a valid id at the vendor{meant}");
    reference(FieldError::invalid(pointer, detail))
}

fn no_program(program: &str, meant: &str) -> Error {
    let program = short(program);
    let detail = format!("`{program}` is neither in the catalogue nor a valid program id at the vendor{meant}.");
    Error::new(Code::ProgramNotFound, detail)
}
