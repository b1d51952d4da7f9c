//! Validates `[store]`, reads its keys, and creates the first one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};
use url::Url;

use super::{StoreSettings, bounds};
use crate::config::error::ConfigErrors;
use crate::domain::system::System;
use crate::domain::units::ConfigDuration;
use crate::secret::{ConfigFingerprint, Secret, SecretRef, SecretSource};
use crate::store::{Keyring, SealError};

/// Location and keys of the store.
#[derive(Clone)]
pub struct StoreParts {
    /// Where it is.
    pub place: StoreLocation,
    /// Its keys.
    pub keyring: Keyring,
    /// Fingerprint of its settings, for comparison with a later configuration.
    pub fingerprint: StoreFingerprint,
}

/// Fingerprint of the store's settings, one per configuration key.
#[derive(Clone)]
pub struct StoreFingerprint {
    url: ConfigFingerprint,
    encryption_key: ConfigFingerprint,
    decryption_keys: ConfigFingerprint,
}

impl StoreFingerprint {
    /// Returns the keys whose values differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("store.url", self.url.same(&other.url)),
            ("store.encryption_key", self.encryption_key.same(&other.encryption_key)),
            ("store.decryption_keys", self.decryption_keys.same(&other.decryption_keys)),
        ];
        keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

/// Location of the store; its `Display` omits user and password.
#[derive(Clone)]
pub enum StoreLocation {
    /// A SQLite file, for a single process.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several processes may share.
    Postgres {
        /// Its URL, which may contain a password.
        url: Secret,
        /// The URL without user, password and parameters.
        shown: String,
    },
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres { shown, .. } => f.write_str(shown),
        }
    }
}

/// The shortest retention of events: a reader or a webhook must be able to be away for a while.
const MIN_EVENT_RETENTION: Duration = Duration::from_hours(1);

/// Supported query parameters of a PostgreSQL URL. Others are rejected, because the library would log and ignore them.
const PARAMETERS: [&str; 8] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "options"];

/// Supported values of `sslmode`; not `allow`, which the library treats as `disable`.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// Files in which the store's key may be created.
pub trait KeyFileStore {
    /// Returns whether the file exists.
    fn exists(&self, path: &Path) -> bool;

    /// Creates the file, readable by its owner only; never overwrites one.
    ///
    /// # Errors
    /// A sentence that names the file.
    fn create(&self, path: &Path, content: &Secret) -> Result<(), String>;
}

/// The validated store, before its key is created.
pub struct StoreView {
    /// Where it is.
    pub place: StoreLocation,
    /// Its keys.
    pub keys: KeyView,
    /// Fingerprint of its settings; a key that does not exist yet counts as none.
    pub fingerprint: StoreFingerprint,
    earlier: Vec<Secret>,
}

/// A store's keys before it is opened.
pub enum KeyView {
    /// They exist.
    Known(Keyring),
    /// The first one would be created in this file.
    ToMake(PathBuf),
}

/// Deserialises the URL of a store, or a reference to it.
pub(super) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretRef, D::Error> {
    let text = String::deserialize(deserializer)?;
    let reference = ["env:", "file:", "plain:"].iter().any(|start| text.starts_with(start));
    // A secret reference, so that a password in it is protected from the start.
    let text = if reference { text } else { format!("plain:{text}") };
    SecretRef::parse(&text).map_err(|_| D::Error::custom("expected \"sqlite:PATH\""))
}

/// Checks the settings against each other.
pub(super) fn check(settings: &StoreSettings, errors: &mut ConfigErrors<'_>) {
    let StoreSettings {
        url,
        encryption_key: _,
        decryption_keys: _,
        retention,
        idempotency_retention,
        report_retention,
        parked_retention,
        event_retention,
    } = settings;
    for (key, span) in [
        ("retention", retention),
        ("idempotency_retention", idempotency_retention),
        ("report_retention", report_retention),
        ("parked_retention", parked_retention),
    ] {
        errors.check(&["store", key], bounds::more_than_zero(*span, ConfigDuration::MAX.0));
    }
    errors.check(
        &["store", "event_retention"],
        bounds::within(*event_retention, MIN_EVENT_RETENTION, ConfigDuration::MAX.0),
    );
    if retention < idempotency_retention {
        // The response to a retry under a bulk's idempotency key comes from its operation.
        errors.push(&["store", "retention"], "must not be shorter than store.idempotency_retention");
    }
    if let SecretRef::Plain(text) = url {
        place(text, errors);
    }
}

