//! The console: sessions, forms and pages, black box over HTTP; what a page does is looked at through the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use examgate::config::{Auth, ConsoleSettings, RateLimit};
use examgate::domain::system::{Clock, SecureRandom, System};
use examgate::domain::units::ConfigDuration;
use examgate::http::{ApiParts, ConsoleParts, SessionKeys};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::http::api_parts;

mod attention;
mod audit;
mod browser;
mod connections;
mod import;
mod operations;
mod pacing;
mod people;
mod protecting;
mod reports;
mod results;
mod serving;
mod sessions;
mod webhooks;

/// 2026-11-30T12:00:00Z, where a held clock begins.
const NOON: i64 = 1_796_040_000;

/// A clock that a test moves.
#[derive(Clone)]
struct HeldClock(Arc<AtomicI64>);

impl HeldClock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOON)))
    }

    fn forward(&self, minutes: i64) {
        self.0.fetch_add(minutes * 60, Ordering::Relaxed);
    }
}

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).expect("a time")
    }
}

struct Entropy;

impl SecureRandom for Entropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("randomness");
    }
}

fn session_keys(numbers: &[u8]) -> SessionKeys {
    let keys: Vec<Zeroizing<[u8; 32]>> = numbers.iter().map(|number| Zeroizing::new([*number; 32])).collect();
    SessionKeys::new(&keys)
}

/// Returns an API with a console whose sessions are sealed with the first of these keys.
async fn console_parts(clock: &HeldClock, keys: &[u8]) -> ApiParts {
    let settings = ConsoleSettings {
        enabled: true,
        listen: None,
        idle: ConfigDuration(Duration::from_mins(30)),
        absolute: ConfigDuration(Duration::from_hours(12)),
        sign_in_rate: 10,
    };
    let environment = System { clock: Arc::new(clock.clone()), entropy: Arc::new(Entropy) };
    let console = Some(ConsoleParts { settings, keys: session_keys(keys) });
    let parts = api_parts().await;
    let Auth::Keys(mut clients) = parts.auth else { panic!("keys") };
    for client in clients.values_mut() {
        // A page makes several calls.
        client.rate_limit = RateLimit { requests_per_second: 100_000, burst: 100_000 };
    }
    ApiParts { environment, console, auth: Auth::Keys(clients), ..parts }
}
