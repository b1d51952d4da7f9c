//! Swagger UI at `/docs`, from assets embedded in the program. Every address in it is relative and it contacts no other
//! host, so it works offline, below any path and behind a proxy that strips one.

use std::io::Read as _;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;

use crate::domain::error::Code;
use crate::http::app_state::AppState;
use crate::http::extract::request_parts::PathSegment;
use crate::http::problem::ApiError;

/// Forbids anything from other hosts, inline content except the styles Swagger UI sets itself, and framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The assets of Swagger UI that are served; the rest of the package is for other uses.
const ASSETS: [&str; 4] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-16x16.png", "favicon-32x32.png"];

/// The assets as they are served. The program embeds them compressed, which saves 3 MB, and unpacks them all together
/// on the first request: a slow reader must not hold a copy.
static PARTS: LazyLock<Vec<Asset>> = LazyLock::new(|| ASSETS.into_iter().filter_map(unpacked).collect());

struct Asset {
    name: &'static str,
    content_type: String,
    bytes: Bytes,
}

/// The page. Its styles come last, so that they prevail.
const PAGE: &str = include_str!("swagger_ui/index.html");

/// The page's own styles, above all for narrow screens.
const STYLE: &str = include_str!("swagger_ui/page.css");

/// Disables the badge of `validatorUrl`, which would send the document's address to a foreign host. Selects the server
/// the page came from: requests to a different public address would violate the page's own policy. Does not persist the
/// key a reader enters, because the browser would store it in clear text. The filter box searches tags, methods, paths
/// and summaries; Swagger UI's own only finds tags, and only as they are spelt.
const INITIALIZER: &str = include_str!("swagger_ui/initializer.js");

/// Builds the routes of the documentation.
pub(in crate::http) fn routes() -> Router<AppState> {
    Router::new()
        .route("/docs", get(async || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "docs/")])))
        .route("/docs/", get(async || asset("index.html")))
        .route("/docs/{file}", get(async |PathSegment(file): PathSegment| asset(&file)))
}

fn asset(name: &str) -> Result<Response, ApiError> {
    let missing = || ApiError::new(Code::NotFound, "No such file in the documentation.");
    let own = match name {
        "index.html" => Some(("text/html; charset=utf-8", PAGE)),
        "page.css" => Some(("text/css; charset=utf-8", STYLE)),
        "swagger-initializer.js" => Some(("text/javascript; charset=utf-8", INITIALIZER)),
        _ => None,
    };
    if let Some((content_type, text)) = own {
        return Ok((headers(content_type), text).into_response());
    }
    let part = PARTS.iter().find(|part| part.name == name).ok_or_else(missing)?;
    Ok((headers(&part.content_type), part.bytes.clone()).into_response())
}

fn unpacked(name: &'static str) -> Option<Asset> {
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("../openapi.json"))).ok().flatten()?;
    let mut bytes = Vec::new();
    if file.gzpipped {
        GzDecoder::new(&*file.bytes).read_to_end(&mut bytes).ok()?;
    } else {
        bytes.extend_from_slice(&file.bytes);
    }
    Some(Asset { name, content_type: file.content_type, bytes: bytes.into() })
}

fn headers(content_type: &str) -> [(HeaderName, HeaderValue); 4] {
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("text/plain"));
    [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // A new version of the program may ship new assets.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::openapi::TITLE;

    #[tokio::test]
    async fn every_asset_is_served_locally() {
        let page = asset("index.html").unwrap().into_body().collect().await.unwrap().to_bytes();
        let page = std::str::from_utf8(&page).unwrap();
        let addresses = page.split(['"', '\'']).skip(1).step_by(2).collect::<Vec<_>>();
        let parts = addresses.iter().filter(|text| text.contains('.') && !text.contains(' ')).collect::<Vec<_>>();
        assert!(parts.len() >= 5, "{parts:?}");
        assert!(page.contains(&format!("<title>{TITLE}</title>")), "{page}");
        for part in parts {
            assert!(asset(part.trim_start_matches("./")).is_ok(), "{part}");
        }
        assert!(!page.contains("://"), "no address with a host");
        assert!(!page.contains("<script>") && !page.contains("onload="), "the policy forbids inline scripts");
    }

    #[test]
    fn other_files_are_not_served() {
        for name in ["", "oauth2-redirect.html", "../Cargo.toml", "swagger-ui.js", "index.css"] {
            assert!(asset(name).is_err(), "{name}");
        }
        assert!(!POLICY.contains("http") && !INITIALIZER.contains("://"));
    }
}
