//! Finds the corrections under which the simulation agrees best with the first half of the measurements.
//!
//! The search is Nelder and Mead's, begun anew around its result a few times: the disagreement is rough, as requests change
//! places in queues. It draws nothing at random and gives the same result every time.

use std::cell::RefCell;

use argmin::core::{CostFunction, Error, Executor};
use argmin::solver::neldermead::NelderMead;

use crate::scenario::Run;
use crate::sim::SimError;

use super::error::CalibrateError;
use super::measured::{MeasuredRequest, Measurements};
use super::parameter::{Origin, Parameter, Space};
use super::replay::{Knobs, Replay};
use super::score::{Latencies, Metric, disagreement};

/// What a correction of size 1 (a factor of e, or a host time of 10 ms) costs; it grows with the square. A correction must
/// pay for itself: doubling a time must bring latencies closer by 0.15 %. Where the measurements say nothing about a
/// correction, or only something about the sum of two, this keeps it near no correction.
const RESERVE: f64 = 0.003;
/// What a coordinate beyond its bounds costs, per unit squared.
const BEYOND: f64 = 10.0;
/// Changes by which a parameter shows whether the measurements depend on it, in coordinates.
const PROBES: [f64; 3] = [0.25, -0.25, -1.0];
/// Edges of the simplex of the first searches, in coordinates. A long one that points the other way gets out of a hollow that
/// the search before ended in.
const EDGES: [f64; 3] = [0.25, -0.5, 0.5];
/// How far from the best point, along every axis both ways, further searches begin, and their edges.
const AWAY: f64 = 0.3;
const SHORT_EDGE: f64 = 0.1;
/// Steps of a search.
const MOST_STEPS: u64 = 80;
/// A search ends when the disagreement at the corners of its simplex differs by less than this.
const SPREAD: f64 = 1e-5;
/// Factors by which both scales are multiplied to find a good place to begin.
const BEGINNINGS: [f64; 4] = [0.25, 0.5, 2.0, 4.0];

/// What a fit found.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Before.
    pub start: Knobs,
    /// After.
    pub best: Knobs,
    /// What was fitted.
    pub parameters: Vec<Fitted>,
    /// What was asked for and is not to be told from the measurements.
    pub unidentified: Vec<Parameter>,
    /// Disagreement with the first half before.
    pub disagreement_before: f64,
    /// Disagreement with the first half after.
    pub disagreement_after: f64,
    /// Simulations it took.
    pub simulations: u32,
}

/// A fitted correction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Which.
    pub parameter: Parameter,
    /// How much the disagreement grows, relatively, when it is a tenth larger or smaller than found (the host time: a
    /// millisecond): the smaller of the two. Close to zero means that the measurements hardly determine it.
    pub sharpness: f64,
}

/// Fits `parameters` from `origin` on.
pub(super) fn fit(
    run: &Run,
    measured: &Measurements,
    origin: Origin,
    parameters: &[Parameter],
) -> Result<Fit, CalibrateError> {
    let trial = Trial {
        replay: Replay::new(run, &measured.requests),
        half: &measured.requests[..measured.fitted()],
        simulations: RefCell::new(0),
    };
    let start = origin.knobs;
    let at_start = trial.simulate(start)?;
    let disagreement_before = disagreement(trial.half, &at_start);

    let (mut identified, mut unidentified) = (Vec::new(), Vec::new());
    for parameter in parameters {
        let told = trial.tells(&origin, *parameter, &at_start)?;
        if told { identified.push(*parameter) } else { unidentified.push(*parameter) }
    }
    let (mut best, mut disagreement_after) = (start, disagreement_before);
    if !identified.is_empty() {
        let space = Space::new(origin, identified.clone(), pass_ms(&start, &at_start));
        let search = Search { trial: &trial, space, state: RefCell::default() };
        best = search.run()?;
        disagreement_after = trial.disagreement(best)?;
    }
    let mut fitted = Vec::new();
    for parameter in identified {
        // Where the search has led, it may have lost its effect: a pool that is never full may have any size.
        let without = Knobs { num_gpu_blocks: start.num_gpu_blocks, ..best };
        if parameter == Parameter::NumGpuBlocks && trial.disagreement(without)? == disagreement_after {
            best = without;
            unidentified.push(parameter);
            continue;
        }
        let sharpness = trial.sharpness(&origin, parameter, best, disagreement_after)?;
        fitted.push(Fitted { parameter, sharpness });
    }
    let simulations = trial.simulations.take();
    Ok(Fit { start, best, parameters: fitted, unidentified, disagreement_before, disagreement_after, simulations })
}

/// A typical decode pass without corrections: the median of TPOT less what corrections made of it.
fn pass_ms(knobs: &Knobs, latencies: &[Latencies]) -> Option<f64> {
    let mut gaps: Vec<f64> = latencies.iter().filter_map(|latency| latency[Metric::Tpot as usize]).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    let median = gaps.get(gaps.len() / 2)?;
    Some((median - knobs.correction.per_pass_overhead_ms) / knobs.correction.decode_scale)
}

