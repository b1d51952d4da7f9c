//! The rate limit of a client, reported as `RateLimit` and `RateLimit-Policy` in each of its responses
//! (draft-ietf-httpapi-ratelimit-headers-10).

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::RateLimit;
use crate::domain::error::{Code, Error};

/// The remaining quota.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The full quota.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A client's rate limit and its current usage.
pub(super) struct RateLimiter {
    limit: RateLimit,
    limiter: governor::RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
    policy: HeaderValue,
}

/// The quota left after counting a request.
pub(in crate::http) struct RateLimitState {
    policy: HeaderValue,
    remaining: u32,
    /// Time until the quota is full again or, if the request was rejected, until the next request is admitted.
    reset: Duration,
    admitted: bool,
}

impl RateLimiter {
    /// Creates a limiter; `None` if there is no limit.
    pub(super) fn new(limit: RateLimit) -> Option<Self> {
        let per_second = NonZeroU32::new(limit.requests_per_second)?;
        let burst = NonZeroU32::new(limit.burst).unwrap_or(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        // A used-up burst is full again after this long.
        let window = burst.get().div_ceil(per_second.get());
        let policy = HeaderValue::try_from(format!("\"client\";q={burst};w={window}")).ok()?;
        let limiter = governor::RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>();
        Some(Self { limit, limiter, policy })
    }

    pub(super) fn is_same_config(&self, limit: RateLimit) -> bool {
        self.limit == limit
    }

    /// Counts one request.
    pub(super) fn acquire(&self) -> RateLimitState {
        let policy = self.policy.clone();
        match self.limiter.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = self.limit.burst.saturating_sub(remaining);
                let reset = Duration::from_secs(1) * used / self.limit.requests_per_second.max(1);
                RateLimitState { policy, remaining, reset, admitted: true }
            }
            Err(early) => {
                let wait = early.wait_time_from(DefaultClock::default().now()).max(Duration::from_millis(1));
                RateLimitState { policy, remaining: 0, reset: wait, admitted: false }
            }
        }
    }
}

impl RateLimitState {
    /// Checks whether the request is admitted.
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait.
    pub(in crate::http) fn is_admitted(&self) -> Result<(), Error> {
        if self.admitted {
            return Ok(());
        }
        let error = Error::new(Code::RateLimited, "The client exceeded its rate limit.");
        Err(error.with_retry_after(Some(self.reset)))
    }

    /// Writes the rate limit headers of a response.
    pub(in crate::http) fn write_headers(&self, headers: &mut HeaderMap) {
        let seconds = self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0);
        let left = format!("\"client\";r={};t={seconds}", self.remaining);
        // ASCII digits and letters are always valid in a header.
        if let Ok(left) = HeaderValue::try_from(left) {
            headers.insert(LIMIT, left);
        }
        headers.insert(POLICY, self.policy.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_quota_counts_down_to_zero() {
        let rate = RateLimiter::new(RateLimit { requests_per_second: 2, burst: 5 }).unwrap();
        for remaining in [4, 3, 2, 1, 0] {
            let (spent, mut headers) = (rate.acquire(), HeaderMap::new());
            assert!(spent.is_admitted().is_ok());
            spent.write_headers(&mut headers);
            assert_eq!(headers[POLICY], "\"client\";q=5;w=3");
            let left = headers[LIMIT].to_str().unwrap();
            assert!(left.starts_with(&format!("\"client\";r={remaining};t=")), "{left}");
        }
        let spent = rate.acquire();
        let error = spent.is_admitted().unwrap_err();
        assert_eq!(error.code, Code::RateLimited);
        assert!(error.retry_after.is_some_and(|wait| !wait.is_zero()));
        let mut headers = HeaderMap::new();
        spent.write_headers(&mut headers);
        assert_eq!(headers[LIMIT], "\"client\";r=0;t=1");
    }
}
