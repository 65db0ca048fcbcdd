//! From a simulation that stands at an instant to the frame that is drawn of it.

use std::collections::HashMap;

use crate::report::token_span;
use crate::scenario::{Role, Run, Sla, Topology};
use crate::sim::Simulation;
use crate::sim::closeup::{CloseUp, PassCloseUp, PoolCloseUp, WorkerCloseUp};
use crate::sim::engine::{Blocks, Doing, Member, Waiter};
use crate::sim::kv::PromptIndex;
use crate::sim::metrics::RequestRecord;
use crate::time::{SimDuration, SimTime};

use super::frame::{
    Arrival, FrameModel, Headline, KvFrame, KvGroup, KvUse, Note, PassFrame, PoolFrame, RECENT_ARRIVALS, RequestDot,
    RouterFrame, Tile, TilePhase, Traffic, TransferFrame, WorkerFrame, WorkerName,
};
use super::notes;
use super::tally::{Tally, by_arrival};

/// Most groups of KV blocks that a worker is shown with; beyond that, neighbours are shown together.
pub const MAX_KV_GROUPS: usize = 1_024;
/// The span over which the rate of arrivals is taken.
const RATE_SPAN: SimDuration = SimDuration::from_nanos(1_000_000_000);

/// Bounds that hold for a request that arrived at an instant.
pub(super) fn sla_at(run: &Run, _arrival: SimTime) -> Sla {
    run.sla
}

/// Reads frames of one run off its simulations.
#[derive(Debug, Clone, Default)]
pub(super) struct Extractor {
    /// By name of a prompt block, the name that its prompt begins with.
    begins: HashMap<u32, u32>,
}

impl Extractor {
    /// The frame of `simulation` at `at`, up to which it has been run.
    pub(super) fn frame(&mut self, run: &Run, simulation: &Simulation, tally: &mut Tally, at: SimTime) -> FrameModel {
        tally.update(simulation.ended(), |record| sla_at(run, record.arrival));
        let view = simulation.close_up(at);
        let pools = view.pools.iter().map(|pool| self.pool(run, simulation, pool, at)).collect();
        let requests =
            |list: &[(u32, SimTime)]| list.iter().map(|(r, since)| dot(simulation, *r, *since, at)).collect();
        FrameModel {
            at,
            traffic: traffic(run, simulation, tally, &view),
            router: RouterFrame { mode: view.router_mode.to_owned(), waiting: requests(&view.at_router) },
            transfers: view.transfers.iter().map(transfer_frame).collect(),
            notes: notes_at(run, simulation, at),
            headline: headline(run, tally, &view),
            pools,
        }
    }

    fn pool(&mut self, run: &Run, simulation: &Simulation, pool: &PoolCloseUp, at: SimTime) -> PoolFrame {
        let gpus_per_worker = u32::try_from(pool.gpus_per_worker).unwrap_or(u32::MAX);
        let workers = pool.workers.iter().map(|worker| self.worker(run, simulation, pool.role, worker, at)).collect();
        PoolFrame { role: pool.role, requested: pool.requested, gpus_per_worker, workers }
    }

    fn worker(
        &mut self,
        run: &Run,
        simulation: &Simulation,
        role: Role,
        view: &WorkerCloseUp,
        at: SimTime,
    ) -> WorkerFrame {
        let members = view.ranks.iter().flat_map(|rank| &rank.members);
        let running = members.map(|member| tile(run, simulation, role, member, view.pass.as_ref(), at)).collect();
        let queued = view.ranks.iter().flat_map(|rank| &rank.waiting).map(|waiter| {
            let since = waiting_since(simulation, role, waiter);
            dot(simulation, waiter.request, since.unwrap_or(at), at)
        });
        let coming = view.inbox.iter().map(|request| {
            let since = simulation.record(*request).and_then(|record| record.routed);
            dot(simulation, *request, since.unwrap_or(at), at)
        });
        WorkerFrame {
            name: WorkerName { role, id: view.id },
            state: view.state,
            ready_at: view.ready_at,
            pass: view.pass.map(|pass| PassFrame {
                start: pass.start,
                end: pass.end,
                prefill_tokens: pass.prefill_tokens,
                prefill_requests: pass.prefill_requests,
                decode_requests: pass.decode_requests,
            }),
            running,
            waiting: queued.chain(coming).collect(),
            kv: self.kv(simulation.prompts(), view),
            preemptions: view.ranks.iter().map(|rank| rank.preemptions).sum(),
            evicted: view.ranks.iter().map(|rank| rank.evicted).sum(),
        }
    }

