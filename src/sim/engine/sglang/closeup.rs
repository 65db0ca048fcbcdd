//! What an SGLang scheduler looks like at an instant; see [`super::super::closeup`].

use std::collections::HashMap;

use crate::sim::kv::ROOT;
use crate::time::SimTime;

use super::super::closeup::{Blocks, Doing, Look, Member, RankCloseUp, Waiter, ending};
use super::SglangScheduler;

impl SglangScheduler {
    /// What the scheduler looks like.
    pub fn close_up(&self, look: Look) -> RankCloseUp {
        let mut view = RankCloseUp {
            preemptions: self.retractions,
            evicted: self.tree.evicted(),
            emitted: self.tokens.emitted,
            ..RankCloseUp::default()
        };
        let ending: Vec<u32> = ending(&self.events, look).collect();
        let is_ending = |id: &u32| ending.contains(&self.slots[*id as usize].job.request);
        let held = self.transfers.held();
        let ended = self.ending.iter().copied().filter(is_ending);
        // A request that fails without a token, and without ever having computed anything, never ran.
        let (ran, refused): (Vec<u32>, Vec<u32>) = ended.partition(|id| self.slots[*id as usize].piece.0 > 0);
        let mut running: Vec<u32> = self.running.clone();
        running.extend(ran.into_iter().chain(held.clone().filter(is_ending)));
        running.sort_by_key(|id| self.slots[*id as usize].joined);
        // A prompt of which a piece is done waits in front for the next one, with its pages.
        let has_begun = |id: &&u32| self.slots[**id as usize].node.is_some();
        view.members.extend(running.iter().map(|id| self.member(*id, look)));
        view.members.extend(self.waiting.iter().filter(has_begun).map(|id| self.member(*id, look)));
        if let Some(step) = self.step_in_pass(look) {
            view.emitted -= running.iter().map(|id| u64::from(self.burst_in(*id, step))).sum::<u64>();
        }
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
        let fresh = self.waiting.iter().filter(|id| !has_begun(id));
        view.waiting.extend(refused.iter().chain(fresh).chain(&self.delivered).map(|id| self.waiter(*id, false, look)));
        view.waiting.extend(self.transfers.announced().map(|id| self.waiter(id, true, look)));
        self.list_pages(&mut view);
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

    /// Tokens that a request emits in a step, the last one there was.
    fn burst_in(&self, id: u32, step: u64) -> u32 {
        let slot = &self.slots[id as usize];
        match slot.batched {
            Some(since) if since < step => 1,
            _ => slot.trail.burst_of(step),
        }
    }

    /// Tokens that a request emitted in the decode batch since it was brought up to date.
    fn since(&self, id: u32) -> u32 {
        self.slots[id as usize].batched.map_or(0, |since| (self.tokens.step - 1 - since) as u32)
    }

    fn member(&self, id: u32, look: Look) -> Member {
        let slot = &self.slots[id as usize];
        let (job, since, visible) = (slot.job, self.since(id), self.tokens.is_visible());
        let unheard = self.step_in_pass(look).map_or(0, |step| self.burst_in(id, step));
        let emitted = if visible { job.generated + slot.trail.emitted + since - unheard } else { 0 };
        let last = slot.trail.last_step().map(|step| step + u64::from(since)).filter(|_| visible);
        let last = last.map(|step| if unheard > 0 { step.saturating_sub(1) } else { step });
        let last_token =
            last.filter(|_| emitted > job.generated).map(|step| SimTime::from_nanos(self.tokens.end(step)));
        let whole = (slot.len + since).saturating_sub(unheard);
        let context = if visible { whole.max(job.prompt) } else { job.prompt };
        let (doing, computed, computing) = if look.in_pass && slot.piece.0 == self.passes {
            let end = slot.materialized.min(context);
            (Doing::Prefill, slot.piece.1.min(context), end.saturating_sub(slot.piece.1))
        } else if slot.batched.is_none() && slot.materialized < job.prompt && slot.node.is_some() {
            (Doing::Prefill, slot.materialized, 0)
        } else {
            (Doing::Decode, context, 0)
        };
        let emits = unheard > 0;
        let first_token = slot.trail.first.filter(|first| *first <= look.at);
        Member { request: job.request, doing, context, computed, computing, emits, emitted, first_token, last_token }
    }

    fn list_pages(&self, view: &mut RankCloseUp) {
        let tree = &self.tree;
        let reserved = self.transfers.reserved();
        let promised: u32 = reserved.clone().map(|r| r.fresh).sum();
        view.kv = [tree.capacity(), tree.active() - promised, promised, tree.evictable(), tree.free()];
        let holders: Vec<u32> = self
            .running
            .iter()
            .chain(&self.waiting)
            .chain(&self.delivered)
            .copied()
            .chain(self.transfers.held())
            .chain(reserved.clone().map(|r| r.slot))
            .collect();
        let nodes = tree.nodes();
        let parents: HashMap<u32, u32> = nodes.iter().map(|node| (node.id, node.parent)).collect();
        let mut owners: HashMap<u32, u32> = HashMap::new();
        for id in &holders {
            let slot = &self.slots[*id as usize];
            let mut node = slot.node.unwrap_or(ROOT);
            // Where another owner's path begins, the rest is known.
            while node != ROOT && !owners.contains_key(&node) {
                owners.insert(node, slot.job.request);
                node = parents.get(&node).copied().unwrap_or(ROOT);
            }
        }
        let (used, unused): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.locks > 0);
        view.blocks.extend(used.iter().map(|node| Blocks {
            count: node.pages,
            owners: node.locks,
            reserved: false,
            request: owners.get(&node.id).copied(),
            node: node.name,
        }));
        for id in &holders {
            let slot = &self.slots[*id as usize];
            let pages = match slot.batched {
                Some(_) => (slot.len + self.since(*id)).div_ceil(self.config.block_size),
                None => slot.pages,
            };
            let count = pages.saturating_sub(slot.cached);
            if count > 0 {
                let reserved = reserved.clone().any(|r| r.slot == *id);
                view.blocks.push(Blocks { count, owners: 1, reserved, request: Some(slot.job.request), node: None });
            }
        }
        view.blocks.extend(unused.iter().map(|node| Blocks {
            count: node.pages,
            owners: 0,
            reserved: false,
            request: None,
            node: node.name,
        }));
    }
}
