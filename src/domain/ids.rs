//! Opaque identifiers with a prefix (`cand_…`, `asg_…`, `op_…`, `exc_…`): made by the gateway, in order of creation, and
//! refused when malformed, so that no odd text reaches the store.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::system::System;

/// Text that is no identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of the form {prefix}<32 hexadecimal digits>")]
pub struct InvalidId {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier (RFC 9562, version 7: later ones sort after earlier ones).
            #[must_use]
            pub fn generate(environment: &System) -> Self {
                Self(format!("{}{}", Self::PREFIX, fresh(environment).simple()))
            }

            /// The identifier in this text.
            ///
            /// # Errors
            /// [`InvalidId`] for anything that [`Self::generate`] could not have made.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidId { prefix: Self::PREFIX })?;
                let valid = digits.len() == 32
                    && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if valid { Ok(Self(text.to_owned())) } else { Err(InvalidId { prefix: Self::PREFIX }) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// Names a candidate.
    CandidateId,
    "cand_"
);
id!(
    /// Names an assignment.
    AssignmentId,
    "asg_"
);
id!(
    /// Names an operation.
    OperationId,
    "op_"
);
id!(
    /// Names an exchange: one caller's request with the vendor calls it led to.
    ExchangeId,
    "exc_"
);

impl ExchangeId {
    /// Makes the id of the exchange's request, for requests that bring none of their own: the same digits under `req_`.
    #[must_use]
    pub fn request_id(&self) -> String {
        format!("req_{}", &self.0[Self::PREFIX.len()..])
    }
}

/// A UUID (version 7) of this moment: later ones are greater.
pub(crate) fn fresh(environment: &System) -> Uuid {
    let millis = u64::try_from(environment.now().as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &environment.random()).into_uuid()
}
