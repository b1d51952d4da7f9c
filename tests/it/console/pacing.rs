//! A client with a small rate: its pages wait a little, and show what they could read.

use examgate::config::{Auth, RateLimit};
use examgate::http::ApiParts;

use super::browser::Browser;
use super::{HeldClock, console_parts};
use crate::http::{ALL, TestServer, serve_api};

/// Serves a console whose clients have this rate.
async fn served(requests_per_second: u32, burst: u32) -> TestServer {
    let parts = console_parts(&HeldClock::new(), &[1]).await;
    let Auth::Keys(mut clients) = parts.auth else { panic!("keys") };
    for client in clients.values_mut() {
        client.rate_limit = RateLimit { requests_per_second, burst };
    }
    serve_api(&ApiParts { auth: Auth::Keys(clients), ..parts }).await
}

#[tokio::test]
async fn a_page_of_more_calls_than_the_burst_waits_for_the_rate() {
    let server = served(20, 2).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    let page = browser.get("").await;
    assert_eq!(page.status, 200, "{}", page.words());
    assert!(page.words().contains("All is well.") && !page.words().contains("incomplete"), "{}", page.words());
}

#[tokio::test]
async fn a_page_whose_calls_exceed_the_rate_for_long_shows_what_it_has_and_says_what_it_lacks() {
    let server = served(1, 2).await;
    let mut browser = Browser::signed_in(server.address, ALL).await;
    let page = browser.get("").await;
    assert_eq!(page.status, 200, "{}", page.words());
    let words = page.words();
    assert!(words.contains("The page is incomplete The client exceeded its rate limit. Missing: "), "{words}");
    assert!(words.contains("Try again") && page.text.contains("<a href=\"\">"), "{words}");
    assert!(!words.contains("All is well."), "{words}");
    assert!(words.contains("Sign out") && page.has_link("people"), "the frame is whole: {words}");
}
