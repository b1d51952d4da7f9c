//! What the console is protected against: pages without a session, forms of other sites, frames, planted scripts, and
//! personal data where it does not belong.

use std::path::Path;
use std::{fs, io};

use reqwest::Method;
use serde_json::json;

use super::browser::{Browser, Page};
use super::{HeldClock, console_parts};
use crate::http::{ALL, FEW, serve_api};
use crate::support::connections::{client, sandbox_connections, startexam};
use crate::support::gateway::{Gateway, key, sandbox};
use crate::support::people::{order, person, with};

/// Returns the patterns of all routes of the screens, as the sources have them.
fn routes() -> Vec<String> {
    fn read(folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                read(&path, found)?;
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path)?;
                let routes = text.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                found.extend(routes.filter_map(|rest| rest.split_once('"')).map(|(route, _)| route.to_owned()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console/screens"), &mut found).expect("the sources");
    found
}

#[tokio::test]
async fn no_route_answers_without_a_session() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut routes = routes();
    assert!(routes.len() >= 10 && routes.contains(&"/console/people/{id}".to_owned()), "{routes:?}");
    routes.extend(["/console/sign-out".to_owned(), "/console/no/such/page".to_owned()]);
    for route in routes {
        let path = route.strip_prefix("/console/").unwrap_or_else(|| panic!("{route} is below /console/"));
        let path = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let path = format!("./{}", path.collect::<Vec<_>>().join("/"));
        let mut browser = Browser::at(server.address, "");
        let url = browser.get("sign-in").await.url.join(&path).expect("an address");
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let fields = [("csrf".to_owned(), "x".to_owned())];
            let page = browser.send(method.clone(), url.clone(), Some(&fields)).await;
            assert_eq!((page.status, page.text.as_str()), (303, ""), "{method} {route}");
            let to = page.url.join(page.header("location")).expect("an address");
            assert_eq!(to.path(), "/console/sign-in", "{method} {route}");
        }
    }
}

fn assert_protected(page: &Page, what: &str) {
    let expected = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    for (name, value) in expected {
        assert_eq!(page.header(name), value, "{name} of {what}");
    }
    let caching = if what.starts_with("assets/console") { "public, max-age=31536000, immutable" } else { "no-store" };
    assert_eq!(page.header("cache-control"), caching, "{what}");
    // Nothing inline, nothing from elsewhere, no absolute address.
    for inline in ["<script>", "<style", " style=", " onload=", " onclick=", "javascript:", "=\"/", "=\"http"] {
        assert!(!page.text.contains(inline) || what.starts_with("assets/"), "{inline} in {what}");
    }
}

#[tokio::test]
async fn every_answer_forbids_frames_and_anything_from_elsewhere() {
    let gateway = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(gateway.address, "");
    for path in ["sign-in", "", "../console", "assets/none", "people"] {
        assert_protected(&browser.get(path).await, path);
    }
    assert_protected(&browser.sign_in("wrong").await, "a refused sign-in");
    assert_protected(&browser.sign_in(ALL).await, "a sign-in");
    let page = browser.get("").await;
    let assets: Vec<&str> = page.text.split('"').filter(|text| text.contains("assets/")).collect();
    assert_eq!(assets.len(), 2, "{assets:?}");
    for asset in assets {
        let asset = asset.trim_start_matches("./");
        let served = browser.get(asset).await;
        assert_eq!(served.status, 200);
        assert_protected(&served, asset);
    }
    for (path, status) in [
        ("people", 200),
        ("people?state=unknown", 200),
        ("exchanges", 200),
        ("audit", 200),
        ("people/cand_1", 404),
        ("exchanges/exc_0192f0c1a3b47c8d9e0f1a2b3c4d5e6f", 404),
        ("no/such/page", 404),
        ("sign-out", 405),
        ("candidates/cand_1/settle", 405),
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, status, "{path}");
        assert_protected(&page, path);
        assert!(page.words().contains("Sign out"), "a page with the menu: {path}");
    }
}

