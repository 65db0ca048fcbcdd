//! Policy classes of the KV router, YAML.

#![no_main]

use dynosim_fuzz::scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::router_policy(data));
