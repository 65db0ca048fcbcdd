//! A panel: one pair of axes and what is drawn between them.

use super::axis::Axis;
use super::palette::Color;

/// Longest line kept point by point; longer ones are thinned to what a pixel can show.
const MAX_POINTS: usize = 4_000;

/// One chart of a figure.
#[derive(Debug, Clone)]
pub struct Panel {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) marks: Vec<Mark>,
    pub(super) rules: Vec<Rule>,
    pub(super) notes: Vec<Note>,
    pub(super) names: Names,
}

/// Where the names of the series stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Names {
    /// In a row above the chart.
    Legend,
    /// At the last point of each line, under a heading.
    AtEnds {
        /// What the names say, such as "context"; empty for none.
        heading: String,
    },
}

/// A named set of marks in one colour.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) color: Color,
    pub(super) shape: Shape,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Straight lines between the points.
    Line(Vec<(f64, f64)>),
    /// Each value holds until the next point.
    Step(Vec<(f64, f64)>),
    /// Dots.
    Dots(Vec<(f64, f64)>),
    /// Bars between two places of the horizontal axis.
    Bars(Vec<Bar>),
}

/// A bar from `from` to `to` on the horizontal axis, `value` high.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Left edge.
    pub from: f64,
    /// Right edge.
    pub to: f64,
    /// Height.
    pub value: f64,
}

/// A dashed line across the panel, for a limit.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) at: f64,
    pub(super) vertical: bool,
    pub(super) label: String,
    pub(super) color: Color,
}

/// A marked point with a short text.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) at: (f64, f64),
    pub(super) text: String,
    pub(super) color: Color,
}

impl Panel {
    /// An empty panel. Points that an axis cannot show (not finite, or not positive on a logarithmic axis) are gaps.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, marks: vec![], rules: vec![], notes: vec![], names: Names::Legend }
    }

    /// Writes the name of each line at its end instead of in a legend, under `heading` (such as "context").
    #[must_use]
    pub fn names_at_ends(mut self, heading: impl Into<String>) -> Self {
        self.names = Names::AtEnds { heading: heading.into() };
        self
    }

    /// A line through points in the given order.
    #[must_use]
    pub fn line(self, name: impl Into<String>, color: Color, points: Vec<(f64, f64)>) -> Self {
        self.mark(name, color, Shape::Line(thin(points)))
    }

    /// A line on which each value holds until the next point, for counts over time.
    #[must_use]
    pub fn step(self, name: impl Into<String>, color: Color, points: Vec<(f64, f64)>) -> Self {
        self.mark(name, color, Shape::Step(thin(points)))
    }

    /// The share of `samples` at or below each value, as a step line from 0 to 1. Samples that are not finite do not
    /// count. The vertical axis should have [`Unit::Share`](super::Unit::Share).
    #[must_use]
    pub fn cdf(self, name: impl Into<String>, color: Color, samples: &[f64]) -> Self {
        self.mark(name, color, Shape::Step(cumulative(samples)))
    }

    /// Dots.
    #[must_use]
    pub fn scatter(self, name: impl Into<String>, color: Color, points: Vec<(f64, f64)>) -> Self {
        self.mark(name, color, Shape::Dots(points))
    }

    /// Adjoining bars, as from [`bins`].
    #[must_use]
    pub fn histogram(self, name: impl Into<String>, color: Color, bars: Vec<Bar>) -> Self {
        self.mark(name, color, Shape::Bars(bars))
    }

    /// One bar per name of a horizontal [`Axis::names`]; several calls stand side by side.
    #[must_use]
    pub fn bars(self, name: impl Into<String>, color: Color, values: &[f64]) -> Self {
        let bar = |(i, value): (usize, &f64)| Bar { from: i as f64 - 0.36, to: i as f64 + 0.36, value: *value };
        let bars = values.iter().enumerate().map(bar).collect();
        self.mark(name, color, Shape::Bars(bars))
    }

    /// A dashed vertical line.
    #[must_use]
    pub fn rule_x(mut self, at: f64, label: impl Into<String>, color: Color) -> Self {
        self.rules.push(Rule { at, vertical: true, label: label.into(), color });
        self
    }

    /// A dashed horizontal line, for an SLA.
    #[must_use]
    pub fn rule_y(mut self, at: f64, label: impl Into<String>, color: Color) -> Self {
        self.rules.push(Rule { at, vertical: false, label: label.into(), color });
        self
    }

    /// A dot with a short text beside it.
    #[must_use]
    pub fn note(mut self, at: (f64, f64), text: impl Into<String>, color: Color) -> Self {
        self.notes.push(Note { at, text: text.into(), color });
        self
    }

    fn mark(mut self, name: impl Into<String>, color: Color, shape: Shape) -> Self {
        self.marks.push(Mark { name: name.into(), color, shape });
        self
    }

    /// Smallest and largest value of the data on both axes; `None` where there is none.
    pub(super) fn extent(&self) -> [Option<(f64, f64)>; 2] {
        let mut extent = [None; 2];
        let mut see = |x: f64, y: f64| {
            if self.x.shows(x) && self.y.shows(y) {
                grow(&mut extent[0], x);
                grow(&mut extent[1], y);
            }
        };
        for mark in &self.marks {
            match &mark.shape {
                Shape::Line(points) | Shape::Dots(points) => points.iter().for_each(|(x, y)| see(*x, *y)),
                // The value before a gap holds until it.
                Shape::Step(points) => {
                    let mut held = f64::NAN;
                    for (x, y) in points {
                        see(*x, if self.y.shows(*y) { *y } else { held });
                        held = *y;
                    }
                }
                Shape::Bars(bars) => bars.iter().for_each(|bar| {
                    see(bar.from, bar.value);
                    see(bar.to, bar.value);
                }),
            }
        }
        for rule in &self.rules {
            let (axis, side) = if rule.vertical { (&self.x, 0) } else { (&self.y, 1) };
            if axis.shows(rule.at) {
                grow(&mut extent[side], rule.at);
            }
        }
        extent
    }
}

