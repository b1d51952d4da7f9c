//! Checks `[store]`, reads its keys, and makes the first one.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use super::{StoreSettings, bounds};
use crate::config::error::ConfigErrors;
use crate::config::schema;
use crate::domain::system::System;
use crate::domain::units::ConfigDuration;
use crate::secret::{ConfigFingerprint, Secret, SecretRef, SecretSource};
use crate::store::{Keyring, SealError};

/// What the store is opened with.
#[derive(Clone)]
pub struct StoreParts {
    /// Where it is.
    pub place: StoreLocation,
    /// Its keys.
    pub keyring: Keyring,
    /// What it is opened with, to be compared with a later configuration.
    pub likeness: StoreFingerprint,
}

/// What a store is opened with, key by key of the configuration.
#[derive(Clone)]
pub struct StoreFingerprint {
    url: ConfigFingerprint,
    encryption_key: ConfigFingerprint,
    decryption_keys: ConfigFingerprint,
}

impl StoreFingerprint {
    /// The keys whose values differ.
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

/// Where the store is; shown without user and password.
#[derive(Clone)]
pub enum StoreLocation {
    /// In this SQLite file, of one process.
    Sqlite(PathBuf),
    /// In a PostgreSQL database that several processes may share.
    Postgres {
        /// Its address, which may hold a password.
        url: Secret,
        /// The address without what nobody needs to see.
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

/// What an address may say in its query. The rest is refused, since the library would log and ignore it.
const PARAMETERS: [&str; 8] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "options"];

/// How a connection may be protected; `allow` is left out, because the library takes it for `disable`.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// The files the store's key may be made in.
pub trait KeyFileStore {
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;

    /// Makes the file, readable by its owner only; refuses to write over one.
    ///
    /// # Errors
    /// A sentence that names the file.
    fn create(&self, path: &Path, content: &Secret) -> Result<(), String>;
}

/// The store to be looked at; nothing is made for it.
pub struct StoreView {
    /// Where it is.
    pub place: StoreLocation,
    /// Its keys.
    pub keys: KeyView,
}

/// A store's keys before it is opened.
pub enum KeyView {
    /// They are there.
    Known(Keyring),
    /// The first one would be made in this file.
    ToMake(PathBuf),
}

/// The store before its key was made.
pub(super) struct StorePlan {
    url: Secret,
    place: StoreLocation,
    key: Key,
    earlier: Vec<Secret>,
}

enum Key {
    Known(Secret),
    ToMake(PathBuf),
}

pub(super) fn checked(document: schema::Store, faults: &mut ConfigErrors<'_>) -> Option<StoreSettings> {
    let schema::Store { url, encryption_key, decryption_keys, retention, idempotency_retention } = document;
    for (key, span) in [("retention", retention), ("idempotency_retention", idempotency_retention)] {
        if let Some(detail) = bounds::more_than_zero(span, ConfigDuration::MAX.0) {
            faults.push(&["store", key], detail);
        }
    }
    if retention < idempotency_retention {
        // A repeat under the key of a bulk is answered from its operation.
        faults.push(&["store", "retention"], "must not be shorter than store.idempotency_retention");
    }
    if let SecretRef::Plain(text) = &url.0 {
        place(text, faults)?;
    }
    Some(StoreSettings { url: url.0, encryption_key, decryption_keys, retention, idempotency_retention })
}

/// Reads address and keys; makes nothing yet.
pub(super) fn plan(
    settings: &StoreSettings,
    secrets: &dyn SecretSource,
    files: &dyn KeyFileStore,
    faults: &mut ConfigErrors<'_>,
) -> Option<StorePlan> {
    let url = settings.url.resolve(secrets).map_err(|detail| faults.push(&["store", "url"], detail)).ok();
    let place = url.as_ref().and_then(|url| self::place(url, faults));
    let key = match &settings.encryption_key {
        SecretRef::File(path) if !files.exists(Path::new(path)) => {
            place.as_ref().and_then(|place| to_make(path, place, files, faults))
        }
        reference => read_key(reference, secrets, &["store", "encryption_key"], faults).map(Key::Known),
    };
    let keys: Vec<Option<Secret>> = settings
        .decryption_keys
        .iter()
        .enumerate()
        .map(|(index, reference)| {
            read_key(reference, secrets, &["store", "decryption_keys", &index.to_string()], faults)
        })
        .collect();
    Some(StorePlan { url: url?, place: place?, key: key?, earlier: keys.into_iter().collect::<Option<_>>()? })
}

impl StorePlan {
    /// What the store would be opened with. A key that would have to be made is none yet.
    pub(super) fn likeness(&self) -> StoreFingerprint {
        let key = match &self.key {
            Key::Known(key) => vec![key.clone()],
            Key::ToMake(_) => Vec::new(),
        };
        StoreFingerprint {
            url: ConfigFingerprint::of(vec![self.url.clone()]),
            encryption_key: ConfigFingerprint::of(key),
            decryption_keys: ConfigFingerprint::of(self.earlier.clone()),
        }
    }

