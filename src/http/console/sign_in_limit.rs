//! The limit of sign-ins per minute, from one address and from all. Keys cannot be guessed at any rate; it keeps guesses
//! from filling log and audit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// How many times the limit of one address all addresses together have.
const ALL_ADDRESSES: u32 = 10;
/// The limit's period, in seconds.
const PERIOD: i64 = 60;

/// Counts the sign-ins of the current minute.
#[derive(Debug)]
pub(in crate::http::console) struct SignInLimiter {
    rate: u32,
    counts: Mutex<Counts>,
}

/// The counts of one minute; no more addresses than the limit of all.
#[derive(Debug, Default)]
struct Counts {
    minute: i64,
    all: u32,
    by_address: HashMap<Option<IpAddr>, u32>,
}

impl SignInLimiter {
    pub(in crate::http::console) fn new(rate: u32) -> Self {
        Self { rate, counts: Mutex::default() }
    }

    /// Counts a sign-in.
    ///
    /// # Errors
    /// The seconds until the next minute, if there were too many.
    pub(in crate::http::console) fn acquire(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), i64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_second().div_euclid(PERIOD);
        if counts.minute != minute {
            *counts = Counts { minute, ..Counts::default() };
        }
        let wait = PERIOD - now.as_second().rem_euclid(PERIOD);
        if counts.all >= self.rate.saturating_mul(ALL_ADDRESSES) {
            return Err(wait);
        }
        let count = counts.by_address.entry(address.map(network)).or_default();
        if *count >= self.rate {
            return Err(wait);
        }
        *count += 1;
        counts.all += 1;
        Ok(())
    }
}

/// Returns what one subscriber has: an IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        IpAddr::V4(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn acquire(limiter: &SignInLimiter, address: &str, second: i64) -> Result<(), i64> {
        limiter.acquire(Some(address.parse().unwrap()), at(second))
    }

    #[test]
    fn an_address_has_its_share_of_each_minute() {
        let limiter = SignInLimiter::new(2);
        let one = |second| acquire(&limiter, "192.0.2.1", second);
        assert_eq!([0, 1, 15].map(one), [Ok(()), Ok(()), Err(45)]);
        assert_eq!(acquire(&limiter, "192.0.2.2", 59), Ok(()));
        assert_eq!(one(60), Ok(()));
    }

    #[test]
    fn all_addresses_share_a_limit_and_refusals_are_not_counted() {
        let limiter = SignInLimiter::new(1);
        for last in 1..=10 {
            let one = format!("192.0.2.{last}");
            assert_eq!(acquire(&limiter, &one, 0), Ok(()));
            assert_eq!(acquire(&limiter, &one, 0), Err(60));
        }
        assert_eq!(acquire(&limiter, "192.0.2.99", 0), Err(60));
    }

    #[test]
    fn the_addresses_of_one_subscriber_count_as_one() {
        let limiter = SignInLimiter::new(1);
        assert_eq!(acquire(&limiter, "2001:db8::1", 0), Ok(()));
        assert_eq!(acquire(&limiter, "2001:db8::2", 0), Err(60));
        assert_eq!(acquire(&limiter, "2001:db8:0:1::2", 0), Ok(()));
        assert_eq!(acquire(&limiter, "::ffff:192.0.2.1", 0), Ok(()));
        assert_eq!(acquire(&limiter, "192.0.2.1", 0), Err(60));
    }
}
