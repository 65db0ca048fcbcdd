//! Mooncake rows that wait for others.

#![no_main]

use dynosim::scenario::TraceFormat;
use dynosim_fuzz::trace;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trace::open_both(Some(TraceFormat::AgenticMooncake), data));
