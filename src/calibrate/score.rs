//! How far simulated latencies are from measured ones.

use super::measured::MeasuredRequest;

/// A latency of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Time to first token.
    Ttft,
    /// Mean time per output token after the first.
    Tpot,
    /// Arrival to last token.
    E2e,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Ttft, Self::Tpot, Self::E2e];

    /// Key in JSON reports.
    pub fn key(self) -> &'static str {
        match self {
            Self::Ttft => "ttft_ms",
            Self::Tpot => "tpot_ms",
            Self::E2e => "e2e_ms",
        }
    }

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ttft => "TTFT",
            Self::Tpot => "TPOT",
            Self::E2e => "E2E",
        }
    }
}

/// Latencies of one request in milliseconds, in the order of [`Metric::ALL`]; `None` where it has none: a single token has
/// no gap, a request that never ended no latency at all.
pub type Latencies = [Option<f64>; 3];

impl MeasuredRequest {
    /// Its latencies.
    pub fn latencies(&self) -> Latencies {
        [Some(self.ttft_ms), self.tpot_ms, Some(self.e2e_ms)]
    }
}

/// Mean and percentiles of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Figures {
    /// Names in the order of [`Self::values`].
    pub const NAMES: [&'static str; 4] = ["mean", "p50", "p90", "p99"];

    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else { return Self::default() };
        // The element at the nearest rank, halves up, as in every report of the program.
        let at = |p: usize| values[((last * p + 50) / 100).min(last)];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { mean, p50: at(50), p90: at(90), p99: at(99) }
    }

    /// The figures in order.
    pub fn values(&self) -> [f64; 4] {
        [self.mean, self.p50, self.p90, self.p99]
    }
}

/// A latency, measured and simulated, over the requests that have both.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Comparison {
    /// Requests that have both.
    pub count: usize,
    /// Requests that were measured and have no simulated value.
    pub missing: usize,
    /// Measured, milliseconds.
    pub measured: Figures,
    /// Simulated, milliseconds.
    pub simulated: Figures,
    /// Mean over requests of |simulated / measured - 1|.
    pub per_request: f64,
    /// Pearson's correlation over requests; `None` where either side does not vary.
    pub pearson: Option<f64>,
}

impl Comparison {
    /// Relative errors of mean, p50, p90 and p99.
    pub fn errors(&self) -> [f64; 4] {
        let (simulated, measured) = (self.simulated.values(), self.measured.values());
        std::array::from_fn(|i| if measured[i] > 0.0 { simulated[i] / measured[i] - 1.0 } else { 0.0 })
    }

    fn of(pairs: &[(f64, f64)], missing: usize) -> Self {
        let count = pairs.len();
        let ratios = pairs.iter().filter(|(measured, _)| *measured > 0.0);
        let off: f64 = ratios.clone().map(|(measured, simulated)| (simulated / measured - 1.0).abs()).sum();
        Self {
            count,
            missing,
            measured: Figures::of(pairs.iter().map(|(measured, _)| *measured).collect()),
            simulated: Figures::of(pairs.iter().map(|(_, simulated)| *simulated).collect()),
            per_request: off / ratios.count().max(1) as f64,
            pearson: pearson(pairs),
        }
    }
}

/// Compares each latency in the order of [`Metric::ALL`]; the two lists are about the same requests in the same order.
pub fn compare(measured: &[MeasuredRequest], simulated: &[Latencies]) -> [Comparison; 3] {
    std::array::from_fn(|metric| {
        let (pairs, missing) = pairs(measured, simulated, metric);
        Comparison::of(&pairs, missing)
    })
}

/// Shortest latency that counts as such, milliseconds; stamps are no finer.
const FINEST_MS: f64 = 1e-3;
/// What a request without a simulated latency counts as: a factor of this much.
const LOST: f64 = 100.0;

