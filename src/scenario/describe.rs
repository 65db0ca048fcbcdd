//! Run to document: every default spelled out.

use serde_json::{Map, Value, json};

use super::document::Scenario;
use super::engine::{engine_type, word};
use super::error::ScenarioError;
use super::load::VERSION;
use super::router;
use super::run::{
    EngineConfig, OnMissing, PreemptionMode, Preset, Run, ScalingScript, SchedulerKind, Semantics, SglangPolicy,
    SglangSettings, SyntheticArrivals, Topology, TrafficSource, TransferContention, TransferTiming,
};
use super::trace::TraceSource;
use super::values::Document;

impl Scenario {
    /// The document that resolves to `run`, every value written out. It names no output files: they are no part of a run.
    ///
    /// # Errors
    /// When a path of the run is not valid Unicode, which JSON cannot hold.
    pub fn describe(run: &Run) -> Result<Self, ScenarioError> {
        let mut doc = Self {
            version: Some(VERSION),
            replay_concurrency: run.traffic.concurrency,
            arrival_speedup_ratio: Some(run.traffic.arrival_speedup),
            replay_mode: Some("offline".to_owned()),
            sla_ttft_ms: run.sla.ttft_ms,
            sla_itl_ms: run.sla.itl_ms,
            sla_e2e_ms: run.sla.e2e_ms,
            semantics: Some(document(semantics(&run.semantics))),
            seed: Some(run.seed),
            cost: run.cost.as_ref().map(|cost| cost.given.clone()),
            max_sim_time_seconds: run.max_sim_time.map(|cap| cap.as_secs()),
            timing_correction: run.timing.correction.clone().map(Document::from),
            on_missing_timing: match run.timing.on_missing {
                OnMissing::Error => None,
                OnMissing::Roofline => Some("roofline".to_owned()),
            },
            scaling: run.scaling.as_ref().map(|script| document(scaling(script))),
            planner_config: run.planner.as_ref().map(|planner| document(Value::Object(planner.given.clone()))),
            benchmark_granularity: run.planner.as_ref().map(|planner| planner.benchmark_granularity as u32),
            ..Self::default()
        };
        match &run.topology {
            Topology::Aggregated { workers, engine: config } => {
                doc.num_workers = Some(*workers);
                doc.extra_engine_args = Some(document(engine(config)));
            }
            Topology::Disaggregated { prefill_workers, decode_workers, prefill, decode } => {
                doc.num_prefill_workers = Some(*prefill_workers);
                doc.num_decode_workers = Some(*decode_workers);
                doc.prefill_engine_args = Some(document(engine(prefill)));
                doc.decode_engine_args = Some(document(engine(decode)));
            }
        }
        for folder in &run.timing.tables {
            let cause = || format!("{} is not valid Unicode", folder.display());
            let text =
                folder.to_str().ok_or_else(|| ScenarioError::new("perf-tables", cause(), "rename the folder"))?;
            doc.perf_tables.push(text.to_owned());
        }
        router::describe(&run.router, &mut doc)?;
        doc.describe_source(&run.traffic.source)?;
        Ok(doc)
    }

    fn describe_source(&mut self, source: &TrafficSource) -> Result<(), ScenarioError> {
        match source {
            TrafficSource::Trace(trace) => self.describe_trace(trace)?,
            TrafficSource::Synthetic(load) => {
                self.input_tokens = Some(load.input_tokens);
                self.output_tokens = Some(load.output_tokens);
                self.request_count = Some(load.request_count);
                self.describe_arrivals(load.arrivals, load.arrival_seed);
                self.turns_per_session = Some(load.turns_per_session);
                self.shared_prefix_ratio = Some(load.shared_prefix_ratio);
                self.num_prefix_groups = Some(load.num_prefix_groups);
                self.inter_turn_delay_ms = Some(load.inter_turn_delay_ms);
            }
            TrafficSource::Preset(Preset::Agent(preset)) => {
                let mut map = Map::from_iter([("preset".to_owned(), json!("agent"))]);
                map.extend(as_map(json!(preset)));
                self.workload = Some(map.into());
            }
            TrafficSource::Preset(Preset::Generate(spec)) => {
                let mut map = Map::from_iter([("preset".to_owned(), json!("generate"))]);
                map.extend(spec.to_map());
                self.workload = Some(map.into());
            }
        }
        Ok(())
    }

    fn describe_arrivals(&mut self, arrivals: Option<SyntheticArrivals>, seed: u64) {
        match arrivals {
            Some(SyntheticArrivals::Poisson { rate_per_s }) => self.request_rate = Some(rate_per_s),
            Some(SyntheticArrivals::Interval { gap_ms }) => self.arrival_interval_ms = Some(gap_ms),
            None => {}
        }
        self.arrival_seed = Some(seed);
    }

