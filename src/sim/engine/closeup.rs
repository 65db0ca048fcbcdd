//! What a scheduler looks like at an instant: who runs and how far, who waits, who owns which KV blocks.
//!
//! Passes are settled when they start, so at an instant within one the scheduler holds what will be when it ends. Here
//! that is turned back where it concerns tokens: whoever ends in the pass still runs, and its tokens are not out yet.
//! Blocks are shown as the scheduler has them.

use std::collections::HashMap;

use crate::sim::kv::{Home, KvExtent};
use crate::time::SimTime;

use super::rank::Scheduler;
use super::scheduler::{EngineEvent, Status, VllmScheduler};

/// What a request in a scheduler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Computing its prompt, or its context again after it gave way.
    Prefill,
    /// Emitting tokens.
    Decode,
    /// Done here; blocks are held for the hand-off.
    Held,
    /// Expected from another worker; blocks are reserved.
    Reserved,
    /// Waiting for blocks from a lower KV tier.
    BringingUp,
}

/// A request that holds blocks in a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Index of the request.
    pub request: u32,
    /// What it does.
    pub doing: Doing,
    /// Tokens to compute: the prompt, or after giving way the context so far.
    pub context: u32,
    /// Tokens of those that were there before the pass in progress.
    pub computed: u32,
    /// Tokens of those that the pass in progress computes.
    pub computing: u32,
    /// Whether the pass in progress gives it a token that clients see.
    pub emits: bool,
    /// Output tokens that clients have seen, those of an earlier worker included; 0 on a prefill worker.
    pub emitted: u32,
    /// When the first of them was emitted here.
    pub first_token: Option<SimTime>,
    /// When the last of them was emitted here.
    pub last_token: Option<SimTime>,
}

/// A request that waits in a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Index of the request.
    pub request: u32,
    /// Whether it is announced only: its KV is elsewhere, and there are no blocks for it yet.
    pub announced: bool,
    /// When it emitted here last, if it gave way since.
    pub last_token: Option<SimTime>,
}

/// Blocks that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// How many.
    pub count: u32,
    /// Requests that own them, or that they are reserved for; 0 where they are kept for reuse only.
    pub owners: u32,
    /// Whether they are promised and hold nothing yet.
    pub reserved: bool,
    /// An owner.
    pub request: Option<u32>,
    /// Name of what they hold, where others may have it too.
    pub node: Option<u32>,
}

/// A scheduler at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RankCloseUp {
    /// Requests with blocks: the running batch in the order of admission, then those held, then those expected.
    pub members: Vec<Member>,
    /// Requests that wait, first in line first.
    pub waiting: Vec<Waiter>,
    /// Blocks in use, owned ones first, then those kept for reuse from the most to the least recently used.
    pub blocks: Vec<Blocks>,
    /// Blocks in all, owned by requests, promised, kept for reuse or being copied to a lower tier, holding nothing.
    pub kv: [u32; 5],
    /// Requests that gave way so far.
    pub preemptions: u64,
    /// Blocks evicted so far.
    pub evicted: u64,
    /// Output tokens that clients have seen.
    pub emitted: u64,
}

/// The instant at which a scheduler is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The instant.
    pub at: SimTime,
    /// Whether the scheduler takes part in a pass that is in progress then.
    pub in_pass: bool,
}

impl Scheduler {
    /// What the scheduler looks like.
    pub fn close_up(&self, look: Look) -> RankCloseUp {
        match self {
            Self::Vllm(s) => s.close_up(look),
            Self::Sglang(s) => s.close_up(look),
        }
    }
}

/// Requests that the pass in progress brings to an end, in the order of their events.
pub(super) fn ending(events: &[EngineEvent], look: Look) -> impl Iterator<Item = u32> + '_ {
    let ends = events.iter().filter_map(|event| match event {
        EngineEvent::Ended { request, .. } | EngineEvent::Held { request } => Some(*request),
        _ => None,
    });
    ends.filter(move |_| look.in_pass)
}

