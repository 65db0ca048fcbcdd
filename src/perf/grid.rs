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
pub(super) struct Axis(Vec<f64>);

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
            None => Ok(Self(knots)),
        }
    }

    /// Number of knots.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first and the last knot.
    pub fn ends(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// Whether `x` is between the first and the last knot, ends included.
    pub fn covers(&self, x: f64) -> bool {
        let (first, last) = self.ends();
        (first..=last).contains(&x)
    }

    /// Where `x` lies; the part exceeds 1 above the last knot.
    #[inline]
    pub fn locate(&self, x: f64) -> Position {
        let knots = &self.0;
        let index = knots[1..knots.len() - 1].partition_point(|knot| *knot <= x);
        let (left, right) = (knots[index], knots[index + 1]);
        Position { index, part: ((x - left) / (right - left)).max(0.0) }
    }
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

    /// The values of one row, column after column.
    pub fn walk(&self, row: f64) -> RowWalk<'_> {
        let row = self.rows.locate(row);
        let width = self.columns.len();
        let (below, above) = self.values[row.index * width..(row.index + 2) * width].split_at(width);
        RowWalk { columns: &self.columns.0, below, above, part: row.part, index: 0 }
    }

    /// The value at (`row`, `column`), linear in both.
    #[inline]
    pub fn at(&self, row: f64, column: f64) -> f64 {
        let (below, above, part) = self.around(row, column);
        mix(below, above, part)
    }
}

/// [`Grid::at`] of one row at columns that do not decrease.
#[derive(Debug, Clone)]
pub(super) struct RowWalk<'a> {
    columns: &'a [f64],
    below: &'a [f64],
    above: &'a [f64],
    part: f64,
    /// Segment of the column asked for last.
    index: usize,
}

impl RowWalk<'_> {
    /// The value at `column`, not below the one before.
    #[inline]
    pub fn at(&mut self, column: f64) -> f64 {
        while self.index + 2 < self.columns.len() && self.columns[self.index + 1] <= column {
            self.index += 1;
        }
        let (left, right) = (self.columns[self.index], self.columns[self.index + 1]);
        let position = Position { index: self.index, part: ((column - left) / (right - left)).max(0.0) };
        mix(between(self.below, position), between(self.above, position), self.part)
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
    fn an_axis_says_which_knot_is_wrong() {
        assert_eq!(Axis::new(vec![1.0]), Err(None));
        assert_eq!(Axis::new(vec![1.0, 1.0]), Err(Some(1)));
        assert_eq!(Axis::new(vec![1.0, 3.0, 2.0]), Err(Some(2)));
        assert_eq!(Axis::new(vec![-1.0, 3.0]), Err(Some(0)));
        assert_eq!(Axis::new(vec![1.0, f64::INFINITY]), Err(Some(1)));
    }
}
