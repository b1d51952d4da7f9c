//! Validates `[console]`: where the pages for operators are, and how long a session lasts.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Auth, bounds, server};
use crate::config::auth::ValidationContext;
use crate::config::error::ConfigErrors;
use crate::config::section;
use crate::domain::units::ConfigDuration;

/// Minimum and maximum of `idle`.
const MIN_IDLE: Duration = Duration::from_mins(1);
const MAX_IDLE: Duration = Duration::from_hours(24);
/// Maximum of `absolute`.
const MAX_ABSOLUTE: Duration = Duration::from_hours(7 * 24);
/// Maximum of `sign_in_rate`.
const MAX_SIGN_IN_RATE: u32 = 1000;

/// `[console]`: the pages for operators.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConsoleSettings {
    /// Whether there is a console.
    pub enabled: bool,
    /// Address of the console alone; `None`: it is at `server.listen`.
    #[serde(deserialize_with = "server::optional_address")]
    pub listen: Option<SocketAddr>,
    /// How long a session may be unused.
    pub idle: ConfigDuration,
    /// How long a session may last.
    pub absolute: ConfigDuration,
    /// Maximum sign-ins per minute from one address.
    pub sign_in_rate: u32,
}

/// Validates the settings; returns `None` after an error that leaves nothing to check.
pub(super) fn checked(
    console: &Value,
    context: &ValidationContext<'_>,
    auth: Option<&Auth>,
    errors: &mut ConfigErrors<'_>,
) -> Option<ConsoleSettings> {
    let settings: ConsoleSettings = section::section(console, &["console"], errors)?;
    let idle = errors.check(&["console", "idle"], bounds::within(settings.idle, MIN_IDLE, MAX_IDLE));
    let least = idle.map_or(MIN_IDLE, |()| settings.idle.0);
    errors.check(&["console", "absolute"], bounds::within(settings.absolute, least, MAX_ABSOLUTE));
    if !(1..=MAX_SIGN_IN_RATE).contains(&settings.sign_in_rate) {
        errors.push(&["console", "sign_in_rate"], format!("must be from 1 to {MAX_SIGN_IN_RATE}"));
    }
    // Without a console there is no listener either.
    let listen = settings.listen.filter(|_| settings.enabled);
    if let (Some(address), Some((_, false)), Some(Auth::None)) = (listen, context.server, auth)
        && !address.ip().is_loopback()
    {
        errors.push(
            &["console", "listen"],
            "is not a loopback address, and auth.mode = \"none\" gives every caller full access; use \"keys\" or set \
             server.allow_insecure = true",
        );
    }
    Some(settings)
}
