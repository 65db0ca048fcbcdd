//! ServeGen client profiles: rates, a line of dashes, lengths.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynosim_fuzz::profile(data));
