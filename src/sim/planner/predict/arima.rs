//! Autoregressive integrated moving average of automatic order.
//!
//! The order is searched once, when there are enough points: differences by repeated KPSS tests, then a stepwise search
//! for the least AIC, as pmdarima does in the live planner; later points move the weights only. The likelihood is the
//! exact one; optimisers differ, so forecasts agree in kind but not in digits. No Rust crate was found that takes as few
//! points as a planner has.

use argmin::core::{CostFunction, Executor, State};
use argmin::solver::neldermead::NelderMead;

use super::likelihood::{Arma, MOST_ORDER, Verdict, stationary_weights};
use super::{FEW, expm1, log1p};

/// KPSS statistic from which on a series is not level, at a probability of 5 %.
const KPSS_CRITICAL: f64 = 0.463;
/// Most differences taken.
const MOST_DIFFERENCES: usize = 2;
/// Most models fitted in a search.
const MOST_FITS: usize = 100;
/// A model with an inverse root beyond this is nearly not invertible and does not stand.
const MOST_ROOT: f64 = 0.99;
/// Largest weight of a surprise, but for higher orders. The likelihood often grows up to 1 and flatly so; the reference's
/// optimiser stops about here.
const MOST_SURPRISE: f64 = 0.985;
/// Iterations of the optimiser.
const ITERATIONS: u64 = 400;

/// The predictor.
#[derive(Debug, Clone)]
pub struct Arima {
    log1p: bool,
    values: Vec<f64>,
    model: Option<Model>,
}

/// Which terms a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    p: usize,
    d: usize,
    q: usize,
    constant: bool,
}

#[derive(Debug, Clone)]
struct Model {
    order: Order,
    log1p: bool,
    /// Free parameters, where the next optimisation starts.
    free: Vec<f64>,
}

impl Arima {
    /// A predictor that saw nothing.
    pub fn new(log1p: bool) -> Self {
        Self { log1p, values: Vec::new(), model: None }
    }

    /// Takes a value; a negative one counts as 0.
    pub fn add(&mut self, value: f64) {
        self.values.push(value.max(0.0));
    }

    /// The value to come: the last one while there are few, the only one if all are the same.
    pub fn predict(&mut self) -> f64 {
        let Some(last) = self.values.last().copied() else { return 0.0 };
        if self.values.len() < FEW || self.values.iter().all(|value| *value == last) {
            return last;
        }
        self.forecast().filter(|forecast| forecast.is_finite()).unwrap_or(last)
    }

    fn forecast(&mut self) -> Option<f64> {
        let model = match self.model.take() {
            Some(model) => model,
            None => self.search()?,
        };
        let series = self.series(model.log1p);
        let (fitted, verdict) = fit(&difference(&series, model.order.d), model.order, Some(&model.free))?;
        let forecast = integrate(verdict.forecast, &series, model.order.d);
        self.model = Some(Model { free: fitted, ..model });
        Some(if model.log1p { expm1(forecast) } else { forecast.max(0.0) })
    }

    fn series(&self, log: bool) -> Vec<f64> {
        self.values.iter().map(|value| if log { log1p(*value) } else { *value }).collect()
    }

    /// The best model of the values, or of their logarithms where the values alone have no memory.
    fn search(&self) -> Option<Model> {
        let (order, free) = search(&self.series(self.log1p))?;
        if !self.log1p
            && order.p == 0
            && order.q == 0
            && let Some((order, free)) = search(&self.series(true))
        {
            return Some(Model { order, log1p: true, free });
        }
        Some(Model { order, log1p: self.log1p, free })
    }
}

/// `series` differenced `times` times.
fn difference(series: &[f64], times: usize) -> Vec<f64> {
    (0..times).fold(series.to_vec(), |series, _| series.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

/// The value whose difference of order `times` from the series is `next`.
fn integrate(next: f64, series: &[f64], times: usize) -> f64 {
    match (times, series) {
        (1, [.., last]) => last + next,
        (2, [.., before, last]) => 2.0 * last - before + next,
        _ => next,
    }
}

/// Differences until the series is level.
fn differences(series: &[f64]) -> usize {
    let mut series = series.to_vec();
    for times in 0..MOST_DIFFERENCES {
        if is_constant(&series) || kpss(&series) <= KPSS_CRITICAL {
            return times;
        }
        series = difference(&series, 1);
    }
    MOST_DIFFERENCES
}

fn is_constant(series: &[f64]) -> bool {
    series.windows(2).all(|pair| pair[0] == pair[1])
}

/// Statistic of Kwiatkowski, Phillips, Schmidt and Shin: how far sums of deviations from the mean stray.
fn kpss(series: &[f64]) -> f64 {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let deviations: Vec<f64> = series.iter().map(|value| value - mean).collect();
    let (mut sum, mut strayed) = (0.0, 0.0);
    for deviation in &deviations {
        sum += deviation;
        strayed += sum * sum;
    }
    let lags = (4.0 * (n / 100.0).powf(0.25)) as usize;
    let mut variance = deviations.iter().map(|d| d * d).sum::<f64>() / n;
    for lag in 1..=lags {
        let weight = 1.0 - lag as f64 / (lags as f64 + 1.0);
        let shared: f64 = deviations.iter().zip(deviations.iter().skip(lag)).map(|(a, b)| a * b).sum();
        variance += 2.0 / n * weight * shared;
    }
    strayed / (n * n) / variance
}

/// Walks from model to neighbouring model as long as the AIC falls.
struct Search<'a> {
    series: &'a [f64],
    d: usize,
    tried: Vec<(Order, f64)>,
    best: Option<(Order, f64, Vec<f64>)>,
}

impl Search<'_> {
    /// Fits a model that was not tried yet; whether it is the best so far.
    fn try_model(&mut self, p: usize, q: usize, constant: bool) -> bool {
        let order = Order { p, d: self.d, q, constant };
        if self.tried.len() >= MOST_FITS || self.tried.iter().any(|(known, _)| *known == order) {
            return false;
        }
        let fitted = fit(self.series, order, None);
        let sound = fitted.filter(|(free, _)| arma(order, free).largest_root() <= MOST_ROOT);
        let aic = sound.as_ref().map_or(f64::INFINITY, |(_, verdict)| {
            // The variance is a parameter too.
            2.0 * (p + q + usize::from(constant) + 1) as f64 - 2.0 * verdict.log_likelihood
        });
        self.tried.push((order, aic));
        let better = aic.is_finite() && self.best.as_ref().is_none_or(|(_, least, _)| aic < *least);
        if let (true, Some((free, _))) = (better, sound) {
            self.best = Some((order, aic, free));
        }
        better
    }
}

