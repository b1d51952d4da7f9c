//! Fuzz entry points: every parser of external input. Each accepts arbitrary bytes and asserts its invariants; `fuzz/`
//! calls them, and so does a test here with every input of the corpus.
//!
//! Built only for the fuzzer (feature `fuzzing`) and for tests; not part of the program.

pub use crate::config::fuzz::configuration;
pub use crate::http::fuzz::{bulk, canonical, csv};
pub use crate::vendors::examtesting::fuzz::examtesting;
pub use crate::vendors::startexam::fuzz::{elapsed_time, startexam, startexam_feed, startexam_session};
pub use crate::vendors::thinkexam::fuzz::{thinkexam, thinkexam_webhook};

/// A fuzz entry point with its name, which is that of its corpus.
pub type Reader = (&'static str, fn(&[u8]));

/// All fuzz entry points.
pub const READERS: [Reader; 11] = [
    ("bulk", bulk),
    ("canonical", canonical),
    ("configuration", configuration),
    ("csv", csv),
    ("elapsed_time", elapsed_time),
    ("examtesting", examtesting),
    ("startexam", startexam),
    ("startexam_feed", startexam_feed),
    ("startexam_session", startexam_session),
    ("thinkexam", thinkexam),
    ("thinkexam_webhook", thinkexam_webhook),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::READERS;

    #[test]
    fn corpus_inputs_are_accepted() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, read) in READERS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                // Show the input's name when the test fails.
                println!("{}", input.display());
                read(&fs::read(input).unwrap());
            }
        }
    }

    #[test]
    fn each_entry_point_has_a_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let folders = fs::read_dir(corpus).unwrap();
        let folders: BTreeSet<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(folders, READERS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
