//! Secrets inside a seal, the one place where they are written down.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

/// A [`Secret`] has no `Serialize` on purpose; inside a seal, and only there, it is written down.
#[expect(clippy::ref_option, reason = "the signature serde calls")]
pub(super) fn write_secret<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

pub(super) fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}