    fn describe_trace(&mut self, trace: &TraceSource) -> Result<(), ScenarioError> {
        for path in &trace.paths {
            let Some(text) = path.to_str() else {
                let cause = format!("{} is not valid Unicode", path.display());
                return Err(ScenarioError::new("trace", cause, "rename the file"));
            };
            self.trace.push(text.to_owned());
        }
        let reading = &trace.reading;
        self.trace_format = reading.format.map(|format| format.name().to_owned());
        self.trace_block_size = reading.block_size;
        self.trace_shared_prefix_ratio = Some(reading.shared_prefix_ratio);
        self.trace_num_prefix_groups = Some(reading.num_prefix_groups);
        self.csv_columns = (!reading.csv_columns.is_empty()).then(|| reading.csv_columns.to_string());
        self.csv_time_unit = Some(reading.csv_time_unit.name().to_owned());
        self.trace_window = reading.window.map(|window| window.to_string());
        if reading.arrivals.is_some() {
            self.describe_arrivals(reading.arrivals, reading.arrival_seed);
        }
        Ok(())
    }
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn document(value: Value) -> Document {
    as_map(value).into()
}

fn semantics(semantics: &Semantics) -> Value {
    let Semantics { handoff_after_first_token, fail_infeasible, charge_recompute, honest_reuse, planner } = *semantics;
    let mut value = json!({
        "base": "dynamo",
        "handoff_after_first_token": handoff_after_first_token,
        "fail_infeasible": fail_infeasible,
        "charge_recompute": charge_recompute,
        "honest_reuse": honest_reuse,
    });
    for (name, on) in planner.named() {
        value[name] = json!(on);
    }
    value
}

fn scaling(script: &ScalingScript) -> Value {
    let steps: Vec<Value> = script
        .steps
        .iter()
        .map(|step| {
            let mut map = Map::from_iter([("from_ms".to_owned(), json!(step.from.as_ms()))]);
            map.extend(step.prefill.map(|target| ("target_prefill".to_owned(), json!(target))));
            map.extend(step.decode.map(|target| ("target_decode".to_owned(), json!(target))));
            Value::Object(map)
        })
        .collect();
    json!({
        "first_tick_ms": script.first_tick.as_ms(),
        "interval_ms": script.interval.as_ms(),
        "steps": steps,
    })
}

fn sglang(settings: &SglangSettings) -> Value {
    json!({
        "schedule_policy": match settings.policy {
            SglangPolicy::Fifo => "fifo",
            SglangPolicy::LongestPrefix => "lpm",
        },
        "max_prefill_tokens": settings.max_prefill_tokens,
        "chunked_prefill_size": settings.chunked_prefill_size,
        "clip_max_new_tokens": settings.clip_max_new_tokens,
        "schedule_conservativeness": settings.schedule_conservativeness,
    })
}

fn engine(config: &EngineConfig) -> Value {
    let mut map = as_map(json!({
        "engine_type": engine_type(&config.scheduler),
        "worker_type": word(config.role),
        "num_gpu_blocks": config.num_gpu_blocks,
        "block_size": config.block_size,
        "max_num_seqs": config.max_num_seqs,
        "speedup_ratio": config.speedup_ratio,
        "decode_speedup_ratio": config.decode_speedup_ratio,
        "dp_size": config.dp_size,
        "startup_time": config.startup_time.as_secs(),
        "kv_bytes_per_token": config.kv_bytes_per_token,
        "kv_transfer_bandwidth": config.kv_transfer_bandwidth,
        "kv_transfer_timing_mode": match config.kv_transfer_timing {
            TransferTiming::FullPrompt => "full_prompt",
            TransferTiming::DestinationMissing => "destination_missing",
        },
        "aic_tp_size": config.tp_size,
        "max_num_batched_tokens": config.max_num_batched_tokens,
    }));
    let own = match config.scheduler {
        SchedulerKind::Vllm => json!({
            "max_model_len": config.max_model_len,
            "preemption_mode": match config.preemption_mode {
                PreemptionMode::Lifo => "lifo",
                PreemptionMode::Fifo => "fifo",
            },
        }),
        SchedulerKind::TrtLlm => json!({"trtllm": {"capacity_scheduler_policy": "guaranteed_no_evict"}}),
        SchedulerKind::Sglang(settings) => json!({"sglang": sglang(&settings)}),
    };
    map.extend(as_map(own));
    if !matches!(config.scheduler, SchedulerKind::Sglang(_)) {
        map.extend(as_map(json!({
            "enable_prefix_caching": config.enable_prefix_caching,
            "enable_chunked_prefill": config.enable_chunked_prefill,
        })));
    }
    if let Some(tiers) = &config.tiers {
        let speed = &tiers.bandwidth;
        map.extend(as_map(json!({
            "num_g2_blocks": tiers.host_blocks,
            "num_g3_blocks": tiers.disk_blocks,
            "enable_g4_storage": tiers.object_store,
            "g1_backend": "kvbm",
            "offload_batch_size": tiers.batch,
            "bandwidth_g1_to_g2_gbps": speed.g1_to_g2,
            "bandwidth_g2_to_g1_gbps": speed.g2_to_g1,
            "bandwidth_g2_to_g3_gbps": speed.g2_to_g3,
            "bandwidth_g3_to_g2_gbps": speed.g3_to_g2,
            "bandwidth_g2_to_g4_gbps": speed.g2_to_g4,
            "bandwidth_g4_to_g2_gbps": speed.g4_to_g2,
        })));
    }
    if config.kv_transfer_contention == TransferContention::Shared {
        map.insert("kv_transfer_contention".to_owned(), json!("shared"));
    }
    if let Some(policy) = config.router_queue_policy {
        map.insert("router_queue_policy".to_owned(), json!(policy.word()));
    }
    if let Some(speculation) = &config.speculation {
        let rates: Vec<String> = speculation.accept_rates.iter().map(f64::to_string).collect();
        map.insert("aic_nextn".to_owned(), json!(rates.len()));
        map.insert("aic_nextn_accept_rates".to_owned(), json!(rates.join(",")));
        map.insert("aic_mtp_seed".to_owned(), json!(speculation.seed));
    }
    if config.timing.capacity.is_some() {
        // Estimated again from the same arguments, with the story that belongs to it.
        map.remove("num_gpu_blocks");
    }
    map.extend(config.timing_args.clone());
    if config.timing.capacity.is_some() {
        // Estimated again from the same arguments, together with the account of memory that belongs to it.
        map.remove("num_gpu_blocks");
    }
    map.extend(config.timing_args.clone());
    Value::Object(map)
}
