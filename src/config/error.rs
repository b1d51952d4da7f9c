//! Configuration errors, one per key: location, key and expectation. Never a value, because a value in the wrong place
//! may be a secret.

use std::collections::BTreeMap;
use std::fmt;

/// Names and indices from the root to a key.
pub(super) type Path = Vec<String>;

/// One thing an operator has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value was set; `None` for a missing value.
    pub place: Option<Location>,
    /// The key, e.g. `connections.startexam-main.timeout`; empty if the location is enough.
    pub key: String,
    /// One sentence; never a value.
    pub detail: String,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In a file, at this line (counted from 1).
    File {
        /// The file as the operator named it.
        file: String,
        /// The line.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(Location::File { file, line }) => write!(f, "{file}:{line}: ")?,
            Some(Location::Environment(name)) => write!(f, "environment variable {name}: ")?,
            None => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.detail)
    }
}

/// Location of every value of the merged configuration; defaults have none.
pub(super) type Locations = BTreeMap<Path, Location>;

/// Returns where the value at this path was set: its own location, else that of the list or table around it (one
/// variable may set it whole), else that of the first key inside it.
pub(super) fn place<'a>(places: &'a Locations, path: &[String]) -> Option<&'a Location> {
    let around = (0..=path.len()).rev().find_map(|most| places.get(&path[..most]));
    around
        .or_else(|| places.range(path.to_vec()..).next().filter(|(inner, _)| inner.starts_with(path)).map(|(_, at)| at))
}

/// Collects errors, one per key: a second error of a key usually follows from the first.
#[derive(Debug)]
pub(super) struct ConfigErrors<'a> {
    places: &'a Locations,
    errors: Vec<ConfigError>,
}

impl<'a> ConfigErrors<'a> {
    pub(super) fn new(places: &'a Locations) -> Self {
        Self { places, errors: Vec::new() }
    }

    /// Adds an error for the key at this path.
    pub(super) fn push<S: AsRef<str>>(&mut self, path: &[S], detail: impl Into<String>) {
        let path = owned(path);
        let place = place(self.places, &path).cloned();
        self.add(ConfigError { place, key: key(&path), detail: detail.into() });
    }

    /// Adds the error of a value at this path; returns what is valid.
    pub(super) fn check<T, S: AsRef<str>>(&mut self, path: &[S], result: Result<T, impl Into<String>>) -> Option<T> {
        result.map_err(|detail| self.push(path, detail)).ok()
    }

    /// Returns whether the value at this path is the text of an environment variable.
    pub(super) fn is_variable<S: AsRef<str>>(&self, path: &[S]) -> bool {
        matches!(place(self.places, &owned(path)), Some(Location::Environment(_)))
    }

    /// Adds a complete error.
    pub(super) fn add(&mut self, error: ConfigError) {
        if error.key.is_empty() || self.errors.iter().all(|other| other.key != error.key) {
            self.errors.push(error);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns the errors in the order of the file, then those of the environment, then the missing keys.
    pub(super) fn into_sorted(mut self) -> Vec<ConfigError> {
        self.errors.sort_by(|a, b| (a.place.is_none(), &a.place, &a.key).cmp(&(b.place.is_none(), &b.place, &b.key)));
        self.errors
    }
}

fn owned<S: AsRef<str>>(path: &[S]) -> Path {
    path.iter().map(|name| name.as_ref().to_owned()).collect()
}

/// Formats a path as an operator would write it, with quotes where TOML needs them.
pub(super) fn key(path: &[String]) -> String {
    let bare = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    path.iter().map(|name| if bare(&name) { name.clone() } else { format!("{name:?}") }).collect::<Vec<_>>().join(".")
}
