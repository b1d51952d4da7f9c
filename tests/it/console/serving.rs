//! Where the console is: below a path, behind a proxy, on a listener of its own, or nowhere; and how people are known there.

use examgate::config::Auth;
use examgate::http::{ApiParts, LiveSettings, console_router};
use reqwest::Method;

use super::browser::Browser;
use super::{HeldClock, console_parts};
use crate::http::{ALL, send, serve_api, serve_router};
use crate::support::gateway::{Gateway, key};
use crate::support::issuer::{AUDIENCE, ISSUER, Key, claims, jwk_set};

#[tokio::test]
async fn it_works_below_a_path_by_relative_addresses_only() {
    let mut parts = console_parts(&HeldClock::new(), &[1]).await;
    parts.server.base_path = "/exam-api".to_owned();
    let server = serve_api(&parts).await;
    let mut browser = Browser::at(server.address, "/exam-api");
    let entry = browser.get("../console").await;
    assert_eq!((entry.status, entry.header("location")), (307, "console/"));
    let page = browser.open("people/cand_1").await;
    assert_eq!(page.url.path(), "/exam-api/console/sign-in");
    let answer = browser.submit(&page.form("sign-in").with("apiKey", ALL)).await;
    let page = browser.follow(answer).await;
    // Every address stays below the path, at any depth, so a proxy may strip or replace it.
    assert_eq!((page.status, page.url.path()), (404, "/exam-api/console/people/cand_1"));
    for path in ["", "people", "people/cand_1", "exchanges", "audit"] {
        let page = browser.get(path).await;
        let values = page.text.split("href=\"").skip(1).chain(page.text.split("action=\"").skip(1));
        let values = values.chain(page.text.split("src=\"").skip(1)).filter_map(|rest| rest.split_once('"'));
        let addresses: Vec<&str> =
            values.map(|(address, _)| address).filter(|it| !it.starts_with(['#', 'd'])).collect();
        assert!(addresses.len() > 10, "{addresses:?}");
        for address in addresses {
            assert!(address.starts_with("./") || address.starts_with("../"), "{address} on {path}");
            let to = page.url.join(address).expect("an address");
            assert!(to.path().starts_with("/exam-api/console/"), "{address} on {path}");
        }
    }
    let root = Browser::at(server.address, "").get("").await;
    assert_eq!(root.status, 404);
}

#[tokio::test]
async fn without_a_console_there_is_no_such_path() {
    let server = serve_api(&ApiParts { console: None, ..console_parts(&HeldClock::new(), &[1]).await }).await;
    for path in ["/console", "/console/", "/console/sign-in", "/console/assets/console.css"] {
        let response = send(server.anonymous(Method::GET, path)).await;
        assert_eq!(response.problem(), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_console_with_a_listener_of_its_own_is_there_only() {
    let mut parts = console_parts(&HeldClock::new(), &[1]).await;
    let settings = &mut parts.console.as_mut().expect("a console").settings;
    settings.listen = Some(([127, 0, 0, 1], 0).into());
    let public = serve_api(&parts).await;
    let own = serve_router(console_router(&parts, &LiveSettings::of(&parts))).await;
    let mut browser = Browser::signed_in(own.address, ALL).await;
    assert_eq!(browser.get("people").await.status, 200);
    let response = send(public.anonymous(Method::GET, "/console/sign-in")).await;
    assert_eq!(response.problem(), (404, "not_found"));
    for path in ["/client", "/candidates", "/docs/", "/openapi.json", "/livez", "/"] {
        assert_eq!(own.get(path).await.problem(), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn the_program_serves_a_console_of_its_own_address_there_only() {
    let mut gateway = Gateway::start("[console]\nlisten = \"127.0.0.1:0\"\n").await;
    let address = gateway.console_address().await;
    assert_ne!(address, gateway.address);
    let mut browser = Browser::signed_in(address, &key("lms")).await;
    let page = browser.get("people").await;
    assert_eq!((page.status, page.title()), (200, "People · examgate"), "{page:?}");
    let public = gateway.anonymous(Method::GET, "/console/sign-in").send().await;
    assert_eq!(public.problem(), (404, "not_found", "not_applied"));
    for path in ["/client", "/livez", "/openapi.json"] {
        let own = crate::support::gateway::http().get(format!("http://{address}{path}")).send().await;
        assert_eq!(own.expect("an answer").status(), 404, "{path}");
    }
    // A console that is not enabled is nowhere, whatever its address.
    let gateway = Gateway::start("[console]\nenabled = false\nlisten = \"127.0.0.1:0\"\n").await;
    let public = gateway.anonymous(Method::GET, "/console/sign-in").send().await;
    assert_eq!(public.problem(), (404, "not_found", "not_applied"));
    let (_, log) = gateway.finish().await;
    assert!(!log.contains("console listener ready"), "{log}");
}

#[tokio::test]
async fn without_authentication_there_is_no_sign_in_but_forms_still_need_their_token() {
    let parts = ApiParts { auth: Auth::None, ..console_parts(&HeldClock::new(), &[1]).await };
    let server = serve_api(&parts).await;
    let mut browser = Browser::at(server.address, "");
    let page = browser.get("people").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(!page.words().contains("Sign out"));
    let form = page.form("people").with("value", "x1");
    assert_eq!(browser.submit(&form.clone().without("csrf")).await.status, 403);
    assert_eq!(browser.submit(&form).await.status, 200);
    // Another browser has a token of its own.
    assert_eq!(Browser::at(server.address, "").submit(&form).await.status, 403);
    let entry = browser.get("sign-in").await;
    assert_eq!((entry.status, entry.header("location")), (303, "./"));
}

#[tokio::test]
async fn with_an_identity_provider_the_token_of_each_request_counts() {
    let issuer = Key::ed25519();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwk_set(&[issuer.jwk("k")]).to_string()).expect("the keys can be written");
    let gateway = Gateway::start_with(
        "",
        &format!(
            "[auth]\nmode = \"jwt\"\n[auth.jwt]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\njwks = \
             \"file:{}\"\n[auth.clients.lms]\nscopes = [\"candidates:read\", \"audit:read\"]\nconnections = [\"*\"]\n",
            path.display()
        ),
    )
    .await;
    let mut browser = Browser::at(gateway.address, "");
    let without = browser.get("people").await;
    assert_eq!(without.status, 401, "{without:?}");
    assert!(without.words().contains("bearer token"), "{}", without.words());
    assert!(without.find_form("sign-in").is_none());
    let bearer =
        |scopes: &str| vec![("authorization", format!("Bearer {}", issuer.token("k", &claims("lms", scopes))))];
    browser.headers = bearer("candidates:read");
    let page = browser.get("people").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.has_link("people") && !page.has_link("audit"), "the token's scopes count");
    assert!(!page.text.contains(browser.headers[0].1.as_str()) && !page.words().contains("Sign out"));
    let form = page.form("people").with("value", "x1");
    assert_eq!(browser.submit(&form.clone().without("csrf")).await.status, 403);
    assert_eq!(browser.submit(&form).await.status, 200);
    browser.headers = vec![("authorization", "Bearer wrong".to_owned())];
    assert_eq!(browser.submit(&form).await.status, 401);
    browser.headers = bearer("audit:read");
    let page = browser.get("people").await;
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.words().contains("candidates:read"), "{}", page.words());
}
