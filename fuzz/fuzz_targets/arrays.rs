//! The arrays of a planner profile, lines of dashes between them.

#![no_main]

use dynosim_fuzz::timing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| timing::arrays(data));
