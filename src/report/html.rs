//! What the HTML reports have in common: uPlot to draw with, styles, a template that is filled in one pass.

use serde_json::{Value, json};

/// Parts of every page: places of a template and what goes there.
pub(super) const SHARED: [(&str, &str); 4] = [
    ("{{plot-style}}", include_str!("../../assets/report/uplot/uPlot.min.css")),
    ("{{base-style}}", include_str!("../../assets/report/base.css")),
    ("{{plot-script}}", include_str!("../../assets/report/uplot/uPlot.iife.min.js")),
    ("{{base-script}}", include_str!("../../assets/report/base.js")),
];

/// Fills every place of `template`, each once and in order, so that nothing in a part is taken for a place.
pub(super) fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let mut html = String::with_capacity(template.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    let mut rest = template;
    while let Some((at, (place, part))) =
        parts.iter().filter_map(|part| Some((rest.find(part.0)?, part))).min_by_key(|(at, _)| *at)
    {
        html.push_str(&rest[..at]);
        html.push_str(part);
        rest = &rest[at + place.len()..];
    }
    html.push_str(rest);
    html
}

/// Data as it can stand in a script element: a closing tag within would end that, and so would a comment.
pub(super) fn embedded(data: &Value) -> String {
    data.to_string().replace("</", "<\\/").replace("<!--", "<\\u0021--")
}

/// A number, or null for what JSON cannot hold.
pub(super) fn number(value: Option<f64>) -> Value {
    value.and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number)
}

/// A number with five significant digits, which is all a plot shows.
pub(super) fn rounded(value: Option<f64>) -> Value {
    let short = value.filter(|value| value.is_finite()).and_then(|value| format!("{value:.4e}").parse().ok());
    match short {
        Some(whole) if f64::abs(whole) < 1e15 && whole.fract() == 0.0 => json!(whole as i64),
        short => number(short),
    }
}
