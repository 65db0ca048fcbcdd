//! Files whose format is not named.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynosim_fuzz::trace(None, data));
