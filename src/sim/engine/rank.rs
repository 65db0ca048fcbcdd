//! One data-parallel rank: a scheduler of either kind behind one interface.

use crate::perf::PassTimer;
use crate::scenario::{EngineConfig, Role, SchedulerKind, Semantics};
use crate::sim::kv::{KvEvents, KvTiers, PromptIndex};
use crate::time::SimTime;

use super::gaps::GapCounts;
use super::pass::Formed;
use super::scheduler::{EngineEvent, FirstTokens, Job, VllmScheduler};
use super::sglang::SglangScheduler;
use super::tokens::TokensSoFar;
use super::transfer::Reservation;
use super::watch::PassWatch;

/// A scheduler with a KV pool of its own.
#[derive(Debug)]
pub enum Scheduler {
    /// vLLM or TensorRT-LLM.
    Vllm(Box<VllmScheduler>),
    /// SGLang.
    Sglang(Box<SglangScheduler>),
}

/// KV blocks (pages) of a scheduler by what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvUse {
    /// Owned by requests or reserved for them.
    pub active: u32,
    /// Kept for reuse only, or being copied to a lower tier.
    pub cached: u32,
    /// Never used or given back.
    pub free: u32,
}

/// Calls the same method, or evaluates the same expression, on the scheduler of either kind.
macro_rules! either {
    ($rank:expr, $scheduler:ident => $value:expr) => {
        match $rank {
            Scheduler::Vllm($scheduler) => $value,
            Scheduler::Sglang($scheduler) => $value,
        }
    };
}

impl Scheduler {
    /// An idle scheduler; `rank` is its index within its pool and offsets the seed of speculative decoding.
    pub fn new(
        config: &EngineConfig,
        semantics: Semantics,
        timer: PassTimer,
        prompts: &PromptIndex,
        rank: u32,
    ) -> Self {
        match config.scheduler {
            SchedulerKind::Vllm | SchedulerKind::TrtLlm => {
                Self::Vllm(Box::new(VllmScheduler::new(config, semantics, timer, prompts, rank)))
            }
            SchedulerKind::Sglang(settings) => {
                Self::Sglang(Box::new(SglangScheduler::new(config, settings, semantics, timer, prompts, rank)))
            }
        }
    }

    /// Whether a pass would have something to look at.
    pub fn has_work(&self) -> bool {
        either!(self, s => s.has_work())
    }

    /// Whether nothing at all is left here, holds and expected requests included.
    pub fn is_drained(&self) -> bool {
        either!(self, s => s.is_drained())
    }

    /// Requests waiting.
    pub fn waiting(&self) -> u32 {
        either!(self, s => s.waiting())
    }

    /// Requests in the running batch.
    pub fn running(&self) -> u32 {
        either!(self, s => s.running())
    }

    /// The KV blocks.
    pub fn kv(&self) -> KvUse {
        match self {
            Self::Vllm(s) => {
                let pool = s.pool();
                KvUse { active: pool.active(), cached: pool.cached() + pool.leaving(), free: pool.free() }
            }
            Self::Sglang(s) => KvUse { active: s.tree().active(), cached: s.tree().evictable(), free: s.tree().free() },
        }
    }

    /// Gives the scheduler tiers below its GPU; SGLang has none.
    pub fn attach_tiers(&mut self, tiers: KvTiers) {
        if let Self::Vllm(s) = self {
            s.attach_tiers(tiers);
        }
    }

    /// The tiers below its GPU.
    pub fn tiers(&self) -> Option<&KvTiers> {
        match self {
            Self::Vllm(s) => s.pool().tiers.as_deref(),
            Self::Sglang(_) => None,
        }
    }

    /// The tiers below its GPU.
    pub fn tiers_mut(&mut self) -> Option<&mut KvTiers> {
        match self {
            Self::Vllm(s) => s.tiers_mut(),
            Self::Sglang(_) => None,
        }
    }

    /// Copies between tiers that are over by `now` take effect. Returns whether places have become free.
    pub fn advance_tiers(&mut self, now: SimTime) -> bool {
        match self {
            Self::Vllm(s) => s.advance_tiers(now),
            Self::Sglang(_) => false,
        }
    }

    /// Token gaps so far, with the timer that explains them.
    pub fn gaps(&self) -> (&GapCounts, &PassTimer) {
        either!(self, s => s.gaps())
    }

    /// What times its passes.
    pub fn timer(&self) -> &PassTimer {
        either!(self, s => s.timer())
    }

    /// Start of the latest pass.
    pub fn last_start(&self) -> SimTime {
        either!(self, s => s.last_start())
    }

    /// Passes so far that did anything.
    pub fn passes(&self) -> u64 {
        either!(self, s => s.passes())
    }

    /// Requests that gave way so far.
    pub fn preemptions(&self) -> u64 {
        either!(self, s => s.preemptions())
    }

    /// Output tokens emitted to clients so far.
    pub fn emitted(&self) -> u64 {
        either!(self, s => s.emitted())
    }

    /// The part it plays.
    pub fn role(&self) -> Role {
        either!(self, s => s.role())
    }

