//! The table printed at the end of a run: rows, columns and number format of the reference.

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Object};
use tabled::settings::style::HorizontalLine;
use tabled::settings::{Alignment, Style};

use serde_json::Value;

use super::Report;

const TITLE: &str = "DynoSim | LLM Metrics";
const COLUMNS: [&str; 8] = ["Metric", "avg", "min", "max", "p99", "p90", "p75", "std"];
/// Key prefixes of the columns after the first.
const STATISTICS: [&str; 7] = ["mean", "min", "max", "p99", "p90", "p75", "std"];
/// Rows with all statistics.
const DISTRIBUTIONS: [(&str, &str); 5] = [
    ("Time to First Token (ms)", "ttft_ms"),
    ("Time to Second Token (ms)", "ttst_ms"),
    ("Request Latency (ms)", "e2e_latency_ms"),
    ("Inter Token Latency (ms)", "itl_ms"),
    ("Output Token Throughput Per User (tokens/sec/user)", "output_token_throughput_per_user"),
];
/// Rows with one figure.
const SINGLES: [(&str, &str); 3] = [
    ("Output Token Throughput (tokens/sec)", "output_throughput_tok_s"),
    ("Request Throughput (requests/sec)", "request_throughput_rps"),
    ("Request Count (requests)", "completed_requests"),
];

impl Report {
    /// Title, table and closing lines as printed on a terminal, each line ended by a newline.
    pub fn table(&self) -> String {
        let mut text = self.scaling_lines();
        let line = |label: &str, key: &str| format!("{label}: {}\n", amount(self.number(key)));
        text.push_str(&format!("{TITLE}\n{}\n", self.grid()));
        text.push_str(&line("Wall Time (ms)", "wall_time_ms"));
        text.push_str(&line("Prefix Cache Reused Ratio", "prefix_cache_reused_ratio"));
        text.push_str(&line("First Admission Prefix Cache Reused Ratio", "first_admission_prefix_cache_reused_ratio"));
        text.push_str(&format!("Semantics: {}\n", self.semantics_line()));
        text.push_str(&format!("Timing: {}\n", self.get("timing").and_then(Value::as_str).unwrap_or("N/A")));
        for (pool, capacity) in self.get("kv_capacity").and_then(Value::as_object).into_iter().flatten() {
            text.push_str(&capacity_line(pool, capacity));
        }
        text.push_str(&self.cost_lines());
        text
    }

    fn grid(&self) -> tabled::Table {
        let mut rows = Builder::default();
        rows.push_record(COLUMNS);
        for (label, name) in DISTRIBUTIONS {
            let cells = STATISTICS.iter().map(|statistic| amount(self.number(&format!("{statistic}_{name}"))));
            rows.push_record(std::iter::once(label.to_owned()).chain(cells));
        }
        for (label, key) in SINGLES {
            let cells = [label.to_owned(), amount(self.number(key))];
            rows.push_record(cells.into_iter().chain(STATISTICS[1..].iter().map(|_| amount(None))));
        }
        framed(rows)
    }

    /// The base, and for a mixture the switches that are on.
    fn semantics_line(&self) -> String {
        let Some(Value::Object(semantics)) = self.get("semantics") else {
            return "N/A".to_owned();
        };
        let base = semantics.get("base").and_then(Value::as_str).unwrap_or("N/A");
        let on: Vec<&str> =
            semantics.iter().filter(|(_, value)| **value == Value::Bool(true)).map(|(key, _)| key.as_str()).collect();
        if base == "custom" { format!("custom ({})", on.join(", ")) } else { base.to_owned() }
    }

    /// What the run is estimated to cost; nothing unless that was asked for.
    fn cost_lines(&self) -> String {
        let Some(cost) = self.get("cost_estimate") else { return String::new() };
        let number = |key: &str| cost[key].as_f64();
        let mut text = String::new();
        for (pool, figures) in cost["pools"].as_object().into_iter().flatten() {
            let (hours, busy) = (figures["gpu_hours"].as_f64(), figures["busy_gpu_hours"].as_f64());
            let share = hours.zip(busy).filter(|(hours, _)| *hours > 0.0).map(|(hours, busy)| busy / hours * 100.0);
            text.push_str(&format!("GPU-Hours ({pool}): {}, {} % in forward passes\n", amount(hours), amount(share)));
        }
        if let Some(usd) = number("estimated_usd") {
            text.push_str(&format!("Cost (USD, estimate): {}\n", amount(Some(usd))));
        }
        match (number("estimated_kwh"), number("estimated_busy_kwh")) {
            (Some(kwh), _) => text.push_str(&format!("Energy (kWh, estimate): {}\n", amount(Some(kwh)))),
            (None, Some(kwh)) => {
                text.push_str(&format!("Energy of Forward Passes (kWh, estimate): {}\n", amount(Some(kwh))))
            }
            (None, None) => {}
        }
        text
    }

