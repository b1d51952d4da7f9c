//! Statements that both engines run, and the values bound to them.
//!
//! Both dialects know `$1`. `SQLite` takes it for a name and numbers the names by their first use, so the parameters of
//! a statement must first appear in the order of their numbers. The dialects differ in lists: `PostgreSQL` binds an
//! array, `SQLite` each element.

use std::borrow::Cow;

use crate::store::encryption::BlindIndex;

/// Text that sorts after every id.
pub(super) const AFTER_ALL: &str = "~";

/// Place of the parameters for the elements of a list in a statement for `SQLite`.
pub(super) const LIST: &str = "{list}";

/// A statement in both dialects; it has one list at most.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: &'static Sql,
    pub(super) values: Vec<SqlValue<'static>>,
}

impl Statement {
    pub(super) fn new<const N: usize>(sql: &'static Sql, values: [SqlValue<'static>; N]) -> Self {
        Self { sql, values: values.into() }
    }

    /// Returns the text of the value with this index.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        match self.values.get(index) {
            Some(SqlValue::Text(text)) => text.as_deref(),
            _ => None,
        }
    }

    /// Returns the bytes of the value with this index.
    pub(super) fn binary(&self, index: usize) -> Option<&[u8]> {
        match self.values.get(index) {
            Some(SqlValue::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the size of its values, roughly.
    pub(super) fn bytes(&self) -> usize {
        let size = |value: &SqlValue<'_>| match value {
            SqlValue::Text(text) => text.as_ref().map_or(0, |text| text.len()),
            SqlValue::Bytes(bytes) => bytes.len(),
            SqlValue::Number(_) | SqlValue::Flag(_) => size_of::<i64>(),
            SqlValue::Texts(texts) => texts.iter().map(String::len).sum(),
            SqlValue::Blinds(blinds) => size_of_val(&**blinds),
            SqlValue::Numbers(numbers) => size_of_val(&**numbers),
        };
        self.values.iter().map(size).sum()
    }
}

/// A value to bind.
#[derive(Debug, Clone)]
pub(super) enum SqlValue<'a> {
    Text(Option<Cow<'a, str>>),
    Number(Option<i64>),
    Flag(bool),
    Bytes(Cow<'a, [u8]>),
    Texts(Cow<'a, [String]>),
    Blinds(Cow<'a, [BlindIndex]>),
    Numbers(Cow<'a, [i64]>),
}

impl SqlValue<'_> {
    /// Copies what is borrowed, for a query on another thread.
    pub(super) fn into_owned(self) -> SqlValue<'static> {
        match self {
            Self::Text(text) => SqlValue::Text(text.map(|text| Cow::Owned(text.into_owned()))),
            Self::Number(number) => SqlValue::Number(number),
            Self::Flag(flag) => SqlValue::Flag(flag),
            Self::Bytes(bytes) => SqlValue::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Texts(texts) => SqlValue::Texts(Cow::Owned(texts.into_owned())),
            Self::Blinds(blinds) => SqlValue::Blinds(Cow::Owned(blinds.into_owned())),
            Self::Numbers(numbers) => SqlValue::Numbers(Cow::Owned(numbers.into_owned())),
        }
    }
}

/// Implements the conversions into a value.
macro_rules! from {
    ($($type:ty: $value:ident => $into:expr;)*) => {
        $(impl<'a> From<$type> for SqlValue<'a> {
            fn from($value: $type) -> Self {
                $into
            }
        })*
    };
}

from! {
    &'a str: text => Self::Text(Some(Cow::Borrowed(text)));
    &'a String: text => Self::Text(Some(Cow::Borrowed(text)));
    String: text => Self::Text(Some(Cow::Owned(text)));
    Option<&'a str>: text => Self::Text(text.map(Cow::Borrowed));
    Option<String>: text => Self::Text(text.map(Cow::Owned));
    i64: number => Self::Number(Some(number));
    Option<i64>: number => Self::Number(number);
    // A limit beyond the range of the column has the same effect as the largest one.
    usize: number => Self::Number(Some(i64::try_from(number).unwrap_or(i64::MAX)));
    bool: flag => Self::Flag(flag);
    Vec<u8>: bytes => Self::Bytes(Cow::Owned(bytes));
    &'a [String]: texts => Self::Texts(Cow::Borrowed(texts));
    Vec<String>: texts => Self::Texts(Cow::Owned(texts));
    &'a [BlindIndex]: blinds => Self::Blinds(Cow::Borrowed(blinds));
    &'a [i64]: numbers => Self::Numbers(Cow::Borrowed(numbers));
}

/// Collects values to bind, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        [$($crate::store::sql::SqlValue::from($value)),*]
    };
}
pub(super) use values;

/// Builds a statement from its parts: text, or the comparison of a column with the list of a parameter, which is bound as
/// such (`in`) or as one text of lines (`among`, of which a statement may have several, but which no index supports); or of the
/// tenant with a parameter, without its index (`tenant`).
macro_rules! sql {
    ($($part:tt)*) => {
        Sql { sqlite: concat!($(part!(sqlite $part)),*), postgres: concat!($(part!(postgres $part)),*) }
    };
}

macro_rules! part {
    ($dialect:ident $text:literal) => {
        $text
    };
    (sqlite [in $list:literal]) => {
        "IN ({list})"
    };
    (sqlite [not in $list:literal]) => {
        "NOT IN ({list})"
    };
    (postgres [in $list:literal]) => {
        concat!("= ANY(", $list, ")")
    };
    (postgres [not in $list:literal]) => {
        concat!("<> ALL(", $list, ")")
    };
    (sqlite [$column:literal among $list:literal]) => {
        concat!("instr(", $list, ", char(10) || ", $column, " || char(10)) > 0")
    };
    (postgres [$column:literal among $list:literal]) => {
        concat!("strpos(", $list, ", chr(10) || ", $column, " || chr(10)) > 0")
    };
    (sqlite [tenant $name:literal]) => {
        concat!("+tenant = ", $name)
    };
    (postgres [tenant $name:literal]) => {
        concat!("tenant IS NOT DISTINCT FROM ", $name)
    };
}

/// Builds a statement that reads intents in the order of a column, up to a number and up to a size in bytes: the
/// sealed content is read only for those that fit.
macro_rules! limited_intents {
    ($order:literal, $condition:literal, $rows:literal, $bytes:literal) => {
        sql!(
            "WITH part AS (SELECT record, " $order " AS ordinal, octet_length(sealed) AS bytes FROM intents WHERE "
            $condition " ORDER BY ordinal, record LIMIT " $rows "),
             measured AS (
                 SELECT record, ordinal, sum(bytes) OVER (ORDER BY ordinal, record) - bytes AS before FROM part)
             SELECT record, tenant, connection, sealed FROM measured JOIN intents USING (record)
             WHERE before < " $bytes " ORDER BY ordinal, record"
        )
    };
}

/// The columns of an operation.
macro_rules! operations {
    ($($rest:tt)*) => {
        sql!(
            "SELECT id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling, total, created,
                 started, finished, request_id, traceparent, coalesce(accepted, created), replay FROM "
            $($rest)*
        )
    };
}

/// Builds a statement that reads a page of the tenant's candidates, newest first.
macro_rules! listed_candidates {
    ([$($condition:tt)*], $limit:literal) => {
        sql!(
            "SELECT id, tenant, connection, sealed FROM candidates
             WHERE tenant = $1 AND id < $2 AND (CAST($3 AS text) IS NULL OR connection = $3)
               AND (CAST($4 AS text) IS NULL OR state = $4)"
            $($condition)*
            " ORDER BY id DESC LIMIT " $limit
        )
    };
}

/// Declares the statements, and the list of them for the tests.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: &Sql = &$sql;)*

        #[cfg(test)]
        pub(super) const ALL: &[(&str, &Sql)] = &[$((stringify!($name), $name)),*];
    };
}

