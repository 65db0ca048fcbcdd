//! The planner within a run: gathers what it is shown at a tick, and carries out what it decides.

use std::collections::BTreeMap;

use bevy::prelude::*;

use crate::perf::{PassTimer, TimingModel};
use crate::scenario::{EngineConfig, PlannerConfig, PlannerSemantics, Role, Target, Topology};
use crate::sim::engine::PassRecord;
use crate::sim::metrics::{FinalStatus, WorkerState};
use crate::sim::request::Requests;
use crate::sim::router::{self, Decisions};
use crate::sim::scaling::Replicas;
use crate::sim::worker::{Fleet, Pool};
use crate::time::{SimDuration, SimTime};

use super::{
    Bootstrap, Capabilities, Decision, EngineId, Engines, ForwardPassMetrics, FpmCache, FpmObservations, Planner,
    PoolCounts, Tick, TickInput, TrafficObservation, TrafficWindow, WorkerCounts, benchmark_points,
};

/// An engine that publishes nothing for so long reports that it is idle.
const IDLE: SimDuration = SimDuration::from_nanos(1_000_000_000);

/// What a planner did in a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlannerLog {
    /// Ticks.
    pub ticks: u64,
    /// What happened at those at which anything was due.
    pub decisions: Vec<Decision>,
    /// What was to be seen at each of them.
    pub sights: Vec<Sight>,
    /// Traffic between one tick and the next, by tick.
    pub windows: Vec<TrafficWindow>,
}

/// What was to be seen at a tick besides what the planner was shown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sight {
    /// Traffic since the noted tick before.
    pub window: TrafficWindow,
    /// The traffic that a loop took last.
    pub taken: Option<TrafficWindow>,
    /// GPU-hours by the reference's measure: ready workers at each tick, times the GPUs the configuration names, for the
    /// time since the tick before; nothing for the time before the first tick.
    pub gpu_hours: f64,
}

/// Counters as they stood at the last tick.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    at: SimTime,
    arrived: u32,
    records: usize,
    emitted: u64,
    forwards: u64,
}

/// The planner of a run.
#[derive(Resource, Debug)]
pub struct PlannerRun {
    planner: Planner,
    next: Tick,
    seen: Seen,
    /// Traffic that the planner has not taken yet.
    pending: Option<TrafficWindow>,
    prefill: FpmCache,
    decode: FpmCache,
    sight: Sight,
    /// When each engine reported last, by pool.
    reported: BTreeMap<(usize, EngineId), SimTime>,
    /// What happened so far.
    pub log: PlannerLog,
}

/// What the planner knows of an engine before the run.
fn capabilities(engine: &EngineConfig) -> Capabilities {
    let ranks = u64::from(engine.dp_size);
    let nextn = engine.speculation.as_ref().map(|speculation| speculation.accept_rates.len() as u32);
    Capabilities {
        gpus: i64::from(engine.tp_size) * i64::from(engine.dp_size),
        max_num_batched_tokens: engine.max_num_batched_tokens.map(u64::from),
        max_num_seqs: engine.max_num_seqs.map(u64::from),
        context_length: engine.max_model_len.map(u64::from),
        max_kv_tokens: Some(u64::from(engine.num_gpu_blocks) * u64::from(engine.block_size) * ranks),
        speculative_nextn: nextn,
    }
}

impl Engines {
    /// The engines of these pools, the entry pool first.
    pub fn of(pools: &[&EngineConfig]) -> Self {
        match pools {
            [prefill, decode] => Self { prefill: capabilities(prefill), decode: capabilities(decode) },
            [only, ..] => Self { prefill: Capabilities::default(), decode: capabilities(only) },
            [] => Self::default(),
        }
    }
}

fn at(tick: &Tick) -> Option<SimTime> {
    SimTime::from_ms(tick.at_s * 1000.0).ok()
}

