//! The keys of a scenario: every long flag is a key of the same name.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::values::{Document, finite, one_or_many};

const TRACE: &str = "Traffic from a trace";
const SYNTHETIC: &str = "Synthetic traffic";
const TIMING: &str = "Arrivals";
const WORKERS: &str = "Workers";
const FORWARD: &str = "Timing of forward passes";
const ROUTER: &str = "Router";
const SLA: &str = "Service-level bounds";
const COST: &str = "Cost";
const RUN: &str = "The run";
const PLANNER: &str = "Planner";
const OUTPUT: &str = "Output";
const AIC: &str = "Timing model of the router's prefill estimate";

/// Everything that determines a result, as a user writes it. Every key may be left out; `null` means unset.
///
/// JSON-valued keys take an object, or a string with the path of a file that holds one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Scenario {
    /// Version of this format; 1
    #[arg(skip)]
    pub version: Option<u32>,

    /// Trace to replay: a file; several files, a folder or a pattern where the format has several files
    #[arg(value_name = "TRACE")]
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(schema_with = "schema::trace")]
    pub trace: Vec<String>,
    /// Format of the trace: mooncake, mooncake-delta, agentic_mooncake, applied_compute_agentic, dynamo, azure, burstgpt,
    /// csv, servegen or kv_cache_tester [default: found out from the content]
    #[arg(long, value_name = "FORMAT", help_heading = TRACE)]
    pub trace_format: Option<String>,
    /// Tokens per hash id of the trace [default: what the file says, else 512]
    #[arg(long, value_name = "TOKENS", help_heading = TRACE)]
    pub trace_block_size: Option<u32>,
    /// Share of the first prompt that a prefix group has in common, 0 to 1; applied_compute_agentic only [default: 0]
    #[arg(long, value_name = "RATIO", help_heading = TRACE, value_parser = finite, allow_negative_numbers = true)]
    pub trace_shared_prefix_ratio: Option<f64>,
    /// Number of prefix groups; applied_compute_agentic only [default: 0]
    #[arg(long, value_name = "N", help_heading = TRACE)]
    pub trace_num_prefix_groups: Option<u32>,
    /// Columns of a CSV trace, by name or number from 1: arrival=..,input=..,output=..,session=..,delay=.. [default: usual
    /// names]
    #[arg(long, value_name = "COLUMNS", help_heading = TRACE)]
    pub csv_columns: Option<String>,
    /// Unit of plain numbers in the time columns of a CSV trace: s, ms, us or ns [default: s]
    #[arg(long, value_name = "UNIT", help_heading = TRACE)]
    pub csv_time_unit: Option<String>,
    /// Only what begins in this part of the trace, seconds since its first arrival: START..END, either side may be left out
    #[arg(long, value_name = "START..END", help_heading = TRACE)]
    pub trace_window: Option<String>,

    /// Prompt tokens of every request
    #[arg(long, value_name = "TOKENS", help_heading = SYNTHETIC)]
    pub input_tokens: Option<u32>,
    /// Output tokens of every request
    #[arg(long, value_name = "TOKENS", help_heading = SYNTHETIC)]
    pub output_tokens: Option<u32>,
    /// Requests, or sessions when turns-per-session exceeds 1
    #[arg(long, value_name = "N", help_heading = SYNTHETIC)]
    pub request_count: Option<u32>,
    /// Requests per second, with exponential gaps; also for traces without arrival times, and the rate of ServeGen clients
    #[arg(long, value_name = "RPS", help_heading = SYNTHETIC, value_parser = finite, allow_negative_numbers = true)]
    pub request_rate: Option<f64>,
    /// Milliseconds between arrivals; also for traces without arrival times
    #[arg(long, value_name = "MS", help_heading = SYNTHETIC, value_parser = finite, allow_negative_numbers = true)]
    pub arrival_interval_ms: Option<f64>,
    /// Seed of the arrival process [default: 42]
    #[arg(long, value_name = "SEED", help_heading = SYNTHETIC)]
    pub arrival_seed: Option<u64>,
    /// Turns of every session [default: 1]
    #[arg(long, value_name = "N", help_heading = SYNTHETIC)]
    pub turns_per_session: Option<u32>,
    /// Share of a prompt that belongs to the session's prefix group, 0 to 1 [default: 0]
    #[arg(long, value_name = "RATIO", help_heading = SYNTHETIC, value_parser = finite, allow_negative_numbers = true)]
    pub shared_prefix_ratio: Option<f64>,
    /// Number of prefix groups [default: 0]
    #[arg(long, value_name = "N", help_heading = SYNTHETIC)]
    pub num_prefix_groups: Option<u32>,
    /// Think time between the turns of a session, milliseconds [default: 0]
    #[arg(long, value_name = "MS", help_heading = SYNTHETIC, value_parser = finite, allow_negative_numbers = true)]
    pub inter_turn_delay_ms: Option<f64>,
    /// Embedded generator, inline JSON or a path: {"preset":"generate", ...}; presets are agent, generate and toolagent
    #[arg(long, value_name = "JSON", help_heading = SYNTHETIC)]
    #[schemars(schema_with = "schema::workload")]
    pub workload: Option<Document>,

    /// Closed loop: at most this many sessions at a time; recorded arrival times are ignored
    #[arg(long, value_name = "N", help_heading = TIMING)]
    pub replay_concurrency: Option<u32>,
    /// Divides recorded arrival times and think times [default: 1]
    #[arg(long, value_name = "RATIO", help_heading = TIMING, value_parser = finite, allow_negative_numbers = true)]
    pub arrival_speedup_ratio: Option<f64>,

    /// Workers that both prefill and decode [default: 1]
    #[arg(long, value_name = "N", help_heading = WORKERS)]
    pub num_workers: Option<u32>,
    /// Their engine: inline JSON or a path
    #[arg(long, value_name = "JSON", help_heading = WORKERS)]
    #[schemars(schema_with = "schema::engine_args")]
    pub extra_engine_args: Option<Document>,
    /// Prefill workers [default: 1]
    #[arg(long, value_name = "N", help_heading = WORKERS)]
    pub num_prefill_workers: Option<u32>,
    /// Decode workers [default: 1]
    #[arg(long, value_name = "N", help_heading = WORKERS)]
    pub num_decode_workers: Option<u32>,
    /// Engine of the prefill workers; with decode-engine-args, splits prefill from decode
    #[arg(long, value_name = "JSON", help_heading = WORKERS)]
    #[schemars(schema_with = "schema::engine_args")]
    pub prefill_engine_args: Option<Document>,
    /// Engine of the decode workers
    #[arg(long, value_name = "JSON", help_heading = WORKERS)]
    #[schemars(schema_with = "schema::engine_args")]
    pub decode_engine_args: Option<Document>,
    /// Folder (or file) with timing tables of your own; may be given several times
    #[arg(long, value_name = "DIR", help_heading = FORWARD)]
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(schema_with = "schema::trace")]
    pub perf_tables: Vec<String>,
    /// When no timing table fits an engine's model and GPU: error, or roofline for an estimate [default: error]
    #[arg(long, value_name = "WHAT", help_heading = FORWARD)]
    pub on_missing_timing: Option<String>,
    /// Corrections to every engine's timing, as `dynosim perf calibrate` writes them: inline JSON or a path
    #[arg(long, value_name = "JSON", help_heading = FORWARD)]
    #[schemars(schema_with = "schema::correction")]
    pub timing_correction: Option<Document>,

    /// Replica targets over time: {"first_tick_ms":..,"interval_ms":..,"steps":[{"from_ms":..,"target_decode":..}]}
    #[arg(long, value_name = "JSON", help_heading = WORKERS)]
    #[schemars(schema_with = "schema::scaling")]
    pub scaling: Option<Document>,

    /// How requests find a worker: round_robin, kv_router, random, least_loaded, power_of_two or session_affinity
    /// [default: round_robin]
    #[arg(long, value_name = "MODE", help_heading = ROUTER)]
    pub router_mode: Option<String>,
    /// Settings of the KV router: inline JSON or a path
    #[arg(long, value_name = "JSON", help_heading = ROUTER)]
    #[schemars(schema_with = "schema::router_config")]
    pub router_config: Option<Document>,
    /// Policy classes of the KV router's queue, YAML
    #[arg(long, value_name = "PATH", help_heading = ROUTER)]
    pub router_policy_config: Option<String>,
    /// Selects a profile of the policy classes
    #[arg(long, value_name = "NAME", help_heading = ROUTER)]
    pub model_name: Option<String>,
    /// Seed of the router's draws [default: seed]
    #[arg(long, value_name = "SEED", help_heading = ROUTER)]
    pub router_seed: Option<u64>,
    /// Which of equally good workers is taken: random or lowest-id [default: random]
    #[arg(long, value_name = "RULE", help_heading = ROUTER)]
    pub router_ties: Option<String>,
    /// How late the router sees which blocks a worker holds, simulated milliseconds [default: 0]
    #[arg(long, value_name = "MS", help_heading = ROUTER, value_parser = finite, allow_negative_numbers = true)]
    pub router_kv_event_delay_ms: Option<f64>,
    /// How late the router sees that a prefill is over or a request has ended, simulated milliseconds [default: 0]
    #[arg(long, value_name = "MS", help_heading = ROUTER, value_parser = finite, allow_negative_numbers = true)]
    pub router_load_delay_ms: Option<f64>,

    /// Bound on time to first token for goodput, milliseconds
    #[arg(long, value_name = "MS", help_heading = SLA, value_parser = finite, allow_negative_numbers = true)]
    pub sla_ttft_ms: Option<f64>,
    /// Bound on a request's mean inter-token latency for goodput, milliseconds
    #[arg(long, value_name = "MS", help_heading = SLA, value_parser = finite, allow_negative_numbers = true)]
    pub sla_itl_ms: Option<f64>,
    /// Bound on end-to-end latency for goodput, milliseconds
    #[arg(long, value_name = "MS", help_heading = SLA, value_parser = finite, allow_negative_numbers = true)]
    pub sla_e2e_ms: Option<f64>,

    /// Estimate money and energy: auto for the GPUs that the engines name, a GPU, the path of a GPU description, or
    /// {"usd_per_gpu_hour":..,"busy_watts":..,"idle_watts":..}
    #[arg(long, value_name = "NAME|JSON", help_heading = COST)]
    #[schemars(schema_with = "schema::cost")]
    pub cost: Option<Document>,

    /// Whose behaviour counts: dynamo, corrected, or {"base":"dynamo","fail_infeasible":true, ...} [default: dynamo]
    #[arg(long, value_name = "NAME|JSON", help_heading = RUN)]
    #[schemars(schema_with = "schema::semantics")]
    pub semantics: Option<Document>,
    /// Seed of embedded generators, ServeGen clients and the router [default: 42]
    #[arg(long, value_name = "SEED", help_heading = RUN)]
    pub seed: Option<u64>,
    /// Stop before the first event later than this, simulated seconds
    #[arg(long, value_name = "SECONDS", help_heading = RUN, value_parser = finite, allow_negative_numbers = true)]
    pub max_sim_time_seconds: Option<f64>,
    /// offline, the only mode
    #[arg(long, value_name = "MODE", help_heading = RUN)]
    pub replay_mode: Option<String>,

    /// Planner in the loop, configured as Dynamo's: inline JSON, or the path of a JSON or YAML file
    #[arg(long, value_name = "JSON", help_heading = PLANNER)]
    #[schemars(schema_with = "schema::any_object")]
    pub planner_config: Option<Document>,
    /// Points of the planner's bootstrap sweep; no effect without a planner [default: 8]
    #[arg(long, value_name = "N", help_heading = PLANNER)]
    pub benchmark_granularity: Option<u32>,

    /// Where the report goes: a file or a folder [default: dynosim_report_YYYYMMDD_HHMMSS.json]
    #[arg(long, value_name = "PATH", help_heading = OUTPUT)]
    pub report_json: Option<String>,
    /// One row per request, JSON Lines
    #[arg(long, value_name = "PATH", help_heading = OUTPUT)]
    pub report_jsonl: Option<String>,
    /// Every routing decision with what it was based on, JSON Lines
    #[arg(long, value_name = "PATH", help_heading = OUTPUT)]
    pub decisions: Option<String>,
    /// The fleet over time, CSV
    #[arg(long, value_name = "PATH", help_heading = OUTPUT)]
    pub timeseries: Option<String>,
    /// Simulated seconds between two samples of the time series [default: 1]
    #[arg(long, value_name = "SECONDS", help_heading = OUTPUT, value_parser = finite, allow_negative_numbers = true)]
    pub timeseries_interval: Option<f64>,

    /// Backend; not supported yet, like every flag of this group
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_backend: Option<String>,
    /// GPU system
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_system: Option<String>,
    /// Version of the backend
    #[arg(long, value_name = "VERSION", help_heading = AIC)]
    pub aic_backend_version: Option<String>,
    /// Tensor-parallel size
    #[arg(long, value_name = "N", help_heading = AIC)]
    pub aic_tp_size: Option<u32>,
    /// Model
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_model_path: Option<String>,
    /// Tensor-parallel size of the experts
    #[arg(long, value_name = "N", help_heading = AIC)]
    pub aic_moe_tp_size: Option<u32>,
    /// Expert-parallel size
    #[arg(long, value_name = "N", help_heading = AIC)]
    pub aic_moe_ep_size: Option<u32>,
    /// Data-parallel size of attention
    #[arg(long, value_name = "N", help_heading = AIC)]
    pub aic_attention_dp_size: Option<u32>,
    /// Number format of matrix products
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_gemm_dtype: Option<String>,
    /// Number format of experts
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_moe_dtype: Option<String>,
    /// Number format of attention
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_fmha_dtype: Option<String>,
    /// Number format of the KV cache
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_kv_cache_dtype: Option<String>,
    /// Number format of communication
    #[arg(long, value_name = "NAME", help_heading = AIC)]
    pub aic_comm_dtype: Option<String>,
    /// Draft tokens of speculative decoding
    #[arg(long, value_name = "N", help_heading = AIC)]
    pub aic_nextn: Option<u32>,
    /// Acceptance probability of each draft position
    #[arg(long, value_name = "LIST", help_heading = AIC)]
    pub aic_nextn_accept_rates: Option<String>,
}
