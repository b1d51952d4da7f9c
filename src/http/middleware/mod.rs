//! The layers every request passes before its handler, in this order: [`cors`], [`exchange`] (request id, exchange,
//! panics, security headers), [`access_log`], [`authorize`] (authentication, rate limit, scope, `Accept`),
//! [`in_flight_limit`], [`audit`].

pub(super) mod access_log;
pub(super) mod audit;
pub(super) mod authorize;
pub(super) mod cors;
pub(super) mod exchange;
pub(super) mod in_flight_limit;
