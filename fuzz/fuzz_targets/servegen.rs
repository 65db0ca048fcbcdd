//! ServeGen client profiles: rates, a line of dashes, lengths.

#![no_main]

use dynosim_fuzz::trace;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trace::profile(data));
