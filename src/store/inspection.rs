//! Dry run of opening a store: reports what would change without changing anything.

/// Changes that opening a store to serve from it would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Change to the schema.
    pub schema: SchemaChange,
    /// Whether the current encryption key is new to the store and would be registered.
    pub registers_key: bool,
}

/// Change to the schema of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaChange {
    /// It is up to date.
    None,
    /// It would be created.
    Create,
    /// It would be migrated from one version to another.
    Migrate {
        /// The version it has.
        from: i64,
        /// The version it would have.
        to: i64,
    },
}

impl SchemaChange {
    /// Returns the change from version `from` (0 if there is no schema) to the latest.
    pub(super) fn between(from: i64, to: usize) -> Self {
        let to = i64::try_from(to).unwrap_or(i64::MAX);
        match from {
            0 => Self::Create,
            _ if from == to => Self::None,
            _ => Self::Migrate { from, to },
        }
    }
}