    /// The store to be looked at.
    pub(super) fn view(self, faults: &mut ConfigErrors<'_>) -> Option<StoreView> {
        let Self { url: _, place, key, earlier } = self;
        let keys = match key {
            Key::Known(key) => KeyView::Known(keyring(&key, &earlier, faults)?),
            Key::ToMake(path) => KeyView::ToMake(path),
        };
        Some(StoreView { place, keys })
    }

    /// Makes the key where there is none yet.
    pub(super) fn carried_out(
        self,
        files: &dyn KeyFileStore,
        environment: &System,
        faults: &mut ConfigErrors<'_>,
    ) -> Option<StoreParts> {
        let mut likeness = self.likeness();
        let Self { url: _, place, key, earlier } = self;
        let key = match key {
            Key::Known(key) => key,
            Key::ToMake(path) => {
                let key = Keyring::generate(environment);
                if let Err(detail) = files.create(&path, &key) {
                    faults.push(&["store", "encryption_key"], detail);
                    return None;
                }
                likeness.encryption_key = ConfigFingerprint::of(vec![key.clone()]);
                key
            }
        };
        Some(StoreParts { place, keyring: keyring(&key, &earlier, faults)?, likeness })
    }
}

fn keyring(key: &Secret, earlier: &[Secret], faults: &mut ConfigErrors<'_>) -> Option<Keyring> {
    Keyring::new(key, earlier).map_err(|error| faults.push(&["store", "encryption_key"], error.to_string())).ok()
}

/// The place named by `sqlite:PATH` (`sqlite:///PATH` as well) or `postgres://…`. The address may hold a password and is
/// never repeated.
fn place(url: &Secret, faults: &mut ConfigErrors<'_>) -> Option<StoreLocation> {
    let found = match url.expose().split_once(':') {
        Some(("sqlite", rest)) => match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err("must name a file: \"sqlite:examgate.db\""),
            path if path.contains(":memory:") => Err("must name a file: what is kept in memory only would not survive"),
            path if path.contains('?') => Err("takes a path only, no parameters"),
            path => Ok(StoreLocation::Sqlite(PathBuf::from(path))),
        },
        Some(("postgres" | "postgresql", _)) => postgres(url),
        _ => Err("expected \"sqlite:PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\""),
    };
    found.map_err(|fault| faults.push(&["store", "url"], fault)).ok()
}

fn postgres(text: &Secret) -> Result<StoreLocation, &'static str> {
    let form = "expected \"postgres://USER:PASSWORD@HOST/DATABASE\"; signs other than letters and digits in user or \
                password are written as %XX";
    let url = Url::parse(text.expose()).map_err(|_| form)?;
    let database = url.path().trim_start_matches('/');
    let named = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    // An empty host may be a socket's directory in the query.
    let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned).or_else(|| named("host"));
    let (Some(host), false) = (host, database.is_empty() || database.contains('/')) else { return Err(form) };
    if url.query_pairs().any(|(key, _)| !PARAMETERS.contains(&&*key)) {
        return Err("takes no parameters but sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port and options");
    }
    if named("sslmode").is_some_and(|mode| !SSL_MODES.contains(&&*mode)) {
        return Err("sslmode is one of disable, prefer, require, verify-ca and verify-full");
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(StoreLocation::Postgres { url: text.clone(), shown: format!("postgres://{host}{port}/{database}") })
}

fn read_key(
    reference: &SecretRef,
    secrets: &dyn SecretSource,
    at: &[&str],
    faults: &mut ConfigErrors<'_>,
) -> Option<Secret> {
    let key = reference.resolve(secrets).and_then(|text| match Keyring::new(&text, &[]) {
        Ok(_) => Ok(text),
        Err(SealError::NotAKey { .. }) => {
            Err("expected 32 bytes in Base64, as `openssl rand -base64 32` prints".to_owned())
        }
        Err(error) => Err(error.to_string()),
    });
    key.map_err(|detail| faults.push(at, detail)).ok()
}

/// A key is made only together with a new database: beside an old one the file was lost, and a fresh key would hide that.
/// A database that is shared needs one key for all, which none of them can make for itself.
fn to_make(path: &str, place: &StoreLocation, files: &dyn KeyFileStore, faults: &mut ConfigErrors<'_>) -> Option<Key> {
    let detail = match place {
        StoreLocation::Sqlite(database) if !files.exists(database) => return Some(Key::ToMake(PathBuf::from(path))),
        StoreLocation::Sqlite(database) => format!(
            "file {path} is missing, but the database {} is there and cannot be read without it; restore the key",
            database.display()
        ),
        StoreLocation::Postgres { .. } => format!(
            "file {path} is missing, and with PostgreSQL none is made: every process that shares the database needs the \
             same key; make one with `openssl rand -base64 32` and give it to all"
        ),
    };
    faults.push(&["store", "encryption_key"], detail);
    None
}
