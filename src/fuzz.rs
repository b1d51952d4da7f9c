//! What the fuzzer is let at: everything that reads what others write. Each takes any bytes and asserts what must hold of
//! them; `fuzz/` calls it, and so does a test here with every input that was worth keeping.
//!
//! It is built for the fuzzer and for tests only, and is no room of the program.

pub use crate::config::fuzz::configuration;
pub use crate::http::fuzz::{bulk, canonical, csv};
pub use crate::vendors::examtesting::fuzz::examtesting;
pub use crate::vendors::startexam::fuzz::startexam;
pub use crate::vendors::thinkexam::fuzz::thinkexam;

/// A reader, by the name of its target and its corpus.
pub type Reader = (&'static str, fn(&[u8]));

/// Every reader.
pub const READERS: [Reader; 7] = [
    ("bulk", bulk),
    ("canonical", canonical),
    ("configuration", configuration),
    ("csv", csv),
    ("examtesting", examtesting),
    ("startexam", startexam),
    ("thinkexam", thinkexam),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::READERS;

    #[test]
    fn everything_the_fuzzer_has_kept_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, read) in READERS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                // With its name in the output of a failure.
                println!("{}", input.display());
                read(&fs::read(input).unwrap());
            }
        }
    }

    #[test]
    fn every_reader_has_a_target_and_every_corpus_a_reader() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(fuzz.join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        let readers: BTreeSet<String> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!((names("corpus"), names("fuzz_targets")), (readers.clone(), readers));
    }
}
