//! Piecewise linear curves and surfaces over strictly increasing axes.
//!
//! Below the first knot the coordinate is held there; above the last one the last segment goes on.

/// Where a coordinate lies on an axis: after knot `index`, by `part` of the distance to the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    index: usize,
    part: f64,
}

/// At least two strictly increasing finite knots.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    knots: Vec<f64>,
    /// For every [`bucket`] up to that of the last knot, a segment near and not after those of its coordinates.
    starts: Vec<u32>,
    /// One over the distance from each knot to the next.
    density: Vec<f64>,
}

impl Axis {
    /// An axis of knots the caller has checked.
    ///
    /// # Errors
    /// With the index of the first knot that breaks a rule, or `None` when there are fewer than two.
    pub fn new(knots: Vec<f64>) -> Result<Self, Option<usize>> {
        if knots.len() < 2 {
            return Err(None);
        }
        if let Some(index) = knots.iter().position(|knot| !knot.is_finite() || *knot < 0.0) {
            return Err(Some(index));
        }
        match knots.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(index) => Err(Some(index + 1)),
            None => {
                let density = knots.windows(2).map(|pair| (pair[1] - pair[0]).recip()).collect();
                Ok(Self { starts: starts(&knots), knots, density })
            }
        }
    }

    /// Number of knots.
    pub fn len(&self) -> usize {
        self.knots.len()
    }

    /// The first and the last knot.
    pub fn ends(&self) -> (f64, f64) {
        (self.knots[0], self.knots[self.knots.len() - 1])
    }

    /// Whether `x` is between the first and the last knot, ends included.
    pub fn covers(&self, x: f64) -> bool {
        let (first, last) = self.ends();
        (first..=last).contains(&x)
    }

    /// Where `x` lies; the part exceeds 1 above the last knot.
    #[inline]
    pub fn locate(&self, x: f64) -> Position {
        let mut index = self.starts[bucket(x).min(self.starts.len() - 1)] as usize;
        while index + 2 < self.knots.len() && self.knots[index + 1] <= x {
            index += 1;
        }
        self.position(index, x)
    }

    /// `x` in the segment after knot `index`.
    #[inline]
    fn position(&self, index: usize, x: f64) -> Position {
        Position { index, part: ((x - self.knots[index]) * self.density[index]).max(0.0) }
    }
}

/// Buckets for each doubling of a coordinate, as a power of two. Enough that a step or two finds the segment: the
/// shipped tables have at most a few dozen knots to a doubling.
const DETAIL: u32 = 5;

/// The bucket of a coordinate: its exponent and the first bits of its mantissa. Finding a segment this way takes a third of
/// the time of a binary search, which spends it on mispredicted branches.
#[inline]
fn bucket(x: f64) -> usize {
    const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - DETAIL;
    // One more, because coordinates begin at 0, which has no exponent.
    ((x + 1.0).to_bits() >> SHIFT).saturating_sub(1f64.to_bits() >> SHIFT) as usize
}

/// The segment to start at in every bucket.
fn starts(knots: &[f64]) -> Vec<u32> {
    let last = knots.last().copied().unwrap_or_default();
    let mut index = 0;
    (0..=bucket(last))
        .map(|wanted| {
            while (index as usize) + 2 < knots.len() && bucket(knots[index as usize + 1]) < wanted {
                index += 1;
            }
            index
        })
        .collect()
}

/// A value at every knot of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    axis: Axis,
    values: Vec<f64>,
}

impl Curve {
    /// A curve through `values`, one for each knot.
    pub fn new(axis: Axis, values: Vec<f64>) -> Self {
        debug_assert_eq!(axis.len(), values.len());
        Self { axis, values }
    }

    /// The knots.
    pub fn axis(&self) -> &Axis {
        &self.axis
    }

    /// The value at `x`.
    #[inline]
    pub fn at(&self, x: f64) -> f64 {
        between(&self.values, self.axis.locate(x))
    }
}

/// A value at every crossing of two axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    rows: Axis,
    columns: Axis,
    /// Row by row.
    values: Vec<f64>,
}

impl Grid {
    /// A surface through `values`, given row by row.
    pub fn new(rows: Axis, columns: Axis, values: Vec<f64>) -> Self {
        debug_assert_eq!(rows.len() * columns.len(), values.len());
        Self { rows, columns, values }
    }

    /// The knots of the rows.
    pub fn rows(&self) -> &Axis {
        &self.rows
    }

    /// The knots of the columns.
    pub fn columns(&self) -> &Axis {
        &self.columns
    }

    /// The values at `column` in the rows below and above `row`, and the way from one to the other.
    #[inline]
    pub fn around(&self, row: f64, column: f64) -> (f64, f64, f64) {
        let (row, column) = (self.rows.locate(row), self.columns.locate(column));
        let width = self.columns.len();
        let start = row.index * width;
        let below = between(&self.values[start..start + width], column);
        let above = between(&self.values[start + width..start + 2 * width], column);
        (below, above, row.part)
    }

