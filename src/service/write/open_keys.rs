//! What this process knows about the idempotency keys it has begun a write under, so that a retry which meets a store that
//! cannot be read is not answered `not_applied` while the first request's write is accepted, or its outcome unknown.
//!
//! A hint, not a record: the store decides whenever it can be read. Keys used through another process are not known here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::orphans::lock_unpoisoned;

/// Keys remembered at once; the oldest are forgotten first.
const CAPACITY: usize = 20_000;

/// Returns the resource of a running write, once it is accepted.
pub(in crate::service) type ResourceProbe = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The keys whose write runs, or whose outcome is unknown.
#[derive(Default)]
pub(in crate::service) struct OpenKeys(Mutex<State>);

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// The keys in the order in which they were first remembered; may name keys that were forgotten meanwhile.
    order: VecDeque<String>,
}

#[derive(Clone)]
enum Entry {
    Running(ResourceProbe),
    Unknown(Option<String>),
}

impl OpenKeys {
    /// Remembers that a write runs under the key.
    pub(in crate::service) fn begin(&self, key: &str, probe: ResourceProbe) {
        self.insert(key, Entry::Running(probe));
    }

    /// Remembers that the outcome of the key's write is unknown, and where it will appear.
    pub(in crate::service) fn leave_unknown(&self, key: &str, resource: Option<String>) {
        self.insert(key, Entry::Unknown(resource));
    }

    /// Remembers that the key's write was abandoned: from now on its outcome is unknown.
    pub(in crate::service) fn abandon(&self, key: &str) {
        if let Some(resource) = self.resource(key) {
            self.leave_unknown(key, resource);
        }
    }

    /// Forgets a key whose write has a known outcome.
    pub(in crate::service) fn remove(&self, key: &str) {
        lock_unpoisoned(&self.0).entries.remove(key);
    }

    /// Returns where the outcome of the key's write will appear, as far as that is known. `None`: this process knows of no
    /// open write under the key.
    pub(in crate::service) fn resource(&self, key: &str) -> Option<Option<String>> {
        let entry = lock_unpoisoned(&self.0).entries.get(key).cloned()?;
        Some(match entry {
            Entry::Running(probe) => probe(),
            Entry::Unknown(resource) => resource,
        })
    }

    fn insert(&self, key: &str, entry: Entry) {
        let mut state = lock_unpoisoned(&self.0);
        if state.entries.insert(key.to_owned(), entry).is_none() {
            state.order.push_back(key.to_owned());
        }
        while state.order.len() > CAPACITY {
            let oldest = state.order.pop_front();
            oldest.map(|key| state.entries.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_key_is_known_until_its_outcome_is() {
        let keys = OpenKeys::default();
        assert_eq!(keys.resource("a"), None);
        keys.begin("a", Arc::new(|| Some("/candidates/1".to_owned())));
        assert_eq!(keys.resource("a"), Some(Some("/candidates/1".to_owned())));
        keys.abandon("a");
        assert_eq!(keys.resource("a"), Some(Some("/candidates/1".to_owned())));
        keys.remove("a");
        assert_eq!(keys.resource("a"), None);
        keys.abandon("a");
        assert_eq!(keys.resource("a"), None, "a known outcome stays known");
    }

    #[test]
    fn the_oldest_keys_are_forgotten_first() {
        let keys = OpenKeys::default();
        for number in 0..=CAPACITY {
            keys.leave_unknown(&number.to_string(), None);
        }
        assert_eq!(keys.resource("0"), None);
        assert_eq!(keys.resource("1"), Some(None));
    }
}
