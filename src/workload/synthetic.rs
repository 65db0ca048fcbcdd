//! The reference's synthetic loads, draw for draw.
//!
//! The *simple form* is independent requests without common beginnings. The *session form* adds turns, think times and
//! prefix groups: all sessions of a group begin every prompt with the group's blocks; the rest of a prompt is new each
//! time, so the turns of a session do not extend each other.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::scenario::{Run, SyntheticArrivals, SyntheticLoad, Topology};
use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::content::{Content, NO_NODE, PromptTrie, TrieNode};
use super::hints::RouterHints;
use super::model::{MAX_GENERATED, MAX_TOKENS, Release, RequestSpec, Session, Workload};

/// Groups are drawn from this seed whatever the arrival seed is.
const GROUP_SEED: u64 = 42;

/// The requests of `load`.
pub(super) fn generate(load: &SyntheticLoad, run: &Run) -> Result<Workload, WorkloadError> {
    let concurrency = run.traffic.concurrency;
    let speedup = if concurrency.is_none() { run.traffic.arrival_speedup } else { 1.0 };
    let simple = load.turns_per_session <= 1
        && load.shared_prefix_ratio == 0.0
        && load.num_prefix_groups == 0
        && load.inter_turn_delay_ms == 0.0;
    let turns = load.turns_per_session.max(1);
    check(load, turns)?;

    let arrivals = match concurrency {
        Some(_) => vec![SimTime::ZERO; load.request_count as usize],
        None => arrival_times(load.arrivals, load.arrival_seed, load.request_count, speedup)?,
    };
    let think = SimDuration::from_ms(load.inter_turn_delay_ms / speedup)
        .map_err(|e| WorkloadError::setting("inter_turn_delay_ms", e.to_string(), "give milliseconds, zero or more"))?;
    let mut requests = Vec::with_capacity(arrivals.len() * turns as usize);
    for arrival in arrivals {
        requests.extend((0..turns).map(|turn| RequestSpec {
            arrival,
            delay: if turn == 0 { SimDuration::ZERO } else { think },
            prompt_tokens: load.input_tokens,
            output_tokens: load.output_tokens,
        }));
    }

    // Alone in their sessions and open loop, requests need no sessions: they are released in the same order without.
    let release = if turns == 1 && concurrency.is_none() {
        Release::Flat
    } else {
        let name = |i: u32| if simple { "".into() } else { format!("session_{i}").into() };
        let sessions = (0..load.request_count).map(|i| Session { name: name(i), first: i * turns, turns }).collect();
        Release::Sessions { sessions, concurrency, named: !simple }
    };
    let content = if simple { Content::Unique } else { shared_prefixes(load, turns, block_size(&run.topology)) };
    let hints = RouterHints::default();
    Ok(Workload { requests, release, content, planned_outputs: !simple, timed: true, hints, notes: Vec::new() })
}

fn check(load: &SyntheticLoad, turns: u32) -> Result<(), WorkloadError> {
    let requests = u64::from(load.request_count) * u64::from(turns);
    let cases = [
        ("input_tokens", u64::from(load.input_tokens), u64::from(MAX_TOKENS)),
        ("output_tokens", u64::from(load.output_tokens), u64::from(MAX_TOKENS)),
        ("request_count", requests, MAX_GENERATED),
    ];
    for (field, value, limit) in cases {
        if value == 0 || value > limit {
            let cause = format!("comes to {value}");
            return Err(WorkloadError::setting(field, cause, format!("choose values that come to 1 to {limit}")));
        }
    }
    Ok(())
}

/// Arrivals of requests or sessions: the first at 0, the others a gap later each.
///
/// The sum is kept in milliseconds as a float and rounded once per arrival, as the reference's sums are.
pub(super) fn arrival_times(
    process: Option<SyntheticArrivals>,
    seed: u64,
    count: u32,
    speedup: f64,
) -> Result<Vec<SimTime>, WorkloadError> {
    let mut gap = gaps(process, seed);
    let mut at_ms = 0.0;
    let mut arrivals = Vec::with_capacity(count as usize);
    for index in 0..count {
        if index > 0 {
            at_ms += gap();
        }
        let arrival = SimTime::from_ms(at_ms / speedup).map_err(|e| {
            let cause = format!("request {} would arrive outside the clock: {e}", u64::from(index) + 1);
            WorkloadError::setting("arrivals", cause, "choose fewer requests, a higher rate or shorter gaps")
        })?;
        arrivals.push(arrival);
    }
    Ok(arrivals)
}