#[tokio::test]
async fn a_form_counts_only_with_the_token_of_its_session_and_from_our_own_page() {
    let gateway = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::signed_in(gateway.address, ALL).await;
    let form = browser.get("").await.form("sign-out");
    let foreign = Browser::signed_in(gateway.address, ALL).await.get("").await.form("sign-out");
    let origin = format!("http://{}", gateway.address);
    let refused: [(_, &[(&'static str, &str)]); 9] = [
        (form.clone().without("csrf"), &[]),
        (form.clone().with("csrf", ""), &[]),
        (form.clone().with("csrf", "AAAAAAAAAAAAAAAAAAAAAAAA"), &[]),
        (foreign, &[]),
        (form.clone(), &[("sec-fetch-site", "cross-site")]),
        (form.clone(), &[("sec-fetch-site", "same-site")]),
        (form.clone(), &[("origin", "https://evil.example")]),
        (form.clone(), &[("origin", "null")]),
        (form.clone(), &[("origin", origin.as_str()), ("sec-fetch-site", "cross-site")]),
    ];
    for (form, headers) in refused {
        browser.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let answer = browser.submit(&form).await;
        assert_eq!(answer.status, 403, "{form:?} {headers:?}");
        assert!(answer.words().contains("Nothing was done."), "{}", answer.words());
    }
    browser.headers.clear();
    assert_eq!(browser.get("").await.status, 200, "still signed in");
    // A JSON body is no form, whatever it holds.
    let url = form.action.clone();
    let cookies = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
    let json = crate::support::gateway::http().post(url).header("cookie", cookies).json(&json!({ "csrf": "x" }));
    assert_eq!(json.send().await.expect("an answer").status(), 415);
    browser.headers = vec![("origin", origin), ("sec-fetch-site", "same-origin".to_owned())];
    assert_eq!(browser.submit(&form).await.status, 303);
}

#[tokio::test]
async fn a_sign_in_counts_only_from_our_own_page() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut browser = Browser::at(server.address, "");
    let form = browser.get("sign-in").await.form("sign-in").with("apiKey", ALL);
    let foreign = Browser::at(server.address, "").get("sign-in").await.form("sign-in").with("apiKey", ALL);
    assert_eq!(browser.submit(&foreign).await.status, 403, "the token of another browser's page");
    assert_eq!(browser.submit(&form.clone().without("csrf")).await.status, 403);
    browser.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
    assert_eq!(browser.submit(&form).await.status, 403);
    browser.headers.clear();
    assert_eq!(browser.submit(&form).await.status, 303);
}

#[tokio::test]
async fn planted_markup_is_text() {
    let sandbox = sandbox().await;
    let gateway = Gateway::start(&sandbox_connections(&sandbox, "")).await;
    let planted = "<script>alert(1)</script>";
    let name = json!({ "givenName": planted, "familyName": "\" onmouseover=\"alert(1)", "formatted": planted });
    let body = with(with(person("<b>x1"), "name", name), "connection", json!("thinkexam-main"));
    let registered = gateway.post("/candidates", &with(body, "email", json!("x1@example.com"))).await;
    let id = registered.text("/id").to_owned();
    assert!(id.starts_with("cand_"), "{registered:?}");
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let search = browser.get("people").await.form("people").with("by", "userName").with("value", planted);
    let mut pages = vec![browser.get("people").await, browser.get(&format!("people/{id}")).await];
    pages.push(browser.submit(&search).await);
    pages.push(browser.get(&format!("exchanges?connection={}", "%3Cscript%3Ealert(1)%3C/script%3E")).await);
    for page in pages {
        assert!([200, 422].contains(&page.status), "{page:?}");
        assert!(!page.text.contains("<script>") && !page.text.contains("\" onmouseover=\""), "{}", page.text);
        assert!(page.text.contains("&#60;script&#62;") || page.text.contains("&lt;script&gt;"), "{}", page.text);
    }
}

#[tokio::test]
async fn nothing_personal_is_in_addresses_titles_or_logs() {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let gateway = Gateway::start(&connection).await;
    let registered =
        gateway.post("/candidates", &with(person("emp-4711"), "connection", json!("startexam-main"))).await;
    let id = registered.text("/id").to_owned();
    let mut browser = Browser::signed_in(gateway.address, &key("lms")).await;
    let form = browser.get("people").await.form("people");
    for (by, value) in [("externalId", "emp-4711"), ("email", "emp-4711@example.com")] {
        let answer = browser.submit(&form.clone().with("by", by).with("value", value)).await;
        assert_eq!((answer.status, answer.header("location")), (303, format!("./people/{id}").as_str()), "{by}");
    }
    let unknown = browser.submit(&form.with("by", "email").with("value", "nobody@example.com")).await;
    assert_eq!(unknown.status, 200);
    assert!(unknown.words().contains("No such person"), "{}", unknown.words());
    let page = browser.get(&format!("people/{id}")).await;
    assert!(page.words().contains("Ada King") && page.words().contains("emp-4711@example.com"), "{}", page.words());
    assert!(page.title().starts_with("Person cand_…") && !page.title().contains("Ada"), "{}", page.title());
    let addresses = page.text.split(['"', '\'']).filter(|text| text.contains("../") || text.contains("./"));
    for address in addresses {
        assert!(!address.contains("emp-4711") && !address.contains("Ada"), "{address}");
    }
    let (_, log) = gateway.finish().await;
    for personal in ["Ada", "King", "emp-4711", "nobody@example.com", &key("lms")] {
        assert!(!log.contains(personal), "{personal} is in the log");
    }
    assert!(log.contains("\"route\":\"/console/people/{id}\""), "the access log names routes");
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let sandbox = sandbox().await;
    let connection = startexam(&format!("http://{}", sandbox.startexam()), "");
    let clients = client("lms", "acme", "[\"*\"]") + &client("hr", "other", "[\"*\"]");
    let gateway = Gateway::start_with(&connection, &clients).await;
    let body = with(person("x1"), "connection", json!("startexam-main"));
    let registered = gateway.post("/candidates", &body).await;
    let id = registered.text("/id").to_owned();
    let booked = gateway.post("/assignments", &order("x1", crate::settling::TEST)).await;
    let booking = booked.text("/id").to_owned();
    let (mut own, mut other) =
        (Browser::signed_in(gateway.address, &key("lms")).await, Browser::signed_in(gateway.address, &key("hr")).await);
    assert_eq!(own.get(&format!("people/{id}")).await.status, 200);
    for path in [format!("people/{id}"), format!("assignments/{booking}")] {
        let page = other.get(&path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(!page.text.contains("Ada"), "{path}");
    }
    let list = other.get("people").await;
    assert!(list.words().contains("No candidates") && !list.text.contains(&id), "{}", list.words());
    let search = list.form("people").with("by", "externalId").with("value", "x1");
    assert!(other.submit(&search).await.words().contains("No such person"));
    for page in [other.get("exchanges").await, other.get("audit").await] {
        assert!(!page.text.contains(&id) && !page.text.contains(&booking), "{}", page.words());
    }
    let cancel = own.get(&format!("people/{id}")).await.form("cancel");
    let token = list.form("people").fields;
    let stolen = cancel.with("csrf", &token.iter().find(|(name, _)| name == "csrf").expect("a token").1);
    assert_eq!(other.submit(&stolen).await.status, 404);
    assert_eq!(gateway.get(&format!("/assignments/{booking}")).await.text("/state"), "assigned");
}

#[tokio::test]
async fn a_screen_whose_scope_is_lacking_is_not_in_the_menu_and_says_so() {
    let server = serve_api(&console_parts(&HeldClock::new(), &[1]).await).await;
    let mut all = Browser::signed_in(server.address, ALL).await;
    let page = all.get("").await;
    for screen in
        ["people", "operations", "connections", "results", "webhooks", "reports", "exchanges", "audit", "import"]
    {
        assert!(page.has_link(screen), "{screen}");
    }
    let mut few = Browser::signed_in(server.address, FEW).await;
    let page = few.get("").await;
    assert!(page.has_link("people") && !page.has_link("audit") && !page.has_link("webhooks"), "{page:?}");
    assert!(page.words().contains("Your client may not see: bookings"), "{}", page.words());
    for (screen, scope) in [("audit", "audit:read"), ("exchanges", "exchanges:read")] {
        let page = few.get(screen).await;
        assert_eq!(page.status, 403, "{page:?}");
        assert!(page.words().contains(scope), "{}", page.words());
    }
}