/// Tries corrections on the measured arrivals.
struct Trial<'a> {
    replay: Replay<'a>,
    /// The requests whose latencies count.
    half: &'a [MeasuredRequest],
    simulations: RefCell<u32>,
}

impl Trial<'_> {
    /// Latencies of the first half; the second half is there as load.
    fn simulate(&self, knobs: Knobs) -> Result<Vec<Latencies>, SimError> {
        *self.simulations.borrow_mut() += 1;
        let mut latencies = self.replay.simulate(knobs)?;
        latencies.truncate(self.half.len());
        Ok(latencies)
    }

    fn disagreement(&self, knobs: Knobs) -> Result<f64, SimError> {
        Ok(disagreement(self.half, &self.simulate(knobs)?))
    }

    /// Whether any latency changes when the parameter does.
    fn tells(&self, origin: &Origin, parameter: Parameter, at_start: &[Latencies]) -> Result<bool, SimError> {
        let here = origin.coordinate(parameter, &origin.knobs);
        for step in PROBES {
            let mut knobs = origin.knobs;
            origin.set(parameter, &mut knobs, here + step);
            if knobs != origin.knobs && self.simulate(knobs)? != at_start {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn sharpness(&self, origin: &Origin, parameter: Parameter, best: Knobs, least: f64) -> Result<f64, SimError> {
        const TENTH: f64 = 0.1;
        let here = origin.coordinate(parameter, &best);
        let mut sharpness = f64::INFINITY;
        for step in [TENTH, -TENTH] {
            let mut knobs = best;
            origin.set(parameter, &mut knobs, here + step);
            if knobs != best {
                let there = self.disagreement(knobs)?;
                sharpness = sharpness.min(there / least.max(f64::MIN_POSITIVE) - 1.0);
            }
        }
        Ok(if sharpness.is_finite() { sharpness } else { 0.0 })
    }
}

/// The problem as the optimiser sees it.
struct Search<'a> {
    trial: &'a Trial<'a>,
    space: Space,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// The best point so far and what it costs.
    best: Option<(f64, Vec<f64>)>,
    fault: Option<SimError>,
}

impl Search<'_> {
    /// What the search makes small.
    fn cost_at(&self, point: &[f64]) -> Result<f64, SimError> {
        let (knobs, beyond, size) = self.space.knobs(point);
        let cost = self.trial.disagreement(knobs)? + RESERVE * size + BEYOND * beyond;
        let mut state = self.state.borrow_mut();
        if state.best.as_ref().is_none_or(|(least, _)| cost < *least) {
            state.best = Some((cost, point.to_vec()));
        }
        Ok(cost)
    }

    fn best(&self, start: &[f64]) -> Vec<f64> {
        self.state.borrow().best.as_ref().map_or_else(|| start.to_vec(), |(_, point)| point.clone())
    }

    /// One search, from the simplex of `point` and its neighbours along every axis.
    fn descend(&self, point: Vec<f64>, edge: f64) -> Result<(), CalibrateError> {
        let corner = |index: usize| {
            let mut corner = point.clone();
            corner[index] += edge;
            corner
        };
        let simplex = (0..point.len()).map(corner).chain([point.clone()]).collect();
        let solver = NelderMead::new(simplex).with_sd_tolerance(SPREAD).map_err(defect)?;
        Executor::new(self, solver).configure(|state| state.max_iters(MOST_STEPS)).run().map_err(defect)?;
        self.state.borrow_mut().fault.take().map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn run(&self) -> Result<Knobs, CalibrateError> {
        let start = self.space.point(&self.space.origin.knobs);
        self.cost_at(&start)?;
        let is_scale = |p: &Parameter| matches!(p, Parameter::PrefillScale | Parameter::DecodeScale);
        for factor in BEGINNINGS {
            let moved = |(p, at): (&Parameter, &f64)| if is_scale(p) { at + f64::ln(factor) } else { *at };
            let point: Vec<f64> = self.space.parameters.iter().zip(&start).map(moved).collect();
            if point != start {
                self.cost_at(&point)?;
            }
        }
        for edge in EDGES {
            self.descend(self.best(&start), edge)?;
        }
        let center = self.best(&start);
        for index in 0..center.len() {
            for away in [AWAY, -AWAY] {
                let mut point = center.clone();
                point[index] += away;
                self.descend(point, SHORT_EDGE)?;
            }
        }
        for edge in [SHORT_EDGE, -SHORT_EDGE] {
            self.descend(self.best(&start), edge)?;
        }
        Ok(self.space.knobs(&self.best(&start)).0)
    }
}

impl CostFunction for &Search<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Self::Param) -> Result<f64, Error> {
        // The solver cannot pass errors on from its first simplex: the fault is kept and looked for afterwards.
        Ok(self.cost_at(point).unwrap_or_else(|fault| {
            self.state.borrow_mut().fault = Some(fault);
            f64::MAX
        }))
    }
}

/// The optimiser refuses its settings, which are constants: a defect of the program.
fn defect(error: Error) -> CalibrateError {
    CalibrateError::setting("fit", format!("the optimiser failed: {error}"), "report it as a defect")
}