    /// What scaling did, one line per change; nothing for a fleet of fixed size.
    fn scaling_lines(&self) -> String {
        let Some(Value::Array(events)) = self.get("scaling_events") else {
            return String::new();
        };
        if events.is_empty() {
            return String::new();
        }
        let mut text = "\nScaling events:\n".to_owned();
        for event in events {
            let seconds = event["at_ms"].as_f64().unwrap_or(0.0) / 1e3;
            let pool = match event["pool"].as_str().unwrap_or_default() {
                "aggregated" => "agg",
                pool => pool,
            };
            let (from, to) = (event["from"].as_u64().unwrap_or(0), event["to"].as_u64().unwrap_or(0));
            let reason = if to > from { "scale_up" } else { "scale_down" };
            text.push_str(&format!("  t={seconds:.1}s [{pool}]: {from} -> {to} workers ({reason})\n"));
        }
        text
    }
}

/// What fits beside the model on one GPU of a pool, and what it fits beside.
fn capacity_line(pool: &str, capacity: &Value) -> String {
    let number = |name: &str| capacity[name].as_f64().unwrap_or(0.0);
    let gib = |name: &str| number(name) / f64::from(1 << 30);
    let share = format!("{:.0} %", number("fraction") * 100.0);
    let share = match capacity["fraction_kind"].as_str() {
        Some("of_free") => format!("{share} of what is left"),
        _ => format!("{share} used"),
    };
    format!(
        "KV Capacity ({pool}): {} blocks of {} tokens, {:.0} bytes per token; {:.1} GiB GPU memory, {share}: weights \
         {:.1}, activations {:.1}, runtime {:.1}, communication {:.1}, KV cache {:.1} GiB\n",
        number("num_gpu_blocks"),
        number("block_size"),
        number("kv_bytes_per_token"),
        gib("gpu_capacity_bytes"),
        gib("weights_bytes"),
        gib("activations_bytes"),
        gib("runtime_overhead_bytes"),
        gib("comm_overhead_bytes"),
        gib("kv_budget_bytes"),
    )
}

/// A table with a heading, text in the first column and numbers in all others.
pub(super) fn framed(rows: Builder) -> tabled::Table {
    let style = Style::empty()
        .top('━')
        .bottom('━')
        .left('┃')
        .right('┃')
        .vertical('┃')
        .corner_top_left('┏')
        .intersection_top('┳')
        .corner_top_right('┓')
        .corner_bottom_left('└')
        .intersection_bottom('┴')
        .corner_bottom_right('┘')
        .horizontals([(1, HorizontalLine::filled('━').left('┡').intersection('╇').right('┩'))]);
    let mut table = rows.build();
    table.with(style).modify(Columns::first().inverse(), Alignment::right());
    table
}

/// Two decimals and thousands separators; `N/A` for nothing.
fn amount(value: Option<f64>) -> String {
    value.map_or_else(|| "N/A".to_owned(), |value| decimal(value, 2))
}

/// So many decimals and thousands separators.
pub(super) fn decimal(value: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = digits.split_once('.').map_or((digits.as_str(), None), |(a, b)| (a, Some(b)));
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    match fraction {
        Some(fraction) => text + "." + fraction,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_separators_and_two_decimals() {
        let cases = [
            (0.0, "0.00"),
            (999.994, "999.99"),
            (999.995_1, "1,000.00"),
            (12_031.0, "12,031.00"),
            (1_234_567.891, "1,234,567.89"),
            (-1_500.5, "-1,500.50"),
        ];
        for (value, text) in cases {
            assert_eq!(amount(Some(value)), text);
        }
        assert_eq!(amount(None), "N/A");
    }
}
