//! The KV router: the worker with the lowest cost, from cached prefixes and load.
//!
//! Everything it knows of the workers it has heard: which blocks they store ([`PrefixIndex`]) and what became of the
//! requests it sent them ([`Load`]). Its own placements it knows at once.
//!
//! | file | idea |
//! |---|---|
//! | `index` | which prompt blocks each worker holds |
//! | `active` | which prompt blocks active requests occupy |
//! | `load` | what was sent to each worker and is not over |
//! | `cost` | the cost of a worker for a request |
//! | `queue` | requests that wait while every worker is busy |

mod active;
mod cost;
mod index;
mod load;
mod queue;

use crate::scenario::{KvRouter, Role};
use crate::sim::kv::{KvEvent, PromptIndex, Segment};
use crate::time::SimTime;

use super::draws::Draws;
use super::{Ask, Choice, Target};

pub use cost::{Standing, Terms};
pub use index::{PrefixIndex, Reach};
pub use load::Load;
pub use queue::{Queues, Waiting};

/// The KV router of one pool.
#[derive(Debug)]
pub struct KvPolicy {
    config: KvRouter,
    block_size: u32,
    index: PrefixIndex,
    load: Load,
    queues: Queues,
    terms: Vec<Terms>,
    path: Vec<Segment>,
    overlaps: Vec<Reach>,
    active: Vec<Reach>,
    weights: Vec<f64>,
}

/// What a KV router does with a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to this target now.
    Go(Choice),
    /// It waits at the router.
    Wait,
    /// It cannot even wait, for this reason.
    Refuse(String),
}

