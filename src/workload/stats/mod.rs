//! What one wants to know of a workload before a run: load, lengths, sessions, and what a prefix cache can save.
//!
//! | file | holds |
//! |---|---|
//! | `tree` | the blocks of all prompts as a tree |
//! | `chains` | the same, so that a prompt is a handful of pieces |
//! | `reuse` | what a prefix cache of any size finds |
//! | `sharing` | who shares blocks with whom |
//! | `arrivals` | when requests come |
//! | `members` | which requests make up which session |
//! | `lengths` | summary of a set of values |
//!
//! No engine takes part: the figures are facts of the trace, the same whatever serves it.

mod arrivals;
mod chains;
mod lengths;
mod members;
mod reuse;
mod sharing;
mod tree;

use serde::Serialize;

pub use arrivals::{Arrivals, Window};
pub use lengths::{Bin, Distribution};

use super::Workload;
use super::content::Content;
use arrivals::Schedule;
use chains::Chains;
use members::Members;
use reuse::Curve;
use sharing::Sharing;
use tree::BlockTree;

/// What to look at more closely.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatsOptions {
    /// Seconds per window of the rate over time; a round number that makes about a hundred windows unless given.
    pub window_s: Option<f64>,
    /// Tokens per block for prompts of which nothing but the length is known; 512 unless given.
    pub block_tokens: Option<u32>,
    /// Cache sizes to report besides the usual ones, in blocks.
    pub cache_blocks: Vec<u64>,
}

/// Facts of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceStats {
    /// Number of requests.
    pub requests: u64,
    /// Prompt tokens of all requests.
    pub prompt_tokens: u64,
    /// Output tokens of all requests.
    pub output_tokens: u64,
    /// Arrivals of requests, as if serving took no time: a turn that waits for the one before comes its think time after
    /// it. Nothing when the trace has no arrival times.
    pub arrivals: Option<Arrivals>,
    /// Prompt lengths (ISL), tokens; in delta sessions everything said before counts.
    pub prompt: Distribution,
    /// Output lengths (OSL), tokens.
    pub output: Distribution,
    /// Conversations.
    pub sessions: SessionStats,
    /// What a prefix cache finds.
    pub cache: CacheStats,
}

/// Facts about sessions. Independent requests are sessions of one turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionStats {
    /// Number of sessions.
    pub count: u64,
    /// Sessions of more than one turn.
    pub multi_turn: u64,
    /// Turns per session.
    pub turns: Distribution,
    /// Waits before turns other than the first (think times, tools), milliseconds.
    pub think_ms: Distribution,
    /// Begins of sessions; nothing when the trace has no arrival times.
    pub starts: Option<Arrivals>,
}

/// Facts about prefix reuse: one cache for all, least recently used blocks leave first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheStats {
    /// Tokens per block. A last block that is not full counts as one.
    pub block_tokens: u32,
    /// Blocks of all prompts.
    pub blocks: u64,
    /// Different blocks: an unlimited cache holds so many at the end.
    pub distinct_blocks: u64,
    /// Share of `blocks` that an unlimited cache finds, 0 to 1.
    pub ideal_reuse: f64,
    /// The part of `ideal_reuse` that earlier turns of the same session left.
    pub within_sessions: f64,
    /// The part of `ideal_reuse` that only other sessions left.
    pub across_sessions: f64,
    /// Share of `blocks` that some other session uses as well, earlier or later.
    pub seen_in_other_sessions: f64,
    /// Share of `distinct_blocks` that several sessions use.
    pub distinct_shared: f64,
    /// Reuse by cache size, ascending.
    pub curve: Vec<CachePoint>,
    /// Smallest caches that give 50, 90, 99 and 100 % of the ideal reuse.
    pub sizes: Vec<CacheSize>,
}

/// Reuse with a cache of limited size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CachePoint {
    /// Size in blocks.
    pub blocks: u64,
    /// Size in tokens.
    pub tokens: u64,
    /// Share of all prompt blocks that are found, 0 to 1.
    pub reuse: f64,
    /// `reuse` over the ideal one; 1 when there is nothing to reuse.
    pub of_ideal: f64,
    /// Whether this size was asked for.
    pub asked_for: bool,
}

/// How much cache a share of the ideal reuse takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CacheSize {
    /// Share of the ideal reuse, 0 to 1.
    pub of_ideal: f64,
    /// Blocks it takes.
    pub blocks: u64,
    /// The same in tokens.
    pub tokens: u64,
}

/// Tokens per block of the prompts of `workload`, if their content is known.
pub fn block_tokens(workload: &Workload) -> Option<u32> {
    match &workload.content {
        Content::Unique => None,
        Content::Trie(trie) => Some(trie.block_tokens),
        Content::Streams(streams) => Some(streams.block_tokens),
    }
}

