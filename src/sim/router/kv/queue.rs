//! Requests that wait at the router because every worker is busy: one queue, or one per policy class.
//!
//! Within a queue a higher strict priority goes first, then a higher score, then who came earlier. Between queues
//! *deficit round robin* decides: in each round a class may release as many uncached prompt tokens as its quantum; what it
//! does not use it keeps for the next round as long as somebody waits.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::scenario::{KvRouter, PolicyProfile, QueuePolicy};
use crate::workload::Hint;

use super::super::Ask;
use super::index::Reach;

/// Tokens of a pass when there is no limit.
const UNLIMITED_BATCH: f64 = 10_000_000.0;

/// A request that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The request.
    pub ask: Ask,
    /// Cached blocks by rank when it arrived.
    pub overlaps: Vec<Reach>,
    /// Prompt tokens that no rank had cached then.
    pub uncached: u64,
    strict_priority: u32,
    score: f64,
    /// Order of arrival.
    number: u64,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.strict_priority
            .cmp(&other.strict_priority)
            .then(self.score.total_cmp(&other.score))
            .then(Reverse(self.number).cmp(&Reverse(other.number)))
    }
}

/// One queue.
#[derive(Debug)]
struct Class {
    name: String,
    policy: QueuePolicy,
    quantum: u64,
    /// A rank with more prompt tokens than any of these is busy.
    busy_above: Vec<f64>,
    limits: [Option<u64>; 3],
    /// Requests, prompt tokens and cached prompt tokens that wait.
    usage: [u64; 3],
    deficit: u64,
    heap: BinaryHeap<Waiting>,
}

impl Class {
    fn is_busy(&self, prefill_tokens: u64) -> bool {
        self.busy_above.iter().any(|bound| prefill_tokens as f64 > *bound)
    }

    fn uses(waiting: &Waiting) -> [u64; 3] {
        let tokens = u64::from(waiting.ask.prompt);
        [1, tokens, tokens - waiting.uncached]
    }

    /// Tokens that releasing its head takes from the deficit.
    fn price(&self) -> Option<u64> {
        self.heap.peek().map(|head| head.uncached.max(1))
    }

    fn can_pay(&self) -> bool {
        self.price().is_some_and(|price| price <= self.deficit)
    }
}

/// Which class a named policy class or family leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selector {
    Class(usize),
    Family(usize),
}

/// All queues of a router.
#[derive(Debug)]
pub struct Queues {
    classes: Vec<Class>,
    profile: Option<PolicyProfile>,
    /// By name number of the hints.
    selectors: Vec<Selector>,
    /// Class that is visited first.
    turn: usize,
    /// Class that went last, unless nobody could go since.
    last: Option<usize>,
    arrivals: u64,
    waiting: usize,
}

impl Queues {
    /// The queues of a router for engines with this token budget; `names` are those that requests ask for.
    pub fn new(config: &KvRouter, budget: Option<u32>, names: &[Box<str>]) -> Self {
        let budget = budget.map_or(UNLIMITED_BATCH, f64::from);
        let class = |name: &str, policy, quantum, busy_above, limits| Class {
            name: name.to_owned(),
            policy,
            quantum,
            busy_above,
            limits,
            usage: [0; 3],
            deficit: 0,
            heap: BinaryHeap::new(),
        };
        let (classes, selectors) = match &config.policy {
            None => {
                let busy = config.queue_threshold.map(|share| share * budget).into_iter().collect();
                (vec![class("default", config.queue_policy, 1, busy, [None; 3])], Vec::new())
            }
            Some(profile) => {
                let classes = profile.classes.iter().map(|c| {
                    let tokens = c.busy_above_tokens.map(|tokens| tokens as f64);
                    let busy = tokens.into_iter().chain(c.busy_above_share.map(|share| share * budget)).collect();
                    let limits = [c.request_limit, c.token_limit, c.cached_token_limit];
                    class(&c.name, c.queue_policy, c.quantum, busy, limits)
                });
                (classes.collect(), names.iter().map(|name| selector(profile, name)).collect())
            }
        };
        let profile = config.policy.clone();
        Self { classes, profile, selectors, turn: 0, last: None, arrivals: 0, waiting: 0 }
    }

    /// Whether requests may ever have to wait.
    pub fn can_queue(&self) -> bool {
        self.classes.iter().any(|class| !class.busy_above.is_empty())
    }

    /// Whether somebody waits.
    pub fn has_backlog(&self) -> bool {
        self.waiting > 0
    }

    /// Requests that wait, in the order in which they came.
    pub fn waiting(&self) -> Vec<Ask> {
        let mut waiting: Vec<&Waiting> = self.classes.iter().flat_map(|class| &class.heap).collect();
        waiting.sort_unstable_by_key(|waiting| waiting.number);
        waiting.into_iter().map(|waiting| waiting.ask).collect()
    }

    /// The class of a request with so many uncached prompt tokens.
    pub fn classify(&self, hint: Hint, uncached: u64) -> usize {
        let Some(profile) = &self.profile else { return 0 };
        let named = hint.class.and_then(|name| self.selectors.get(name as usize)).copied();
        let family = match named.unwrap_or(Selector::Family(profile.default_family)) {
            Selector::Class(class) => return class,
            Selector::Family(family) => family,
        };
        let bucket = profile.buckets.partition_point(|least| *least <= uncached) - 1;
        profile.families[family].classes[bucket]
    }

