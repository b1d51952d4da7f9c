//! The stylesheet and the scripts of the console. Their addresses contain a hash of their content, so browsers keep them
//! until a new version of the program has others.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::http::console::api::ConsoleError;

/// Number of bytes of the hash in an address.
const HASH_BYTES: usize = 8;

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Every asset: its name, its media type and its content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("console.css", CSS, include_str!("assets/console.css")),
    ("console.js", JAVASCRIPT, include_str!("assets/console.js")),
];

static ADDRESSES: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let address = |(name, _, content): &(&'static str, &str, &str)| {
        let hash = HEXLOWER.encode(&Sha256::digest(content.as_bytes())[..HASH_BYTES]);
        (*name, format!("assets/{name}?{hash}"))
    };
    ASSETS.iter().map(address).collect()
});

/// Returns the address of an asset below `console/`.
pub(in crate::http::console) fn address(name: &str) -> &'static str {
    ADDRESSES.iter().find(|(known, _)| *known == name).map_or("", |(_, address)| address)
}

/// Serves an asset.
pub(in crate::http::console) async fn asset(Path(name): Path<String>) -> Result<Response, ConsoleError> {
    let found = ASSETS.iter().find(|(known, ..)| *known == name);
    let (_, media_type, content) =
        found.ok_or(ConsoleError::Refused(StatusCode::NOT_FOUND, "The console has no such file."))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    Ok((headers, *content).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_content() {
        let address = address("console.css");
        let hash = HEXLOWER.encode(&Sha256::digest(include_str!("assets/console.css").as_bytes()));
        assert_eq!(address, format!("assets/console.css?{}", &hash[..16]));
    }
}