impl PlannerRun {
    /// A planner that was told everything it can know before the run.
    pub fn new(planner: Planner) -> Self {
        Self {
            next: planner.next_tick(),
            planner,
            seen: Seen::default(),
            pending: None,
            prefill: FpmCache::default(),
            decode: FpmCache::default(),
            sight: Sight::default(),
            reported: BTreeMap::new(),
            log: PlannerLog::default(),
        }
    }

    /// When the next tick is due, if the clock reaches so far.
    pub fn next_tick(&self) -> Option<SimTime> {
        at(&self.next)
    }

    /// The planner itself.
    pub fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// Runs the tick that is due; returns when the next one is.
    pub fn tick(&mut self, replicas: &mut Replicas, requests: &Requests, decisions: &mut Decisions) -> Option<SimTime> {
        let now = replicas.clock.now;
        let tick = self.next;
        let since = self.seen.at;
        let window = self.traffic(replicas, requests, now);
        self.pending = Some(self.pending.map_or(window, |pending| pending.merge(&window)));
        for index in 0..replicas.fleet.pools.len() {
            self.observe_pool(replicas, index, since, now);
        }
        let traffic = if tick.need_traffic { self.pending.take() } else { None };
        self.sight.window = self.sight.window.merge(&window);
        self.sight.taken = traffic.filter(|window| window.duration_s > 0.0).or(self.sight.taken);
        let keep_hit_rate = self.planner.quirks.keep_hit_rate;
        let traffic = traffic.filter(|window| window.duration_s > 0.0).map(|window| TrafficObservation {
            // Without admissions there is none to go by.
            kv_hit_rate: Some(window.avg_kv_hit_rate).filter(|_| !keep_hit_rate || window.hit_rate_count > 0.0),
            ..window.observation()
        });
        let has_any = !(self.prefill.records().is_empty() && self.decode.records().is_empty());
        let fpm = FpmObservations { prefill: &self.prefill, decode: &self.decode };
        let workers = worker_counts(&replicas.fleet);
        let input = TickInput { workers, fpm: Some(fpm).filter(|_| tick.need_fpm && has_any), traffic };
        let decision = self.planner.tick(&tick, &input);
        if self.log.ticks > 0 {
            self.sight.gpu_hours += self.ready_gpus(&workers) * window.duration_s / 3_600.0;
        }
        self.log.ticks += 1;
        self.log.windows.push(window);
        self.next = self.planner.next_tick();
        if let Some(targets) = decision.scale_to {
            let count = |target: i64| u32::try_from(target.max(0)).unwrap_or(u32::MAX);
            if let (Some(prefill), Some(_)) = (targets.prefill, workers.prefill) {
                replicas.set(Role::Prefill, count(prefill));
            }
            if let Some(target) = targets.decode {
                let role = if workers.prefill.is_some() { Role::Decode } else { Role::Aggregated };
                replicas.set(role, count(target));
            }
        }
        if decision.is_worth_noting() {
            if decisions.are_wanted() {
                decisions.take(&router::Decision::Plan(&decision));
            }
            self.log.decisions.push(decision);
            self.log.sights.push(self.sight);
            self.sight.window = TrafficWindow::default();
        }
        at(&self.next)
    }

    /// GPUs of ready workers, as far as the configuration names any.
    fn ready_gpus(&self, workers: &WorkerCounts) -> f64 {
        let config = self.planner.config();
        let prefill = workers.prefill.unwrap_or_default().ready * config.prefill_gpus;
        (prefill + workers.decode.ready * config.decode_gpus) as f64
    }