    /// Whether a request of `class` has to wait, given the prompt tokens that each rank has yet to compute.
    pub fn must_wait(&self, class: usize, mut loads: impl Iterator<Item = u64>) -> bool {
        let class = &self.classes[class];
        !class.heap.is_empty() || (!class.busy_above.is_empty() && loads.all(|tokens| class.is_busy(tokens)))
    }

    /// Lets a request wait, or says which limit of its class is reached.
    pub fn push(
        &mut self,
        class: usize,
        ask: Ask,
        overlaps: Vec<Reach>,
        uncached: u64,
        ranks: u64,
    ) -> Result<(), String> {
        let class = &mut self.classes[class];
        let names = ["requests", "prompt tokens", "cached prompt tokens"];
        for ((limit, usage), what) in class.limits.iter().zip(class.usage).zip(names) {
            if let Some(limit) = limit.filter(|limit| usage >= limit.saturating_mul(ranks)) {
                return Err(format!(
                    "the router's queue \"{}\" holds {usage} {what} already, with a limit of {limit} for each of {ranks} workers",
                    class.name
                ));
            }
        }
        let priority = f64::from(ask.hint.priority.max(0));
        let seconds = ask.at.as_secs();
        let score = match class.policy {
            QueuePolicy::Fcfs => priority - seconds,
            QueuePolicy::Lcfs => priority + seconds,
            QueuePolicy::Wspt => (1.0 + priority) / uncached.max(1) as f64,
        };
        let strict_priority = ask.hint.strict_priority;
        let waiting = Waiting { ask, overlaps, uncached, strict_priority, score, number: self.arrivals };
        self.arrivals += 1;
        self.waiting += 1;
        for (usage, more) in class.usage.iter_mut().zip(Class::uses(&waiting)) {
            *usage += more;
        }
        class.heap.push(waiting);
        Ok(())
    }

    /// Takes the request that goes next, if a worker is free for it, given the prompt tokens that each rank has yet to
    /// compute.
    ///
    /// The class that went last goes on as long as its deficit lasts, until nobody can go. Otherwise the classes are
    /// visited in turn, and one that cannot afford its head gets its quantum; if nobody can after that, all get as many
    /// rounds at once as it takes until one can.
    pub fn pop(&mut self, loads: &[u64]) -> Option<Waiting> {
        let ready = |class: &Class| !class.heap.is_empty() && !loads.iter().all(|tokens| class.is_busy(*tokens));
        let last = self.last.take();
        if !self.classes.iter().any(ready) {
            return None;
        }
        if let Some(index) = last.filter(|index| ready(&self.classes[*index]) && self.classes[*index].can_pay()) {
            return self.take(index);
        }
        let count = self.classes.len();
        let turn = self.turn;
        let order = (turn..count).chain(0..turn);
        for index in order.clone() {
            let class = &mut self.classes[index];
            if ready(class) {
                if !class.can_pay() {
                    class.deficit = class.deficit.saturating_add(class.quantum);
                }
                if class.can_pay() {
                    return self.take(index);
                }
            }
        }
        let rounds = |class: &Class| class.price().map(|price| (price - class.deficit).div_ceil(class.quantum));
        let rounds = self.classes.iter().filter(|class| ready(class)).filter_map(rounds).min()?;
        for class in self.classes.iter_mut().filter(|class| ready(class)) {
            class.deficit = class.deficit.saturating_add(class.quantum.saturating_mul(rounds));
        }
        let index = order.into_iter().find(|index| ready(&self.classes[*index]) && self.classes[*index].can_pay())?;
        self.take(index)
    }

    fn take(&mut self, index: usize) -> Option<Waiting> {
        let class = &mut self.classes[index];
        let price = class.price()?;
        let waiting = class.heap.pop()?;
        class.deficit -= price;
        if class.heap.is_empty() {
            class.deficit = 0;
        }
        for (usage, less) in class.usage.iter_mut().zip(Class::uses(&waiting)) {
            *usage -= less;
        }
        self.waiting -= 1;
        self.turn = (index + 1) % self.classes.len();
        self.last = Some(index);
        Some(waiting)
    }

    /// Takes a request out that ended while it waited.
    pub fn remove(&mut self, request: u32) {
        for class in &mut self.classes {
            let Some(gone) = class.heap.iter().find(|w| w.ask.request == request).cloned() else { continue };
            class.heap.retain(|w| w.ask.request != request);
            self.waiting -= 1;
            for (usage, less) in class.usage.iter_mut().zip(Class::uses(&gone)) {
                *usage -= less;
            }
            if class.heap.is_empty() {
                class.deficit = 0;
            }
        }
    }
}

/// What a name leads to: an explicit class, a family, or else the default family.
fn selector(profile: &PolicyProfile, name: &str) -> Selector {
    let class = profile.classes.iter().position(|class| class.explicit && class.name == name);
    let family = profile.families.iter().position(|family| family.name == name);
    class.map(Selector::Class).or(family.map(Selector::Family)).unwrap_or(Selector::Family(profile.default_family))
}
