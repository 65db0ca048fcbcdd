//! Documents of generators, and what they draw.

#![no_main]

use dynosim_fuzz::scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::generator(data));
