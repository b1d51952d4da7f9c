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

/// Returns the challenge of a request whose credentials lack this scope.
pub(in crate::http) fn insufficient_scope(scope: Scope) -> HeaderValue {
    let challenge = format!("Bearer realm=\"examgate\", error=\"insufficient_scope\", scope=\"{}\"", scope.as_str());
    HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer realm=\"examgate\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_fits_into_a_challenge() {
        for scope in Scope::ALL {
            let challenge = insufficient_scope(*scope);
            assert!(challenge.to_str().unwrap().ends_with(&format!("scope=\"{}\"", scope.as_str())), "{challenge:?}");
        }
    }
}