pub(super) use {part, sql, statements};

statements! {
    PING = sql!("SELECT count(*) FROM keys");

    CANDIDATE = sql!("SELECT id, tenant, connection, sealed, photo FROM candidates WHERE id = $1 AND tenant = $2");
    CANDIDATES_WITHOUT_PHOTO = sql!(
        "SELECT id, tenant, connection, sealed FROM candidates WHERE tenant = $1 AND id " [in "$2"]
    );

    LISTED_CANDIDATES = listed_candidates!([], "$5");
    /// As [`LISTED_CANDIDATES`], for a state other than `registered`: the index that has these states is used only if
    /// its own condition is in the statement.
    LISTED_CANDIDATES_OF_STATE = listed_candidates!([" AND state <> 'registered' AND state = $4"], "$5");
    LISTED_CANDIDATES_OF_GROUP = listed_candidates!(
        [" AND octet_length(group_index) > 0 AND group_index " [in "$5"]], "$6"
    );
    /// As [`LISTED_CANDIDATES_OF_GROUP`], and those whose group is not indexed yet.
    LISTED_CANDIDATES_PERHAPS_OF_GROUP = listed_candidates!(
        [" AND (group_index IS NULL OR group_index " [in "$5"] ")"], "$6"
    );
    CANDIDATES_WITHOUT_GROUP_INDEX = sql!(
        "SELECT id, tenant, connection, sealed FROM candidates WHERE group_index IS NULL AND id > $1 ORDER BY id LIMIT $2"
    );
    IS_A_GROUP_INDEX_MISSING = sql!(
        "SELECT EXISTS (SELECT 1 FROM candidates WHERE group_index IS NULL AND id > '')"
    );
    /// Stores the index value of a group, unless the candidate has changed since it was read.
    INDEX_GROUP = sql!(
        "UPDATE candidates SET group_index = $1 WHERE id = $2 AND tenant = $3 AND modified = $4 AND group_index IS NULL"
    );

    /// Stores that a candidate that cannot be read is in no group, unless it has changed since.
    INDEX_NO_GROUP = sql!(
        "UPDATE candidates SET group_index = $1 WHERE id = $2 AND sealed = $3 AND group_index IS NULL"
    );

    /// Every connection that has identities. `SQLite` keeps a list of those that ever had one: a few names of the operator's;
    /// elsewhere it takes one index step per
    /// connection, whereas `DISTINCT` would scan the whole primary key.
    CONNECTIONS = Sql {
        sqlite: "SELECT name FROM identity_connections",
        postgres: "WITH RECURSIVE step (name) AS (
                       SELECT min(connection) FROM identities
                       UNION ALL
                       SELECT (SELECT min(connection) FROM identities WHERE connection > name) FROM step
                       WHERE name IS NOT NULL
                   )
                   SELECT name FROM step WHERE name IS NOT NULL",
    };

    /// Every tenant that has candidates, as [`CONNECTIONS`].
    TENANTS = sql!(
        "WITH RECURSIVE step (name) AS (
             SELECT min(tenant) FROM candidates
             UNION ALL
             SELECT (SELECT min(tenant) FROM candidates WHERE tenant > name) FROM step WHERE name IS NOT NULL
         )
         SELECT name FROM step WHERE name IS NOT NULL"
    );
    /// Whether records have spellings of identities that are not their own key.
    HAS_FORMER_SPELLINGS = sql!("SELECT EXISTS (SELECT 1 FROM upkeep WHERE found > 0)");

    ASSIGNMENT = sql!("SELECT id, tenant, connection, sealed FROM assignments WHERE id = $1 AND tenant = $2");
    ASSIGNMENTS_BY_ID = sql!(
        "SELECT id, tenant, connection, sealed FROM assignments WHERE tenant = $1 AND id " [in "$2"]
    );
    /// The tenant's assignments of a subject in any of its forms, newest first. `+` keeps `SQLite` from the index of the tenant,
    /// which has the order that is asked for, and all of the tenant's bookings.
    BOOKINGS = Sql {
        sqlite: "SELECT id, tenant, connection, sealed FROM assignments
                 WHERE connection = $1 AND subject IN ({list}) AND +tenant = $3 ORDER BY id DESC",
        postgres: "SELECT id, tenant, connection, sealed FROM assignments
                   WHERE connection = $1 AND subject = ANY($2) AND tenant = $3 ORDER BY id DESC",
    };
    /// Whether any tenant has an assignment of a subject in any of its forms.
    IS_SUBJECT_KNOWN = sql!(
        "SELECT EXISTS (SELECT 1 FROM assignments WHERE connection = $1 AND subject " [in "$2"] ")"
    );
    /// Candidates that are gone while assignments still name them.
    PARTIALLY_ERASED = sql!(
        "SELECT DISTINCT candidate_id FROM assignments AS booked
         WHERE candidate_id IS NOT NULL AND candidate_id > $1
           AND NOT EXISTS (SELECT 1 FROM candidates WHERE id = booked.candidate_id)
         ORDER BY candidate_id LIMIT $2"
    );

    INTENT = sql!("SELECT record, tenant, connection, sealed FROM intents WHERE record = $1");
    /// The open intents of a subject in any of its forms, oldest first.
    INTENTS_OF = sql!(
        "SELECT record, tenant, connection, sealed FROM intents WHERE subject IS NOT NULL AND subject "
        [in "$1"] " ORDER BY started, record"
    );
    /// A connection's open intents that change a program's employees, oldest first; an index supports the query.
    ENROLMENT_INTENTS = sql!(
        "SELECT record, tenant, connection, sealed FROM intents
         WHERE connection = $1 AND operation = 'programs.employees' ORDER BY started, record"
    );
    DUE_INTENTS = limited_intents!(
        "due", "connection = $1 AND owner IS NULL AND due IS NOT NULL AND (due <= $2 OR due > $3)", "$4", "$5"
    );
    ORPHANED_INTENTS = limited_intents!(
        "started", "owner IS NOT NULL AND owner IN (SELECT id FROM instances WHERE ended)", "$1", "$2"
    );
    OWN_INTENTS = limited_intents!("record", "owner = $1 AND record > $2", "$3", "$4");
    UNSETTLED = sql!(
        "SELECT connection, operation, count(*) FROM intents WHERE owner IS NULL GROUP BY connection, operation"
    );

    /// Binds a key to the record its write has led to.
    BIND_KEY = sql!("UPDATE idempotency_keys SET record = $1 WHERE token = $2");
    /// Stores the reply of a key, unless there is one already.
    COMPLETE_KEY = sql!(
        "UPDATE idempotency_keys SET owner = NULL, sealed = $1 WHERE token = $2 AND sealed IS NULL"
    );
    RELEASE_KEY = sql!("UPDATE idempotency_keys SET owner = NULL WHERE token = $1");

    OPEN_OPERATION = sql!(
        "INSERT INTO operations (id, tenant, client, kind, connection, strict, fail_on_errors, state, cancelling,
             total, created, started, finished, request_id, traceparent, accepted, owner, replay)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
    );
    /// Updates the mutable columns of an operation. Only a requeue clears `cancelling`.
    UPDATE_OPERATION = sql!(
        "UPDATE operations SET connection = $1, fail_on_errors = $2, state = $3, total = $4, started = $5,
             finished = $6 WHERE id = $7"
    );
    CANCEL_OPERATION = sql!(
        "UPDATE operations SET cancelling = true WHERE id = $1 AND state IN ('queued', 'running')"
    );
    QUEUE_AGAIN = sql!(
        "UPDATE operations SET state = 'queued', cancelling = false, finished = NULL, accepted = $1 WHERE id = $2"
    );
    REMOVE_OPERATION = sql!("DELETE FROM operations WHERE id = $1");
    OPERATION = operations!("operations WHERE id = $1 AND tenant = $2");
    /// A page of the tenant's operations, newest first.
    OPERATIONS = operations!(
        "operations WHERE tenant = $1 AND state <> 'receiving' AND id < $2
             AND (CAST($3 AS text) IS NULL OR state = $3) AND (CAST($4 AS text) IS NULL OR kind = $4)
             AND (CAST($5 AS text) IS NULL OR connection = $5)
         ORDER BY id DESC LIMIT $6"
    );
    UNFINISHED_OPERATIONS = operations!(
        "(SELECT *, row_number() OVER (
              PARTITION BY connection, tenant, kind = 'program_employees' ORDER BY id) AS place
          FROM operations WHERE state IN ('queued', 'running') AND id " [not in "$1"] ") AS unfinished
         WHERE place <= $2 ORDER BY place, id"
    );
    /// The running operations with the number of their rows that have not ended.
    RUNNING_OPERATIONS = sql!(
        "SELECT o.id, o.connection,
                CAST(coalesce(sum(c.items) FILTER (WHERE c.state IN ('waiting', 'claimed')), 0) AS bigint)
         FROM operations o LEFT JOIN operation_counts c ON c.operation = o.id
         WHERE o.state = 'running' GROUP BY o.id, o.connection"
    );
    /// The numbers of rows of operations by state.
    ITEM_COUNTS = sql!(
        "SELECT operation, state, CAST(sum(items) AS bigint) FROM operation_counts WHERE operation " [in "$1"]
        " GROUP BY operation, state"
    );
    /// The numbers of rows of operations whose open write the gateway settles by itself: it waits for its next attempt,
    /// a later attempt is under way, or the instance that was sending it has ended. Excludes first attempts and writes
    /// left to a person. `length` permits PostgreSQL the index of states (`postgres/migrations/0009_rows.sql`).
    SETTLING_ITEMS = sql!(
        "SELECT i.operation, CAST(count(*) AS bigint) FROM operation_items i JOIN intents w ON w.record = i.record
         WHERE i.operation " [in "$1"] " AND i.state IN ('claimed', 'unknown') AND length(i.state) > 0
           AND ((w.owner IS NULL AND w.due IS NOT NULL)
                OR (w.owner IS NOT NULL AND w.attempts > 1)
                OR w.owner IN (SELECT id FROM instances WHERE ended))
         GROUP BY i.operation"
    );
    /// The numbers of open rows of operations that have not ended.
    OPEN_ITEMS = sql!(
        "SELECT CAST(coalesce(sum(items) FILTER (WHERE c.state = 'waiting'), 0) AS bigint),
                CAST(coalesce(sum(items) FILTER (WHERE c.state = 'claimed'), 0) AS bigint)
         FROM operations o JOIN operation_counts c ON c.operation = o.id
         WHERE o.state IN ('receiving', 'queued', 'running')"
    );
    /// The position and the concatenated subject hashes of each row.
    ITEM_SUBJECTS = sql!(
        "SELECT position, subjects FROM operation_items
         WHERE operation = $1 AND subjects IS NOT NULL ORDER BY position"
    );

    /// Number and sealed content of the tenant's entries after this one, in order.
    AUDIT = sql!("SELECT seq, sealed FROM audit WHERE tenant = $1 AND seq > $2 ORDER BY seq LIMIT $3");

    REMEMBER_TIME = sql!(
        "INSERT INTO clock (one, seen) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET seen = excluded.seen"
    );
    REMEMBERED_TIME = sql!("SELECT seen FROM clock");
}
