//! CSV files that lengths are drawn from.

#![no_main]

use dynosim_fuzz::scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::samples(data));