    /// Whether tokens made here are seen by clients.
    pub fn emits_to_clients(&self) -> bool {
        either!(self, s => s.emits_to_clients())
    }

    /// Lets a router follow what happens here: its cache if `cache`, and first tokens.
    pub fn report_to_router(&mut self, cache: bool, first_tokens: FirstTokens) {
        either!(self, s => s.report_to_router(cache, first_tokens));
    }

    /// What can be seen of its passes from outside.
    pub fn watch(&mut self) -> &mut PassWatch {
        either!(self, s => s.watch())
    }

    /// The last passes, if anybody watches.
    pub fn watched(&self) -> &PassWatch {
        either!(self, s => s.watched())
    }

    /// Changes of the cache on their way to the router.
    pub fn kv_events(&mut self) -> &mut KvEvents {
        either!(self, s => s.kv_events())
    }

    /// What the last pass did; leaves it empty.
    pub fn drain_events(&mut self) -> std::vec::Drain<'_, EngineEvent> {
        either!(self, s => s.drain_events())
    }

    /// Whether the last pass did anything that others must know.
    pub fn has_news(&self) -> bool {
        either!(self, s => s.has_news())
    }

    /// Whether the next pass of a prefill worker is sure to take time. Where it may not, several requests may finish at
    /// one instant, and hand-offs come after all of them.
    pub fn takes_time(&self) -> bool {
        match self {
            Self::Vllm(s) => s.is_chunking(),
            Self::Sglang(s) => s.has_output_to_come(),
        }
    }

    /// Appends a request to the waiting queue.
    pub fn submit(&mut self, job: Job, prompts: &PromptIndex) {
        either!(self, s => s.submit(job, prompts));
    }

    /// Forms the pass that starts `now`.
    pub fn form(&mut self, now: SimTime) -> Formed {
        either!(self, s => s.form(now))
    }

    /// Emits the tokens of a formed pass at `end` and ends whoever is done.
    pub fn emit(&mut self, formed: &Formed, end: SimTime) {
        either!(self, s => s.emit(formed, end));
    }

    /// So many passes had nothing to do. Returns whether the last of them changed anything: then the next one may have.
    pub fn idle(&mut self, passes: u64) -> bool {
        match self {
            Self::Vllm(_) => false,
            Self::Sglang(s) => s.idle(passes),
        }
    }

    /// Runs passes that start before `until` (the first one `now`) as long as nothing but decoding happens. Returns when
    /// the last of them ends.
    pub fn run_on(&mut self, now: SimTime, until: SimTime) -> SimTime {
        either!(self, s => s.run_on(now, until))
    }

    /// Announces a request whose prompt will be transferred here; with `try_now` the head of the announced requests is
    /// given an attempt.
    pub fn expect_transfer(&mut self, job: Job, prompts: &PromptIndex, try_now: bool) -> Option<Reservation> {
        either!(self, s => s.expect_transfer(job, prompts, try_now))
    }

    /// Whether an attempt to reserve blocks could succeed now.
    pub fn wants_reservation(&self) -> bool {
        either!(self, s => s.wants_reservation())
    }

    /// Tries to reserve blocks for the request at the head of the announced ones.
    pub fn try_reservation(&mut self) -> Option<Reservation> {
        either!(self, s => s.try_reservation())
    }

    /// The transfer is over: the request has its prompt in place, and its first token if the other side emitted that at
    /// `first_token`. May reserve for the next one.
    pub fn activate(&mut self, request: u32, first_token: Option<SimTime>) -> Option<Reservation> {
        match self {
            // Announced after prefill, so its job says so.
            Self::Vllm(s) => s.activate(request),
            Self::Sglang(s) => s.activate(request, first_token),
        }
    }

    /// The other side has the blocks: give them up here. May reserve for an announced request.
    pub fn release_source(&mut self, request: u32) -> Option<Reservation> {
        either!(self, s => s.release_source(request))
    }

    /// The hand-off of `request` will not happen: gives up what was reserved for it. May reserve for another one.
    pub fn cancel_transfer(&mut self, request: u32) -> Option<Reservation> {
        match self {
            // Nothing is reserved before prefill is over, and then it happens.
            Self::Vllm(_) => None,
            Self::Sglang(s) => s.cancel_transfer(request),
        }
    }

    /// A dead end: fails the request that everything here waits behind. Returns it with what it lacked.
    pub fn fail_blocker(&mut self) -> Option<(u32, String)> {
        either!(self, s => s.fail_blocker())
    }

    /// Requests that were given up, with the reason.
    pub fn dead_ends(&self) -> &[(u32, String)] {
        either!(self, s => s.dead_ends())
    }

    /// The gaps of every request in flight and of those that failed, in no order: they do not count in the report.
    pub fn uncounted_gaps(&mut self) -> Vec<(u64, u64)> {
        either!(self, s => s.uncounted_gaps())
    }

    /// Tokens, first, second and last token time of every request in flight, for records of unfinished requests.
    pub fn tokens_in_flight(&mut self) -> Vec<TokensSoFar> {
        either!(self, s => s.tokens_in_flight())
    }
}
