//! Reports read from files, and what comparisons make of them.

use dynosim::report::{Candidate, Comparison, Report};

use crate::told;

/// Reads `data` as a report and compares it with itself.
pub fn compared(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let report = match Report::from_json(text) {
        Ok(report) => report,
        Err(error) => return told(&error),
    };
    let candidate = |name: &str| Candidate {
        name: name.to_owned(),
        file: name.into(),
        report: report.clone(),
        sla: None,
        curves: None,
    };
    let comparison = Comparison::new(vec![candidate("first"), candidate("second")]);
    comparison.table();
    comparison.html();
    let json: serde_json::Value = serde_json::from_str(&comparison.to_json()).expect("a comparison is JSON");
    assert_eq!(json["runs"][0]["figures"], json["runs"][1]["figures"]);
    assert_eq!(json["best"], serde_json::json!({}), "nobody is better than itself");
}
