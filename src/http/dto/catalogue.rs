//! What the gateway says about itself: catalogue and vendors.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::capability::{Capability, VendorDescriptor};
use crate::service::CatalogueEntry;

/// A list that is at hand as a whole.
macro_rules! list {
    ($list:ident, $item:ident, $example:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($example))]
        pub struct $list {
            /// This part of the list.
            pub items: Vec<$item>,
            /// Gives the next part as `cursor`; `null` at the end.
            #[schema(required = true)]
            pub next_cursor: Option<String>,
        }
    };
}

/// An assessment that can be ordered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Assessment {
    /// The vendor-neutral id, for `assessment` of an order.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The connection it lives at.
    pub connection: String,
    /// The vendor's own id.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// A program that employees can be enrolled in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Program {
    /// The vendor-neutral id, for `/programs/{id}/employees`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The connection it lives at.
    pub connection: String,
    /// The vendor's own id, or `ext:` and the account's own id for it.
    #[serde(rename = "ref")]
    pub reference: String,
}

list!(AssessmentList, Assessment, assessment_list_example, "The assessments that can be ordered.");
list!(ProgramList, Program, program_list_example, "The programs that employees can be enrolled in.");
list!(VendorList, Vendor, vendor_list_example, "Every kind of exam vendor there is.");

impl From<CatalogueEntry> for Assessment {
    fn from(entry: CatalogueEntry) -> Self {
        let CatalogueEntry { id, name, connection, reference } = entry;
        Self { id, name, connection, reference }
    }
}

impl From<CatalogueEntry> for Program {
    fn from(entry: CatalogueEntry) -> Self {
        let CatalogueEntry { id, name, connection, reference } = entry;
        Self { id, name, connection, reference }
    }
}

/// A kind of exam vendor, and what the gateway can do there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(vendor_example))]
#[expect(clippy::struct_field_names, reason = "the word of the API")]
pub struct Vendor {
    /// The word for it in configuration and answers.
    pub vendor: &'static str,
    /// The vendor's own name.
    pub name: &'static str,
    /// Where the vendor describes its interface.
    #[schema(format = "uri")]
    pub documentation: &'static str,
    /// The members by which the vendor knows people: a person with the same value in one of them is the same person.
    pub identities: Vec<&'static str>,
    /// One entry for every operation of the gateway.
    pub operations: Vec<VendorOperation>,
}

/// What a vendor can do of one operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VendorOperation {
    /// The operation.
    pub operation: &'static str,
    /// Whether the vendor has it. Where it does not, the answer is `capability_unsupported` and nothing is sent.
    pub supported: bool,
    /// Pointers of members the vendor needs.
    pub required: Vec<&'static str>,
    /// Pointers of members the vendor has no place for.
    pub ignored: Vec<&'static str>,
    /// Most rows in one vendor call; 0 where unsupported.
    pub max_batch: usize,
    /// How an unclear write is settled in the usual case.
    pub repeat: VendorRepeat,
    /// Whether the vendor's answer tells each row's outcome.
    pub per_item_outcome: bool,
    /// Whether what was written can be read back.
    pub read_back: bool,
    /// What an integrator should know.
    pub note: &'static str,
}

/// How an unclear write is settled.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VendorRepeat {
    /// Sending it again changes nothing that is not meant.
    Harmless,
    /// Sending it again is harmless in a changed form.
    HarmlessWithFlag,
    /// A repeat that is refused as a conflict proves the first one.
    ConflictProves,
    /// It is never sent again; only a person can say.
    Never,
}

impl From<crate::domain::capability::RetrySafety> for VendorRepeat {
    fn from(repeat: crate::domain::capability::RetrySafety) -> Self {
        use crate::domain::capability::RetrySafety;
        match repeat {
            RetrySafety::Idempotent => Self::Harmless,
            RetrySafety::IdempotentWithFlag => Self::HarmlessWithFlag,
            RetrySafety::ConflictConfirms => Self::ConflictProves,
            RetrySafety::Unsafe => Self::Never,
        }
    }
}

impl From<&'static VendorDescriptor> for Vendor {
    fn from(descriptor: &'static VendorDescriptor) -> Self {
        let VendorDescriptor { kind, name, documentation, identities, clock_tolerance: _, capabilities } = descriptor;
        let identities = identities.iter().map(|kind| kind.member()).collect();
        Self {
            vendor: kind,
            name,
            documentation,
            identities,
            operations: capabilities.iter().map(Into::into).collect(),
        }
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
            repeat: repeat.into(),
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

fn vendor_example() -> Value {
    json!({
        "vendor": "startexam",
        "name": "StartExam",
        "documentation": "https://docs.startexam.com/",
        "identities": ["externalId"],
        "operations": [{
            "operation": "candidates.create", "supported": true, "required": ["/externalId"], "ignored": ["/userName"],
            "maxBatch": 500, "repeat": "harmless", "perItemOutcome": false, "readBack": false,
            "note": "Sending a person again changes nothing that is not meant.",
        }],
    })
}

fn vendor_list_example() -> Value {
    json!({ "items": [vendor_example()], "nextCursor": null })
}
