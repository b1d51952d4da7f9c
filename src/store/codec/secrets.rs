//! Serialisation of secrets inside sealed records.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

/// Writes a secret. [`Secret`] has no `Serialize` on purpose; secrets may be serialised only inside sealed records.
#[expect(clippy::ref_option, reason = "serde requires this signature")]
pub(super) fn write_secret<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

pub(super) fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}