    /// Traffic since the last tick.
    fn traffic(&mut self, replicas: &mut Replicas, requests: &Requests, now: SimTime) -> TrafficWindow {
        let mut window = TrafficWindow {
            duration_s: (now - self.seen.at).as_secs(),
            num_req: f64::from(requests.arrived - self.seen.arrived),
            ..TrafficWindow::default()
        };
        let ended = requests.records.get(self.seen.records..).unwrap_or_default();
        let (mut isl, mut osl, mut ttft, mut itl) = (0.0, 0.0, 0.0, 0.0);
        for record in ended.iter().filter(|record| record.status == FinalStatus::Completed) {
            window.shape_count += 1.0;
            isl += f64::from(record.input_tokens);
            osl += f64::from(record.output_tokens);
            let Some((first, last)) = record.first_token.zip(record.last_token) else { continue };
            if first > record.arrival {
                window.ttft_count += 1.0;
                ttft += (first - record.arrival).as_ms();
            }
            if record.output_tokens > 1 {
                window.itl_count += 1.0;
                itl += (last - first).as_ms() / f64::from(record.output_tokens - 1);
            }
        }
        let mean = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
        window.avg_isl = mean(isl, window.shape_count);
        window.avg_osl = mean(osl, window.shape_count);
        window.avg_ttft_ms = mean(ttft, window.ttft_count);
        window.avg_itl_ms = mean(itl, window.itl_count);
        let (hits, admissions) = replicas.routers.take_hit_rates();
        window.avg_kv_hit_rate = mean(hits, admissions as f64);
        window.hit_rate_count = admissions as f64;
        let (emitted, forwards) = output_so_far(replicas, now);
        let (tokens, passes) = (emitted - self.seen.emitted, forwards - self.seen.forwards);
        window.forward_count = passes as f64;
        window.avg_accept_length = (passes > 0).then(|| tokens as f64 / passes as f64);
        self.seen = Seen { at: now, arrived: requests.arrived, records: requests.records.len(), emitted, forwards };
        window
    }

    /// Takes over what the engines of a pool reported after `since`: the last pass of each that is over, or that it was
    /// idle.
    fn observe_pool(&mut self, replicas: &mut Replicas, index: usize, since: SimTime, now: SimTime) {
        let Some(pool) = replicas.fleet.pools.get(index) else { return };
        let active = || pool.members.iter().filter(|member| member.state == WorkerState::Active);
        let mut records = Vec::new();
        for member in active() {
            let Ok((_, mut engine)) = replicas.engines.get_mut(member.entity) else { continue };
            let active_since = engine.active_since;
            for (rank, scheduler) in (0..).zip(&mut engine.ranks) {
                let id = EngineId { worker: member.id, rank };
                let reported = self.reported.entry((index, id)).or_insert(active_since);
                let pass = scheduler.watch().seen(now).filter(|pass| pass.end > since);
                let mut record = pass.map(|pass| metrics(&pass));
                *reported = pass.map_or(*reported, |pass| pass.end.max(*reported));
                let silent = now.since(*reported);
                if silent >= IDLE {
                    record = Some(ForwardPassMetrics::default());
                    *reported += SimDuration::from_nanos(silent.as_nanos() / IDLE.as_nanos() * IDLE.as_nanos());
                }
                records.extend(record.map(|record| (id, record)));
            }
        }
        let known: Vec<u32> = active().map(|member| member.id).collect();
        let cache = if pool.role == Role::Prefill { &mut self.prefill } else { &mut self.decode };
        cache.update(records, |worker| known.binary_search(&worker).is_ok());
    }
}

fn metrics(pass: &PassRecord) -> ForwardPassMetrics {
    ForwardPassMetrics {
        wall_s: pass.duration.as_secs(),
        prefills: pass.prefills,
        prefill_tokens: pass.prefill_tokens,
        prefix_tokens: pass.prefix_tokens,
        decodes: pass.decodes,
        decode_kv_tokens: pass.decode_tokens,
        queued_prefills: pass.queued.prefills,
        queued_prefill_tokens: pass.queued.prefill_tokens,
        queued_decodes: pass.queued.decodes,
        queued_decode_kv_tokens: pass.queued.decode_tokens,
    }
}

