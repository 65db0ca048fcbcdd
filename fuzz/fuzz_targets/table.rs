//! Timing tables.

#![no_main]

use dynosim_fuzz::timing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| timing::table(data));
