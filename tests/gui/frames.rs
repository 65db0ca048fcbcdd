//! Frames made by hand: fleets in the middle of their work, in any size.

use dynosim::scenario::Role;
use dynosim::sim::metrics::WorkerState;
use dynosim::time::{SimDuration, SimTime};
use dynosim::view::frame::*;

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}

/// The instant of every frame here.
pub const NOW: SimTime = SimTime::from_nanos(1_203_400_000_000);

fn before(ms: u64) -> SimTime {
    SimTime::from_nanos(NOW.as_nanos() - ms * 1_000_000)
}

fn worker(role: Role, id: u32, running: usize, dice: &mut Dice) -> WorkerFrame {
    let prefill = role == Role::Prefill;
    let waiting = if dice.roll(3) == 0 { dice.roll(12) as usize } else { 0 };
    let request = |n: usize| id * 1_000 + n as u32;
    let tiles: Vec<Tile> = (0..running)
        .map(|n| Tile {
            request: request(n),
            phase: match (role, dice.roll(12)) {
                (Role::Prefill, 0..=7) | (Role::Aggregated, 0..=1) => TilePhase::Prefill,
                (Role::Prefill, _) => TilePhase::Held,
                (Role::Decode, 0) => TilePhase::Reserved,
                _ => TilePhase::Decode,
            },
            progress: dice.roll(1_000) as f32 / 1_000.0,
            input_tokens: 500 + dice.roll(8_000) as u32,
            output_tokens: 20 + dice.roll(500) as u32,
            session: None,
            misses_sla: dice.roll(9) == 0,
        })
        .collect();
    let total = 8_192;
    let (mut active, mut groups) = (0, Vec::new());
    for tile in &tiles {
        let blocks = 1 + tile.input_tokens / 64;
        active += u64::from(blocks);
        groups.push(KvGroup {
            usage: KvUse::Active,
            blocks,
            owners: 1,
            request: Some(tile.request),
            prefix: Some(tile.request % 7),
        });
    }
    let active = active.min(total);
    let reserved = if role == Role::Decode { 200.min(total - active) } else { 0 };
    groups.push(KvGroup { usage: KvUse::Reserved, blocks: reserved as u32, owners: 1, request: None, prefix: None });
    let cached = (total - active - reserved) * dice.roll(9) / 10;
    groups.push(KvGroup { usage: KvUse::Cached, blocks: cached as u32, owners: 0, request: None, prefix: Some(3) });
    WorkerFrame {
        name: WorkerName { role, id },
        state: WorkerState::Active,
        ready_at: None,
        pass: (running > 0).then(|| PassFrame {
            start: before(3 + dice.roll(20)),
            end: SimTime::from_nanos(NOW.as_nanos() + (1 + dice.roll(20)) * 1_000_000),
            prefill_tokens: if prefill || dice.roll(2) == 0 { 512 + dice.roll(4_096) } else { 0 },
            prefill_requests: 2,
            decode_requests: if prefill { 0 } else { running as u32 },
        }),
        running: tiles,
        waiting: (0..waiting)
            .map(|n| RequestDot {
                request: request(500 + n),
                input_tokens: 2_000,
                waited: SimDuration::from_nanos(40_000_000),
            })
            .collect(),
        kv: KvFrame { total, active, reserved, cached, free: total - active - reserved - cached, groups },
        preemptions: 0,
        evicted: 0,
    }
}

/// A pool of `n` workers with about `running` requests each.
pub fn pool(role: Role, n: u32, running: u64) -> PoolFrame {
    let mut dice = Dice::new(u64::from(n) + running);
    let workers = (0..n)
        .map(|id| {
            let running = running / 2 + dice.roll(running.max(1));
            worker(role, id, running as usize, &mut dice)
        })
        .collect();
    PoolFrame { role, requested: n, gpus_per_worker: 1, workers }
}

/// A frame around pools.
pub fn around(pools: Vec<PoolFrame>) -> FrameModel {
    let first = pools.first().and_then(|p| p.workers.first()).map(|w| w.name);
    let gpus = pools.iter().map(|p| p.workers.len() as u32 * p.gpus_per_worker).sum();
    FrameModel {
        at: NOW,
        traffic: Traffic {
            arrived: 8_412,
            ended: 8_200,
            total: 12_031,
            rate: 12.4,
            recent: (0..5).map(|n| Arrival { request: n, at: before(60 * u64::from(n)), placed: first }).collect(),
        },
        router: RouterFrame {
            mode: "kv_router".to_owned(),
            waiting: (0..17)
                .map(|n| RequestDot { request: 9_000 + n, input_tokens: 900, waited: SimDuration::ZERO })
                .collect(),
        },
        pools,
        headline: Headline {
            completed: 8_200,
            ttft_p50_ms: Some(214.0),
            ttft_p90_ms: Some(812.0),
            itl_p50_ms: Some(24.1),
            sla_attainment: Some(0.973),
            gpus,
            gpu_hours: 2.41,
            output_tokens: 2_345_678,
        },
        ..FrameModel::default()
    }
}

/// Eight aggregated workers, two of them at the ends of their lives.
pub fn aggregated() -> FrameModel {
    let mut pool = pool(Role::Aggregated, 8, 40);
    pool.workers[6].state = WorkerState::Draining;
    pool.workers[7] = WorkerFrame {
        name: WorkerName { role: Role::Aggregated, id: 7 },
        state: WorkerState::Starting,
        ready_at: Some(SimTime::from_nanos(NOW.as_nanos() + 42_000_000_000)),
        pass: None,
        running: Vec::new(),
        waiting: Vec::new(),
        kv: KvFrame { total: 8_192, free: 8_192, ..KvFrame::default() },
        preemptions: 0,
        evicted: 0,
    };
    around(vec![pool])
}

/// Four prefill and four decode workers, KV on its way, a decision just made.
pub fn disaggregated() -> FrameModel {
    let mut frame = around(vec![pool(Role::Prefill, 4, 6), pool(Role::Decode, 4, 60)]);
    for (n, (from, to)) in [(0, 1), (1, 2), (2, 0), (3, 3), (2, 3)].into_iter().enumerate() {
        frame.transfers.push(TransferFrame {
            request: n as u32,
            from: WorkerName { role: Role::Prefill, id: from },
            to: WorkerName { role: Role::Decode, id: to },
            start: before(10),
            end: SimTime::from_nanos(NOW.as_nanos() + 20_000_000),
            progress: 0.15 + 0.2 * n as f32,
            bytes: 1_310_000_000 / (n as u64 + 1),
        });
    }
    frame.notes.push(Note {
        at: before(4_000),
        role: Role::Decode,
        text:
            "Decode throughput of 3 replicas (2,900 tok/s) is below the predicted demand of 3,410 tok/s: scale up to 4"
                .to_owned(),
        change: Some((3, 4)),
    });
    frame
}
