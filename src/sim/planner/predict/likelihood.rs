//! How well an ARMA model explains a series, and what it expects next: the exact Gaussian likelihood by a Kalman filter
//! over Harvey's state-space form.

/// Largest order of either part, and so the largest state is one more.
pub const MOST_ORDER: usize = 5;
const STATE: usize = MOST_ORDER + 1;
type Matrix = [[f64; STATE]; STATE];

/// A stationary, invertible ARMA model around a mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arma {
    /// Mean of the series.
    pub mean: f64,
    /// Weights of the last values, the last one first.
    pub ar: Vec<f64>,
    /// Weights of the last surprises, the last one first.
    pub ma: Vec<f64>,
}

/// What a model says about a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Logarithm of the likelihood with the best variance.
    pub log_likelihood: f64,
    /// The next value.
    pub forecast: f64,
}

impl Arma {
    fn size(&self) -> usize {
        self.ar.len().max(self.ma.len() + 1)
    }

    /// What the model says about `series`; nothing where the likelihood is no number.
    pub fn judge(&self, series: &[f64]) -> Option<Verdict> {
        let n = self.size();
        let mut transition = [[0.0; STATE]; STATE];
        let mut impact = [0.0; STATE];
        impact[0] = 1.0;
        for (i, weight) in self.ar.iter().enumerate() {
            transition[i][0] = *weight;
        }
        for i in 1..n {
            transition[i - 1][i] = 1.0;
        }
        for (i, weight) in self.ma.iter().enumerate() {
            impact[i + 1] = *weight;
        }
        let mut shock = [[0.0; STATE]; STATE];
        for i in 0..n {
            for j in 0..n {
                shock[i][j] = impact[i] * impact[j];
            }
        }
        let mut covariance = stationary(&transition, &shock, n)?;
        let mut state = [0.0; STATE];
        let (mut squares, mut log_spread) = (0.0, 0.0);
        for value in series {
            let spread = covariance[0][0];
            if !(spread.is_finite() && spread > 0.0) {
                return None;
            }
            let surprise = value - self.mean - state[0];
            squares += surprise * surprise / spread;
            log_spread += spread.ln();
            let gain: [f64; STATE] = std::array::from_fn(|i| covariance[i][0] / spread);
            for i in 0..n {
                state[i] += gain[i] * surprise;
            }
            let row = covariance[0];
            for i in 0..n {
                for j in 0..n {
                    covariance[i][j] -= gain[i] * row[j];
                }
            }
            state = std::array::from_fn(|i| (0..n).map(|j| transition[i][j] * state[j]).sum());
            covariance = sandwich(&transition, &covariance, n);
            for i in 0..n {
                for j in 0..n {
                    covariance[i][j] += shock[i][j];
                }
            }
        }
        let count = series.len() as f64;
        let variance = squares / count;
        let log_likelihood = -0.5 * (count * ((2.0 * std::f64::consts::PI * variance).ln() + 1.0) + log_spread);
        log_likelihood.is_finite().then_some(Verdict { log_likelihood, forecast: self.mean + state[0] })
    }

    /// Magnitude of the inverse root nearest to the unit circle, of either part.
    pub fn largest_root(&self) -> f64 {
        let ma: Vec<f64> = self.ma.iter().map(|weight| -weight).collect();
        spectral_radius(&self.ar).max(spectral_radius(&ma))
    }
}

/// `a m a'`.
fn sandwich(a: &Matrix, m: &Matrix, n: usize) -> Matrix {
    let mut left = [[0.0; STATE]; STATE];
    let mut result = [[0.0; STATE]; STATE];
    for i in 0..n {
        for j in 0..n {
            left[i][j] = (0..n).map(|k| a[i][k] * m[k][j]).sum();
        }
    }
    for i in 0..n {
        for j in 0..n {
            result[i][j] = (0..n).map(|k| left[i][k] * a[j][k]).sum();
        }
    }
    result
}

fn product(a: &Matrix, b: &Matrix, n: usize) -> Matrix {
    let mut result = [[0.0; STATE]; STATE];
    for i in 0..n {
        for j in 0..n {
            result[i][j] = (0..n).map(|k| a[i][k] * b[k][j]).sum();
        }
    }
    result
}

/// Covariance of the state in the long run: the sum of `a^k q a'^k`, by doubling; nothing if it does not converge.
fn stationary(a: &Matrix, q: &Matrix, n: usize) -> Option<Matrix> {
    let (mut power, mut sum) = (*a, *q);
    for _ in 0..40 {
        let more = sandwich(&power, &sum, n);
        let mut added = 0.0_f64;
        for i in 0..n {
            for j in 0..n {
                sum[i][j] += more[i][j];
                added = added.max(more[i][j].abs());
            }
        }
        if !sum[0][0].is_finite() {
            return None;
        }
        if added <= 1e-14 * sum[0][0] {
            return Some(sum);
        }
        power = product(&power, &power, n);
    }
    None
}

/// Largest magnitude of the inverse roots of `1 - w1 z - w2 z^2 - ...`, from powers of the companion matrix.
fn spectral_radius(weights: &[f64]) -> f64 {
    const DOUBLINGS: i32 = 16;
    let n = weights.len();
    if n == 0 {
        return 0.0;
    }
    let mut power = [[0.0; STATE]; STATE];
    power[0][..n].copy_from_slice(weights);
    for i in 1..n {
        power[i][i - 1] = 1.0;
    }
    let mut log_size = 0.0;
    for _ in 0..DOUBLINGS {
        power = product(&power, &power, n);
        let size = power.iter().flatten().fold(0.0_f64, |most, x| most.max(x.abs()));
        if size == 0.0 {
            return 0.0;
        }
        power.iter_mut().flatten().for_each(|x| *x /= size);
        log_size = 2.0 * log_size + size.ln();
    }
    (log_size / 2.0_f64.powi(DOUBLINGS)).exp()
}

/// Weights of a stationary process from free numbers, by way of partial autocorrelations between -`most` and `most`, which
/// is 1 at most.
pub fn stationary_weights(free: &[f64], most: f64) -> Vec<f64> {
    let mut weights: Vec<f64> = Vec::with_capacity(free.len());
    for x in free {
        let partial = most * x / (1.0 + x * x).sqrt();
        let before = weights.clone();
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight -= partial * before[before.len() - 1 - i];
        }
        weights.push(partial);
    }
    weights
}
