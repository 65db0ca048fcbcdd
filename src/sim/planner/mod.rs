//! The SLA planner: looks at the engines and the traffic every few seconds and says how many replicas there should be.
//!
//! | file | idea |
//! |---|---|
//! | `observe` | what it sees |
//! | `cadence` | when it ticks, and what is due |
//! | `predict` | the load of the next interval |
//! | `regression` | how long passes take, and what follows from that |
//! | `drive` | the planner within a run: what it is shown, and what becomes of its decisions |
//! | `load` | the fast loop: one replica more or fewer |
//! | `throughput` | the slow loop: replicas for the predicted load |
//! | `budget` | bounds on GPUs |
//! | `reason` | why a loop decided as it did |
//! | `explain` | what it decided from |
//! | `decision` | a tick's outcome, as a sentence and as JSON |

mod budget;
mod cadence;
#[cfg(test)]
mod corrections;
mod decision;
mod drive;
#[cfg(test)]
mod examples;
mod explain;
mod load;
mod observe;
mod predict;
mod reason;
mod regression;
mod throughput;

use crate::scenario::{PlannerConfig, PlannerMode, PlannerSemantics, Role};

pub use budget::Budget;
pub use cadence::Tick;
pub use decision::Decision;
pub use drive::{PlannerLog, PlannerRun, Sight, prepare};
pub use explain::{Check, Opinion, Relation, Sizing, Speaks, WhatIf, pool_name};
pub use load::{FpmObservations, LoadOutcome};
pub use observe::{
    Capabilities, EngineId, ForwardPassMetrics, FpmCache, PoolCounts, TrafficObservation, TrafficWindow, WorkerCounts,
};
pub use predict::{LoadPredictors, Prediction, Predictor};
pub use reason::{LoadReason, ThroughputReason};
pub use regression::{
    Bootstrap, Capacity, CapacityQuery, DecodeQuery, EngineModel, Limits, PassLoad, PrefillQuery, benchmark_points,
};
pub use throughput::ThroughputOutcome;

use cadence::Cadence;

/// Replicas asked for; `None` leaves a pool alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Targets {
    /// Prefill replicas.
    pub prefill: Option<i64>,
    /// Decode or aggregated replicas.
    pub decode: Option<i64>,
}

/// The engines of both pools; an aggregated pool stands in the place of decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Engines {
    /// A prefill replica.
    pub prefill: Capabilities,
    /// A decode or aggregated replica.
    pub decode: Capabilities,
}

/// What the planner is shown at a tick.
#[derive(Debug, Clone, Copy)]
pub struct TickInput<'a> {
    /// Workers.
    pub workers: WorkerCounts,
    /// Forward passes, where the tick asks for them.
    pub fpm: Option<FpmObservations<'a>>,
    /// Traffic, where the tick asks for it and there was time to observe any.
    pub traffic: Option<TrafficObservation>,
}

#[derive(Debug, Clone)]
enum Models {
    None,
    Aggregated(Box<EngineModel>),
    Disaggregated { prefill: Box<EngineModel>, decode: Box<EngineModel> },
}

/// The planner between ticks.
#[derive(Debug, Clone)]
pub struct Planner {
    config: PlannerConfig,
    engines: Engines,
    quirks: PlannerSemantics,
    budget: Budget,
    models: Models,
    predictors: Option<LoadPredictors>,
    cadence: Cadence,
    prefill: PoolCounts,
    decode: PoolCounts,
    /// Fewest replicas of prefill and decode for the predicted load.
    lower_bounds: (i64, i64),
    last_kv_hit_rate: Option<f64>,
    last_accept_length: f64,
}

impl Planner {
    /// A planner that saw nothing.
    pub fn new(config: PlannerConfig, engines: Engines, quirks: PlannerSemantics) -> Self {
        let model =
            |role: Role, engine: &Capabilities| Box::new(EngineModel::new(role, config.regression, engine, quirks));
        let models = match config.mode {
            _ if config.target.is_easy() => Models::None,
            PlannerMode::Aggregated => Models::Aggregated(model(Role::Aggregated, &engines.decode)),
            PlannerMode::Disaggregated => Models::Disaggregated {
                prefill: model(Role::Prefill, &engines.prefill),
                decode: model(Role::Decode, &engines.decode),
            },
        };
        Self {
            budget: Budget { min_gpus: config.min_gpus, max_gpus: config.max_gpus, min_endpoint: config.min_endpoint },
            models,
            predictors: config.throughput_scaling.then(|| LoadPredictors::new(&config)),
            cadence: Cadence::new(&config),
            config,
            engines,
            quirks,
            prefill: PoolCounts::default(),
            decode: PoolCounts::default(),
            lower_bounds: (1, 1),
            last_kv_hit_rate: None,
            last_accept_length: 1.0,
        }
    }

    /// What it was told.
    pub fn config(&self) -> &PlannerConfig {
        &self.config
    }

    /// Teaches it passes that were calculated before the run. An aggregated pool learns both lists.
    pub fn bootstrap(&mut self, prefill: &[ForwardPassMetrics], decode: &[ForwardPassMetrics]) {
        match &mut self.models {
            Models::None => {}
            Models::Aggregated(model) => model.learn(&[prefill, decode].concat()),
            Models::Disaggregated { prefill: p, decode: d } => {
                p.learn(prefill);
                d.learn(decode);
            }
        }
    }

