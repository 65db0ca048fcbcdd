//! Reports that are compared.

#![no_main]

use dynosim_fuzz::report;

libfuzzer_sys::fuzz_target!(|data: &[u8]| report::compared(data));
