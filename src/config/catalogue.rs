//! Validates `[assessments.<id>]` and `[programs.<id>]`: the vendor-neutral catalogue.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::connections::ConnectionConfig;
use super::suggest;
use crate::config::error::{ConfigErrors, Locations};
use crate::config::{identifier, schema, section};
use crate::domain::capability::WriteKind;
use crate::domain::program::ProgramRef;
use crate::domain::vendor::Vendor;
use crate::service::{Catalogue, CatalogueEntry, ConnectionSetup};

/// Prefix that marks a program's external id in a program reference.
pub(super) const EXTERNAL: &str = "ext:";

/// Catalogue entries with unvalidated references: only the vendor's adapter can parse them.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogueDraft {
    assessments: Vec<CatalogueEntry>,
    programs: Vec<CatalogueEntry>,
}

/// Connections that catalogue entries may name.
pub(super) struct Connections<'a> {
    /// The names of all connections, invalid ones included.
    pub(super) names: &'a BTreeSet<String>,
    /// The valid connections.
    pub(super) known: &'a BTreeMap<String, ConnectionConfig>,
}

pub(super) fn checked(
    assessments: Vec<(String, Value)>,
    programs: Vec<(String, Value)>,
    connections: &Connections<'_>,
    places: &Locations,
    faults: &mut ConfigErrors<'_>,
) -> CatalogueDraft {
    let mut draft = CatalogueDraft::default();
    for (id, table) in assessments {
        let at = ["assessments", &id];
        identifier::check(&at, faults);
        let Some(document) = section::section(&table, &at, places, faults) else { continue };
        let schema::Assessment { name, connection, reference } = document;
        placed(&at, &connection, WriteKind::AssignmentsCreate, connections, faults);
        draft.assessments.push(CatalogueEntry { name: name.unwrap_or_else(|| id.clone()), id, connection, reference });
    }
    for (id, table) in programs {
        let at = ["programs", &id];
        identifier::check(&at, faults);
        let Some(document) = section::section(&table, &at, places, faults) else { continue };
        let schema::Program { name, connection, reference, external_ref } = document;
        placed(&at, &connection, WriteKind::ProgramsEmployees, connections, faults);
        let reference = match (reference, external_ref) {
            (Some(reference), None) => reference,
            (None, Some(external)) => format!("{EXTERNAL}{external}"),
            (None, None) => {
                faults.push(&["programs", &id, "ref"], "is missing: set ref or external_ref");
                continue;
            }
            (Some(_), Some(_)) => {
                faults.push(&["programs", &id, "external_ref"], "cannot be combined with ref: set only one of them");
                continue;
            }
        };
        draft.programs.push(CatalogueEntry { name: name.unwrap_or_else(|| id.clone()), id, connection, reference });
    }
    draft
}

/// Returns the catalogue with every reference normalised to the vendor's form. Skips entries of connections that could
/// not be built: those connections have already reported an error.
pub(super) fn resolved(
    draft: &CatalogueDraft,
    connections: &BTreeMap<String, ConnectionSetup>,
    faults: &mut ConfigErrors<'_>,
) -> Catalogue {
    let vendor = |entry: &CatalogueEntry| connections.get(&entry.connection).map(|setup| &setup.connected.vendor);
    let mut catalogue = Catalogue::default();
    for entry in &draft.assessments {
        let Some(vendor) = vendor(entry) else { continue };
        match vendor.assessment_ref(&entry.reference) {
            Some(reference) => {
                catalogue.assessments.insert(entry.id.clone(), CatalogueEntry { reference, ..entry.clone() });
            }
            None => {
                faults.push(&["assessments", &entry.id, "ref"], invalid_reference(vendor.as_ref(), "an assessment"));
            }
        }
    }
    for entry in &draft.programs {
        let Some(vendor) = vendor(entry) else { continue };
        let external = entry.reference.starts_with(EXTERNAL);
        let reference = match vendor.program_ref(&entry.reference) {
            Some(ProgramRef::Id(id)) if !external => id,
            Some(ProgramRef::External(id)) if external => format!("{EXTERNAL}{id}"),
            _ => {
                let key = if external { "external_ref" } else { "ref" };
                faults.push(&["programs", &entry.id, key], invalid_reference(vendor.as_ref(), "a program"));
                continue;
            }
        };
        catalogue.programs.insert(entry.id.clone(), CatalogueEntry { reference, ..entry.clone() });
    }
    catalogue
}

fn invalid_reference(vendor: &dyn Vendor, what: &str) -> String {
    format!("is not a valid id of {what} at {}", vendor.descriptor().name)
}

fn placed(
    at: &[&str; 2],
    connection: &str,
    operation: WriteKind,
    connections: &Connections<'_>,
    faults: &mut ConfigErrors<'_>,
) {
    let at = [at[0], at[1], "connection"];
    if !connections.names.contains(connection) {
        let hint = suggest::word(connection, connections.names.iter().map(String::as_str));
        faults.push(&at, format!("unknown connection{hint}"));
        return;
    }
    let Some(known) = connections.known.get(connection) else { return };
    let descriptor = known.vendor.descriptor();
    let capability = descriptor.capability(operation);
    if !capability.supported {
        faults.push(&at, format!("{} does not support this ({})", descriptor.name, operation.as_str()));
    }
}
