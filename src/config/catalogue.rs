//! Validates `[assessments.<id>]` and `[programs.<id>]`: the vendor-neutral catalogue.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::connections::ConnectionConfig;
use crate::config::error::ConfigErrors;
use crate::config::{identifier, schema, section};
use crate::domain::capability::WriteKind;
use crate::domain::program::ProgramRef;
use crate::domain::results::{PassRule, ScoringRules};
use crate::domain::suggest;
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
    errors: &mut ConfigErrors<'_>,
) -> CatalogueDraft {
    let mut draft = CatalogueDraft::default();
    for (id, table) in assessments {
        let at = ["assessments", &id];
        identifier::check(&at, errors);
        let Some(document) = section::section(&table, &at, errors) else { continue };
        let schema::Assessment { name, connection, reference, pass_percent, pass_levels, counts, scored } = document;
        let connection = placed(&at, connection, WriteKind::AssignmentsCreate, connections, errors);
        let reference = section::required(reference, &[at[0], at[1], "ref"], errors);
        let scoring = PassRule::checked(pass_percent, pass_levels)
            .and_then(|pass| ScoringRules { scored, pass, counts }.checked())
            .map_err(|(key, detail)| errors.push(&[at[0], at[1], key], detail));
        draft.assessments.extend(entry(id, name, connection, reference, scoring.ok()));
    }
    for (id, table) in programs {
        let at = ["programs", &id];
        identifier::check(&at, errors);
        let Some(document) = section::section(&table, &at, errors) else { continue };
        let schema::Program { name, connection, reference, external_ref } = document;
        let connection = placed(&at, connection, WriteKind::ProgramsEmployees, connections, errors);
        let reference = match (reference, external_ref) {
            (Some(reference), None) => Some(reference),
            (None, Some(external)) => Some(format!("{EXTERNAL}{external}")),
            (None, None) => {
                errors.push(&["programs", &id, "ref"], "is missing: set ref or external_ref");
                None
            }
            (Some(_), Some(_)) => {
                errors.push(&["programs", &id, "external_ref"], "cannot be combined with ref: set only one of them");
                None
            }
        };
        draft.programs.extend(entry(id, name, connection, reference, Some(ScoringRules::default())));
    }
    draft
}

fn entry(
    id: String,
    name: Option<String>,
    connection: Option<String>,
    reference: Option<String>,
    scoring: Option<ScoringRules>,
) -> Option<CatalogueEntry> {
    Some(CatalogueEntry {
        name: name.unwrap_or_else(|| id.clone()),
        id,
        connection: connection?,
        reference: reference?,
        scoring: scoring?,
    })
}

/// Returns the catalogue with every reference normalised to the vendor's form. Skips entries of connections that could
/// not be built: those connections have already reported an error.
pub(super) fn resolved(
    draft: &CatalogueDraft,
    connections: &BTreeMap<String, ConnectionSetup>,
    errors: &mut ConfigErrors<'_>,
) -> Catalogue {
    let vendor = |entry: &CatalogueEntry| connections.get(&entry.connection).map(|setup| &setup.connected.vendor);
    let mut catalogue = Catalogue::default();
    for entry in &draft.assessments {
        let Some(vendor) = vendor(entry) else { continue };
        let reference = vendor.assessment_ref(&entry.reference);
        let reference = reference.ok_or_else(|| invalid_reference(vendor.as_ref(), "an assessment"));
        if let Some(reference) = errors.check(&["assessments", &entry.id, "ref"], reference) {
            catalogue.assessments.insert(entry.id.clone(), CatalogueEntry { reference, ..entry.clone() });
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
                errors.push(&["programs", &entry.id, key], invalid_reference(vendor.as_ref(), "a program"));
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

/// Checks the connection of an entry; returns its name.
fn placed(
    at: &[&str; 2],
    connection: Option<String>,
    kind: WriteKind,
    connections: &Connections<'_>,
    errors: &mut ConfigErrors<'_>,
) -> Option<String> {
    let at = [at[0], at[1], "connection"];
    let connection = section::required(connection, &at, errors)?;
    if !connections.names.contains(&connection) {
        let hint = suggest::word(&connection, connections.names.iter().map(String::as_str));
        errors.push(&at, format!("unknown connection{hint}"));
    } else if let Some(known) = connections.known.get(&connection) {
        let descriptor = known.vendor.descriptor();
        if !descriptor.capability(kind).supported {
            errors.push(&at, format!("{} does not support this ({})", descriptor.name, kind.as_str()));
        }
    }
    Some(connection)
}
