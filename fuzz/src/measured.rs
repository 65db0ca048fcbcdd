//! Measurements of a real engine.

use dynosim::calibrate::{Measurements, Parameter, Settings};
use dynosim::scenario::Scenario;

use crate::{path, told, two_files, write};

/// Reads `data` as measured requests, and beside them a `meta.json`.
pub fn run(data: &[u8]) {
    let (requests, meta) = two_files(data);
    let requests = write("requests.jsonl", requests);
    write("meta.json", meta);
    let Ok(measured) = Measurements::load(&requests).inspect_err(|error| told(error)) else { return };
    assert!(measured.requests.is_sorted_by_key(|request| request.arrival));
    for request in &measured.requests {
        assert!(request.ttft_ms > 0.0 && request.e2e_ms >= request.ttft_ms);
        assert!(request.tpot_ms.is_none_or(|ms| ms >= 0.0));
    }
    drop(Settings::complete(&Scenario::default(), &path("nowhere"), &measured).inspect_err(|error| told(error)));
}

/// Reads `text` as names of what to fit.
pub fn parameters(text: &str) {
    drop(Parameter::parse_list(text));
}