    fn kv(&mut self, prompts: &PromptIndex, view: &WorkerCloseUp) -> KvFrame {
        let sum = |index: usize| view.ranks.iter().map(|rank| u64::from(rank.kv[index])).sum();
        let (used, unused): (Vec<&Blocks>, Vec<&Blocks>) =
            view.ranks.iter().flat_map(|rank| &rank.blocks).partition(|blocks| blocks.owners > 0);
        let mut groups: Vec<KvGroup> = Vec::with_capacity(used.len() + unused.len());
        for blocks in used.into_iter().chain(unused) {
            let usage = match (blocks.reserved, blocks.owners) {
                (true, _) => KvUse::Reserved,
                (false, 0) => KvUse::Cached,
                (false, _) => KvUse::Active,
            };
            let prefix = blocks.node.map(|node| self.beginning(prompts, node));
            let group = KvGroup { usage, blocks: blocks.count, owners: blocks.owners, request: blocks.request, prefix };
            match groups.last_mut() {
                Some(last) if KvGroup { blocks: last.blocks, ..group } == *last => last.blocks += group.blocks,
                _ => groups.push(group),
            }
        }
        while groups.len() > MAX_KV_GROUPS {
            let before = groups.len();
            groups = join_pairs(&groups);
            if groups.len() == before {
                break;
            }
        }
        KvFrame { total: sum(0), active: sum(1), reserved: sum(2), cached: sum(3), free: sum(4), groups }
    }

    /// The name that prompts with `node` begin with.
    fn beginning(&mut self, prompts: &PromptIndex, node: u32) -> u32 {
        let mut way = Vec::new();
        let mut at = node;
        let begin = loop {
            if let Some(begin) = self.begins.get(&at) {
                break *begin;
            }
            way.push(at);
            match prompts.before(at) {
                Some(before) => at = before,
                None => break at,
            }
        };
        for node in way {
            self.begins.insert(node, begin);
        }
        begin
    }
}

/// Joins each group at an even place with the next one, where both are used alike.
fn join_pairs(groups: &[KvGroup]) -> Vec<KvGroup> {
    let mut joined: Vec<KvGroup> = Vec::with_capacity(groups.len());
    let mut is_single = false;
    for group in groups {
        match joined.last_mut() {
            Some(last) if is_single && last.usage == group.usage => {
                let larger = if group.blocks > last.blocks { *group } else { *last };
                *last = KvGroup { blocks: last.blocks + group.blocks, owners: last.owners.max(group.owners), ..larger };
                is_single = false;
            }
            _ => {
                joined.push(*group);
                is_single = true;
            }
        }
    }
    joined
}

fn dot(simulation: &Simulation, request: u32, since: SimTime, at: SimTime) -> RequestDot {
    let input_tokens = simulation.record(request).map_or(0, |record| record.input_tokens);
    RequestDot { request, input_tokens, waited: at.since(since) }
}

/// Since when a request waits in a scheduler.
fn waiting_since(simulation: &Simulation, role: Role, waiter: &Waiter) -> Option<SimTime> {
    let record = simulation.record(waiter.request)?;
    let handoff = record.handoff.unwrap_or_default();
    match role {
        _ if waiter.last_token.is_some() => waiter.last_token,
        Role::Decode if waiter.announced => handoff.source_held.or(Some(record.arrival)),
        Role::Decode => handoff.destination_activated,
        Role::Aggregated | Role::Prefill => record.routed,
    }
}

/// How far a pass is at `at`, 0 to 1.
fn share_of(pass: &PassCloseUp, at: SimTime) -> f64 {
    let whole = pass.end.since(pass.start).as_secs();
    if whole > 0.0 { (at.since(pass.start).as_secs() / whole).clamp(0.0, 1.0) } else { 1.0 }
}

fn tile(
    run: &Run,
    simulation: &Simulation,
    role: Role,
    member: &Member,
    pass: Option<&PassCloseUp>,
    at: SimTime,
) -> Tile {
    let record = simulation.record(member.request);
    let output = record.map_or(0, |record| record.requested_output_tokens);
    let ratio = |part: f64, whole: u32| if whole == 0 { 1.0 } else { (part / f64::from(whole)).min(1.0) };
    let phase = match member.doing {
        Doing::Prefill => TilePhase::Prefill,
        Doing::Decode => TilePhase::Decode,
        Doing::Held => TilePhase::Held,
        Doing::Reserved => TilePhase::Reserved,
        Doing::BringingUp => TilePhase::BringingUp,
    };
    let progress = match member.doing {
        Doing::Prefill => {
            // Within a pass, prompt tokens are taken to be computed evenly.
            let done = pass.map_or(0.0, |pass| share_of(pass, at)) * f64::from(member.computing);
            ratio(f64::from(member.computed) + done, member.context)
        }
        Doing::Decode if role == Role::Prefill => 1.0,
        Doing::Decode => ratio(f64::from(member.emitted), output),
        Doing::Held => 1.0,
        Doing::Reserved | Doing::BringingUp => 0.0,
    };
    Tile {
        request: member.request,
        phase,
        progress: progress as f32,
        input_tokens: record.map_or(0, |record| record.input_tokens),
        output_tokens: output,
        session: simulation.session_turn(member.request).map(|(session, _)| session),
        misses_sla: record.is_some_and(|record| misses(&sla_at(run, record.arrival), record, member, at)),
    }
}