impl TraceStats {
    /// The facts of `workload`.
    pub fn of(workload: &Workload, options: &StatsOptions) -> Self {
        let schedule = Schedule::of(workload);
        let members = Members::of(workload);
        let prompts = tree::prompt_tokens(workload);
        let outputs: Vec<u32> = workload.requests.iter().map(|r| r.output_tokens).collect();
        let tree = BlockTree::of(workload, &prompts, options.block_tokens.unwrap_or(512));
        let chains = Chains::of(&tree);
        let (curve, found) = reuse::curve(&tree, &chains, &schedule.order);
        let mut repeated = vec![0; found.len()];
        for (request, found) in schedule.order.iter().zip(found) {
            if let Some(slot) = repeated.get_mut(*request as usize) {
                *slot = found;
            }
        }
        let arrivals = |requests: &[u32]| {
            let times = schedule.times.as_ref()?;
            let at = |index: &u32| {
                let index = *index as usize;
                let (prompt, output) = (*prompts.get(index)?, *outputs.get(index)?);
                Some((*times.get(index)?, Window::of(prompt, output, *tree.blocks.get(index)?, *repeated.get(index)?)))
            };
            Some(Arrivals::of(&requests.iter().filter_map(at).collect::<Vec<_>>(), options.window_s))
        };
        let sum = |tokens: &[u32]| tokens.iter().map(|t| u64::from(*t)).sum();
        let lengths = |tokens: &[u32]| Distribution::of(tokens.iter().map(|t| f64::from(*t)).collect());
        Self {
            requests: prompts.len() as u64,
            prompt_tokens: sum(&prompts),
            output_tokens: sum(&outputs),
            arrivals: arrivals(&schedule.order),
            prompt: lengths(&prompts),
            output: lengths(&outputs),
            sessions: SessionStats::of(workload, &members, &schedule, arrivals),
            cache: CacheStats::of(tree.block_tokens, &curve, &sharing::sharing(&tree, &chains, &members), options),
        }
    }
}

impl SessionStats {
    fn of(
        workload: &Workload,
        members: &Members,
        schedule: &Schedule,
        arrivals: impl Fn(&[u32]) -> Option<Arrivals>,
    ) -> Self {
        let turns: Vec<f64> = members.iter().map(|requests| requests.len() as f64).collect();
        let later = members.iter().flat_map(|requests| requests.iter().skip(1));
        let think = later.filter_map(|index| Some(workload.requests.get(*index as usize)?.delay.as_ms())).collect();
        let mut begins = vec![false; workload.requests.len()];
        for first in members.iter().filter_map(|requests| requests.first()) {
            if let Some(begin) = begins.get_mut(*first as usize) {
                *begin = true;
            }
        }
        let is_begin = |index: &u32| begins.get(*index as usize).copied().unwrap_or(false);
        let first: Vec<u32> = schedule.order.iter().copied().filter(is_begin).collect();
        Self {
            count: turns.len() as u64,
            multi_turn: turns.iter().filter(|n| **n > 1.0).count() as u64,
            turns: Distribution::of(turns),
            think_ms: Distribution::of(think),
            starts: arrivals(&first),
        }
    }
}

impl CacheStats {
    fn of(block_tokens: u32, curve: &Curve, sharing: &Sharing, options: &StatsOptions) -> Self {
        let share = |part: u64, of: u64| if of > 0 { part as f64 / of as f64 } else { 0.0 };
        let tokens = |blocks: u64| blocks.saturating_mul(u64::from(block_tokens));
        let point = |blocks: u64, asked_for: bool| CachePoint {
            blocks,
            tokens: tokens(blocks),
            reuse: share(curve.found(blocks), sharing.blocks),
            of_ideal: if curve.ideal() > 0 { share(curve.found(blocks), curve.ideal()) } else { 1.0 },
            asked_for,
        };
        let asked = options.cache_blocks.iter().map(|blocks| point(*blocks, true));
        let mut points: Vec<CachePoint> = asked.chain(usual_sizes(curve).map(|b| point(b, false))).collect();
        points.sort_by_key(|point| (point.blocks, !point.asked_for));
        points.dedup_by_key(|point| point.blocks);
        let size = |percent: u64| {
            let wanted = (u128::from(curve.ideal()) * u128::from(percent)).div_ceil(100) as u64;
            let blocks = curve.capacity_for(wanted);
            CacheSize { of_ideal: percent as f64 / 100.0, blocks, tokens: tokens(blocks) }
        };
        Self {
            block_tokens,
            blocks: sharing.blocks,
            distinct_blocks: sharing.distinct,
            ideal_reuse: share(curve.ideal(), sharing.blocks),
            within_sessions: share(sharing.within_session, sharing.blocks),
            across_sessions: share(curve.ideal().saturating_sub(sharing.within_session), sharing.blocks),
            seen_in_other_sessions: share(sharing.seen_elsewhere, sharing.blocks),
            distinct_shared: share(sharing.distinct_shared, sharing.distinct),
            curve: points,
            sizes: [50, 90, 99, 100].map(size).to_vec(),
        }
    }
}

/// Powers of two up to the one that holds everything useful, and three sizes between each two of them; twelve doublings
/// at most.
fn usual_sizes(curve: &Curve) -> impl Iterator<Item = u64> {
    let most = curve.capacity_for(curve.ideal()).max(1);
    let last = most.checked_next_power_of_two().map_or(63, u64::ilog2);
    let quarter = |step: u32| (2_f64.powf(f64::from(step) / 4.0)).round() as u64;
    (last.saturating_sub(12) * 4..=last * 4).filter(move |_| curve.ideal() > 0).map(quarter)
}
