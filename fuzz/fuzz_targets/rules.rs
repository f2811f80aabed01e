//! [`cvip::fuzzing::rules`] for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cvip::fuzzing::rules(data));
