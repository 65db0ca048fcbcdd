//! Engines and workers of a scenario, on a short load.

#![no_main]

use dynosim_fuzz::scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::replay(data));
