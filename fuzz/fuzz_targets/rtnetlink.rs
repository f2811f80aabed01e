//! [`cvip::fuzzing::rtnetlink`] for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| _ = cvip::fuzzing::rtnetlink(data));
