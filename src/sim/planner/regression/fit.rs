//! Least squares with slopes that are not negative: more work never takes less time.

use super::samples::Sample;

/// Milliseconds as a function of features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// `a + b x`, and from the knot on `c` steeper.
    Hinge {
        /// Intercept.
        a: f64,
        /// Slope before the knot.
        b: f64,
        /// What the slope gains at the knot.
        c: f64,
        /// Where it bends.
        knot: f64,
    },
    /// Intercept and a slope per feature.
    Plane {
        /// Intercept.
        a: f64,
        /// Slopes.
        b: [f64; 2],
    },
}

/// A slope no more negative than this is rounding.
const NOISE: f64 = -1e-6;
/// Shortest time that weights observations, milliseconds: below it absolute errors count, above it relative ones.
const WEIGHT_MS: f64 = 25.0;
/// Shortest predicted time, milliseconds.
const FLOOR_MS: f64 = 1e-6;
/// Observations before a hinge is tried.
const HINGE_POINTS: usize = 6;

impl Fit {
    /// Predicted milliseconds, above zero.
    pub fn at(&self, x: [f64; 2]) -> f64 {
        self.raw(x).max(FLOOR_MS)
    }

    fn raw(&self, x: [f64; 2]) -> f64 {
        match *self {
            Self::Hinge { a, b, c, knot } => a + b * x[0] + c * (x[0] - knot).max(0.0),
            Self::Plane { a, b } => a + b[0] * x[0] + b[1] * x[1],
        }
    }

    /// Fits samples of `features` features: nothing if they are fewer than `least`, or if all say the same.
    pub fn to(samples: &[Sample], features: usize, least: usize, positive_intercept: bool) -> Option<Self> {
        if samples.len() < least {
            return None;
        }
        let hinge = if features == 1 && samples.len() >= HINGE_POINTS { hinge(samples) } else { None };
        let fit = hinge.or_else(|| plane(samples, features))?;
        Some(if positive_intercept { fit.with_positive_intercept() } else { fit })
    }

    fn with_positive_intercept(self) -> Self {
        match self {
            Self::Hinge { a, b, c, knot } => Self::Hinge { a: a.max(0.0), b, c, knot },
            Self::Plane { a, b } => Self::Plane { a: a.max(0.0), b },
        }
    }
}

/// The best of the hinges over some candidate knots.
fn hinge(samples: &[Sample]) -> Option<Fit> {
    let mut best: Option<(f64, Fit)> = None;
    for knot in knots(samples) {
        let rows = samples.iter().map(|s| {
            let w = 1.0 / s.ms.max(WEIGHT_MS);
            ([w, w * s.x[0], w * (s.x[0] - knot).max(0.0)], w * s.ms)
        });
        let Some([a, b, c]) = least_squares(rows) else { continue };
        if !(a.is_finite() && b.is_finite() && c.is_finite()) || b < NOISE || b + c < NOISE {
            continue;
        }
        let b = b.max(0.0);
        let fit = Fit::Hinge { a, b, c: c.max(-b), knot };
        let squares: f64 = samples.iter().map(|s| ((fit.raw(s.x) - s.ms) / s.ms.max(WEIGHT_MS)).powi(2)).sum();
        let error = (squares / samples.len() as f64).sqrt();
        if error.is_finite() && best.is_none_or(|(least, _)| error < least) {
            best = Some((error, fit));
        }
    }
    best.map(|(_, fit)| fit)
}

/// Candidate knots: quantiles of what was seen, and points evenly spread on a logarithmic scale.
fn knots(samples: &[Sample]) -> Vec<f64> {
    let mut xs: Vec<f64> = samples.iter().map(|s| s.x[0]).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (Some(&low), Some(&high)) = (xs.first(), xs.last()) else { return Vec::new() };
    if xs.len() < 3 {
        return Vec::new();
    }
    let mut knots: Vec<f64> = (1..=4).map(|i| xs[i * (xs.len() - 1) / 5]).collect();
    if low > 0.0 {
        let (from, to) = (low.ln(), high.ln());
        knots.extend((1..=8).map(|j| (from + f64::from(j) / 9.0 * (to - from)).exp()));
    }
    knots.retain(|knot| *knot > low && *knot < high);
    knots.sort_by(f64::total_cmp);
    knots.dedup_by(|next, kept| (*next - *kept).abs() <= 1e-9 * kept.abs().max(1.0));
    knots
}

/// The best line or plane among those with every choice of slopes set to zero.
fn plane(samples: &[Sample], features: usize) -> Option<Fit> {
    let mut best: Option<(f64, Fit)> = None;
    for free in 0..1_usize << features {
        let uses = |axis: usize| free & 1 << axis != 0;
        let column = |s: &Sample, axis: usize| if uses(axis) { s.x[axis] } else { 0.0 };
        let slopes = match (uses(0), features == 2 && uses(1)) {
            (false, false) => least_squares(samples.iter().map(|s| ([1.0], s.ms))).map(|[a]| (a, [0.0; 2])),
            (true, true) => {
                least_squares(samples.iter().map(|s| ([1.0, s.x[0], s.x[1]], s.ms))).map(|[a, b, c]| (a, [b, c]))
            }
            (first, _) => least_squares(samples.iter().map(|s| ([1.0, column(s, usize::from(!first))], s.ms)))
                .map(|[a, b]| (a, if first { [b, 0.0] } else { [0.0, b] })),
        };
        let Some((a, b)) = slopes else { continue };
        if !a.is_finite() || b.iter().any(|slope| !slope.is_finite() || *slope < 0.0) {
            continue;
        }
        let fit = Fit::Plane { a, b };
        let error: f64 = samples.iter().map(|s| (fit.raw(s.x) - s.ms).powi(2)).sum();
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, fit));
        }
    }
    // A constant explains nothing unless there are too few points to say more.
    best.map(|(_, fit)| fit).filter(|fit| samples.len() <= features || !matches!(fit, Fit::Plane { b: [0.0, 0.0], .. }))
}

/// Coefficients of the rows that miss their targets by the least squares, by normal equations.
fn least_squares<const N: usize>(rows: impl Iterator<Item = ([f64; N], f64)>) -> Option<[f64; N]> {
    let (mut matrix, mut target) = ([[0.0; N]; N], [0.0; N]);
    for (row, y) in rows {
        for i in 0..N {
            for j in 0..N {
                matrix[i][j] += row[i] * row[j];
            }
            target[i] += row[i] * y;
        }
    }
    solve(matrix, target).or_else(|| {
        let trace: f64 = (0..N).map(|i| matrix[i][i].abs()).sum();
        let ridge = 1e-9 * trace.max(1.0);
        for (i, row) in matrix.iter_mut().enumerate().skip(1) {
            row[i] += ridge;
        }
        solve(matrix, target)
    })
}

/// Solves a small system; nothing if it is singular.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], mut target: [f64; N]) -> Option<[f64; N]> {
    for column in 0..N {
        let pivot = (column..N).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        if matrix[pivot][column].abs() < 1e-12 {
            return None;
        }
        matrix.swap(column, pivot);
        target.swap(column, pivot);
        let scale = matrix[column][column];
        for value in &mut matrix[column] {
            *value /= scale;
        }
        target[column] /= scale;
        let (pivot_row, pivot_target) = (matrix[column], target[column]);
        for row in (0..N).filter(|row| *row != column) {
            let factor = matrix[row][column];
            for (value, pivot) in matrix[row].iter_mut().zip(pivot_row) {
                *value -= factor * pivot;
            }
            target[row] -= factor * pivot_target;
        }
    }
    Some(target)
}
