//! Document to run: defaults, and the rules between keys.

use std::path::Path;

use serde_json::Map;

use crate::time::{SimDuration, SimTime};

use super::document::Scenario;
use super::engine::{build, engine_type};
use super::error::{Place, ScenarioError};
use super::run::{
    EngineConfig, PlannerSemantics, Role, Run, ScalingScript, ScalingStep, SchedulerKind, Semantics, Sla, Topology,
    TrafficSource,
};
use super::timing::TimingContext;
use super::values::{Document, ScalingDocument, SemanticsDocument, typed};

impl Scenario {
    /// Checks everything and fills in every default. Relative paths start at `base`.
    ///
    /// # Errors
    /// When a value is out of range, keys contradict each other, or a feature has not landed.
    pub fn resolve(&self, base: &Path) -> Result<Run, ScenarioError> {
        let mut warnings = Vec::new();
        self.refuse_unsupported()?;
        let (timing, context) = self.timing_options(base)?;
        let topology = self.topology(base, &context, &mut warnings)?;
        let router = self.router(base, &topology, &mut warnings)?;
        let traffic = self.traffic(base, &mut warnings)?;
        if let TrafficSource::Trace(trace) = &traffic.source
            && let Some(format) = trace.reading.format
            && let Some(objection) = format.objection(trace, traffic.concurrency, &topology)
        {
            return Err(ScenarioError::new(objection.key, objection.cause, objection.cure));
        }
        let max_sim_time = self.max_sim_time()?;
        self.outputs(base)?;
        let scaling = self.scaling_script(base, &topology)?;
        let planner = self.planner(base, &topology, &traffic, &mut warnings)?;
        let cost = self.cost(base, &topology, planner.as_ref(), &mut warnings)?;
        let (semantics, sla, seed) = (self.semantics()?, self.sla()?, self.seed.unwrap_or(42));
        Ok(Run {
            traffic,
            topology,
            timing,
            router,
            semantics,
            sla,
            max_sim_time,
            scaling,
            planner,
            cost,
            seed,
            warnings,
        })
    }

    /// Refuses by name what would change results and has not landed.
    fn refuse_unsupported(&self) -> Result<(), ScenarioError> {
        let choice = |key: &str, value: &Option<String>, supported: &str, known: &[&str], cure: &str| match value {
            Some(word) if word == supported => Ok(()),
            Some(word) if known.contains(&word.as_str()) => {
                Err(ScenarioError::not_yet(key, format!("`{word}`"), format!("use {supported}{cure}")))
            }
            Some(word) => Err(ScenarioError::new(key, format!("is \"{word}\""), format!("use {supported}"))),
            None => Ok(()),
        };
        choice("replay-mode", &self.replay_mode, "offline", &["online"], "; a run in real time is out of scope")?;
        if let Some(key) = self.to_map().keys().find(|key| key.starts_with("aic-")) {
            let cure = "leave it out; a tensor-parallel size for GPU accounting goes into the engine arguments as `aic_tp_size`";
            return Err(ScenarioError::not_yet(key.clone(), "the timing model of the router's prefill estimate", cure));
        }
        Ok(())
    }