/// The gaps between arrivals in milliseconds.
fn gaps(arrivals: Option<SyntheticArrivals>, seed: u64) -> Box<dyn FnMut() -> f64> {
    match arrivals {
        None => Box::new(|| 0.0),
        // Through the rate and back, as in the reference; not always the same double.
        Some(SyntheticArrivals::Interval { gap_ms }) => Box::new(move || 1_000.0 / (1_000.0 / gap_ms)),
        Some(SyntheticArrivals::Poisson { rate_per_s }) => {
            let mut rng = StdRng::seed_from_u64(seed);
            let mean_ms = 1_000.0 / rate_per_s;
            Box::new(move || {
                let u = (1.0 - rng.random::<f64>()).clamp(f64::MIN_POSITIVE, 1.0);
                -mean_ms * u.ln()
            })
        }
    }
}

fn block_size(topology: &Topology) -> u32 {
    match topology {
        Topology::Aggregated { engine, .. } => engine.block_size.max(1),
        Topology::Disaggregated { prefill, .. } => prefill.block_size.max(1),
    }
}

/// One tree node per prefix group that several requests use.
fn shared_prefixes(load: &SyntheticLoad, turns: u32, block_tokens: u32) -> Content {
    let blocks = load.input_tokens.div_ceil(block_tokens);
    let shared = ((f64::from(blocks) * load.shared_prefix_ratio).round() as u32).min(blocks);
    if shared == 0 || load.num_prefix_groups == 0 {
        return Content::Unique;
    }
    let groups = draw_groups(load.request_count, load.num_prefix_groups);
    let mut users = std::collections::HashMap::new();
    for group in &groups {
        *users.entry(*group).or_insert(0_u64) += u64::from(turns);
    }
    let mut node_of = std::collections::HashMap::new();
    let mut trie = PromptTrie { block_tokens, ..PromptTrie::default() };
    for group in groups {
        let leaf = if users.get(&group).is_some_and(|n| *n > 1) {
            *node_of.entry(group).or_insert_with(|| {
                trie.nodes.push(TrieNode { parent: NO_NODE, start: 0, end: shared });
                trie.nodes.len() as u32 - 1
            })
        } else {
            NO_NODE
        };
        trie.leaf.extend((0..turns).map(|_| leaf));
    }
    Content::Trie(trie)
}

/// Prefix group of every session.
fn draw_groups(sessions: u32, groups: u32) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(GROUP_SEED);
    (0..sessions).map(|_| rng.random_range(0..groups)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_references() {
        let mut rng = StdRng::seed_from_u64(42);
        let drawn: [f64; 4] = std::array::from_fn(|_| rng.random());
        assert_eq!(drawn, [0.5265574090027738, 0.5427252099031439, 0.6364650991438949, 0.4059017582307767]);
    }

    fn sums(arrivals: SyntheticArrivals, seed: u64, n: usize) -> Vec<f64> {
        let mut gap = gaps(Some(arrivals), seed);
        let mut at = 0.0;
        (0..n)
            .map(|i| {
                at += if i > 0 { gap() } else { 0.0 };
                at
            })
            .collect()
    }

    #[test]
    fn poisson_arrivals_are_the_references() {
        assert_eq!(
            sums(SyntheticArrivals::Poisson { rate_per_s: 20.0 }, 42, 5),
            [0.0, 37.38623088203482, 76.50976975956941, 127.103768422482, 153.13929757803515]
        );
        assert_eq!(
            sums(SyntheticArrivals::Poisson { rate_per_s: 8.0 }, 7, 3),
            [0.0, 3.8483046460113766, 49.70452896818819]
        );
    }

    #[test]
    fn equal_gaps_may_be_zero() {
        assert_eq!(sums(SyntheticArrivals::Interval { gap_ms: 0.0 }, 1, 3), [0.0; 3]);
        assert_eq!(sums(SyntheticArrivals::Interval { gap_ms: 50.0 }, 1, 3), [0.0, 50.0, 100.0]);
    }

    #[test]
    fn prefix_groups_are_the_references() {
        assert_eq!(draw_groups(16, 8), [1, 4, 1, 4, 6, 5, 7, 3, 7, 0, 4, 3, 2, 5, 1, 6]);
        assert_eq!(draw_groups(16, 5), [0, 2, 1, 2, 4, 3, 4, 2, 4, 0, 3, 2, 1, 3, 0, 4]);
    }
}