/// The order with the least AIC, and the free parameters of that model.
fn search(series: &[f64]) -> Option<(Order, Vec<f64>)> {
    let n = series.len();
    let d = differences(series);
    let differenced = difference(series, d);
    if is_constant(&differenced) {
        let order = Order { p: 0, d, q: 0, constant: d < 2 };
        return Some((order, start(order, &differenced)));
    }
    let most = MOST_ORDER.min(n / 3);
    let first = if n < 10 { most.min(1) } else { most.min(2) };
    let mut constant = d < 2;
    let mut walk = Search { series: &differenced, d, tried: Vec::new(), best: None };
    let (mut p, mut q) = (first, first);
    walk.try_model(p, q, constant);
    for (other_p, other_q) in [(0, 0), (most.min(1), 0), (0, most.min(1))] {
        if walk.try_model(other_p, other_q, constant) {
            (p, q) = (other_p, other_q);
        }
    }
    if constant && walk.try_model(0, 0, false) {
        (p, q) = (0, 0);
    }
    const STEPS: [(i8, i8); 8] = [(-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)];
    loop {
        let moved = STEPS.into_iter().find_map(|(up, uq)| {
            let step = |order: usize, by: i8| order.checked_add_signed(by.into()).filter(|order| *order <= most);
            let next = (step(p, up)?, step(q, uq)?);
            walk.try_model(next.0, next.1, constant).then_some(next)
        });
        match moved {
            Some(next) => (p, q) = next,
            None if walk.try_model(p, q, !constant) => constant = !constant,
            None => break,
        }
    }
    walk.best.map(|(order, _, free)| (order, free))
}

/// The model of some free parameters: the mean, if there is a constant, then both parts.
fn arma(order: Order, free: &[f64]) -> Arma {
    let (mean, rest) = free.split_at(usize::from(order.constant).min(free.len()));
    let (ar, ma) = rest.split_at(order.p.min(rest.len()));
    Arma {
        mean: mean.first().copied().unwrap_or(0.0),
        ar: stationary_weights(ar, 1.0),
        ma: stationary_weights(ma, MOST_SURPRISE).into_iter().map(|weight| -weight).collect(),
    }
}

/// Free parameters to start from: the mean, and no memory.
fn start(order: Order, series: &[f64]) -> Vec<f64> {
    let mean = series.iter().sum::<f64>() / series.len().max(1) as f64;
    let constant = order.constant.then_some(mean);
    constant.into_iter().chain(std::iter::repeat_n(0.0, order.p + order.q)).collect()
}

struct Misfit<'a> {
    order: Order,
    series: &'a [f64],
}

impl CostFunction for Misfit<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, free: &Self::Param) -> Result<f64, argmin::core::Error> {
        let verdict = arma(self.order, free).judge(self.series);
        Ok(verdict.map_or(f64::MAX, |verdict| -verdict.log_likelihood))
    }
}

/// Parameters of the greatest likelihood near `from`, and what the model then says.
fn fit(series: &[f64], order: Order, from: Option<&[f64]>) -> Option<(Vec<f64>, Verdict)> {
    let spread = series.iter().fold(0.0_f64, |most, value| most.max(value.abs())).max(1e-6);
    let origin = from.map_or_else(|| start(order, series), <[f64]>::to_vec);
    let mut free = origin.clone();
    if order.p + order.q > 0 {
        let corner = |index: usize| {
            let mut corner = origin.clone();
            corner[index] += if order.constant && index == 0 { 0.1 * spread } else { 0.5 };
            corner
        };
        let simplex = std::iter::once(origin.clone()).chain((0..origin.len()).map(corner)).collect();
        let solver = NelderMead::new(simplex).with_sd_tolerance(1e-9).ok()?;
        let run = Executor::new(Misfit { order, series }, solver)
            .configure(|state| state.max_iters(ITERATIONS))
            .timer(false)
            .run()
            .ok()?;
        free.clone_from(run.state().get_best_param()?);
    } else if let (Some(mean), [new]) = (free.first_mut(), start(order, series).as_slice()) {
        *mean = *new;
    }
    let verdict = arma(order, &free).judge(series)?;
    Some((free, verdict))
}