    fn topology(
        &self,
        base: &Path,
        timing: &TimingContext,
        warnings: &mut Vec<String>,
    ) -> Result<Topology, ScenarioError> {
        let mut engine = |key: &str, args: Option<&Document>, role: Role| -> Result<EngineConfig, ScenarioError> {
            match args {
                None => build(&Map::new(), key, role, timing, &[base], warnings),
                Some(args) => {
                    let loaded = args.object(key, base)?;
                    let bases: Vec<&Path> = loaded.folder().into_iter().chain([base]).collect();
                    build(&loaded.map, key, role, timing, &bases, warnings).map_err(|e| loaded.blame(e))
                }
            }
        };
        let (prefill, decode) = match (&self.prefill_engine_args, &self.decode_engine_args) {
            (None, None) => {
                let mode = "workers both prefill and decode here";
                only_one("num-prefill-workers", self.num_prefill_workers, mode, "use `num-workers`")?;
                only_one("num-decode-workers", self.num_decode_workers, mode, "use `num-workers`")?;
                let workers = at_least_one("num-workers", self.num_workers)?;
                let engine = engine("extra-engine-args", self.extra_engine_args.as_ref(), Role::Aggregated)?;
                return Ok(Topology::Aggregated { workers, engine });
            }
            (Some(prefill), Some(decode)) => (prefill, decode),
            (prefill, _) => {
                let pair = ["prefill-engine-args", "decode-engine-args"];
                let [given, missing] = if prefill.is_some() { pair } else { [pair[1], pair[0]] };
                let cause = format!("is given without `{missing}`");
                return Err(ScenarioError::new(
                    given,
                    cause,
                    format!("give `{missing}` too; `{{}}` takes the defaults"),
                ));
            }
        };
        if self.extra_engine_args.is_some() {
            let cause = "is given together with `prefill-engine-args` and `decode-engine-args`";
            return Err(ScenarioError::new("extra-engine-args", cause, "keep either the one or the other two"));
        }
        let cure = "use `num-prefill-workers` and `num-decode-workers`";
        only_one("num-workers", self.num_workers, "prefill and decode are separate here", cure)?;
        let prefill_workers = at_least_one("num-prefill-workers", self.num_prefill_workers)?;
        let decode_workers = at_least_one("num-decode-workers", self.num_decode_workers)?;
        let prefill = engine("prefill-engine-args", Some(prefill), Role::Prefill)?;
        let decode = engine("decode-engine-args", Some(decode), Role::Decode)?;
        for (key, engine) in [("prefill-engine-args.dp_size", &prefill), ("decode-engine-args.dp_size", &decode)] {
            if engine.dp_size != 1 {
                let cause = format!("is {}; with separate prefill and decode it must be 1", engine.dp_size);
                return Err(ScenarioError::new(key, cause, "give 1, or more workers"));
            }
        }
        let kinds = [engine_type(&prefill.scheduler), engine_type(&decode.scheduler)];
        if kinds[0] != kinds[1] {
            let cause = format!("is {}, but the prefill workers have {}", kinds[1], kinds[0]);
            return Err(ScenarioError::new("decode-engine-args.engine_type", cause, "give both the same engine"));
        }
        if prefill.scheduler == SchedulerKind::TrtLlm {
            let cause = "is trtllm, which does not hand requests over";
            let cure = "use vllm or sglang, or `extra-engine-args` and `num-workers`";
            return Err(ScenarioError::new("prefill-engine-args.engine_type", cause, cure));
        }
        if prefill.block_size != decode.block_size {
            let (ours, theirs) = (decode.block_size, prefill.block_size);
            let cause = format!("is {ours}, but the prefill workers have {theirs}");
            return Err(ScenarioError::new("decode-engine-args.block_size", cause, "give both the same block size"));
        }
        Ok(Topology::Disaggregated { prefill_workers, decode_workers, prefill, decode })
    }

    fn max_sim_time(&self) -> Result<Option<SimTime>, ScenarioError> {
        let key = "max-sim-time-seconds";
        let Some(seconds) = self.max_sim_time_seconds else { return Ok(None) };
        let cap = SimTime::from_ms(seconds * 1_000.0)
            .map_err(|e| ScenarioError::new(key, e.to_string(), "give seconds of zero or more, or leave it out"))?;
        Ok(Some(cap))
    }

    fn semantics(&self) -> Result<Semantics, ScenarioError> {
        let key = "semantics";
        let named = |key: &str, name: &str| match name {
            "dynamo" => Ok(Semantics::dynamo()),
            "corrected" => Ok(Semantics::corrected()),
            other => Err(ScenarioError::new(key, format!("is \"{other}\""), "use dynamo or corrected")),
        };
        let Some(document) = &self.semantics else { return Ok(Semantics::dynamo()) };
        if let Some(name) = document.text() {
            return named(key, name);
        }
        let object: SemanticsDocument = typed(document.object(key, Path::new(""))?.map, key)?;
        let base = named("semantics.base", object.base.as_deref().unwrap_or("dynamo"))?;
        Ok(Semantics {
            handoff_after_first_token: object.handoff_after_first_token.unwrap_or(base.handoff_after_first_token),
            fail_infeasible: object.fail_infeasible.unwrap_or(base.fail_infeasible),
            charge_recompute: object.charge_recompute.unwrap_or(base.charge_recompute),
            honest_reuse: object.honest_reuse.unwrap_or(base.honest_reuse),
            planner: PlannerSemantics {
                whole_prompts: object.planner_whole_prompts.unwrap_or(base.planner.whole_prompts),
                own_prefill: object.planner_own_prefill.unwrap_or(base.planner.own_prefill),
                positive_intercept: object.planner_positive_intercept.unwrap_or(base.planner.positive_intercept),
                keep_hit_rate: object.planner_keep_hit_rate.unwrap_or(base.planner.keep_hit_rate),
                count_starting: object.planner_count_starting.unwrap_or(base.planner.count_starting),
                partial_reports: object.planner_partial_reports.unwrap_or(base.planner.partial_reports),
            },
        })
    }