/// Whether what is known of a running request is over a bound already.
fn misses(sla: &Sla, record: &RequestRecord, member: &Member, at: SimTime) -> bool {
    let over = |ms: f64, bound: Option<f64>| bound.is_some_and(|bound| ms > bound);
    let first = record.first_token.filter(|first| *first <= at).or(member.first_token);
    // A first token that is late already cannot come in time.
    let late = over(first.unwrap_or(at).since(record.arrival).as_ms(), sla.ttft_ms);
    let gaps = first.zip(member.last_token).filter(|_| member.emitted > 1);
    let slow =
        gaps.is_some_and(|(first, last)| over(last.since(first).as_ms() / f64::from(member.emitted - 1), sla.itl_ms));
    late || slow || over(at.since(record.arrival).as_ms(), sla.e2e_ms)
}

/// The worker that a request was sent to first.
pub(super) fn placed(run: &Run, record: &RequestRecord) -> Option<WorkerName> {
    record.routed?;
    match &run.topology {
        Topology::Aggregated { engine, .. } => {
            // With one worker, there is no number.
            let id = record.decode_worker.map_or(0, |number| number / engine.dp_size.max(1));
            Some(WorkerName { role: Role::Aggregated, id })
        }
        Topology::Disaggregated { .. } => record.prefill_worker.map(|id| WorkerName { role: Role::Prefill, id }),
    }
}

fn traffic(run: &Run, simulation: &Simulation, tally: &Tally, view: &CloseUp) -> Traffic {
    let bound = SimTime::from_nanos(view.at.as_nanos().saturating_sub(RATE_SPAN.as_nanos()));
    let is_late = |arrival: SimTime| arrival > bound || (view.at.as_nanos() <= RATE_SPAN.as_nanos());
    let live = simulation.in_flight().filter(|record| is_late(record.arrival)).count();
    let ended = if bound == SimTime::ZERO { view.ended as usize } else { tally.arrived_after(bound) };
    let mut newest: Vec<RequestRecord> = tally.newest().to_vec();
    let oldest = newest.last().filter(|_| newest.len() == RECENT_ARRIVALS).map(|record| record.arrival);
    newest.extend(simulation.in_flight().filter(|record| oldest.is_none_or(|oldest| record.arrival >= oldest)));
    newest.sort_unstable_by(by_arrival);
    newest.truncate(RECENT_ARRIVALS);
    let arrival = |r: &RequestRecord| Arrival { request: r.request, at: r.arrival, placed: placed(run, r) };
    Traffic {
        arrived: view.arrived,
        ended: view.ended,
        total: view.total,
        rate: (live + ended) as f64 / RATE_SPAN.as_secs(),
        recent: newest.iter().map(arrival).collect(),
    }
}

fn transfer_frame(
    (from, to, transfer): &(
        crate::sim::worker::Worker,
        crate::sim::worker::Worker,
        crate::sim::handoff::TransferCloseUp,
    ),
) -> TransferFrame {
    TransferFrame {
        request: transfer.request,
        from: WorkerName { role: from.role, id: from.id },
        to: WorkerName { role: to.role, id: to.id },
        start: transfer.transfer.start,
        end: transfer.transfer.end,
        progress: transfer.progress as f32,
        bytes: transfer.transfer.bytes,
    }
}

fn notes_at(run: &Run, simulation: &Simulation, at: SimTime) -> Vec<Note> {
    notes::between(run, simulation.decisions(), simulation.scaling_events(), notes::since(at), at)
}

fn headline(run: &Run, tally: &Tally, view: &CloseUp) -> Headline {
    let (completed, good) = tally.completed();
    let gpus = |pool: &PoolCloseUp| pool.workers.len() as u64 * pool.gpus_per_worker;
    let hours = |pool: &PoolCloseUp| pool.provisioned as f64 / 3.6e12 * pool.gpus_per_worker as f64;
    let attainment = run.sla.is_given() && completed > 0;
    Headline {
        completed,
        ttft_p50_ms: tally.ttft_ms(50),
        ttft_p90_ms: tally.ttft_ms(90),
        itl_p50_ms: tally.itl_ms(50),
        sla_attainment: attainment.then(|| f64::from(good) / f64::from(completed.max(1))),
        gpus: u32::try_from(view.pools.iter().map(gpus).sum::<u64>()).unwrap_or(u32::MAX),
        gpu_hours: view.pools.iter().map(hours).sum(),
        output_tokens: view.output_tokens,
    }
}

/// Whether a request that ended met its bounds, where it counts and there are any.
pub(super) fn met_sla(run: &Run, record: &RequestRecord) -> Option<bool> {
    let sla = sla_at(run, record.arrival);
    let counts = crate::report::counts(record) && sla.is_given();
    counts.then(|| token_span(record).is_some() && crate::report::is_good(record, &sla))
}
