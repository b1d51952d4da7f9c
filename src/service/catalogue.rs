//! The operator's catalogue: vendor-neutral ids of assessments and programs.

use std::collections::BTreeMap;

use crate::domain::results::ScoringRules;
use crate::service::{Gateway, RequestContext};

/// Entry of the operator's catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Vendor-neutral id.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Connection it belongs to.
    pub connection: String,
    /// Vendor's own id; for a program `ext:<id>` if the operator configured an external id.
    pub reference: String,
    /// How attempts at an assessment are judged.
    pub scoring: ScoringRules,
}

/// Catalogue, keyed by vendor-neutral id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Assessments that can be assigned.
    pub assessments: BTreeMap<String, CatalogueEntry>,
    /// Programs that employees can be enrolled in.
    pub programs: BTreeMap<String, CatalogueEntry>,
}

impl Gateway {
    /// Returns the assessments the caller may assign.
    #[must_use]
    pub fn assessments(&self, caller: &RequestContext) -> Vec<CatalogueEntry> {
        usable(&self.configured().catalogue.assessments, caller)
    }

    /// Returns the programs the caller may enrol employees in.
    #[must_use]
    pub fn programs(&self, caller: &RequestContext) -> Vec<CatalogueEntry> {
        usable(&self.configured().catalogue.programs, caller)
    }
}

fn usable(entries: &BTreeMap<String, CatalogueEntry>, caller: &RequestContext) -> Vec<CatalogueEntry> {
    entries.values().filter(|entry| caller.connections.contains(&entry.connection)).cloned().collect()
}
