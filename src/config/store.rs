//! Checks `[store]`, reads its keys, and makes the first one.

use std::path::{Path, PathBuf};

use super::fault::Faults;
use super::{StoreSettings, document};
use crate::domain::environment::Environment;
use crate::secret::{Secret, SecretRef, SecretSource};
use crate::store::{Keyring, SealError};

/// What the store is opened with.
#[derive(Clone)]
pub struct StoreParts {
    /// The SQLite database.
    pub database: PathBuf,
    /// Its keys.
    pub keyring: Keyring,
}

/// The files the store's key may be made in.
pub trait KeyFiles {
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;

    /// Makes the file, readable by its owner only; refuses to write over one.
    ///
    /// # Errors
    /// A sentence that names the file.
    fn create(&self, path: &Path, content: &Secret) -> Result<(), String>;
}

/// The store before its key was made.
pub(super) struct Plan {
    database: PathBuf,
    key: Key,
    earlier: Vec<Secret>,
}

enum Key {
    Known(Secret),
    ToMake(PathBuf),
}

pub(super) fn checked(document: document::Store, faults: &mut Faults<'_>) -> Option<StoreSettings> {
    let document::Store { url, encryption_key, decryption_keys, retention, idempotency_retention } = document;
    for (key, span) in [("retention", retention), ("idempotency_retention", idempotency_retention)] {
        if span.0.is_zero() {
            faults.push(&["store", key], "must be more than 0");
        }
    }
    if let SecretRef::Plain(text) = &url.0 {
        database(text, faults)?;
    }
    Some(StoreSettings { url: url.0, encryption_key, decryption_keys, retention, idempotency_retention })
}

/// Reads address and keys; makes nothing yet.
pub(super) fn plan(
    settings: &StoreSettings,
    secrets: &dyn SecretSource,
    files: &dyn KeyFiles,
    faults: &mut Faults<'_>,
) -> Option<Plan> {
    let url = settings.url.resolve(secrets).map_err(|detail| faults.push(&["store", "url"], detail)).ok();
    let database = url.and_then(|url| self::database(&url, faults));
    let key = match &settings.encryption_key {
        SecretRef::File(path) if !files.exists(Path::new(path)) => {
            database.as_deref().and_then(|database| to_make(path, database, files, faults))
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
    Some(Plan { database: database?, key: key?, earlier: keys.into_iter().collect::<Option<_>>()? })
}

impl Plan {
    /// Makes the key where there is none yet.
    pub(super) fn carried_out(
        self,
        files: &dyn KeyFiles,
        environment: &Environment,
        faults: &mut Faults<'_>,
    ) -> Option<StoreParts> {
        let Self { database, key, earlier } = self;
        let key = match key {
            Key::Known(key) => key,
            Key::ToMake(path) => {
                let key = Keyring::generate(environment);
                if let Err(detail) = files.create(&path, &key) {
                    faults.push(&["store", "encryption_key"], detail);
                    return None;
                }
                key
            }
        };
        match Keyring::new(&key, &earlier) {
            Ok(keyring) => Some(StoreParts { database, keyring }),
            Err(error) => {
                faults.push(&["store", "encryption_key"], error.to_string());
                None
            }
        }
    }
}

/// The file named by `sqlite:PATH` (`sqlite:///PATH` as well). The address may hold a password and is never repeated.
fn database(url: &Secret, faults: &mut Faults<'_>) -> Option<PathBuf> {
    let fault = match url.expose().split_once(':') {
        Some(("sqlite", rest)) => match rest.strip_prefix("//").unwrap_or(rest) {
            "" => "must name a file: \"sqlite:examgate.db\"",
            path if path.contains(":memory:") => "must name a file: what is kept in memory only would not survive",
            path if path.contains('?') => "takes a path only, no parameters",
            path => return Some(PathBuf::from(path)),
        },
        Some(("postgres" | "postgresql", _)) => "PostgreSQL is not in this version yet; use \"sqlite:PATH\"",
        _ => "expected \"sqlite:PATH\"",
    };
    faults.push(&["store", "url"], fault);
    None
}

fn read_key(reference: &SecretRef, secrets: &dyn SecretSource, at: &[&str], faults: &mut Faults<'_>) -> Option<Secret> {
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
fn to_make(path: &str, database: &Path, files: &dyn KeyFiles, faults: &mut Faults<'_>) -> Option<Key> {
    if files.exists(database) {
        let detail = format!(
            "file {path} is missing, but the database {} is there and cannot be read without it; restore the key",
            database.display()
        );
        faults.push(&["store", "encryption_key"], detail);
        return None;
    }
    Some(Key::ToMake(PathBuf::from(path)))
}
