//! The columns of tables: each is a field of the row's JSON, named with dots (`name.givenName`) and compared exactly.

use crate::domain::table::BulkItem;

/// What the cells of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// Text, taken as it is.
    Text,
    /// Text that identifies a person or a thing, and is worthless if damaged.
    Id,
    /// A word, a date or a time; white space around it does not count.
    Word,
    /// A flag (see [`parse_flag`](super::flags::parse_flag)).
    Flag,
    /// A telephone number of this type; in JSON the numbers are a list.
    Phone(&'static str),
}

/// The columns of candidates.
const CANDIDATES: &[(&str, CellKind)] = &[
    ("itemId", CellKind::Text),
    ("connection", CellKind::Word),
    ("externalId", CellKind::Id),
    ("userName", CellKind::Id),
    ("password", CellKind::Text),
    ("name.givenName", CellKind::Text),
    ("name.familyName", CellKind::Text),
    ("name.formatted", CellKind::Text),
    ("email", CellKind::Text),
    ("phoneNumbers.mobile", CellKind::Phone("mobile")),
    ("phoneNumbers.work", CellKind::Phone("work")),
    ("address.streetAddress", CellKind::Text),
    ("address.locality", CellKind::Text),
    ("address.region", CellKind::Text),
    ("address.postalCode", CellKind::Text),
    ("address.country", CellKind::Text),
    ("group", CellKind::Text),
    ("birthDate", CellKind::Word),
    ("gender", CellKind::Text),
    ("photo", CellKind::Text),
    ("ifExists", CellKind::Word),
    ("active", CellKind::Flag),
];

/// The columns of bookings.
const ASSIGNMENTS: &[(&str, CellKind)] = &[
    ("itemId", CellKind::Text),
    ("connection", CellKind::Word),
    ("candidate.id", CellKind::Id),
    ("candidate.externalId", CellKind::Id),
    ("candidate.email", CellKind::Text),
    ("assessment", CellKind::Id),
    ("validFrom", CellKind::Word),
    ("validUntil", CellKind::Word),
    ("center", CellKind::Text),
    ("notify", CellKind::Word),
    ("ifExists", CellKind::Word),
    ("reference", CellKind::Id),
    ("passwordless", CellKind::Flag),
    ("proctoring.enabled", CellKind::Flag),
];

/// A field of a row: its path in the row's JSON, and what its cells hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnTarget {
    /// The names from the row to the field.
    pub path: Vec<String>,
    /// What the cells hold.
    pub cell: CellKind,
}

/// Returns the names of the columns, apart from those that end with a name of the caller's own (see [`open_prefix`]).
pub fn names(kind: BulkItem) -> impl Iterator<Item = &'static str> + Clone {
    known(kind).iter().map(|(name, _)| *name)
}

/// Returns the prefix of columns that end with a name of the caller's own: `custom.<name>`.
#[must_use]
pub const fn open_prefix(kind: BulkItem) -> &'static str {
    match kind {
        BulkItem::Candidates => "custom.",
        BulkItem::Assignments => "proctoring.parameters.",
    }
}

/// Returns whether there is a column of this name.
#[must_use]
pub fn is_known(kind: BulkItem, name: &str) -> bool {
    find(kind, name).is_some()
}

/// Returns the field that the column of this name holds.
#[must_use]
pub fn find(kind: BulkItem, name: &str) -> Option<ColumnTarget> {
    if let Some((_, cell)) = known(kind).iter().find(|(known, _)| *known == name) {
        let path = match cell {
            CellKind::Phone(_) => vec!["phoneNumbers".to_owned()],
            _ => name.split('.').map(str::to_owned).collect(),
        };
        return Some(ColumnTarget { path, cell: *cell });
    }
    let open = open_prefix(kind);
    let own = name.strip_prefix(open).filter(|own| !own.is_empty())?;
    // Everything after the prefix is one name, dots included.
    let path = open.split('.').filter(|part| !part.is_empty()).chain([own]).map(str::to_owned).collect();
    Some(ColumnTarget { path, cell: CellKind::Text })
}

const fn known(kind: BulkItem) -> &'static [(&'static str, CellKind)] {
    match kind {
        BulkItem::Candidates => CANDIDATES,
        BulkItem::Assignments => ASSIGNMENTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_fields_by_their_path() {
        let path = |kind, name| find(kind, name).map(|target| target.path.join("/"));
        assert_eq!(path(BulkItem::Candidates, "name.givenName").as_deref(), Some("name/givenName"));
        assert_eq!(path(BulkItem::Candidates, "phoneNumbers.work").as_deref(), Some("phoneNumbers"));
        assert_eq!(path(BulkItem::Candidates, "custom.a.b").as_deref(), Some("custom/a.b"));
        let parameter = path(BulkItem::Assignments, "proctoring.parameters.x");
        assert_eq!(parameter.as_deref(), Some("proctoring/parameters/x"));
        for (kind, name) in [
            (BulkItem::Candidates, "custom."),
            (BulkItem::Candidates, "assessment"),
            (BulkItem::Assignments, "custom.x"),
            (BulkItem::Candidates, "Email"),
            (BulkItem::Candidates, ""),
        ] {
            assert!(!is_known(kind, name), "{name}");
        }
    }
}
