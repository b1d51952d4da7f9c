//! Whether a form was sent by a page of the console: what browsers say of it by themselves (Fetch Metadata, `Origin`),
//! besides the token.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use url::Url;

/// Where the request says that it comes from.
const SITE: &str = "sec-fetch-site";
/// The host a proxy was called by. A page of another site cannot set it.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Returns whether nothing that the browser says of a request speaks against its being from a page of ours.
pub(in crate::http::console) fn is_ours(parts: &Parts, public_url: Option<&Url>) -> bool {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text(SITE);
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return false;
    }
    match text(ORIGIN.as_str()) {
        None => true,
        // A proxy may have set `Referrer-Policy: no-referrer`, with which browsers send the origin as `null` (Fetch §3.2.5).
        Some("null") => site == Some("same-origin"),
        Some(origin) => {
            let Some(host) = Url::parse(origin).ok().as_ref().and_then(authority) else { return false };
            let public = public_url.and_then(authority);
            // Each proxy may have added a name.
            let forwarded = text(FORWARDED_HOST).into_iter().flat_map(|names| names.split(',').map(str::trim));
            let named = [text(HOST.as_str()), parts.uri.authority().map(http::uri::Authority::as_str)];
            public.is_some_and(|public| public == host)
                || named.into_iter().flatten().chain(forwarded).any(|own| own.eq_ignore_ascii_case(&host))
        }
    }
}

/// Returns whether the browser says that a page of another site has led to the request.
pub(in crate::http::console) fn is_of_another_site(parts: &Parts) -> bool {
    parts.headers.get(SITE).is_some_and(|site| site == "cross-site")
}

/// Returns host and port as a `Host` header has them: without the scheme's own port.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::says_nothing(&[], true)]
    #[case::same_origin(&[("sec-fetch-site", "same-origin"), ("origin", "https://gate.example")], true)]
    #[case::typed(&[("sec-fetch-site", "none")], true)]
    #[case::cross_site(&[("sec-fetch-site", "cross-site")], false)]
    #[case::same_site(&[("sec-fetch-site", "same-site")], false)]
    #[case::other_origin(&[("origin", "https://evil.example")], false)]
    #[case::other_port(&[("origin", "https://gate.example:8443")], false)]
    #[case::same_origin_of_another_host(&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], false)]
    #[case::ours_beside_cross_site(&[("sec-fetch-site", "cross-site"), ("origin", "https://gate.example")], false)]
    #[case::hidden_origin_of_ours(&[("sec-fetch-site", "same-origin"), ("origin", "null")], true)]
    #[case::hidden_origin_of_anything(&[("origin", "null")], false)]
    #[case::behind_a_proxy(&[("origin", "https://public.example")], true)]
    #[case::host_of_a_proxy(&[("origin", "https://front.example"), ("x-forwarded-host", "front.example")], true)]
    #[case::unreadable(&[("origin", "gate.example")], false)]
    fn a_form_of_another_page_is_not_ours(#[case] headers: &[(&str, &str)], #[case] ours: bool) {
        let request = Request::builder().header("host", "gate.example");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let public = Url::parse("https://public.example/exams").unwrap();
        assert_eq!(is_ours(&parts, Some(&public)), ours);
    }
}
