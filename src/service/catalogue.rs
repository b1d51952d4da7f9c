//! The operator's catalogue: vendor-neutral ids of what can be assigned and enrolled in.

use std::collections::BTreeMap;

use crate::service::{Gateway, RequestContext};

/// An entry of the operator's catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The vendor-neutral id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it lives.
    pub connection: String,
    /// The vendor's own id; for a program `ext:<id>` where the operator gave an external one.
    pub reference: String,
}

/// The catalogue, by vendor-neutral id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// What can be assigned.
    pub assessments: BTreeMap<String, CatalogueEntry>,
    /// What employees can be enrolled in.
    pub programs: BTreeMap<String, CatalogueEntry>,
}

impl Gateway {
    /// The assessments the caller may order.
    #[must_use]
    pub fn assessments(&self, caller: &RequestContext) -> Vec<CatalogueEntry> {
        usable(&self.configured().catalogue.assessments, caller)
    }

    /// The programs the caller may enrol in.
    #[must_use]
    pub fn programs(&self, caller: &RequestContext) -> Vec<CatalogueEntry> {
        usable(&self.configured().catalogue.programs, caller)
    }
}

fn usable(entries: &BTreeMap<String, CatalogueEntry>, caller: &RequestContext) -> Vec<CatalogueEntry> {
    entries.values().filter(|entry| caller.connections.contains(&entry.connection)).cloned().collect()
}