fn grow(extent: &mut Option<(f64, f64)>, value: f64) {
    let (low, high) = extent.get_or_insert((value, value));
    *low = low.min(value);
    *high = high.max(value);
}

/// Samples counted in `count` bins of equal width, or of equal ratio when `log` (then values of 0 and less do not
/// count). Samples that are not finite do not count. No samples, no bins.
///
/// ```
/// use dynosim::plot::bins;
/// let bars = bins(&[1.0, 2.0, 2.5, 9.0], 4, false);
/// assert_eq!(bars.iter().map(|bar| bar.value).collect::<Vec<_>>(), [3.0, 0.0, 0.0, 1.0]);
/// ```
pub fn bins(samples: &[f64], count: usize, log: bool) -> Vec<Bar> {
    let map = |v: f64| if log { v.ln() } else { v };
    let unmap = |v: f64| if log { v.exp() } else { v };
    let good: Vec<f64> = samples.iter().copied().filter(|v| v.is_finite() && (!log || *v > 0.0)).collect();
    let mut extent = None;
    good.iter().for_each(|v| grow(&mut extent, *v));
    let Some((low, high)) = extent else {
        return vec![];
    };
    if low == high || count == 0 {
        let half = if low == 0.0 { 0.5 } else { low.abs() * 0.05 };
        return vec![Bar { from: low - half, to: low + half, value: good.len() as f64 }];
    }
    let width = (map(high) - map(low)) / count as f64;
    let edge = |i: usize| {
        if i == count { high } else { unmap(map(low) + width * i as f64) }
    };
    let mut bars: Vec<Bar> = (0..count).map(|i| Bar { from: edge(i), to: edge(i + 1), value: 0.0 }).collect();
    for value in good {
        let index = ((map(value) - map(low)) / width) as usize;
        bars[index.min(count - 1)].value += 1.0;
    }
    bars
}

/// The cumulative distribution as points of a step line: at most about a thousand, the extremes included.
fn cumulative(samples: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let every = count.div_ceil(1_000);
    let mut points = Vec::with_capacity(1_002);
    if let Some(first) = sorted.first() {
        points.push((*first, 0.0));
    }
    let mut told = 0;
    for (index, value) in sorted.iter().enumerate() {
        // Of equal values the last tells the share.
        let last_of_its_kind = sorted.get(index + 1).is_none_or(|next| next > value);
        if last_of_its_kind && (index + 1 - told >= every || index + 1 == count) {
            told = index + 1;
            points.push((*value, told as f64 / count as f64));
        }
    }
    points
}

/// Thins a long line: of each stretch of points the first, lowest, highest and last stay, in their order.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let stretch = points.len().div_ceil(MAX_POINTS / 4);
    let mut kept = Vec::with_capacity(MAX_POINTS);
    for part in points.chunks(stretch) {
        let by_y = |a: &usize, b: &usize| part[*a].1.total_cmp(&part[*b].1);
        let mut indices = vec![0, part.len() - 1];
        indices.extend((0..part.len()).min_by(by_y));
        indices.extend((0..part.len()).max_by(by_y));
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|i| part[i]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_in_exactly_one_bin() {
        let samples: Vec<f64> = (0..1_000).map(|i| 1.0 + f64::from(i * i % 997)).collect();
        for log in [false, true] {
            let bars = bins(&samples, 17, log);
            assert_eq!(bars.len(), 17);
            assert_eq!(bars.iter().map(|b| b.value).sum::<f64>(), 1_000.0);
            assert!(bars.windows(2).all(|w| w[0].to == w[1].from && w[0].from < w[0].to));
        }
        assert_eq!(bins(&[f64::NAN, 3.0, 3.0], 5, true)[0].value, 2.0);
        assert!(bins(&[-1.0], 5, true).is_empty());
    }

    #[test]
    fn a_distribution_rises_from_zero_to_one_and_counts_equal_values_together() {
        assert_eq!(cumulative(&[3.0, 1.0, 3.0, f64::NAN, 2.0]), [(1.0, 0.0), (1.0, 0.25), (2.0, 0.5), (3.0, 1.0)]);
        let many: Vec<f64> = (0..100_000).map(f64::from).collect();
        let points = cumulative(&many);
        assert!(points.len() <= 1_002 && points.last() == Some(&(99_999.0, 1.0)));
        assert!(points.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 < w[1].1));
        assert!(cumulative(&[]).is_empty());
    }

    #[test]
    fn a_long_line_keeps_its_ends_and_its_peaks() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        points[54_321].1 = 9.0;
        points[54_322].1 = -9.0;
        let thinned = thin(points.clone());
        assert!(thinned.len() <= MAX_POINTS);
        assert_eq!((thinned[0], thinned[thinned.len() - 1]), (points[0], points[99_999]));
        assert!(thinned.contains(&points[54_321]) && thinned.contains(&points[54_322]));
    }
}