    /// The values of one row, column after column from `column` on.
    pub fn walk(&self, row: f64, column: f64) -> RowWalk<'_> {
        let (row, index) = (self.rows.locate(row), self.columns.locate(column).index);
        let mut walk = RowWalk { grid: self, row, index, next: 0.0, left: 0.0, density: 0.0, from: 0.0, rise: 0.0 };
        walk.enter();
        walk
    }

    /// The value at (`row`, `column`), linear in both: first between the rows, then between the columns.
    #[inline]
    pub fn at(&self, row: f64, column: f64) -> f64 {
        let (row, column) = (self.rows.locate(row), self.columns.locate(column));
        mix(self.knot(row, column.index), self.knot(row, column.index + 1), column.part)
    }

    /// The value at a row and the knot `column`.
    #[inline]
    fn knot(&self, row: Position, column: usize) -> f64 {
        let width = self.columns.len();
        let below = row.index * width + column;
        mix(self.values[below], self.values[below + width], row.part)
    }
}

/// [`Grid::at`] of one row at columns that do not decrease.
#[derive(Debug, Clone)]
pub(super) struct RowWalk<'a> {
    grid: &'a Grid,
    row: Position,
    /// Segment of the column asked for last.
    index: usize,
    /// Where the segment ends, where it begins, and one over its length.
    next: f64,
    left: f64,
    density: f64,
    /// Value at its begin, and by how much it rises.
    from: f64,
    rise: f64,
}

impl RowWalk<'_> {
    /// The value at `column`, not below the one before.
    #[inline]
    pub fn at(&mut self, column: f64) -> f64 {
        while column >= self.next {
            self.index += 1;
            self.enter();
        }
        self.from + self.rise * ((column - self.left) * self.density).max(0.0)
    }

    /// The values at `column`, not below the one before, and at those that follow it by one each, up to the end of the
    /// segment: as many as `out` takes, each passed through `f`. Returns how many there are.
    #[inline]
    pub fn run<T>(&mut self, column: f64, out: &mut [T], mut f: impl FnMut(f64) -> T) -> usize {
        while column >= self.next {
            self.index += 1;
            self.enter();
        }
        let inside = ((self.next - column).ceil() as usize).min(out.len());
        // Copies, and counting in 32 bits, let the loop be done several columns at a time.
        let (left, density, from, rise) = (self.left, self.density, self.from, self.rise);
        for (step, slot) in (0..inside as i32).zip(&mut out[..inside]) {
            let part = (column + f64::from(step) - left) * density;
            *slot = f(from + rise * if part < 0.0 { 0.0 } else { part });
        }
        inside
    }

    /// Gets the figures of the segment ready.
    fn enter(&mut self) {
        let (axis, last) = (&self.grid.columns, self.grid.columns.len() - 2);
        self.next = if self.index < last { axis.knots[self.index + 1] } else { f64::INFINITY };
        (self.left, self.density) = (axis.knots[self.index], axis.density[self.index]);
        self.from = self.grid.knot(self.row, self.index);
        self.rise = self.grid.knot(self.row, self.index + 1) - self.from;
    }
}

/// The value at a position among `values`.
#[inline]
fn between(values: &[f64], position: Position) -> f64 {
    mix(values[position.index], values[position.index + 1], position.part)
}

/// `part` of the way from `a` to `b`.
#[inline]
pub(super) fn mix(a: f64, b: f64, part: f64) -> f64 {
    a + (b - a) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_held_below_and_goes_on_above() {
        let curve = Curve::new(Axis::new(vec![2.0, 4.0, 8.0]).unwrap(), vec![1.0, 3.0, 11.0]);
        let at: Vec<f64> = [0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0].map(|x| curve.at(x)).to_vec();
        assert_eq!(at, [1.0, 1.0, 2.0, 3.0, 7.0, 11.0, 15.0]);
    }

    #[test]
    fn a_grid_is_exact_at_its_knots_and_linear_between() {
        let axis = |knots: &[f64]| Axis::new(knots.to_vec()).unwrap();
        let grid = Grid::new(axis(&[1.0, 2.0]), axis(&[0.0, 10.0, 20.0]), vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert_eq!((grid.at(1.0, 10.0), grid.at(2.0, 20.0), grid.at(1.5, 5.0)), (1.0, 12.0, 5.5));
        assert_eq!((grid.at(0.0, 30.0), grid.at(3.0, 0.0)), (3.0, 20.0));
    }

    #[test]
    fn the_segment_is_that_of_a_plain_search() {
        let knots = [0.0, 0.25, 1.0, 2.0, 3.0, 100.0, 101.0, 101.5, 5000.0, 5001.0, 1e9, 1e300];
        let axis = Axis::new(knots.to_vec()).unwrap();
        let beside = knots.iter().flat_map(|knot| [knot * 0.999, *knot, knot * 1.001, knot + 1.0]);
        for x in beside.chain((0..6000).map(f64::from)) {
            let expected = knots[1..knots.len() - 1].partition_point(|knot| *knot <= x);
            assert_eq!(axis.locate(x).index, expected, "{x}");
        }
    }

    #[test]
    fn an_axis_says_which_knot_is_wrong() {
        assert_eq!(Axis::new(vec![1.0]), Err(None));
        assert_eq!(Axis::new(vec![1.0, 1.0]), Err(Some(1)));
        assert_eq!(Axis::new(vec![1.0, 3.0, 2.0]), Err(Some(2)));
        assert_eq!(Axis::new(vec![-1.0, 3.0]), Err(Some(0)));
        assert_eq!(Axis::new(vec![1.0, f64::INFINITY]), Err(Some(1)));
    }
}
