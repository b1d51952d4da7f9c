//! The catalogue and the vendors in responses.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::common::page_document;
use crate::domain::capability::{Capability, ResultCapability, ResultSource, RetrySafety, VendorDescriptor};
use crate::service::{CatalogueEntry, Gateway};

/// An assessment that can be booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Assessment {
    /// The vendor-neutral id, used as `assessment` in an order.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The connection it belongs to.
    pub connection: String,
    /// The vendor's own id.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// A program that employees can be enrolled in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Program {
    /// The vendor-neutral id, used in `/programs/{id}/employees`.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The connection it belongs to.
    pub connection: String,
    /// The vendor's own id, or `ext:` followed by the account's own id for it.
    #[serde(rename = "ref")]
    pub reference: String,
}

page_document!(AssessmentList, Assessment, assessment_list_example, "The assessments that can be booked.");
page_document!(ProgramList, Program, program_list_example, "The programs that employees can be enrolled in.");
page_document!(VendorList, Vendor, vendor_list_example, "The supported kinds of exam vendor.");

impl From<CatalogueEntry> for Assessment {
    fn from(entry: CatalogueEntry) -> Self {
        let CatalogueEntry { id, name, connection, reference, scoring: _ } = entry;
        Self { id, name, connection, reference }
    }
}

impl From<CatalogueEntry> for Program {
    fn from(entry: CatalogueEntry) -> Self {
        let CatalogueEntry { id, name, connection, reference, scoring: _ } = entry;
        Self { id, name, connection, reference }
    }
}

/// A kind of exam vendor, with the gateway's capabilities for it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(vendor_example))]
#[expect(clippy::struct_field_names, reason = "the API's field names")]
pub struct Vendor {
    /// The vendor's identifier in configuration and responses.
    pub vendor: &'static str,
    /// The vendor's own name.
    pub name: &'static str,
    /// Address of the vendor's interface documentation.
    #[schema(format = "uri")]
    pub documentation: &'static str,
    /// The fields by which the vendor identifies people: two people with the same value in one of them are the same
    /// person.
    pub identities: Vec<&'static str>,
    /// One entry for every write kind of the gateway.
    pub operations: Vec<VendorOperation>,
    /// What the vendor documents about results.
    pub results: VendorResults,
}

/// What the vendor documents about results, whether or not the gateway reads it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the API")]
pub struct VendorResults {
    /// How the vendor reports results.
    pub source: ResultSource,
    /// Whether it reports attempts that are not finished.
    pub in_progress: bool,
    /// Whether it reports a score that has changed as a change.
    pub corrections: bool,
    /// Whether it reports when an attempt started.
    pub attempt_times: bool,
    /// Whether it reports scores of parts.
    pub parts: bool,
    /// Whether it can be asked for the result of one booking.
    pub refresh: bool,
    /// Advice for integrators.
    pub note: &'static str,
}

/// The vendor's capability for one write kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VendorOperation {
    /// The write kind.
    pub operation: &'static str,
    /// Whether the vendor supports it. If not, a request fails with `capability_unsupported` and nothing is sent.
    pub supported: bool,
    /// Pointers to fields the vendor requires.
    pub required: Vec<&'static str>,
    /// Pointers to fields the vendor cannot store.
    pub ignored: Vec<&'static str>,
    /// Maximum number of rows per vendor call; 0 if unsupported.
    pub max_batch: usize,
    /// How a write with an unknown outcome is usually settled.
    pub repeat: RetrySafety,
    /// Whether the vendor's response reports each row's outcome.
    pub per_item_outcome: bool,
    /// Whether the written state can be read back from the vendor.
    pub read_back: bool,
    /// Advice for integrators.
    pub note: &'static str,
}

impl From<&'static VendorDescriptor> for Vendor {
    fn from(descriptor: &'static VendorDescriptor) -> Self {
        let VendorDescriptor { kind, name, documentation, identities, clock_tolerance: _, capabilities, results } =
            descriptor;
        let identities = identities.iter().map(|kind| kind.as_str()).collect();
        Self {
            vendor: kind,
            name,
            documentation,
            identities,
            operations: capabilities.iter().map(Into::into).collect(),
            results: results.into(),
        }
    }
}

impl From<&ResultCapability> for VendorResults {
    fn from(capability: &ResultCapability) -> Self {
        let ResultCapability { source, in_progress, corrections, attempt_times, parts, refresh, note } = *capability;
        Self { source, in_progress, corrections, attempt_times, parts, refresh, note }
    }
}

impl From<&Capability> for VendorOperation {
    fn from(capability: &Capability) -> Self {
        let Capability {
            kind: operation,
            supported,
            required,
            ignored,
            max_batch,
            retry_safety: repeat,
            per_item_outcome,
            read_back,
            note,
        } = *capability;
        Self {
            operation: operation.as_str(),
            supported,
            required: required.to_vec(),
            ignored: ignored.to_vec(),
            max_batch,
            repeat,
            per_item_outcome,
            read_back,
            note,
        }
    }
}

fn assessment_list_example() -> Value {
    let entry = json!({ "id": "rust-101", "name": "Rust 101", "connection": "startexam-main",
                        "ref": "fa19e351-36d0-49c0-be92-66d640b17878" });
    json!({ "items": [entry], "nextCursor": null })
}

fn program_list_example() -> Value {
    let entry = json!({ "id": "onboarding-2026", "name": "Onboarding 2026", "connection": "startexam-main",
                        "ref": "918ae938-8ea5-4298-b5ac-f8ffd873ceb6" });
    json!({ "items": [entry], "nextCursor": null })
}

/// Builds the example of a vendor from the first one there is.
fn vendor_example() -> Value {
    json!(Gateway::descriptors().first().map(|descriptor| Vendor::from(*descriptor)))
}

fn vendor_list_example() -> Value {
    json!({ "items": [vendor_example()], "nextCursor": null })
}
