//! Hugging Face checkpoints: `config.json`, a line of dashes, `hf_quant_config.json`.

#![no_main]

use dynosim_fuzz::timing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| timing::model(data));
