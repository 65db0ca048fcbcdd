//! Azure CSV.

#![no_main]

use dynosim::scenario::TraceFormat;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynosim_fuzz::trace(Some(TraceFormat::Azure), data));