impl KvPolicy {
    /// The router of a pool that plays `role`, for engines with this block size and token budget; `classes` are the
    /// policy classes that requests name.
    ///
    /// In a disaggregated fleet the prefill router leaves active blocks out, and the decode router looks at nothing else.
    pub fn new(config: &KvRouter, role: Role, block_size: u32, budget: Option<u32>, classes: &[Box<str>]) -> Self {
        let mut config = config.clone();
        match role {
            Role::Aggregated => {}
            Role::Prefill => config.track_active_blocks = false,
            Role::Decode => {
                config.overlap_score_credit = 0.0;
                config.assume_kv_reuse = false;
                config.track_prefill_tokens = false;
                config.queue_threshold = None;
                config.policy = None;
            }
        }
        Self {
            queues: Queues::new(&config, budget, classes),
            load: Load::new(&config),
            config,
            block_size,
            index: PrefixIndex::default(),
            terms: Vec::new(),
            path: Vec::new(),
            overlaps: Vec::new(),
            active: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Tokens per KV block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Whether requests may have to wait at the router.
    pub fn can_queue(&self) -> bool {
        self.queues.can_queue()
    }

    /// Whether requests wait at the router.
    pub fn has_backlog(&self) -> bool {
        self.queues.has_backlog()
    }

    /// Requests that wait with the instants at which they came, in the order in which they did.
    pub fn waiting(&self) -> Vec<(u32, SimTime)> {
        self.queues.waiting().into_iter().map(|ask| (ask.request, ask.at)).collect()
    }

    /// Takes note of what a rank stored or removed.
    pub fn hear_cache(&mut self, rank: u32, event: KvEvent) {
        self.index.apply(rank, event);
    }

    /// The prefill of a request is over.
    pub fn prefill_done(&mut self, request: u32) {
        self.load.prefill_done(request);
    }

    /// A request is over.
    pub fn free(&mut self, request: u32) {
        if !self.load.free(request) {
            self.queues.remove(request);
        }
    }

    /// Forgets ranks that are gone.
    pub fn forget(&mut self, ranks: std::ops::Range<u32>) {
        self.index.forget(ranks);
    }

    /// Cost terms of the last choice, by target.
    pub fn terms(&self) -> &[Terms] {
        &self.terms
    }

    /// Decides about a request that just came.
    pub fn consider(&mut self, ask: &Ask, targets: &[Target], prompts: &PromptIndex, draws: &mut Draws) -> Verdict {
        self.find_path(ask, prompts);
        self.index.find(&self.path, &mut self.overlaps);
        if self.queues.can_queue() {
            let best = self.overlaps.iter().map(|reach| reach.blocks).max().unwrap_or(0);
            let uncached = u64::from(ask.prompt - (best * self.block_size).min(ask.prompt));
            let class = self.queues.classify(ask.hint, uncached);
            let loads = targets.iter().map(|target| self.load.prefill_tokens(target.number));
            if self.queues.must_wait(class, loads) {
                let overlaps = self.overlaps.clone();
                return match self.queues.push(class, *ask, overlaps, uncached, targets.len() as u64) {
                    Ok(()) => Verdict::Wait,
                    Err(reason) => Verdict::Refuse(reason),
                };
            }
        }
        Verdict::Go(self.choose(ask, targets, draws))
    }

    /// Takes the waiting request that goes next, if a worker is free for it, and chooses one.
    pub fn release(&mut self, targets: &[Target], prompts: &PromptIndex, draws: &mut Draws) -> Option<(Ask, Choice)> {
        if !self.queues.has_backlog() || targets.is_empty() {
            return None;
        }
        let loads: Vec<u64> = targets.iter().map(|target| self.load.prefill_tokens(target.number)).collect();
        let waiting = self.queues.pop(&loads)?;
        self.find_path(&waiting.ask, prompts);
        self.overlaps = waiting.overlaps;
        let choice = self.choose(&waiting.ask, targets, draws);
        Some((waiting.ask, choice))
    }

    /// The complete blocks of the prompt that others may have too.
    fn find_path(&mut self, ask: &Ask, prompts: &PromptIndex) {
        let complete = ask.prompt / self.block_size;
        prompts.path(ask.request, ask.prompt, &mut self.path);
        self.path.retain(|segment| segment.lo < complete);
        if let Some(last) = self.path.last_mut() {
            last.hi = last.hi.min(complete);
        }
    }

    /// Chooses a target for a request whose path and overlaps are found, and remembers the placement.
    fn choose(&mut self, ask: &Ask, targets: &[Target], draws: &mut Draws) -> Choice {
        self.load.find(&self.path, &mut self.active);
        let prefill = |target: &Target| self.load.prefill_tokens(target.number);
        let least = targets.iter().map(prefill).min().unwrap_or(0);
        let (mut overlaps, mut active) = (self.overlaps.as_slice(), self.active.as_slice());
        self.terms.clear();
        for target in targets {
            let standing = Standing {
                overlap: reach_of(&mut overlaps, target.number),
                active_overlap: reach_of(&mut active, target.number),
                ..self.load.standing(target.number)
            };
            self.terms.push(cost::weigh(&self.config, ask.prompt, self.block_size, &standing, least));
        }
        let (index, tied) = self.pick(draws);
        let overlap_blocks = self.terms.get(index).map_or(0, |terms| terms.overlap_blocks);
        if let Some(target) = targets.get(index) {
            let cached = (overlap_blocks * self.block_size).min(ask.prompt);
            let complete = ask.prompt / self.block_size;
            self.load.add(ask.request, target.number, ask.prompt - cached, &self.path, complete);
        }
        Choice { index, tied, overlap_tokens: (overlap_blocks * self.block_size).min(ask.prompt) }
    }

    /// Index of a target by its cost, and how many were equally good.
    fn pick(&mut self, draws: &mut Draws) -> (usize, u32) {
        let costs = || self.terms.iter().map(|terms| terms.cost);
        let least = costs().fold(f64::INFINITY, f64::min);
        if self.config.temperature > 0.0 {
            let spread = costs().fold(f64::NEG_INFINITY, f64::max) - least;
            let scale = spread * self.config.temperature;
            self.weights.clear();
            for cost in costs() {
                self.weights.push(if spread > 0.0 { (-(cost - least) / scale).exp() } else { 1.0 });
            }
            return (draw_weighted(&self.weights, draws.unit()), 1);
        }
        let tied = costs().filter(|cost| *cost == least).count();
        let nth = draws.tie(tied);
        let index = (0..).zip(costs()).filter(|(_, cost)| *cost == least).nth(nth).map_or(0, |(index, _)| index);
        (index, tied as u32)
    }
}

/// The blocks of a rank in an ascending list that is walked once.
fn reach_of(list: &mut &[Reach], rank: u32) -> u32 {
    while let [first, rest @ ..] = *list {
        if first.rank > rank {
            return 0;
        }
        *list = rest;
        if first.rank == rank {
            return first.blocks;
        }
    }
    0
}

/// Index drawn with these weights by a number from 0 to below 1.
fn draw_weighted(weights: &[f64], unit: f64) -> usize {
    let mut left = unit * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    // Rounding may leave a little: the last one that can be drawn takes it.
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
}
