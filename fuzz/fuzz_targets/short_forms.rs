//! Everything that has a short form.

#![no_main]

use dynosim_fuzz::short;

libfuzzer_sys::fuzz_target!(|data: &[u8]| short::all(data));
