//! Extractors and their parts: they parse a request strictly and collect every error before they reject it.

pub(super) mod accept;
pub(super) mod body;
pub(super) mod content_coding;
pub(super) mod fingerprint;
pub(super) mod idempotency;
pub(super) mod merge_patch;
pub(super) mod prefer;
pub(super) mod request_parts;
pub(super) mod strict_json;
pub(super) mod validate;
pub(super) mod write_request;
