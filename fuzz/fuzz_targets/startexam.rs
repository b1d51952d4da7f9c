#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| examgate::fuzz::startexam(data));