impl VllmScheduler {
    fn close_up(&self, look: Look) -> RankCloseUp {
        let mut view = RankCloseUp {
            preemptions: self.preemptions,
            evicted: self.pool.evicted(),
            emitted: self.tokens.emitted,
            ..RankCloseUp::default()
        };
        let ending: Vec<u32> = ending(&self.events, look).collect();
        let mut running: Vec<u32> = self.running.clone();
        let held = self.transfers.held();
        let is_ending = |id: &u32| ending.contains(&self.slots[*id as usize].job.request);
        let ended = self.ending.iter().copied().filter(is_ending);
        // A request that is refused never ran.
        let (ran, refused): (Vec<u32>, Vec<u32>) =
            ended.partition(|id| self.slots[*id as usize].status == Status::Running);
        running.extend(ran.into_iter().chain(held.clone().filter(is_ending)));
        running.sort_by_key(|id| self.slots[*id as usize].admitted);
        view.members.extend(running.iter().map(|id| self.member(*id, look)));
        view.emitted -= self.unheard(&running, look);
        let as_is = |id: u32, doing: Doing| {
            let slot = &self.slots[id as usize];
            let prompt = slot.job.prompt;
            let computed = if doing == Doing::Held { prompt } else { 0 };
            let (request, emitted) = (slot.job.request, slot.job.generated);
            Member {
                request,
                doing,
                context: prompt,
                computed,
                computing: 0,
                emits: false,
                emitted,
                first_token: None,
                last_token: None,
            }
        };
        view.members.extend(held.filter(|id| !is_ending(id)).map(|id| as_is(id, Doing::Held)));
        view.members.extend(self.transfers.reserved().map(|reserved| as_is(reserved.slot, Doing::Reserved)));
        view.members.extend(self.parked.iter().map(|id| as_is(*id, Doing::BringingUp)));
        view.waiting.extend(refused.iter().map(|id| self.waiter(*id, false, look)));
        view.waiting.extend(self.unparked.iter().rev().chain(&self.waiting).map(|id| self.waiter(*id, false, look)));
        view.waiting.extend(self.transfers.announced().map(|id| self.waiter(id, true, look)));
        self.list_blocks(&mut view);
        view
    }

    fn waiter(&self, id: u32, announced: bool, look: Look) -> Waiter {
        let slot = &self.slots[id as usize];
        let last_token = slot.trail.last_step().map(|step| SimTime::from_nanos(self.tokens.end(step)));
        Waiter { request: slot.job.request, announced, last_token: last_token.filter(|last| *last <= look.at) }
    }

    /// The step whose tokens the pass in progress emits.
    fn step_in_pass(&self, look: Look) -> Option<u64> {
        let step = self.tokens.step.checked_sub(1)?;
        (look.in_pass && self.tokens.is_visible() && self.tokens.end(step) > look.at.as_nanos()).then_some(step)
    }

    /// Tokens that the pass in progress emits.
    fn unheard(&self, running: &[u32], look: Look) -> u64 {
        let Some(step) = self.step_in_pass(look) else { return 0 };
        running.iter().map(|id| u64::from(self.burst_in(*id, step))).sum()
    }

    /// Tokens that a request emits in a step, the last one there was.
    fn burst_in(&self, id: u32, step: u64) -> u32 {
        let slot = &self.slots[id as usize];
        match slot.batched {
            Some(since) if since < step => 1,
            _ => slot.trail.burst_of(step),
        }
    }

