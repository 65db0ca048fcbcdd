//! Corrections of a timing model.

#![no_main]

use dynosim_fuzz::scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::correction(data));
