//! Sessions: how they begin, how long they last, and how they end.

use data_encoding::BASE64URL_NOPAD;
use examgate::config::Auth;
use examgate::http::{ApiParts, LiveSettings, router_with_settings};
use reqwest::Method;

use super::browser::{Browser, Page};
use super::{HeldClock, console_parts};
use crate::http::{ALL, FEW, serve_api, serve_router};

const COOKIE: &str = "__Host-examgate";

/// Asserts that the answer leads to the page to sign in because the session is over.
fn assert_ended(page: &Page) {
    assert_eq!(page.status, 303, "{page:?}");
    assert!(
        page.header("location").contains("sign-in?to=") && page.header("location").ends_with("&ended=1"),
        "{page:?}"
    );
    assert!(page.header("set-cookie").starts_with("__Host-examgate=; "), "{page:?}");
}

#[tokio::test]
async fn signing_in_gives_a_sealed_cookie_for_this_host_only() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    let answer = browser.sign_in(ALL).await;
    assert_eq!((answer.status, answer.header("location")), (303, "./"));
    let cookie = answer.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");
    let sealed = pair.strip_prefix("__Host-examgate=").expect("the name");
    let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).expect("base64url");
    assert!(!bytes.windows(ALL.len()).any(|window| window == ALL.as_bytes()), "the key is sealed");
    let page = browser.get("").await;
    assert_eq!((page.status, page.title()), (200, "Attention · examgate"), "{page:?}");
    assert!(page.words().contains("all · tenant all"), "{}", page.words());
    assert!(!page.text.contains(ALL));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_not_shown_again() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    for wrong in ["no-such-key", "", "with\u{7f}control", "päßword"] {
        let answer = browser.sign_in(wrong).await;
        assert_eq!(answer.status, 401, "{wrong}: {answer:?}");
        assert!(answer.words().contains("This key is not valid."), "{answer:?}");
        assert!(wrong.is_empty() || !answer.text.contains(wrong), "{answer:?}");
        assert!(!browser.cookies.contains_key(COOKIE));
    }
    assert_eq!(browser.get("").await.status, 303);
}

#[tokio::test]
async fn a_browser_that_keeps_no_cookie_is_told_why_it_cannot_sign_in() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    let form = browser.get("sign-in").await.form("sign-in").with("apiKey", ALL);
    // As over plain HTTP, where a browser keeps no `Secure` cookie.
    browser.cookies.clear();
    let answer = browser.submit(&form).await;
    assert_eq!(answer.status, 403);
    assert!(answer.words().contains("The console needs HTTPS"), "{}", answer.words());
    assert!(!browser.cookies.contains_key(COOKIE));
}

#[tokio::test]
async fn signing_in_leads_back_to_where_one_was() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    let page = browser.open("exchanges/exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f").await;
    assert_eq!(page.title(), "Sign in · examgate");
    let answer = browser.submit(&page.form("sign-in").with("apiKey", ALL)).await;
    assert_eq!(answer.header("location"), "./exchanges/exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f");
    for elsewhere in ["https://evil.example/", "//evil.example", "../docs/", "/candidates", "\\\\evil.example"] {
        let mut browser = Browser::at(server.address, "");
        let page = browser.get("sign-in").await;
        let answer = browser.submit(&page.form("sign-in").with("apiKey", ALL).with("to", elsewhere)).await;
        assert_eq!((answer.status, answer.header("location")), (303, "./"), "{elsewhere}");
    }
}

/// Returns the address to which a page leads by itself.
fn refresh(page: &Page) -> url::Url {
    let (_, rest) = page.text.split_once("http-equiv=\"refresh\" content=\"0; url=").expect("a refresh");
    let (address, _) = rest.split_once('"').expect("an address");
    page.url.join(&address.replace("&#38;", "&")).expect("an address")
}

