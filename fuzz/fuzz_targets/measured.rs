//! Measured requests, a line of dashes, `meta.json`.

#![no_main]

use dynosim_fuzz::measured;

libfuzzer_sys::fuzz_target!(|data: &[u8]| measured::run(data));