/// The disagreement that a fit makes small, zero or more: over TTFT, TPOT and E2E the average of the mean |ln(simulated /
/// measured)| of requests and the |ln| of the ratio of means.
///
/// The logarithm makes twice as long as bad as half as long and lets short and long requests count alike; without squares a
/// few odd requests do not decide. The ratio of means keeps the fit from trading a common bias for the agreement of most:
/// past saturation every later request waits for the sum of all that came before.
pub(super) fn disagreement(measured: &[MeasuredRequest], simulated: &[Latencies]) -> f64 {
    let metrics = (0..Metric::ALL.len()).filter_map(|metric| {
        let (pairs, missing) = pairs(measured, simulated, metric);
        let all = pairs.len() + missing;
        if all == 0 {
            return None;
        }
        let off = |measured: f64, simulated: f64| (simulated.max(FINEST_MS) / measured.max(FINEST_MS)).ln().abs();
        let each: f64 = pairs.iter().map(|(m, s)| off(*m, *s)).sum::<f64>() + missing as f64 * LOST.ln();
        let (sum_m, sum_s) = pairs.iter().fold((0.0, 0.0), |(a, b), (m, s)| (a + m, b + s));
        let common = if pairs.is_empty() { LOST.ln() } else { off(sum_m, sum_s) };
        Some((each / all as f64 + common) / 2.0)
    });
    let (sum, count) = metrics.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

fn pairs(measured: &[MeasuredRequest], simulated: &[Latencies], metric: usize) -> (Vec<(f64, f64)>, usize) {
    let both = measured.iter().zip(simulated).filter_map(|(m, s)| Some((m.latencies()[metric]?, s[metric])));
    let missing = both.clone().filter(|(_, simulated)| simulated.is_none()).count();
    (both.filter_map(|(measured, simulated)| Some((measured, simulated?))).collect(), missing)
}

fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let (mx, my) = pairs.iter().fold((0.0, 0.0), |(x, y), (a, b)| (x + a / n, y + b / n));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        let (x, y) = (a - mx, b - my);
        (xx, yy, xy) = (xx + x * x, yy + y * y, xy + x * y);
    }
    let r = xy / (xx * yy).sqrt();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SimTime;

    fn measured(ttft_ms: f64, tpot_ms: Option<f64>, e2e_ms: f64) -> MeasuredRequest {
        MeasuredRequest { arrival: SimTime::ZERO, ttft_ms, tpot_ms, e2e_ms, input_tokens: 1, output_tokens: 2 }
    }

    #[test]
    fn errors_are_relative_to_the_measurement() {
        let requests = [measured(100.0, Some(10.0), 200.0), measured(300.0, None, 400.0)];
        let simulated = [[Some(110.0), Some(9.0), Some(200.0)], [Some(270.0), None, None]];
        let [ttft, tpot, e2e] = compare(&requests, &simulated);
        assert_eq!((ttft.count, ttft.missing, tpot.count, tpot.missing, e2e.count, e2e.missing), (2, 0, 1, 0, 1, 1));
        assert!((ttft.errors()[0] + 0.05).abs() < 1e-12 && (ttft.per_request - 0.1).abs() < 1e-12);
        assert!((tpot.errors()[0] + 0.1).abs() < 1e-12);
        assert_eq!(ttft.pearson.map(|r| (r * 1e9).round()), Some(1e9));
        assert_eq!(tpot.pearson, None);
    }

    #[test]
    fn twice_as_long_is_as_bad_as_half_as_long_and_losing_a_request_is_worse() {
        let requests = [measured(100.0, Some(10.0), 200.0)];
        let at = |factor: f64| [[Some(100.0 * factor), Some(10.0 * factor), Some(200.0 * factor)]];
        assert_eq!(disagreement(&requests, &at(1.0)), 0.0);
        assert!((disagreement(&requests, &at(2.0)) - 2f64.ln()).abs() < 1e-12);
        assert!((disagreement(&requests, &at(0.5)) - 2f64.ln()).abs() < 1e-12);
        assert!(disagreement(&requests, &[[None; 3]]) > disagreement(&requests, &at(50.0)));
    }

    #[test]
    fn correlation_sees_order_not_scale() {
        let rising: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 5.0 + 2.0 * f64::from(i))).collect();
        assert!((pearson(&rising).unwrap() - 1.0).abs() < 1e-12);
        let falling: Vec<(f64, f64)> = rising.iter().map(|(a, b)| (*a, -b)).collect();
        assert!((pearson(&falling).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(pearson(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
