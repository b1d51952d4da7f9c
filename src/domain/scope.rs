//! Permission scopes of clients: `candidates:read`, `programs:write`, …

use super::words::words;

/// A set of scopes: what a request may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeSet(u32);

impl ScopeSet {
    /// Returns the set of all scopes.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Returns whether the set has this scope.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

// Each scope has a bit.
const _: () = assert!(Scope::ALL.len() <= u32::BITS as usize);

const fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

macro_rules! scopes {
    ($($variant:ident $word:tt $meaning:literal;)*) => {
        words! {
            /// A permission of a client, as named in configuration and tokens.
            #[derive(PartialOrd, Ord)]
            pub enum Scope { $(#[doc = $meaning] $variant $word,)* }
        }

        impl Scope {
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
    ResultsRead "results:read" "Read results and their versions, and ask the vendor for an assignment's report.";
    ReportsRead "reports:read" "Read the vendors' reports, including their raw bodies.";
    ReportsWrite "reports:write" "Match and dismiss reports, and read them again.";
    EventsRead "events:read" "Read events.";
    WebhooksRead "webhooks:read" "Read webhooks and their deliveries.";
    WebhooksWrite "webhooks:write" "Create, change and delete webhooks, and have events delivered again.";
    AuditRead "audit:read" "Read the audit log.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_scopes_that_it_is_made_of() {
        let set: ScopeSet = [Scope::CandidatesRead, Scope::AuditRead].into_iter().collect();
        for scope in Scope::ALL {
            assert!(ScopeSet::all().contains(*scope) && !ScopeSet::default().contains(*scope));
            assert_eq!(set.contains(*scope), matches!(scope, Scope::CandidatesRead | Scope::AuditRead), "{scope:?}");
        }
    }
}