#[tokio::test]
async fn a_link_on_another_site_leads_to_its_page_if_one_is_signed_in() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let person = "people/cand_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f";
    for (signed_in, path, to) in [(true, person, person), (true, "", ""), (false, person, "sign-in")] {
        let mut browser = Browser::at(server.address, "");
        if signed_in {
            browser.sign_in(ALL).await;
        }
        // What a browser does with a `Strict` cookie: it does not send it with a request that another site has led to.
        let kept = browser.cookies.remove(COOKIE);
        browser.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
        let page = browser.open(path).await;
        assert_eq!((page.status, page.title()), (200, "Sign in · examgate"), "{page:?}");
        assert!(page.find_form("sign-in").is_none() && page.header("set-cookie").is_empty(), "{page:?}");
        let again = refresh(&page);
        assert!(again.path().ends_with("/console/sign-in"), "{again}");

        browser.cookies.extend(kept.map(|session| (COOKIE.to_owned(), session)));
        browser.headers = vec![("sec-fetch-site", "same-origin".to_owned())];
        let page = browser.send(Method::GET, again.clone(), None).await;
        let page = browser.follow(page).await;
        assert_eq!(page.url.path(), format!("/console/{to}"), "{page:?}");
        assert_eq!(page.find_form("sign-in").is_some(), !signed_in, "{page:?}");
        // A browser that says so of every request is not sent round for ever.
        browser.cookies.clear();
        browser.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
        assert!(browser.send(Method::GET, again, None).await.find_form("sign-in").is_some());
    }
}

#[tokio::test]
async fn the_cookie_without_a_credential_comes_with_links_of_other_sites_too() {
    let keyed = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let open = ApiParts { auth: Auth::None, ..console_parts(&HeldClock::new(), &[1]).await };
    let open = serve_api(&open).await;
    for (server, path) in [(&keyed, "sign-in"), (&open, "people")] {
        let page = Browser::at(server.address, "").get(path).await;
        let (pair, attributes) = page.header("set-cookie").split_once("; ").expect("attributes");
        assert!(pair.starts_with("__Host-examgate-visitor="), "{pair}");
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
    }
}

#[tokio::test]
async fn a_session_lasts_while_it_is_used_and_ends_when_it_is_not() {
    let clock = HeldClock::new();
    let server = serve_api(&console_parts(&clock, &[1]).await).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    let first = browser.cookies.clone();
    assert_eq!(browser.get("").await.header("set-cookie"), "", "it is not sealed again at once");
    for _ in 0..3 {
        clock.forward(29);
        let page = browser.get("").await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.header("set-cookie").starts_with("__Host-examgate="), "{page:?}");
    }
    // A copy that was made in the beginning was not used since.
    let mut copy = Browser::at(server.address, "");
    copy.cookies = first;
    assert_ended(&copy.get("").await);
    clock.forward(30);
    assert_ended(&browser.get("").await);
    assert!(!browser.cookies.contains_key(COOKIE));
    let page = browser.open("").await;
    assert_eq!(page.title(), "Sign in · examgate");
}

#[tokio::test]
async fn a_session_ends_at_its_limit_however_much_it_is_used() {
    let clock = HeldClock::new();
    let server = serve_api(&console_parts(&clock, &[1]).await).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    for _ in 0..(12 * 60 / 20 - 1) {
        clock.forward(20);
        assert_eq!(browser.get("").await.status, 200);
    }
    clock.forward(20);
    assert_ended(&browser.get("").await);
}

#[tokio::test]
async fn a_signed_out_session_is_over_for_a_copy_of_its_cookie_too() {
    let clock = HeldClock::new();
    let server = serve_api(&console_parts(&clock, &[1]).await).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    let mut copy = Browser::at(server.address, "");
    copy.cookies = browser.cookies.clone();
    assert_eq!(copy.get("").await.status, 200);
    let mut other = Browser::signed_in(server.address, ALL).await;
    let form = browser.get("").await.form("sign-out");
    let answer = browser.submit(&form).await;
    assert_eq!((answer.status, answer.header("location")), (303, "./sign-in"), "{answer:?}");
    assert!(!browser.cookies.contains_key(COOKIE));
    clock.forward(20);
    assert_ended(&copy.get("").await);
    assert_eq!(other.get("").await.status, 200, "another session of the same key goes on");
}

