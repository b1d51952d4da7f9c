//! GUIDs in the vendor's form.

use uuid::Uuid;

/// Normalises a GUID to the vendor's form, lower case with hyphens; accepts braces and bare digits. Rejects the nil
/// GUID.
pub(super) fn guid(text: &str) -> Option<String> {
    // Only the `urn:uuid:` form is longer, and the vendor does not know it.
    let id = Uuid::try_parse(text).ok().filter(|id| text.len() <= 38 && !id.is_nil())?;
    Some(id.hyphenated().to_string())
}
