//! Scenario documents.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynosim_fuzz::scenario(data));
