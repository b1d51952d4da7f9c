//! The fuzzer: feeds one parser of foreign input, named by `EXAMGATE_FUZZ_READER`. Built and run by scripts/fuzz.
#![no_main]
#![expect(clippy::disallowed_methods, reason = "libFuzzer has the arguments; the environment names the reader")]

use std::sync::LazyLock;

use examgate::fuzz::{READERS, Reader};

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let name = std::env::var("EXAMGATE_FUZZ_READER").unwrap_or_default();
    // Without a reader there is nothing to fuzz: the process ends before the first input.
    READERS.into_iter().find(|(reader, _)| *reader == name).unwrap_or_else(|| std::process::exit(2))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (READER.1)(data));
