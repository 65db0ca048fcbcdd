//! The HTML file. It holds its data as JSON, uPlot to draw with, and a script that puts the two together, so that it opens
//! anywhere without a network.

use serde_json::{Value, json};

use crate::report::html::{SHARED, embedded, fill, rounded};

use super::curves::{Curves, Timeline};
use super::{Candidate, Comparison};

const HTML: &str = include_str!("../../../assets/report/compare.html");
const STYLE: &str = include_str!("../../../assets/report/compare.css");
const SCRIPT: &str = include_str!("../../../assets/report/compare.js");

/// Percentiles that a report holds besides the extremes.
const REPORTED: [(usize, &str); 7] =
    [(0, "min"), (50, "median"), (75, "p75"), (90, "p90"), (95, "p95"), (99, "p99"), (100, "max")];

/// Most spans over which latencies and rates are shown.
const SPANS: usize = 128;

impl Comparison {
    /// One self-contained HTML page: figures, latencies over percentiles and time, fleets over time, GPU-hours.
    pub fn html(&self) -> String {
        let data = embedded(&self.data());
        let own = [("{{style}}", STYLE), ("{{script}}", SCRIPT), ("{{data}}", data.as_str())];
        fill(HTML, &[&SHARED[..], &own].concat())
    }

    fn data(&self) -> Value {
        let interval = Curves::common_interval(self.candidates.iter().filter_map(|c| c.curves.as_ref()));
        let curves = || self.candidates.iter().filter_map(|c| c.curves.as_ref());
        let samples = curves().map(|curves| curves.len_at(interval)).max().unwrap_or(0);
        let group = samples.saturating_sub(1).div_ceil(SPANS).next_power_of_two();
        let spans = if samples == 0 { 0 } else { (samples - 1).div_ceil(group) + 1 };
        let timelines: Vec<Option<Timeline>> =
            self.candidates.iter().map(|c| c.curves.as_ref().map(|curves| curves.over_time(interval, group))).collect();
        let over_time = |len: usize, of: fn(&Timeline) -> &Vec<Option<f64>>| -> Value {
            timelines.iter().map(|t| t.as_ref().map_or(Value::Null, |t| column(of(t), len))).collect()
        };
        let ready = self.candidates.iter().zip(&timelines).enumerate().flat_map(|(run, (candidate, timeline))| {
            let pools = candidate.curves.iter().flat_map(|curves| &curves.pools);
            let lines = pools.zip(std::iter::repeat(timeline)).filter_map(move |((role, pool), timeline)| {
                Some(json!({"run": run, "pool": role.to_string(), "values": column(&timeline.as_ref()?.ready[*pool], samples)}))
            });
            lines.collect::<Vec<_>>()
        });
        json!({
            "runs": self.candidates.iter().map(run).collect::<Value>(),
            "rows": self.grid.rows.iter().map(|row| json!({
                "key": row.figure.key,
                "group": row.figure.group,
                "label": row.figure.label,
                "better": row.figure.better.word(),
                "decimals": row.figure.decimals,
                "values": row.values,
                "changes": row.changes,
                "best": row.best,
            })).collect::<Value>(),
            "notes": self.notes(),
            "sla": self.common_sla(),
            "ttft": self.candidates.iter().map(|c| distribution(c, "ttft_ms", |curves| &curves.ttft)).collect::<Value>(),
            "itl": self.candidates.iter().map(|c| distribution(c, "itl_ms", |curves| &curves.itl)).collect::<Value>(),
            "t": axis(samples, interval.as_secs()),
            "spans": axis(spans, interval.as_secs() * group as f64),
            "over": {
                "ttft": over_time(spans, |t| &t.ttft_p90),
                "itl": over_time(spans, |t| &t.itl_p90),
                "tokens": over_time(spans, |t| &t.tokens),
                "good": over_time(spans, |t| &t.good),
                "gpus": over_time(samples, |t| &t.gpus),
                "ready": ready.collect::<Vec<_>>(),
            },
        })
    }

    /// The bounds, where all runs have the same.
    fn common_sla(&self) -> Value {
        let mut bounds = self.candidates.iter().filter_map(|c| c.sla);
        let Some(first) = bounds.next().filter(|sla| sla.is_given() && bounds.all(|other| other == *sla)) else {
            return Value::Null;
        };
        json!({"ttft_ms": first.ttft_ms, "itl_ms": first.itl_ms, "e2e_ms": first.e2e_ms})
    }
}

fn run(candidate: &Candidate) -> Value {
    json!({
        "name": candidate.name,
        "file": candidate.file.to_string_lossy(),
        "simulated": candidate.curves.is_some(),
        "timing": candidate.report.get("timing"),
        "duration_s": rounded(candidate.report.number("duration_ms").map(|ms| ms / 1e3)),
    })
}

/// Times, seconds.
fn axis(len: usize, step_s: f64) -> Value {
    (0..len).map(|k| json!(k as f64 * step_s)).collect()
}

/// Values with nothing where the run is over.
fn column(values: &[Option<f64>], len: usize) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    (0..len).map(|k| rounded(values.get(k).copied().flatten())).collect()
}

/// Percentiles 0 to 100: all of them from a run, a few from a report.
fn distribution(candidate: &Candidate, name: &str, of: fn(&Curves) -> &Vec<f64>) -> Value {
    if let Some(curves) = &candidate.curves {
        return of(curves).iter().map(|value| rounded(Some(*value))).collect();
    }
    let mut values = vec![Value::Null; 101];
    for (percentile, statistic) in REPORTED {
        values[percentile] = rounded(candidate.report.number(&format!("{statistic}_{name}")));
    }
    values.into()
}