/// Reads the URL and the keys; creates nothing yet.
pub(super) fn view(
    settings: &StoreSettings,
    secrets: &dyn SecretSource,
    files: &dyn KeyFileStore,
    errors: &mut ConfigErrors<'_>,
) -> Option<StoreView> {
    let url = errors.check(&["store", "url"], settings.url.resolve(secrets));
    let place = url.as_ref().and_then(|url| self::place(url, errors));
    let (current, created) = match &settings.encryption_key {
        SecretRef::File(path) if !files.exists(Path::new(path)) => {
            (None, place.as_ref().and_then(|place| to_make(path, place, files, errors)))
        }
        reference => (read_key(reference, secrets, &["store", "encryption_key"], errors), None),
    };
    let read = settings.decryption_keys.iter().enumerate().map(|(index, reference)| {
        read_key(reference, secrets, &["store", "decryption_keys", &index.to_string()], errors)
    });
    // All of them first, so that every error is reported.
    let earlier: Vec<Option<Secret>> = read.collect();
    let (url, place, earlier) = (url?, place?, earlier.into_iter().collect::<Option<Vec<_>>>()?);
    let keys = match (&current, created) {
        (Some(key), _) => KeyView::Known(keyring(key, &earlier, errors)?),
        (None, path) => KeyView::ToMake(path?),
    };
    let fingerprint = StoreFingerprint {
        url: ConfigFingerprint::of(vec![url]),
        encryption_key: ConfigFingerprint::of(current.into_iter().collect()),
        decryption_keys: ConfigFingerprint::of(earlier.clone()),
    };
    Some(StoreView { place, keys, fingerprint, earlier })
}

impl StoreView {
    /// Creates the key if there is none yet.
    pub(super) fn create_key(
        self,
        files: &dyn KeyFileStore,
        environment: &System,
        errors: &mut ConfigErrors<'_>,
    ) -> Option<StoreParts> {
        let Self { place, keys, mut fingerprint, earlier } = self;
        let keyring = match keys {
            KeyView::Known(keyring) => keyring,
            KeyView::ToMake(path) => {
                let key = Keyring::generate(environment);
                errors.check(&["store", "encryption_key"], files.create(&path, &key))?;
                fingerprint.encryption_key = ConfigFingerprint::of(vec![key.clone()]);
                keyring(&key, &earlier, errors)?
            }
        };
        Some(StoreParts { place, keyring, fingerprint })
    }
}

fn keyring(key: &Secret, earlier: &[Secret], errors: &mut ConfigErrors<'_>) -> Option<Keyring> {
    errors.check(&["store", "encryption_key"], Keyring::new(key, earlier).map_err(|error| error.to_string()))
}

/// Parses `sqlite:PATH` (also `sqlite:///PATH`) or `postgres://…`. Errors never quote the URL, which may contain a
/// password.
fn place(url: &Secret, errors: &mut ConfigErrors<'_>) -> Option<StoreLocation> {
    let found = match url.expose().split_once(':') {
        Some(("sqlite", rest)) => match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err("must name a file: \"sqlite:examgate.db\""),
            path if path.contains(":memory:") => Err("must name a file: data in memory would not survive a restart"),
            path if path.contains('?') => Err("must be a path without parameters"),
            path => Ok(StoreLocation::Sqlite(PathBuf::from(path))),
        },
        Some(("postgres" | "postgresql", _)) => postgres(url),
        _ => Err("expected \"sqlite:PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\""),
    };
    errors.check(&["store", "url"], found)
}

fn postgres(text: &Secret) -> Result<StoreLocation, &'static str> {
    let form = "expected \"postgres://USER:PASSWORD@HOST/DATABASE\"; percent-encode (%XX) characters other than \
                letters and digits in user and password";
    let url = Url::parse(text.expose()).map_err(|_| form)?;
    let database = url.path().trim_start_matches('/');
    let named = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    // Without a host, the query may name the directory of a socket.
    let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned).or_else(|| named("host"));
    let (Some(host), false) = (host, database.is_empty() || database.contains('/')) else { return Err(form) };
    if url.query_pairs().any(|(key, _)| !PARAMETERS.contains(&&*key)) {
        return Err(
            "supports only the parameters sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, options",
        );
    }
    if named("sslmode").is_some_and(|mode| !SSL_MODES.contains(&&*mode)) {
        return Err("sslmode must be disable, prefer, require, verify-ca or verify-full");
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(StoreLocation::Postgres { url: text.clone(), shown: format!("postgres://{host}{port}/{database}") })
}

fn read_key(
    reference: &SecretRef,
    secrets: &dyn SecretSource,
    at: &[&str],
    errors: &mut ConfigErrors<'_>,
) -> Option<Secret> {
    let key = reference.resolve(secrets).and_then(|text| match Keyring::new(&text, &[]) {
        Ok(_) => Ok(text),
        Err(SealError::NotAKey { .. }) => {
            Err("expected 32 bytes in Base64, as `openssl rand -base64 32` prints".to_owned())
        }
        Err(error) => Err(error.to_string()),
    });
    errors.check(at, key)
}

/// Decides whether the key may be created: only together with a new database. Next to an existing one the key file was
/// lost, and a new key would hide that. Processes that share a database need the same key, so none of them may create
/// it.
fn to_make(
    path: &str,
    place: &StoreLocation,
    files: &dyn KeyFileStore,
    errors: &mut ConfigErrors<'_>,
) -> Option<PathBuf> {
    let detail = match place {
        StoreLocation::Sqlite(database) if !files.exists(database) => return Some(PathBuf::from(path)),
        StoreLocation::Sqlite(database) => format!(
            "file {path} is missing, but the database {} exists and cannot be read without it; restore the key",
            database.display()
        ),
        StoreLocation::Postgres { .. } => format!(
            "file {path} is missing, and with PostgreSQL the gateway does not create it: every process that shares the \
             database needs the same key; generate one with `openssl rand -base64 32` and give it to all of them"
        ),
    };
    errors.push(&["store", "encryption_key"], detail);
    None
}
