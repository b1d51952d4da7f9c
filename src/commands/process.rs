//! The process the program runs in: arguments, environment, files, clock, randomness. The only place that reads them; all
//! others are handed what they need.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::KeyFileStore;
use crate::domain::system::{Clock, SecureRandom, System};
use crate::secret::{Secret, SecretSource};

/// What the program finds when it is started.
#[derive(Clone)]
pub struct Process {
    /// The command line, the program's name first.
    pub arguments: Vec<OsString>,
    /// Clock and entropy.
    pub environment: System,
    /// The time of day, for the sandbox, which shares no types with the gateway.
    pub now: fn() -> SystemTime,
    /// Whether a person reads stderr.
    pub terminal: bool,
    variables: BTreeMap<OsString, OsString>,
}

impl Process {
    /// The process this is.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the process for all others")]
    pub fn current() -> Self {
        Self {
            arguments: std::env::args_os().collect(),
            environment: System { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) },
            now: SystemTime::now,
            terminal: std::io::stderr().is_terminal(),
            variables: std::env::vars_os().collect(),
        }
    }

    /// An environment variable that is set and not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    /// The variables whose names begin with this prefix.
    ///
    /// # Errors
    /// One sentence for each that is not UTF-8.
    pub fn variables(&self, prefix: &str) -> Result<Vec<(String, String)>, Vec<String>> {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        for (name, value) in &self.variables {
            let name = name.to_string_lossy();
            if !name.starts_with(prefix) {
                continue;
            }
            match value.to_str() {
                Some(value) => found.push((name.into_owned(), value.to_owned())),
                None => faults.push(format!("environment variable {name}: is not UTF-8")),
            }
        }
        if faults.is_empty() { Ok(found) } else { Err(faults) }
    }
}

impl SecretSource for Process {
    fn variable(&self, name: &str) -> Result<Secret, String> {
        let value = self.variables.get(&OsString::from(name));
        let value = value.ok_or_else(|| format!("environment variable {name} is not set"))?;
        value.to_str().map(Secret::new).ok_or_else(|| format!("environment variable {name} is not UTF-8"))
    }

    fn file(&self, path: &str) -> Result<Secret, String> {
        // The kind of error only: its text may quote the content (invalid UTF-8 does not, but nobody promises that).
        std::fs::read_to_string(path)
            .map(Secret::new)
            .map_err(|error| format!("file {path} cannot be read: {}", error.kind()))
    }
}

impl KeyFileStore for Process {
    fn exists(&self, path: &Path) -> bool {
        // What cannot be looked at counts as there: reading it then tells why.
        !matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == ErrorKind::NotFound)
    }

    fn create(&self, path: &Path, content: &Secret) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("file {} cannot be made: {}", path.display(), error.kind());
        let mut file = new_private_file(path).map_err(fault)?;
        writeln!(file, "{}", content.expose()).and_then(|()| file.sync_all()).map_err(fault)
    }
}

/// A new file that only its owner may read.
pub(super) fn new_private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Keeps the process's memory, with the secrets in it, from being written to disk when it crashes. One byte instead of none:
/// none holds for files only, one is what the kernel takes for "not to a program either" (`core(5)`, "Piping core dumps to a
/// program"; `fs/coredump.c`).
pub(super) fn no_core_dumps() {
    let most = getrlimit(Resource::Core).maximum.map_or(1, |most| most.min(1));
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(most), maximum: Some(most) }) {
        tracing::warn!(%error, "the process's memory may be written to disk when it crashes");
    }
}

/// How many files the process may have open, sockets included.
pub(super) fn most_files() -> usize {
    let most = getrlimit(Resource::Nofile).current;
    most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Raises the number of open files to what the system permits. The soft limit is low only for programs that use `select`,
/// which cannot count further.
pub(super) fn raise_most_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    most_files()
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is passed in")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct SystemEntropy;

impl SecureRandom for SystemEntropy {
    #[expect(
        clippy::expect_used,
        reason = "without the system's randomness no key, id or nonce can be made; going on would be worse"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives randomness");
    }
}