fn pool_counts(pool: &Pool) -> PoolCounts {
    let ready = i64::from(pool.count(WorkerState::Active));
    let (starting, draining) = (pool.count(WorkerState::Starting), pool.count(WorkerState::Draining));
    PoolCounts { ready, expected: ready + i64::from(starting), draining: i64::from(draining) }
}

fn worker_counts(fleet: &Fleet) -> WorkerCounts {
    match fleet.pools.as_slice() {
        [prefill, decode] => WorkerCounts { prefill: Some(pool_counts(prefill)), decode: pool_counts(decode) },
        [only, ..] => WorkerCounts { prefill: None, decode: pool_counts(only) },
        [] => WorkerCounts::default(),
    }
}

/// Tokens emitted to clients in passes that are over, and how often a request emitted any in a pass.
fn output_so_far(replicas: &mut Replicas, now: SimTime) -> (u64, u64) {
    let mut sums = (0, 0);
    let mut add = |pass: Option<PassRecord>| {
        sums.0 += pass.map_or(0, |pass| pass.emitted);
        sums.1 += pass.map_or(0, |pass| pass.forwards);
    };
    let Fleet { pools, retired } = &mut *replicas.fleet;
    for member in pools.last().into_iter().flat_map(|pool| &pool.members) {
        if let Ok((_, mut engine)) = replicas.engines.get_mut(member.entity) {
            engine.ranks.iter_mut().for_each(|rank| add(rank.watch().seen(now)));
        }
    }
    for rank in retired.iter_mut().filter(|rank| rank.emits_to_clients()) {
        add(rank.watch().seen(now));
    }
    sums
}

/// A planner for this fleet. With an SLA and an analytical timing model it learns, as in the reference, passes that the
/// model calculates; profiles and the polynomial teach it nothing.
pub fn prepare(config: &PlannerConfig, topology: &Topology, quirks: PlannerSemantics) -> Planner {
    let pools: Vec<&EngineConfig> = match topology {
        Topology::Aggregated { engine, .. } => vec![engine],
        Topology::Disaggregated { prefill, decode, .. } => vec![prefill, decode],
    };
    let mut planner = Planner::new(config.clone(), Engines::of(&pools), quirks);
    if config.target == Target::Sla
        && let Some((prefill, decode)) = bootstrap_points(&pools, config.benchmark_granularity)
    {
        planner.bootstrap(&prefill, &decode);
    }
    let duration_s = config.throughput_interval_s;
    let warmup = config.predictor.warmup.iter().map(|interval| TrafficObservation {
        duration_s,
        num_req: interval.requests as f64,
        isl: interval.mean_input,
        osl: interval.mean_output,
        ..TrafficObservation::default()
    });
    planner.warm(&warmup.collect::<Vec<_>>());
    planner
}

/// Passes that the analytical timing model of the fleet calculates, if it has one: that of the decode or only pool, or else
/// of the prefill pool.
fn bootstrap_points(
    pools: &[&EngineConfig],
    granularity: u64,
) -> Option<(Vec<ForwardPassMetrics>, Vec<ForwardPassMetrics>)> {
    let is_analytical =
        |engine: &&&EngineConfig| matches!(engine.timing.model, TimingModel::Table(_) | TimingModel::Roofline(_));
    let engine = pools.iter().rev().find(is_analytical)?;
    let bounds = Bootstrap {
        batched_tokens: engine.max_num_batched_tokens.map_or(8_192, u64::from),
        seqs: engine.max_num_seqs.map_or(256, u64::from),
        kv_tokens: u64::from(engine.num_gpu_blocks) * u64::from(engine.block_size),
        granularity,
    };
    let timer = PassTimer::new(&engine.timing, engine.timer_setup());
    let (prefill, decode) = benchmark_points(&timer, bounds, bounds);
    // Two pools are taught both or neither.
    (pools.len() == 1 || !(prefill.is_empty() || decode.is_empty())).then_some((prefill, decode))
}