    /// Teaches the load predictors intervals before the run.
    pub fn warm(&mut self, intervals: &[TrafficObservation]) {
        if let Some(predictors) = self.predictors.as_mut().filter(|_| !self.config.target.is_easy()) {
            predictors.warm(intervals);
        }
    }

    /// The tick to come.
    pub fn next_tick(&self) -> Tick {
        self.cadence.next()
    }

    /// Runs `tick`, which must be the one to come.
    pub fn tick(&mut self, tick: &Tick, input: &TickInput) -> Decision {
        self.prefill = input.workers.prefill.unwrap_or_default();
        self.decode = input.workers.decode;
        if let (true, Some(fpm)) = (tick.run_load, input.fpm) {
            self.observe_passes(&fpm);
        }
        let due = self.cadence.begin(tick);
        let mut decision = Decision::new(tick, input);

        let mut prediction = None;
        if due.predict {
            self.cadence.predicted(tick);
            match (input.traffic, self.predictors.take()) {
                (Some(traffic), Some(mut predictors)) => {
                    predictors.observe(&traffic, |length| self.clamped(length));
                    prediction = Some(predictors.predict());
                    self.predictors = Some(predictors);
                }
                (_, predictors) => self.predictors = predictors,
            }
            let reason = match prediction {
                None => Some(ThroughputReason::NoTrafficData),
                Some(p) if [p.num_req, p.isl, p.osl].iter().any(|value| value.is_nan()) => {
                    Some(ThroughputReason::PredictFailed)
                }
                Some(_) => None,
            };
            if reason.is_some() {
                prediction = None;
                decision.throughput.reason = reason.filter(|_| tick.run_throughput);
            }
        }
        decision.prediction = prediction;

        let mut asked = None;
        if let (true, Some(prediction), Some(traffic)) = (due.throughput, prediction, input.traffic) {
            self.cadence.proposed(tick);
            self.remember(prediction.kv_hit_rate, Some(prediction.accept_length));
            decision.throughput = self.advance_throughput(&prediction, traffic.duration_s);
            asked = decision.throughput.decision;
        }
        if due.load {
            self.cadence.loaded(tick);
            if let (Some(traffic), false, false) =
                (input.traffic, self.config.throughput_scaling, self.config.target.is_easy())
            {
                self.remember(traffic.kv_hit_rate, traffic.accept_length);
            }
            decision.load = self.advance_load(input.fpm);
            // The fast loop is the more authoritative of the two.
            asked = decision.load.decision.or(asked);
        } else if tick.run_load && !self.config.load_scaling {
            decision.load = self.advance_load(None);
        }
        decision.lower_bounds = self.lower_bounds;
        decision.scale_to = asked.and_then(|targets| self.final_targets(targets, &mut decision.limits));
        decision
    }

    fn is_aggregated(&self) -> bool {
        self.config.mode == PlannerMode::Aggregated
    }

    fn observe_passes(&mut self, fpm: &FpmObservations) {
        match &mut self.models {
            Models::None => {}
            Models::Aggregated(model) => model.observe(fpm.decode.records()),
            Models::Disaggregated { prefill, decode } => {
                prefill.observe(fpm.prefill.records());
                decode.observe(fpm.decode.records());
            }
        }
    }

    fn remember(&mut self, kv_hit_rate: Option<f64>, accept_length: Option<f64>) {
        if let Some(rate) = kv_hit_rate.filter(|rate| !rate.is_nan()) {
            self.last_kv_hit_rate = Some(rate);
        }
        if let Some(length) = accept_length.filter(|length| length.is_finite()) {
            self.last_accept_length = self.clamped(length);
        }
    }

    /// Output tokens per request and decode pass, as far as the draft allows.
    fn clamped(&self, length: f64) -> f64 {
        let nextn = self.engines.decode.speculative_nextn.filter(|n| *n > 0).unwrap_or(self.config.speculative_nextn);
        if nextn == 0 { 1.0 } else { length.clamp(1.0, f64::from(nextn) + 1.0) }
    }

    fn accept_length(&self) -> f64 {
        self.clamped(self.last_accept_length)
    }

    /// Targets after a last look at the budget; nothing where all stays as it is.
    fn final_targets(&self, targets: Targets, limits: &mut Vec<String>) -> Option<Targets> {
        let base = |counts: PoolCounts| if self.quirks.count_starting { counts.expected } else { counts.ready };
        let (p_now, d_now) = (base(self.prefill), base(self.decode));
        let stays = |t: Targets| t.prefill.is_none_or(|p| p == p_now) && t.decode.is_none_or(|d| d == d_now);
        if stays(targets) {
            return None;
        }
        let least = self.config.min_endpoint;
        let clamped = if self.is_aggregated() {
            let decode = targets.decode.map(|d| self.budget.single(d.max(least), self.engines.decode.gpus));
            Targets { prefill: targets.prefill, decode }
        } else {
            let wanted = (targets.prefill.unwrap_or(p_now).max(least), targets.decode.unwrap_or(d_now).max(least));
            let (p, d) = self.budget.pair(wanted, (self.engines.prefill.gpus, self.engines.decode.gpus));
            Targets { prefill: targets.prefill.map(|_| p), decode: targets.decode.map(|_| d) }
        };
        if clamped != targets {
            limits.push("the GPU budget changes the decision once more".to_owned());
        }
        (!stays(clamped)).then_some(clamped)
    }
}
