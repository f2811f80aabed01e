//! [`cvip::fuzzing::replies`] for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cvip::fuzzing::replies(data));
