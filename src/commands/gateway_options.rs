//! How a command reaches a running gateway: its address, the key, and how long to retry.

use std::time::Duration;

use clap::Args;
use url::{Host, Url};

use crate::commands::Process;
use crate::domain::units::ConfigDuration;
use crate::secret::{Secret, SecretRef};

const ADDRESS_VARIABLE: &str = "EXAMGATE_URL";
const KEY_VARIABLE: &str = "EXAMGATE_API_KEY";
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8080";

/// Maximum of `--patience`.
const MAX_PATIENCE: ConfigDuration = ConfigDuration(Duration::from_hours(24 * 7));

const GATEWAY: &str = "Gateway";

// Without a doc comment: it would become the description of each command that has the options.
#[derive(Args)]
pub(super) struct GatewayOptions {
    /// The gateway's address
    #[arg(
        long,
        value_name = "URL",
        help_heading = GATEWAY,
        help = "The gateway's address, with its base path if it has one [default: $EXAMGATE_URL, then \
                http://127.0.0.1:8080]"
    )]
    url: Option<String>,
    /// The file that holds the API key
    #[arg(
        long,
        value_name = "FILE",
        help_heading = GATEWAY,
        help = "The file that holds the API key [default: the key in $EXAMGATE_API_KEY]"
    )]
    key_file: Option<String>,
    /// How long to keep retrying while the gateway does not respond
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = patience, help_heading = GATEWAY)]
    patience: ConfigDuration,
}

fn patience(text: &str) -> Result<ConfigDuration, String> {
    let span = ConfigDuration::parse(text)?;
    if span <= MAX_PATIENCE { Ok(span) } else { Err(format!("must be at most {MAX_PATIENCE}")) }
}

/// A gateway that can be asked.
pub(super) struct GatewayAccess {
    /// The gateway's address; a base path may follow the host.
    pub(super) address: Url,
    pub(super) key: Secret,
    /// How long to retry while the gateway is unreachable.
    pub(super) patience: Duration,
}

impl GatewayOptions {
    /// Validates options and environment.
    ///
    /// # Errors
    /// Every error found.
    pub(super) fn access(&self, process: &Process) -> Result<GatewayAccess, Vec<String>> {
        match (key(self.key_file.as_deref(), process), address(self.url.as_deref(), process)) {
            (Ok(key), Ok(address)) => Ok(GatewayAccess { address, key, patience: self.patience.0 }),
            (key, address) => Err(key.err().into_iter().chain(address.err()).collect()),
        }
    }
}

impl GatewayAccess {
    /// Returns whether the gateway is on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.address)
    }

    /// Returns whether others on the network can read what is sent.
    pub(super) fn is_readable_by_others(&self) -> bool {
        self.address.scheme() == "http" && !self.is_local()
    }
}

fn key(file: Option<&str>, process: &Process) -> Result<Secret, String> {
    let (place, reference) = match file {
        Some(path) => (path, SecretRef::File(path.to_owned())),
        None => (KEY_VARIABLE, SecretRef::Env(KEY_VARIABLE.to_owned())),
    };
    let key = reference.resolve(process).map_err(|fault| match file {
        Some(_) => fault,
        None => format!("{fault}; set it to the API key, or name a file that holds the key with --key-file"),
    })?;
    // The key becomes a header value; report an invalid one without showing it.
    if key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key);
    }
    Err(format!("{place}: contains spaces, line breaks or other characters that are not valid in an API key"))
}

fn address(given: Option<&str>, process: &Process) -> Result<Url, String> {
    let (place, text) = match (given, process.variable(ADDRESS_VARIABLE)) {
        (Some(text), _) => ("--url", text),
        (None, Some(value)) => (ADDRESS_VARIABLE, value.to_str().unwrap_or_default()),
        (None, None) => ("the default address", DEFAULT_ADDRESS),
    };
    // Do not quote the text: it may hold a password.
    let fault = |why: &str| format!("{place}: {why}; expected an address such as https://exams.example.com/exam-api");
    let url = Url::parse(text).map_err(|error| fault(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("must not contain a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("must not have a query or a fragment"));
    }
    Ok(url)
}

/// Returns whether the address is a loopback address.
fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_valid_gateway_addresses() {
        let process = Process::current();
        for good in ["http://127.0.0.1:8080", "https://exams.example.com/exam-api/", "http://[::1]:1"] {
            assert!(address(Some(good), &process).is_ok(), "{good}");
        }
        for bad in [
            "",
            "exams.example.com",
            "localhost:8080",
            "ftp://exams.example.com",
            "https://me:hunter2@exams.example.com",
            "https://exams.example.com?connection=a",
            "https://exams.example.com#a",
        ] {
            let fault = address(Some(bad), &process).unwrap_err();
            assert!(fault.starts_with("--url: ") && !fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn recognises_loopback_addresses() {
        for (address, is) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost/exam-api", true),
            ("http://gateway:8080", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), is, "{address}");
        }
    }
}
