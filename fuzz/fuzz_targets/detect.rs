//! Traces whose format is not named.

#![no_main]

use dynosim_fuzz::trace;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trace::open_both(None, data));
