//! Permission scopes of clients: `candidates:read`, `programs:write`, …

use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($variant:ident $word:literal $meaning:literal;)*) => {
        /// A permission of a client.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scope {
            $(#[doc = $meaning] #[serde(rename = $word)] $variant,)*
        }

        impl Scope {
            /// All scopes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the word used in configuration and tokens.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Returns a description of what the scope permits.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

scopes! {
    CandidatesRead "candidates:read" "Read candidates.";
    CandidatesWrite "candidates:write" "Register, change, delete and settle candidates.";
    AssignmentsRead "assignments:read" "Read assignments, including launch links.";
    AssignmentsWrite "assignments:write" "Book, cancel and settle assignments.";
    ProgramsWrite "programs:write" "Enrol and withdraw employees of programs.";
    OperationsRead "operations:read" "Read operations and their items.";
    OperationsWrite "operations:write" "Cancel and retry operations.";
    CatalogueRead "catalogue:read" "Read assessments, programs, vendors and connections.";
    ConnectionsCheck "connections:check" "Check connections.";
    ExchangesRead "exchanges:read" "Read recent exchanges with vendors.";
    AuditRead "audit:read" "Read the audit log.";
}
