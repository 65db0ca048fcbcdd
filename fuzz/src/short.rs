//! Short forms: values in one word.

use dynosim::perf::{Backend, GpuSpec, ModelConfig};
use dynosim::scenario::{CsvColumns, Document, TimeUnit, TraceFormat, TraceWindow};
use dynosim::workload::generate::{Dist, Process};
use serde_json::json;

use crate::measured::parameters;
use crate::scenario::resolve;

/// Reads `data` as everything that has a short form; what is read must be written so that it is read again.
pub fn all(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(window) = text.parse::<TraceWindow>() {
        assert_eq!(window.to_string().parse(), Ok(window));
    }
    if let Ok(columns) = text.parse::<CsvColumns>() {
        assert_eq!(columns.to_string().parse(), Ok(columns));
    }
    if let Ok(dist) = text.parse::<Dist>() {
        let written = serde_json::to_string(&dist).expect("numbers are finite");
        assert_eq!(serde_json::from_str::<Dist>(&written).expect("what is written can be read"), dist);
    }
    if let Ok(process) = text.parse::<Process>() {
        let written = serde_json::to_string(&process).expect("numbers are finite");
        assert_eq!(serde_json::from_str::<Process>(&written).expect("what is written can be read"), process);
    }
    drop(text.parse::<TraceFormat>());
    drop(text.parse::<TimeUnit>());
    drop(text.parse::<Backend>());
    drop(text.parse::<Document>());
    drop(GpuSpec::known(text));
    drop(ModelConfig::known(text));
    parameters(text);
    resolve(json!({ "extra-engine-args": { "aic_model_path": text, "aic_system": text, "aic_gemm_dtype": text } }));
    resolve(json!({ "extra-engine-args": { "aic_nextn": 2, "aic_nextn_accept_rates": text } }));
    resolve(json!({ "extra-engine-args": { "timing": { "table": text } } }));
}
