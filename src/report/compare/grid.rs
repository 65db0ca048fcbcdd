//! The figures of every run with their changes against the first, and which is best.

use super::Candidate;
use super::figures::{Better, FIGURES, Figure};

/// One figure of all runs.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub figure: Figure,
    pub values: Vec<Option<f64>>,
    /// Change against the first run in percent; nothing for the first itself and where there is nothing to divide by.
    pub changes: Vec<Option<f64>>,
    /// Whether no other run is better; nobody is when all are equal.
    pub best: Vec<bool>,
}

/// The figures that any run has.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub rows: Vec<Row>,
}

impl Grid {
    pub fn of(candidates: &[Candidate]) -> Self {
        let rows = FIGURES.iter().filter_map(|figure| {
            let values: Vec<Option<f64>> =
                candidates.iter().map(|c| (figure.of)(&c.report).filter(|value| value.is_finite())).collect();
            values.iter().any(Option::is_some).then(|| Row {
                figure: *figure,
                // A change for neither the better nor the worse only distracts.
                changes: if figure.better == Better::Neither { vec![None; values.len()] } else { changes(&values) },
                best: best(figure.better, &values),
                values,
            })
        });
        Self { rows: rows.collect() }
    }
}

fn changes(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let base = values.first().copied().flatten().filter(|base| *base != 0.0);
    let change = |(index, value): (usize, &Option<f64>)| {
        let (value, base) = value.zip(base)?;
        (index > 0).then(|| (value / base - 1.0) * 100.0)
    };
    values.iter().enumerate().map(change).collect()
}

fn best(better: Better, values: &[Option<f64>]) -> Vec<bool> {
    let given = || values.iter().flatten().copied();
    let (low, high) = (given().fold(f64::INFINITY, f64::min), given().fold(f64::NEG_INFINITY, f64::max));
    let winner = match better {
        Better::Lower => low,
        Better::Higher => high,
        Better::Neither => return vec![false; values.len()],
    };
    // All equal, or one alone: nobody is better than anybody.
    values.iter().map(|value| low < high && *value == Some(winner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_marked_unless_all_are_equal() {
        let some = |values: &[f64]| values.iter().map(|v| Some(*v)).collect::<Vec<_>>();
        assert_eq!(best(Better::Lower, &some(&[2.0, 1.0, 1.0])), [false, true, true]);
        assert_eq!(best(Better::Higher, &[Some(2.0), None, Some(1.0)]), [true, false, false]);
        assert_eq!(best(Better::Higher, &some(&[2.0, 2.0])), [false, false]);
        assert_eq!(best(Better::Neither, &some(&[2.0, 1.0])), [false, false]);
    }

    #[test]
    fn changes_are_against_the_first() {
        assert_eq!(changes(&[Some(200.0), Some(150.0), None, Some(200.0)]), [None, Some(-25.0), None, Some(0.0)]);
        assert_eq!(changes(&[None, Some(1.0)]), [None, None]);
        assert_eq!(changes(&[Some(0.0), Some(1.0)]), [None, None]);
    }
}
