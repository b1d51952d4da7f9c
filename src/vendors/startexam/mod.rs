//! Outline.

use serde::Deserialize;

use super::{Connected, SettingFault, Setup};
use crate::domain::capability::{Capability, Descriptor, Operation};

/// Settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {}

/// What it can do.
pub static DESCRIPTOR: Descriptor = Descriptor {
    kind: "startexam",
    name: "",
    documentation: "",
    by_email: false,
    capabilities: [
        Capability::unsupported(Operation::CandidatesCreate, ""),
        Capability::unsupported(Operation::CandidatesUpdate, ""),
        Capability::unsupported(Operation::CandidatesDelete, ""),
        Capability::unsupported(Operation::AssignmentsCreate, ""),
        Capability::unsupported(Operation::AssignmentsCancel, ""),
        Capability::unsupported(Operation::ProgramsEmployees, ""),
    ],
};

/// Builds the adapter.
pub fn connect(_settings: Settings, _setup: &Setup<'_>) -> Result<Connected, Vec<SettingFault>> {
    todo!()
}
