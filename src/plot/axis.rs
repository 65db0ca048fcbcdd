//! Axes: where a value lies, and which ticks tell it.

use super::unit::{Unit, trimmed};

/// A description of an axis; the panel's data complete it.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) scale: Scale,
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
}

/// How values are laid out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors; values of 0 and less have no place.
    Log {
        /// Ticks at powers of this: 2 or 10.
        base: u32,
    },
    /// Named places, at 0, 1, 2, ...
    Names(Vec<String>),
}

impl Axis {
    /// Equal steps; 0 is shown unless [`Axis::from`] or [`Axis::to`] say otherwise.
    pub fn linear(label: impl Into<String>, unit: Unit) -> Self {
        Self { label: label.into(), unit, scale: Scale::Linear, from: None, to: None }
    }

    /// Equal factors, ticks at 1, 10, 100 (with 2 and 5 between, where there is room).
    pub fn log(label: impl Into<String>, unit: Unit) -> Self {
        Self { scale: Scale::Log { base: 10 }, ..Self::linear(label, unit) }
    }

    /// Equal factors, ticks at powers of two: for tokens, batch sizes and block counts.
    pub fn log2(label: impl Into<String>, unit: Unit) -> Self {
        Self { scale: Scale::Log { base: 2 }, ..Self::linear(label, unit) }
    }

    /// One place per name, for bars.
    pub fn names<S: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = S>) -> Self {
        Self { scale: Scale::Names(names.into_iter().map(Into::into).collect()), ..Self::linear(label, Unit::Plain) }
    }

    /// First value shown.
    #[must_use]
    pub fn from(mut self, value: f64) -> Self {
        self.from = Some(value);
        self
    }

    /// Last value shown.
    #[must_use]
    pub fn to(mut self, value: f64) -> Self {
        self.to = Some(value);
        self
    }

    /// Whether `value` has a place on the axis.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (value > 0.0 || !matches!(self.scale, Scale::Log { .. }))
    }

    /// The axis over data of the given extent (`None`: no data). `round` widens it to whole steps.
    pub(super) fn span(&self, data: Option<(f64, f64)>, round: bool) -> Span {
        let log = match &self.scale {
            Scale::Names(names) => return Span { low: -0.5, high: names.len().max(1) as f64 - 0.5, log: false },
            Scale::Log { .. } => true,
            Scale::Linear => false,
        };
        let asked = |limit: Option<f64>| limit.filter(|v| self.shows(*v));
        let (from, to) = match (asked(self.from), asked(self.to)) {
            (Some(from), Some(to)) if from > to => (Some(to), Some(from)),
            limits => limits,
        };
        let (low, high) = data.unwrap_or(if log { (1.0, 10.0) } else { (0.0, 1.0) });
        let mut low = from.unwrap_or(if log { low } else { low.min(0.0) });
        let mut high = to.unwrap_or(high);
        if low >= high {
            (low, high) = match (log, low.max(high)) {
                (true, value) => (value / 2.0, value * 2.0),
                (false, 0.0) => (0.0, 1.0),
                (false, value) => (value - value.abs(), value + value.abs()),
            };
        }
        if round && log {
            // A little air, so that the outermost points do not touch the frame.
            let air = (high / low).powf(0.04);
            (low, high) = (from.unwrap_or(low / air), to.unwrap_or(high * air));
        } else if round {
            // Twice: a wider axis may be shown in a larger unit, with other steps.
            for _ in 0..2 {
                let per = self.unit.prefix(low.abs().max(high.abs())).per;
                let step = self.step((high - low) / per, per, 5) * per;
                low = from.unwrap_or((low / step + 1e-9).floor() * step);
                high = to.unwrap_or((high / step - 1e-9).ceil() * step);
            }
        }
        Span { low, high, log }
    }

    /// Ticks within `span`, at most about `count`: value and text, in ascending order.
    pub(super) fn ticks(&self, span: Span, count: usize) -> Vec<(f64, String)> {
        match &self.scale {
            Scale::Names(names) => names.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect(),
            Scale::Linear => self.even_ticks(span, count),
            Scale::Log { base } => self.ratio_ticks(span, *base, count),
        }
    }

    /// Ticks of a logarithmic axis: the finest pattern that leaves room for its texts.
    fn ratio_ticks(&self, span: Span, base: u32, count: usize) -> Vec<(f64, String)> {
        let roomy = |ticks: &[(f64, String)]| {
            ticks.windows(2).all(|pair| (span.place(pair[1].0) - span.place(pair[0].0)) * count as f64 >= 0.75)
        };
        let unit = if base == 2 && self.unit == Unit::Count { Unit::Tokens } else { self.unit };
        let text = |values: Vec<f64>| values.into_iter().map(|v| (v, unit.text(v))).collect::<Vec<_>>();
        let powers = patterns(span, base).map(text).find(|ticks| roomy(ticks)).unwrap_or_default();
        // Too narrow for powers: equal steps, which a narrow axis shows nearly equally far apart.
        if powers.len() < 3 && span.high < 5.0 * span.low {
            let even = (2..=count).rev().map(|count| self.even_ticks(span, count));
            return even.filter(|ticks| ticks.len() > powers.len()).find(|ticks| roomy(ticks)).unwrap_or(powers);
        }
        powers
    }

    /// Step for at most `count` ticks over `range`, in a unit of `per`; things that are counted come whole.
    fn step(&self, range: f64, per: f64, count: usize) -> f64 {
        let counted = matches!(self.unit, Unit::Count | Unit::Tokens) && per == 1.0 && range >= 1.0;
        nice_step(range, count).max(if counted { 1.0 } else { 0.0 })
    }

    /// Ticks at equal steps, all with the same prefix and as many decimals as the step needs.
    fn even_ticks(&self, span: Span, count: usize) -> Vec<(f64, String)> {
        let prefix = self.unit.prefix(span.low.abs().max(span.high.abs()));
        let (low, high) = (span.low / prefix.per, span.high / prefix.per);
        let step = self.step(high - low, prefix.per, count);
        let decimals = usize::try_from((2.0 - step.log10()).floor() as i64).unwrap_or(0).min(9);
        let first = (low / step - 1e-9).ceil();
        let last = (high / step + 1e-9).floor();
        let ticks = (last - first).clamp(0.0, 64.0) as u32;
        (0..=ticks)
            .map(|i| (first + f64::from(i)) * step)
            .map(|v| (v * prefix.per, trimmed(v, decimals)))
            // Nothing is nothing in every unit.
            .map(|(value, text)| (value, if text == "0" { text } else { text + prefix.suffix }))
            .collect()
    }
}

