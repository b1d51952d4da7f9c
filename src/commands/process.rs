//! The process environment: arguments, environment variables, files, clock and randomness. Only this module reads them;
//! all others receive them as parameters.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use rand::Rng as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::KeyFileStore;
use crate::domain::system::{Clock, SecureRandom, System};
use crate::secret::{Secret, SecretSource};

/// The process and its environment.
#[derive(Clone)]
pub struct Process {
    /// The command line, beginning with the program's name.
    pub arguments: Vec<OsString>,
    /// Clock and entropy.
    pub environment: System,
    /// The wall clock for the sandbox, which shares no types with the gateway.
    pub now: fn() -> SystemTime,
    /// Whether stderr is a terminal.
    pub terminal: bool,
    variables: BTreeMap<OsString, OsString>,
}

impl Process {
    /// Captures the current process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the process for all others")]
    pub fn current() -> Self {
        Self {
            arguments: std::env::args_os().collect(),
            environment: System { clock: Arc::new(SystemClock), entropy: Arc::new(SeededEntropy) },
            now: SystemTime::now,
            terminal: std::io::stderr().is_terminal(),
            variables: std::env::vars_os().collect(),
        }
    }

    /// Returns an environment variable if it is set and not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    /// Returns the variables whose names begin with this prefix.
    ///
    /// # Errors
    /// One message for each that is not UTF-8.
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
        // Show the kind of error only: the text may quote the content (it does not for invalid UTF-8, but that is not
        // guaranteed).
        std::fs::read_to_string(path)
            .map(Secret::new)
            .map_err(|error| format!("file {path} cannot be read: {}", describe_kind(error.kind())))
    }
}

impl KeyFileStore for Process {
    fn exists(&self, path: &Path) -> bool {
        // An inaccessible file counts as existing: reading it then reports why.
        !matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == ErrorKind::NotFound)
    }

    fn create(&self, path: &Path, content: &Secret) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("file {} cannot be created: {}", path.display(), error.kind());
        let mut file = new_private_file(path).map_err(fault)?;
        writeln!(file, "{}", content.expose()).and_then(|()| file.sync_all()).map_err(fault)
    }
}

/// Describes why a file cannot be read, without a number, a path or the file's content.
pub(super) fn describe_kind(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::IsADirectory => "it is a directory, not a file".to_owned(),
        ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text; save it as UTF-8".to_owned(),
        other => other.to_string(),
    }
}

/// Creates a file that only its owner may read.
pub(super) fn new_private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Disables core dumps, so that a crash does not write the secrets in memory to disk. The limit is one byte because
/// zero stops only dumps to files; one also stops dumps piped to a program (`core(5)`, "Piping core dumps to a
/// program"; `fs/coredump.c`).
pub(super) fn disable_core_dumps() {
    let most = getrlimit(Resource::Core).maximum.map_or(1, |most| most.min(1));
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(most), maximum: Some(most) }) {
        tracing::warn!(%error, "core dumps cannot be disabled; a crash may write memory to disk");
    }
}

/// Returns the limit of open files, sockets included.
pub(super) fn most_files() -> usize {
    let most = getrlimit(Resource::Nofile).current;
    most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Raises the soft limit of open files to the hard limit and returns it. The soft limit is low only for programs that
/// use `select`, which supports no higher descriptors.
pub(super) fn raise_open_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
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

/// One generator for each thread (`ChaCha12`), seeded by the system and again after each 64 KiB, since a system call for
/// each nonce and id costs more than the nonce. This process never forks, which would copy a generator.
///
/// A seed that the system refuses is a panic in `rand`, at the first use and at each later one: without randomness no key,
/// id or nonce is safe.
struct SeededEntropy;

impl SecureRandom for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_repeat_within_a_thread_across_seeds_or_between_threads() {
        // 24 bytes a nonce: each thread is seeded three times.
        let draw = || {
            let system = Process::current().environment;
            (0..3 * 64 * 1024 / 24).map(|_| system.random::<24>()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let drawn: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
    }
}
