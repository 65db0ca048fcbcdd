//! Mooncake rows, whole prompts.

#![no_main]

use dynosim::scenario::TraceFormat;
use dynosim_fuzz::trace;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trace::open_both(Some(TraceFormat::Mooncake), data));
