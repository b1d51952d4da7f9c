//! What opening a store would change, found out without changing anything.

/// What opening a store to serve from it would change there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What would become of the schema.
    pub schema: SchemaChange,
    /// Whether the key that new records are sealed with is new to the store and would be registered.
    pub registers_key: bool,
}

/// What would become of a store's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaChange {
    /// It is up to date.
    None,
    /// It would be created.
    Create,
    /// It would be brought from one version to another.
    Migrate {
        /// The version it has.
        from: i64,
        /// The version it would have.
        to: i64,
    },
}

impl SchemaChange {
    /// The change from this version, where 0 is none at all, to the latest.
    pub(super) fn between(from: i64, to: usize) -> Self {
        let to = i64::try_from(to).unwrap_or(i64::MAX);
        match from {
            0 => Self::Create,
            _ if from == to => Self::None,
            _ => Self::Migrate { from, to },
        }
    }
}
