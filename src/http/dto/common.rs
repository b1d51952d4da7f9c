//! Types that several documents share.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::error::{Code, FieldError, Responsibility};
use crate::domain::outcome::Outcome;
use crate::http::extract::validate::{ApiInput, word};

/// Declares a page of a list.
macro_rules! page_document {
    ($list:ident, $item:ident, $example:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        #[schema(examples($example))]
        pub struct $list {
            /// The entries of this page.
            pub items: Vec<$item>,
            /// The `cursor` of the next page; `null` at the end.
            #[schema(required = true)]
            pub next_cursor: Option<String>,
        }
    };
}
pub(super) use page_document;

/// Declares an enum of words in a response `from` one of the service, or in a request `into` one of the domain or the
/// service, with the same variants; or one without a counterpart. The words are the variants in snake case, and the doc
/// comments describe them in the API.
macro_rules! word_document {
    ($(#[$($meta:tt)*])* pub enum $name:ident from $source:ident { $($(#[$($doc:tt)*])* $variant:ident,)* }) => {
        word_document! {
            $(#[$($meta)*])*
            #[derive(Debug, Clone, Copy, Serialize)]
            pub enum $name { $($(#[$($doc)*])* $variant,)* }
        }

        impl From<$source> for $name {
            fn from(source: $source) -> Self {
                match source { $($source::$variant => Self::$variant,)* }
            }
        }
    };
    ($(#[$($meta:tt)*])* pub enum $name:ident into $target:ident { $($(#[$($doc:tt)*])* $variant:ident,)* }) => {
        word_document! {
            $(#[$($meta)*])*
            #[derive(Debug, Clone, Copy, Deserialize)]
            pub enum $name { $($(#[$($doc)*])* $variant,)* }
        }

        impl From<$name> for $target {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant,)* }
            }
        }
    };
    ($(#[$($meta:tt)*])* pub enum $name:ident { $($(#[$($doc:tt)*])* $variant:ident,)* }) => {
        #[derive(ToSchema)]
        $(#[$($meta)*])*
        #[serde(rename_all = "snake_case")]
        #[schema(description = $crate::domain::words::describe(
            &[$($crate::domain::words::doc_text!($($meta)*)),*],
            &[$((
                &*$crate::domain::words::snake_case(stringify!($variant)),
                &[$($crate::domain::words::doc_text!($($doc)*)),*],
            )),*],
        ))]
        pub enum $name { $($(#[$($doc)*])* $variant,)* }
    };
}
pub(super) use word_document;

/// When the gateway's record was created and last changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// When the record was created.
    #[schema(value_type = String, format = DateTime)]
    pub created: Moment,
    /// When the record was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub last_modified: Moment,
}

impl Meta {
    pub(super) fn of(created: Timestamp, last_modified: Timestamp) -> Self {
        Self { created: created.into(), last_modified: last_modified.into() }
    }
}

/// A point in time by the gateway's clock: RFC 3339 in UTC with three decimals, truncated, so that it is never later
/// than the event. Times the caller gave are returned unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Moment(Timestamp);

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        write!(f, "{time:.3}")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The true outcome of an unknown write, as a person verified it at the vendor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "outcome": "applied" })))]
pub struct Settlement {
    /// The verified outcome.
    #[serde(default, deserialize_with = "word")]
    #[schema(required = true, nullable = false)]
    outcome: Option<SettledOutcome>,
}

word_document! {
    /// An outcome a person can record.
    pub enum SettledOutcome into Outcome {
        /// The vendor has applied it.
        Applied,
        /// The vendor has not applied it.
        NotApplied,
    }
}

impl ApiInput for Settlement {
    type Checked = Outcome;

    fn checked(self) -> Result<Outcome, Vec<FieldError>> {
        let missing = || vec![FieldError::missing("/outcome", "is missing")];
        self.outcome.map(Into::into).ok_or_else(missing)
    }
}

/// A statement that the process responds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({ "status": "ok" })))]
pub struct Alive {
    /// Always `ok`.
    pub status: &'static str,
}

/// A kind of problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(problem_kind_example))]
pub struct ProblemKind {
    /// The code to act on.
    pub code: String,
    /// The kind of problem in one sentence.
    pub title: String,
    /// The HTTP status of a response with this code.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Who must act.
    pub origin: Responsibility,
    /// Whether the same request can succeed later without any change.
    pub retryable: bool,
    /// What the code means.
    pub meaning: String,
    /// What the responsible party should do.
    pub action: String,
}

fn problem_kind_example() -> Value {
    let code = Code::VendorTimeout;
    json!({
        "code": code.as_str(), "title": code.title(), "status": 504, "origin": "vendor", "retryable": code.retryable(),
        "meaning": code.meaning(), "action": code.action(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_truncated_to_three_decimals() {
        for (time, shown) in [
            ("2026-11-22T13:42:21.024999999Z", "2026-11-22T13:42:21.024Z"),
            ("2026-11-22T13:42:21.999999999Z", "2026-11-22T13:42:21.999Z"),
            ("2026-11-22T13:42:21Z", "2026-11-22T13:42:21.000Z"),
            ("2026-11-22T13:42:21.5+02:00", "2026-11-22T11:42:21.500Z"),
        ] {
            assert_eq!(json!(Moment::from(time.parse::<Timestamp>().unwrap())), shown);
        }
    }
}
