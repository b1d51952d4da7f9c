use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::domain::system::{Clock, SecureRandom};
use crate::secret::Secret;
use crate::transport::ConnectionSettings;

mod building;
mod reading;
mod rejecting;

const HASH: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
const EVERY_KEY: &str = include_str!("../../../tests/fixtures/every-key.toml");
/// A unique marker inside secrets; it must never appear in output.
const PLANTED: &str = "hushhushdonttellthis";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl SecureRandom for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn environment() -> System {
    System { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) }
}

/// In-memory machine: variables and files by name.
#[derive(Default)]
struct Bench {
    held: BTreeMap<&'static str, String>,
    made: RefCell<BTreeMap<PathBuf, String>>,
}

impl SecretSource for Bench {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        self.held.get(name).map(Secret::new).ok_or_else(|| format!("environment variable {name} is not set"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        self.held.get(path).map(Secret::new).ok_or_else(|| format!("file {path} cannot be read"))
    }
}

impl KeyFileStore for Bench {
    fn exists(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|path| self.held.contains_key(path))
    }

    fn create(&self, path: &Path, content: &Secret) -> Result<(), String> {
        self.made.borrow_mut().insert(path.to_owned(), content.expose().to_owned());
        Ok(())
    }
}

fn bench(held: &[(&'static str, &str)]) -> Bench {
    Bench { held: held.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), ..Bench::default() }
}

fn sources(text: &str, environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { file: Some((PathBuf::from("examgate.toml"), text.to_owned())), environment }
}

fn errors_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(&sources(text, environment)).unwrap_err().iter().map(ToString::to_string).collect()
}

fn client(more: &str) -> String {
    format!("[auth.clients.lms]\nkey_sha256 = [\"{HASH}\"]\nscopes = [\"candidates:read\"]\n{more}\n")
}

fn startexam(more: &str) -> String {
    format!(
        "[connections.startexam-main]\nvendor = \"startexam\"\naccount_id = 99\nsecret = \"plain:{PLANTED}\"\n\
         center = \"c\"\nprofile_id = \"d51b5efd-fb21-4cb8-94e2-145014839465\"\n{more}\n"
    )
}

fn thinkexam(more: &str) -> String {
    format!(
        "[connections.thinkexam-main]\nvendor = \"thinkexam\"\nbase_url = \"https://exams.example.com\"\n\
         signature = {{ mode = \"static\", ak = \"plain:{PLANTED}\", sgn = \"plain:{PLANTED}\", ts = \"plain:1\" }}\n{more}\n"
    )
}

/// Returns a valid configuration with these lines added.
fn fine(more: &str) -> String {
    client("") + &startexam("") + more
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Config {
    load(&sources(text, environment)).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// Returns the only error of a configuration.
fn only_error(text: &str) -> String {
    let errors = errors_of(text, &[]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].clone()
}

fn prepared(text: &str, bench: &Bench) -> Result<Startup, Vec<String>> {
    let environment = environment();
    let machine = HostAccess { secrets: bench, files: bench, environment: &environment };
    prepare(&sources(text, &[]), &machine).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}
