//! Registry of the idempotency keys under which this process has started writes. If the store cannot be read, it keeps
//! a retry from reporting `not_applied` while the first request's write is accepted or its outcome is unknown.
//!
//! A hint, not a record: whenever the store can be read, the store decides. Keys used through other processes are not
//! known.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::service::mutex::lock_unpoisoned;

/// Maximum number of keys remembered; the oldest are dropped first.
const CAPACITY: usize = 20_000;

/// Function that returns the resource of a running write once it is accepted.
pub(in crate::service) type ResourceProbe = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Keys whose write is running or has an unknown outcome.
#[derive(Default)]
pub(in crate::service) struct OpenKeys(Mutex<State>);

#[derive(Default)]
struct State {
    entries: HashMap<String, (u64, Entry)>,
    /// Insertions in order; those whose key was removed meanwhile stay until they are the oldest.
    order: VecDeque<(u64, String)>,
    insertions: u64,
}

#[derive(Clone)]
enum Entry {
    Running(ResourceProbe),
    Unknown(Option<String>),
}

/// A write under a key that has not come to a known outcome.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) struct OpenWrite {
    /// Path where the outcome will appear, if it is known yet.
    pub(in crate::service) resource: Option<String>,
}

impl OpenKeys {
    /// Records that a write is running under the key. Returns `false`, and changes nothing, if another one is.
    pub(in crate::service) fn begin(&self, key: &str, probe: ResourceProbe) -> bool {
        if matches!(lock_unpoisoned(&self.0).entries.get(key), Some((_, Entry::Running(_)))) {
            return false;
        }
        self.insert(key, Entry::Running(probe));
        true
    }

    /// Records that the outcome of the key's write is unknown, and where it will appear.
    pub(in crate::service) fn leave_unknown(&self, key: &str, resource: Option<String>) {
        self.insert(key, Entry::Unknown(resource));
    }

    /// Records that the key's write was abandoned, so its outcome is unknown.
    pub(in crate::service) fn abandon(&self, key: &str) {
        if let Some(write) = self.get(key) {
            self.leave_unknown(key, write.resource);
        }
    }

    /// Removes a key whose write has a known outcome.
    pub(in crate::service) fn remove(&self, key: &str) {
        lock_unpoisoned(&self.0).entries.remove(key);
    }

    /// Returns the open write under the key, if this process knows of one.
    pub(in crate::service) fn get(&self, key: &str) -> Option<OpenWrite> {
        let (_, entry) = lock_unpoisoned(&self.0).entries.get(key).cloned()?;
        let resource = match entry {
            Entry::Running(probe) => probe(),
            Entry::Unknown(resource) => resource,
        };
        Some(OpenWrite { resource })
    }

    fn insert(&self, key: &str, entry: Entry) {
        let mut state = lock_unpoisoned(&self.0);
        if let Some((_, known)) = state.entries.get_mut(key) {
            *known = entry;
            return;
        }
        state.insertions += 1;
        let insertion = state.insertions;
        state.entries.insert(key.to_owned(), (insertion, entry));
        state.order.push_back((insertion, key.to_owned()));
        if state.order.len() > CAPACITY
            && let Some((oldest, key)) = state.order.pop_front()
            && state.entries.get(&key).is_some_and(|(insertion, _)| *insertion == oldest)
        {
            state.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_key_is_remembered_until_its_outcome_is_known() {
        let keys = OpenKeys::default();
        let open = || Some(OpenWrite { resource: Some("/candidates/1".to_owned()) });
        assert_eq!(keys.get("a"), None);
        assert!(keys.begin("a", Arc::new(|| Some("/candidates/1".to_owned()))));
        assert!(!keys.begin("a", Arc::new(|| None)), "another write is running");
        assert_eq!(keys.get("a"), open());
        keys.abandon("a");
        assert_eq!(keys.get("a"), open());
        keys.remove("a");
        assert_eq!(keys.get("a"), None);
        keys.abandon("a");
        assert_eq!(keys.get("a"), None, "a known outcome stays known");
    }

    #[test]
    fn the_oldest_keys_are_dropped_first() {
        let keys = OpenKeys::default();
        keys.leave_unknown("again", None);
        keys.remove("again");
        for number in 0..CAPACITY {
            keys.leave_unknown(&number.to_string(), None);
        }
        keys.leave_unknown("again", None);
        assert_eq!(keys.get("0"), None);
        assert_eq!(keys.get("1"), Some(OpenWrite { resource: None }));
        assert_eq!(keys.get("again"), Some(OpenWrite { resource: None }), "its first use does not count");
    }
}