    fn sla(&self) -> Result<Sla, ScenarioError> {
        let bound = |key: &str, value: Option<f64>| match value {
            Some(ms) if !ms.is_finite() || ms < 0.0 => {
                Err(ScenarioError::new(key, format!("is {ms}"), "give milliseconds of zero or more"))
            }
            value => Ok(value),
        };
        Ok(Sla {
            ttft_ms: bound("sla-ttft-ms", self.sla_ttft_ms)?,
            itl_ms: bound("sla-itl-ms", self.sla_itl_ms)?,
            e2e_ms: bound("sla-e2e-ms", self.sla_e2e_ms)?,
        })
    }

    fn scaling_script(&self, base: &Path, topology: &Topology) -> Result<Option<ScalingScript>, ScenarioError> {
        let Some(document) = &self.scaling else { return Ok(None) };
        let loaded = document.object("scaling", base)?;
        let script = typed(loaded.map.clone(), "scaling").and_then(|document| script(document, topology));
        script.map(Some).map_err(|e| loaded.blame(e))
    }

    /// Fills in where the value behind an error was given: by a flag if `flags` sets it, else in `file`.
    pub fn locate(error: ScenarioError, flags: &Self, file: Option<&Path>) -> ScenarioError {
        match file {
            Some(path) if !flags.sets(error.top_key()) => error.at(Place::File(path.to_path_buf())),
            _ => error.at(Place::CommandLine),
        }
    }
}

fn script(document: ScalingDocument, topology: &Topology) -> Result<ScalingScript, ScenarioError> {
    let time = |key: String, ms: f64| {
        SimTime::from_ms(ms).map_err(|e| ScenarioError::new(key, e.to_string(), "give milliseconds of zero or more"))
    };
    let first_tick = time("scaling.first_tick_ms".to_owned(), document.first_tick_ms.unwrap_or(0.0))?;
    let Some(interval_ms) = document.interval_ms else {
        return Err(ScenarioError::new("scaling.interval_ms", "is missing", "give the milliseconds between ticks"));
    };
    let interval = SimDuration::from_ms(interval_ms).ok().filter(|span| !span.is_zero()).ok_or_else(|| {
        ScenarioError::new("scaling.interval_ms", format!("is {interval_ms}"), "give milliseconds above zero")
    })?;
    let mut steps: Vec<ScalingStep> = Vec::new();
    for (index, step) in document.steps.unwrap_or_default().into_iter().enumerate() {
        let key = |name: &str| format!("scaling.steps[{index}].{name}");
        let from = time(key("from_ms"), step.from_ms)?;
        if steps.last().is_some_and(|previous| previous.from >= from) {
            return Err(ScenarioError::new(
                key("from_ms"),
                "is not later than the step before",
                "sort the steps by time",
            ));
        }
        for (name, target) in [("target_prefill", step.target_prefill), ("target_decode", step.target_decode)] {
            if target == Some(0) {
                return Err(ScenarioError::new(key(name), "is 0", "give at least 1, or leave it out"));
            }
        }
        if step.target_prefill.is_some() && matches!(topology, Topology::Aggregated { .. }) {
            let cause = "is given, but there is no prefill pool";
            return Err(ScenarioError::new(key("target_prefill"), cause, "use `target_decode` for these workers"));
        }
        steps.push(ScalingStep { from, prefill: step.target_prefill, decode: step.target_decode });
    }
    if steps.is_empty() {
        return Err(ScenarioError::new("scaling.steps", "is missing or empty", "give at least one step"));
    }
    Ok(ScalingScript { first_tick, interval, steps })
}

/// A count that may be left out and must not be zero.
pub(super) fn at_least_one(key: &str, count: Option<u32>) -> Result<u32, ScenarioError> {
    match count {
        Some(0) => Err(ScenarioError::new(key, "is 0", "give at least 1")),
        count => Ok(count.unwrap_or(1)),
    }
}

/// A count that belongs to the other kind of run: 1 says nothing, anything else is a mistake.
fn only_one(key: &str, count: Option<u32>, mode: &str, cure: &str) -> Result<(), ScenarioError> {
    match count {
        None | Some(1) => Ok(()),
        Some(count) => Err(ScenarioError::new(key, format!("is {count}, but {mode}"), cure)),
    }
}