    fn member(&self, id: u32, look: Look) -> Member {
        let slot = &self.slots[id as usize];
        let job = slot.job;
        let latest = self.tokens.step.saturating_sub(1);
        // The decode batch is brought up to date when somebody leaves it.
        let since = slot.batched.map_or(0, |since| (latest - since) as u32);
        let unheard = self.step_in_pass(look).map_or(0, |step| self.burst_in(id, step));
        let visible = self.tokens.is_visible();
        let emitted = if visible { job.generated + slot.trail.emitted + since - unheard } else { 0 };
        let last = slot.trail.last_step().map(|step| step + u64::from(since)).filter(|_| visible);
        let last = last.map(|step| if unheard > 0 { step.saturating_sub(1) } else { step });
        let last_token =
            last.filter(|_| emitted > job.generated).map(|step| SimTime::from_nanos(self.tokens.end(step)));
        // A steady pass gives shares to nobody.
        let is_new = slot.batched.is_none_or(|since| since == latest);
        let shares = look.in_pass && is_new && slot.share.pass == self.pass && slot.share.prompt > 0;
        let goal = job.prompt.max(slot.recompute_until);
        let (doing, computed, computing) = if shares {
            (Doing::Prefill, slot.share.before, slot.share.used)
        } else if slot.batched.is_none() && slot.computed < goal {
            (Doing::Prefill, slot.computed, 0)
        } else {
            (Doing::Decode, goal, 0)
        };
        let emits = unheard > 0;
        let first_token = slot.trail.first.filter(|first| *first <= look.at);
        Member {
            request: job.request,
            doing,
            context: goal,
            computed,
            computing,
            emits,
            emitted,
            first_token,
            last_token,
        }
    }

    /// Blocks that a request holds and nobody can find.
    fn private_blocks(&self, id: u32) -> u32 {
        let slot = &self.slots[id as usize];
        let Some(since) = slot.batched else { return slot.private };
        let size = self.config.block_size;
        let emitted = (self.tokens.step - 1 - since) as u32;
        slot.private + (slot.len + emitted - 1).div_ceil(size) - slot.allocated.div_ceil(size)
    }

    fn list_blocks(&self, view: &mut RankCloseUp) {
        let pool = &self.pool;
        let resident = pool.capacity() - pool.free() - pool.leaving() - pool.reserved();
        let owned = resident - pool.cached();
        view.kv = [pool.capacity(), owned, pool.reserved(), pool.cached() + pool.leaving(), pool.free()];
        let reserved = self.transfers.reserved();
        let mut owners: HashMap<u32, u32> = HashMap::new();
        let holders: Vec<u32> = self
            .running
            .iter()
            .copied()
            .chain(self.transfers.held())
            .chain(reserved.clone().map(|r| r.slot))
            .chain(self.waiting.iter().copied())
            .chain(self.parked.iter().copied())
            .collect();
        for id in &holders {
            let slot = &self.slots[*id as usize];
            for held in &slot.held {
                pool.parts_of(*held, |extent| {
                    owners.entry(extent).or_insert(slot.job.request);
                });
            }
        }
        let group = |extent: KvExtent| Blocks {
            count: extent.blocks,
            owners: extent.owners,
            reserved: false,
            request: owners.get(&extent.id).copied(),
            node: match extent.home {
                Home::Node(node) => Some(node),
                Home::Nowhere | Home::Tail(_) => None,
            },
        };
        view.blocks.extend(pool.owned_extents().map(group));
        for id in &holders {
            let (count, request) = (self.private_blocks(*id), self.slots[*id as usize].job.request);
            let promised = self.slots[*id as usize].status == Status::Expected;
            if count > 0 && !promised {
                view.blocks.push(Blocks { count, owners: 1, reserved: false, request: Some(request), node: None });
            }
        }
        for promise in reserved {
            let request = Some(self.slots[promise.slot as usize].job.request);
            view.blocks.push(Blocks { count: promise.fresh, owners: 1, reserved: true, request, node: None });
        }
        // Blocks that are on their way up from a lower tier.
        let listed: u32 = view.blocks.iter().filter(|group| group.reserved).map(|group| group.count).sum();
        let count = pool.reserved().saturating_sub(listed);
        if count > 0 {
            view.blocks.push(Blocks { count, owners: 1, reserved: true, request: None, node: None });
        }
        view.blocks.extend(pool.cached_extents().map(group));
    }
}
