//! The `WWW-Authenticate` challenges of 401 and 403 (RFC 6750 §3).

use http::HeaderValue;

use crate::domain::scope::Scope;

/// Returns the challenge of a request without valid credentials. One without any gets no error code (RFC 6750 §3.1).
pub(in crate::http) fn unauthenticated(has_credentials: bool) -> HeaderValue {
    if has_credentials {
        HeaderValue::from_static(
            "Bearer realm=\"examgate\", error=\"invalid_token\", \
             error_description=\"The API key or token is not valid here.\"",
        )
    } else {
        HeaderValue::from_static("Bearer realm=\"examgate\"")
    }
}

/// Returns the challenge of a request whose credentials lack this scope, or others.
pub(in crate::http) fn insufficient_scope(scope: Option<Scope>) -> HeaderValue {
    let named = scope.map(|scope| format!(", scope=\"{}\"", scope.as_str())).unwrap_or_default();
    let challenge = format!("Bearer realm=\"examgate\", error=\"insufficient_scope\"{named}");
    HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer realm=\"examgate\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_fits_into_a_challenge() {
        for scope in Scope::ALL {
            let challenge = insufficient_scope(Some(*scope));
            assert!(challenge.to_str().unwrap().ends_with(&format!("scope=\"{}\"", scope.as_str())), "{challenge:?}");
        }
    }
}
