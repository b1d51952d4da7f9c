//! How fast a page calls the API: a few calls at a time, and no faster than the client's rate permits. A call that exceeds the
//! rate waits and is sent again, within a bounded time for the whole page.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::http::problem::RetryWait;

/// Maximum number of a page's calls at a time.
const MAX_CALLS: usize = 4;
/// The longest pause before a call is sent again.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How long the calls of a page pause together.
const MAX_PAUSES: Duration = Duration::from_secs(3);

/// The pace of one page's calls.
pub(in crate::http::console) struct Pace {
    turns: Semaphore,
    /// How long the page may still pause.
    left: Mutex<Duration>,
}

impl Pace {
    pub(in crate::http::console) fn new() -> Self {
        Self { turns: Semaphore::new(MAX_CALLS), left: Mutex::new(MAX_PAUSES) }
    }

    /// Waits until a call may begin; it occupies its turn until the permit is dropped.
    pub(in crate::http::console) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.turns.acquire().await.ok()
    }

    /// Pauses for so long, one call after the other: each pause makes room for one call. Returns whether the page had the time.
    pub(in crate::http::console) async fn pause(&self, wait: Duration) -> bool {
        let mut left = self.left.lock().await;
        let Some(rest) = left.checked_sub(wait).filter(|_| wait <= MAX_PAUSE) else { return false };
        tokio::time::sleep(wait).await;
        *left = rest;
        true
    }
}

/// Returns how long a call has to wait that was refused because the client has exceeded its rate. Nothing was done of it, so a
/// write may be sent again too.
pub(in crate::http::console) fn wait_of(response: &Response) -> Option<Duration> {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    response.extensions().get::<RetryWait>().map(|RetryWait(wait)| *wait)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::response::IntoResponse as _;
    use axum::routing::any;
    use futures_util::future::join_all;
    use http::Request;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::domain::error::{Code, Error};
    use crate::http::console::api::{Api, ConsoleError};
    use crate::http::exchange_context::ExchangeContext;
    use crate::http::problem::{ApiError, render};

    fn refusal(wait: Duration) -> Response {
        let error = Error::new(Code::RateLimited, "The client exceeded its rate limit.").with_retry_after(Some(wait));
        render(ApiError::from(error).into_response(), &ExchangeContext::example())
    }

    /// An API that refuses so many calls, each with this wait, and counts all of them.
    fn api(refusals: usize, wait: Duration) -> (Api, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let answer = async move || {
            if counted.fetch_add(1, Ordering::Relaxed) >= refusals {
                return axum::Json(json!({ "done": true })).into_response();
            }
            refusal(wait)
        };
        (of_router(&Router::new().fallback(answer)), calls)
    }

    fn of_router(router: &Router) -> Api {
        let (page, ()) = Request::new(()).into_parts();
        Api::new(router, None, &page, "req_1")
    }

    fn is_refused<T>(result: &Result<T, ConsoleError>) -> bool {
        matches!(result, Err(ConsoleError::Problem(problem)) if problem.code == "rate_limited" && problem.retryable)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_client_s_rate_and_is_sent_again() {
        let (api, calls) = api(2, Duration::from_millis(10));
        let began = Instant::now();
        assert_eq!(api.get::<Value>("/client").await.unwrap(), json!({ "done": true }));
        assert_eq!((calls.load(Ordering::Relaxed), began.elapsed()), (3, Duration::from_millis(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_sent_again_whole() {
        let calls = Arc::new(AtomicUsize::new(0));
        let answer = async move |body: axum::Json<Value>| {
            if calls.fetch_add(1, Ordering::Relaxed) > 0 {
                return body.into_response();
            }
            refusal(Duration::from_millis(1))
        };
        let api = of_router(&Router::new().fallback(answer));
        let reply = api.post("/assignments", Some(&json!({ "a": 1 })), Some("k")).await.unwrap();
        assert_eq!(reply.json, json!({ "a": 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_waits_no_longer_than_it_may() {
        let (api, calls) = api(usize::MAX, Duration::from_millis(900));
        let began = Instant::now();
        let results = join_all((0..20).map(|_| api.get::<Value>("/candidates"))).await;
        assert!(results.iter().all(is_refused));
        // Three pauses of 0.9 s fit into 3 s.
        assert_eq!((calls.load(Ordering::Relaxed), began.elapsed()), (23, Duration::from_millis(2700)));
        // It does not wait for long at once either.
        let (api, calls) = self::api(usize::MAX, Duration::from_millis(1001));
        let began = Instant::now();
        assert!(is_refused(&api.get::<Value>("/candidates").await));
        assert_eq!((calls.load(Ordering::Relaxed), began.elapsed()), (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_has_few_calls_at_a_time() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let answer = async move || {
            seen.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            axum::Json(json!({}))
        };
        let api = of_router(&Router::new().fallback(any(answer)));
        let results = join_all((0..20).map(|_| api.get::<Value>("/events"))).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::Relaxed), MAX_CALLS);
    }
}