/// The shown part of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
    log: bool,
}

impl Span {
    /// Place of `value`: 0 at the low end, 1 at the high end, beyond them outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Where bars start: 0 where it is shown, else the edge nearest to it.
    pub(super) fn base(&self) -> f64 {
        if self.log { self.low } else { 0.0_f64.clamp(self.low, self.high) }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that divides `range` into at most `count` steps.
fn nice_step(range: f64, count: usize) -> f64 {
    let rough = range / count.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return 1.0;
    }
    // Parsed from decimal text: exact powers of ten on every machine.
    let scientific = significant_parts(rough);
    let power: f64 = format!("1e{}", scientific.1).parse().unwrap_or(1.0);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| *f >= scientific.0 - 1e-9).unwrap_or(10.0);
    factor * power
}

/// Mantissa in [1, 10) and exponent of ten of a positive number.
fn significant_parts(value: f64) -> (f64, i32) {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.parse().unwrap_or(1.0), exponent.parse().unwrap_or(0))
}

/// Ticks in `span` at powers of `base`, in patterns from fine to coarse: of ten with steps between, then every power, every
/// second, and so on.
fn patterns(span: Span, base: u32) -> impl Iterator<Item = Vec<f64>> {
    const BETWEEN: [&[f64]; 4] =
        [&[1.0, 2.0, 3.0, 4.0, 6.0, 8.0], &[1.0, 2.0, 3.0, 5.0], &[1.0, 2.0, 5.0], &[1.0, 3.0]];
    let exponent = |v: f64| v.ln() / f64::from(base).ln();
    let (first, last) = (exponent(span.low).floor() as i32, exponent(span.high).ceil() as i32);
    let within = move |v: &f64| *v >= span.low * (1.0 - 1e-9) && *v <= span.high * (1.0 + 1e-9);
    let at = move |every: i32, factors: &[f64]| {
        let exponents = (first..=last).filter(|e| e.rem_euclid(every) == 0);
        let values = exponents.flat_map(|e| factors.iter().map(move |f| f * f64::from(base).powi(e)));
        values.filter(within).collect::<Vec<f64>>()
    };
    let fine = BETWEEN.iter().filter(move |_| base == 10).map(move |factors| at(1, factors));
    fine.chain((1..=(last - first).max(1)).map(move |every| at(every, &[1.0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis, data: (f64, f64), count: usize) -> Vec<String> {
        axis.ticks(axis.span(Some(data), true), count).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn even_ticks_share_a_prefix_and_reach_beyond_the_data() {
        let ms = Axis::linear("", Unit::Milliseconds);
        assert_eq!(texts(&ms, (3.0, 1_450.0), 5), ["0", "0.5 s", "1 s", "1.5 s"]);
        assert_eq!(texts(&ms, (-30.0, 41.0), 5), ["-40 ms", "-20 ms", "0", "20 ms", "40 ms", "60 ms"]);
        assert_eq!(texts(&Axis::linear("", Unit::Seconds), (0.0, 7_000.0), 4), ["0", "1 h", "2 h"]);
        assert_eq!(texts(&ms.from(10.0).to(12.0), (0.0, 99.0), 4), ["10 ms", "10.5 ms", "11 ms", "11.5 ms", "12 ms"]);
    }

    #[test]
    fn what_is_counted_has_whole_ticks() {
        assert_eq!(texts(&Axis::linear("workers", Unit::Count), (0.0, 2.0), 6), ["0", "1", "2"]);
    }

    #[test]
    fn logarithmic_ticks_are_as_fine_as_there_is_room() {
        let tokens = Axis::log2("", Unit::Tokens);
        assert_eq!(texts(&tokens, (1.0, 131_072.0), 6), ["1", "8", "64", "512", "4k", "32k"]);
        assert_eq!(texts(&tokens, (1_024.0, 8_192.0), 6), ["1k", "2k", "4k", "8k"]);
        assert_eq!(texts(&Axis::log2("", Unit::Count), (512.0, 2_048.0), 6), ["512", "1k", "2k"]);
        let ms = Axis::log("", Unit::Milliseconds);
        assert_eq!(texts(&ms, (1.0, 9_000.0), 6), ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(texts(&ms, (3.0, 60.0), 6), ["3 ms", "5 ms", "10 ms", "20 ms", "30 ms", "50 ms"]);
        assert_eq!(texts(&ms, (18.0, 45.0), 6), ["20 ms", "30 ms", "40 ms"]);
        // Less than a power: equal steps.
        assert_eq!(texts(&ms, (6.0, 8.0), 4), ["6 ms", "7 ms", "8 ms"]);
    }

    #[test]
    fn places_run_from_one_edge_to_the_other() {
        for axis in [Axis::linear("", Unit::Plain).from(10.0), Axis::log("", Unit::Plain)] {
            let span = axis.span(Some((10.0, 1_000.0)), false);
            assert_eq!((span.place(10.0), span.place(1_000.0)), (0.0, 1.0));
        }
        let log = Axis::log("", Unit::Plain);
        assert!((log.span(Some((10.0, 1_000.0)), false).place(100.0) - 0.5).abs() < 1e-12);
        assert!(!log.shows(0.0) && !log.shows(f64::NAN) && log.shows(1e-300));
    }

    #[test]
    fn degenerate_data_still_give_an_axis() {
        for axis in [Axis::linear("", Unit::Count), Axis::log("", Unit::Count), Axis::log2("", Unit::Tokens)] {
            for data in [None, Some((5.0, 5.0)), Some((1e-12, 1e-12)), Some((1e15, 1e15))] {
                let span = axis.span(data, true);
                assert!(span.low < span.high, "{axis:?} {data:?}");
                let ticks = axis.ticks(span, 5);
                assert!((2..=12).contains(&ticks.len()), "{axis:?} {data:?} {ticks:?}");
            }
        }
        let backwards = Axis::linear("", Unit::Plain).from(5.0).to(1.0).span(None, true);
        assert!(backwards.low < backwards.high);
    }
}