#[tokio::test]
async fn replicas_accept_a_session_and_the_keys_of_the_store_can_be_rotated() {
    let clock = HeldClock::new();
    let (one, other) = (console_parts(&clock, &[1]).await, console_parts(&clock, &[1]).await);
    let (rotated, foreign) = (console_parts(&clock, &[2, 1]).await, console_parts(&clock, &[2]).await);
    let first = serve_api(&one).await;
    let cookies = Browser::signed_in(first.address, ALL).await.cookies;
    for (parts, status) in [(&other, 200), (&rotated, 200), (&foreign, 303)] {
        let server = serve_api(parts).await;
        let mut browser = Browser::at(server.address, "");
        browser.cookies.clone_from(&cookies);
        assert_eq!(browser.get("").await.status, status);
    }
    let server = serve_api(&rotated).await;
    let mut browser = Browser::at(server.address, "");
    browser.cookies.clone_from(&cookies);
    clock.forward(2);
    browser.get("").await;
    let server = serve_api(&foreign).await;
    let mut later = Browser::at(server.address, "");
    later.cookies = browser.cookies;
    assert_eq!(later.get("").await.status, 200, "a used session is sealed with the new key");
}

#[tokio::test]
async fn an_altered_cookie_is_no_session() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let signed_in = Browser::signed_in(server.address, ALL).await;
    let sealed = signed_in.cookies[COOKIE].clone();
    let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).expect("base64url");
    let mut altered: Vec<String> = (0..bytes.len())
        .step_by(7)
        .map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            BASE64URL_NOPAD.encode(&bytes)
        })
        .collect();
    altered.extend([sealed[..40].to_owned(), "x".to_owned(), "x".repeat(5000), "%00".to_owned()]);
    // The cookie of somebody who has not signed in, in place of that of a session.
    altered.push(signed_in.cookies["__Host-examgate-visitor"].clone());
    for value in altered {
        let mut browser = Browser::at(server.address, "");
        browser.cookies.insert(COOKIE.to_owned(), value);
        assert_eq!(browser.get("").await.status, 303);
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_by_a_reload_ends_its_sessions_at_once() {
    let parts = console_parts(&HeldClock::new(), &[1]).await;
    let terms = LiveSettings::of(&parts);
    let server = serve_router(router_with_settings(&parts, &terms)).await;
    let mut revoked = Browser::signed_in(server.address, ALL).await;
    let mut kept = Browser::signed_in(server.address, FEW).await;
    let form = revoked.get("").await.form("sign-out");
    let Auth::Keys(mut clients) = parts.auth.clone() else { panic!("keys") };
    clients.get_mut("all").expect("the client").key_sha256.clear();
    terms.replace(parts.server.clone(), &Auth::Keys(clients));
    assert_ended(&revoked.submit(&form).await);
    assert_eq!(kept.get("").await.status, 200);
}

#[tokio::test]
async fn sign_ins_are_limited_for_each_address_and_minute() {
    let clock = HeldClock::new();
    let server = serve_api(&console_parts(&clock, &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    for _ in 0..10 {
        assert_eq!(browser.sign_in("wrong").await.status, 401);
    }
    let answer = browser.sign_in("wrong").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "60"), "{answer:?}");
    assert!(!browser.cookies.contains_key(COOKIE));
    clock.forward(1);
    assert_eq!(browser.sign_in("wrong").await.status, 401);
    // Guesses do not keep out a valid key.
    for _ in 0..20 {
        browser.sign_in("wrong").await;
    }
    assert_eq!(browser.sign_in(ALL).await.status, 303);
}
