//! The agent preset: sessions that work with tools.
//!
//! A session begins with one of a few system prompts (with its tool descriptions), then each turn sends everything said
//! so far plus something new: a user's words or a tool's result. Between turns a tool runs. Sessions start at random,
//! in bursts more often. This is the shape of coding and research agents: long prompts, short outputs, and nearly
//! everything cacheable except what is new. The numbers are the user's ([`AgentPreset`]); the distributions are the
//! customary ones:
//!
//! | what | drawn from |
//! |---|---|
//! | session starts | Poisson process whose rate is higher during bursts |
//! | system prompt | Zipf with exponent 1: the most popular is twice as frequent as the second |
//! | turns | geometric, at least one |
//! | new tokens, output tokens | log-normal: many short, few very long |
//! | tool waits | exponential |
//!
//! Each purpose has its own random stream, so changing one parameter leaves the other draws alone.
//!
//! Two prompts share the complete blocks they have in common; a block that the earlier prompt fills only in part has a
//! new name in the later one. Generated tokens are new to the prompt that quotes them.

use std::collections::HashMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal, Zipf};

use crate::scenario::{AgentPreset, Run};
use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::content::{Content, NO_NODE, NodeIndex, PromptTrie, TrieNode};
use super::hints::RouterHints;
use super::model::{MAX_GENERATED, MAX_TOKENS, Release, RequestSpec, Session, Workload};
use super::streams;

/// What a random stream is for; the number is part of the results.
#[derive(Clone, Copy)]
enum Purpose {
    Starts = 1,
    Prompts = 2,
    Turns = 3,
    Lengths = 4,
    Waits = 5,
}

fn stream(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    streams::stream(seed, purpose as u64)
}

/// The sessions of `preset`.
pub(super) fn generate(preset: &AgentPreset, run: &Run) -> Result<Workload, WorkloadError> {
    check(preset)?;
    let concurrency = run.traffic.concurrency;
    let speedup = if concurrency.is_none() { run.traffic.arrival_speedup } else { 1.0 };
    let systems = choose_systems(preset, run.seed)?;
    let mut tree = Tree::new(preset, &systems);
    let mut script = Script::new(preset, run.seed)?;
    let mut starts = Starts::new(preset, run.seed);
    let mut requests = Vec::new();
    let mut sessions = Vec::with_capacity(systems.len());
    let mut cut_short = 0_u32;
    for (index, system) in systems.into_iter().enumerate() {
        let start_ms = starts.next_ms() / speedup;
        let arrival = match concurrency {
            Some(_) => SimTime::ZERO,
            None => SimTime::from_ms(start_ms)
                .map_err(|e| setting("sessions_per_s", e.to_string(), "choose a higher rate or fewer sessions"))?,
        };
        let first = requests.len() as u32;
        let (turns, complete) = script.session();
        cut_short += u32::from(!complete);
        for (number, turn) in turns.iter().enumerate() {
            let delay = if number == 0 { 0.0 } else { turn.wait_ms / speedup };
            requests.push(RequestSpec {
                arrival,
                delay: SimDuration::from_ms(delay)
                    .map_err(|e| setting("tool_wait_ms", e.to_string(), "choose a shorter wait"))?,
                prompt_tokens: turn.prompt,
                output_tokens: turn.output,
            });
        }
        if requests.len() as u64 > MAX_GENERATED {
            let cause = format!("the sessions have more than {MAX_GENERATED} turns in all");
            return Err(setting("sessions", cause, "choose fewer sessions or fewer turns"));
        }
        tree.session(system, turns);
        sessions.push(Session { name: format!("agent_{index}").into(), first, turns: requests.len() as u32 - first });
    }
    let mut notes = Vec::new();
    if cut_short > 0 {
        notes.push(format!("{cut_short} of {} agent sessions ended at max_context_tokens", sessions.len()));
    }
    let release = Release::Sessions { sessions, concurrency, named: true };
    Ok(Workload {
        requests,
        release,
        content: Content::Trie(tree.trie),
        planned_outputs: true,
        timed: true,
        hints: RouterHints::default(),
        notes,
    })
}

fn setting(field: &'static str, cause: impl Into<String>, cure: &str) -> WorkloadError {
    WorkloadError::setting(field, cause, cure)
}

fn check(p: &AgentPreset) -> Result<(), WorkloadError> {
    let counts = [
        ("sessions", p.sessions),
        ("system_prompts", p.system_prompts),
        ("turn_tokens", p.turn_tokens),
        ("output_tokens", p.output_tokens),
        ("block_size", p.block_size),
    ];
    for (field, value) in counts {
        if value == 0 || value > MAX_TOKENS {
            return Err(setting(field, format!("is {value}"), "choose a whole number from 1 to 2147483647"));
        }
    }
    if u64::from(p.sessions) > MAX_GENERATED {
        return Err(setting("sessions", format!("is {}", p.sessions), "choose at most 50000000"));
    }
    if p.max_context_tokens > MAX_TOKENS || p.max_context_tokens < p.system_tokens.saturating_add(2) {
        let cause = format!("is {}", p.max_context_tokens);
        return Err(setting("max_context_tokens", cause, "leave room for system_tokens and a first turn"));
    }
    let reals = [
        ("burst_every_s", p.burst_every_s, 0.0),
        ("burst_length_s", p.burst_length_s, 0.0),
        ("burst_factor", p.burst_factor, 0.0),
        ("turn_sigma", p.turn_sigma, 0.0),
        ("output_sigma", p.output_sigma, 0.0),
        ("tool_wait_ms", p.tool_wait_ms, 0.0),
        ("sessions_per_s", p.sessions_per_s, f64::MIN_POSITIVE),
        ("mean_turns", p.mean_turns, 1.0),
    ];
    for (field, value, least) in reals {
        if !(value.is_finite() && value >= least) {
            let bound = if field == "mean_turns" { "at least 1" } else { "that is not negative" };
            let cure = if field == "sessions_per_s" {
                "choose a rate above zero".to_owned()
            } else {
                format!("choose a number {bound}")
            };
            return Err(WorkloadError::setting(field, format!("is {value}"), cure));
        }
    }
    Ok(())
}

/// System prompt of every session.
fn choose_systems(p: &AgentPreset, seed: u64) -> Result<Vec<u32>, WorkloadError> {
    let mut rng = stream(seed, Purpose::Prompts);
    let zipf = Zipf::new(f64::from(p.system_prompts), 1.0)
        .map_err(|e| setting("system_prompts", e.to_string(), "choose a whole number above zero"))?;
    Ok((0..p.sessions).map(|_| zipf.sample(&mut rng) as u32).collect())
}

/// Session starts: a Poisson process on a warped clock.
///
/// `mass` is the expected number of starts so far. It grows at the base rate outside bursts and faster within; the k-th
/// burst begins at k times `burst_every_s`, k from 1. Turning mass back into time is a division, however short the
/// cycles are.
struct Starts {
    rng: ChaCha8Rng,
    mass: f64,
    base: f64,
    every: f64,
    length: f64,
    burst: f64,
}

impl Starts {
    fn new(p: &AgentPreset, seed: u64) -> Self {
        Self {
            rng: stream(seed, Purpose::Starts),
            mass: 0.0,
            base: p.sessions_per_s,
            every: p.burst_every_s,
            length: p.burst_length_s.min(p.burst_every_s),
            burst: p.sessions_per_s * p.burst_factor,
        }
    }

    /// Start of the next session; the first starts at 0.
    fn next_ms(&mut self) -> f64 {
        let at = self.time_s(self.mass) * 1_000.0;
        let step: f64 = Exp1.sample(&mut self.rng);
        self.mass += step;
        at
    }

    fn time_s(&self, mass: f64) -> f64 {
        let quiet_start = self.base * self.every;
        if self.every <= 0.0 || self.length <= 0.0 || mass < quiet_start {
            return mass / self.base;
        }
        let in_burst = self.burst * self.length;
        let per_cycle = in_burst + self.base * (self.every - self.length);
        let cycles = ((mass - quiet_start) / per_cycle).floor();
        let rest = (mass - quiet_start - cycles * per_cycle).max(0.0);
        let within = if rest < in_burst { rest / self.burst } else { self.length + (rest - in_burst) / self.base };
        self.every * (1.0 + cycles) + within
    }
}

/// A turn's lengths and the wait before it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    prompt: u32,
    output: u32,
    wait_ms: f64,
}

/// Writes one session after another.
struct Script<'p> {
    preset: &'p AgentPreset,
    counts: ChaCha8Rng,
    lengths: ChaCha8Rng,
    waits: ChaCha8Rng,
    added: LogNormal<f64>,
    output: LogNormal<f64>,
    turns: Vec<Turn>,
}

impl<'p> Script<'p> {
    fn new(preset: &'p AgentPreset, seed: u64) -> Result<Self, WorkloadError> {
        let log_normal = |field, median: u32, sigma| {
            LogNormal::new(f64::from(median).ln(), sigma)
                .map_err(|e| setting(field, e.to_string(), "choose a smaller spread"))
        };
        Ok(Self {
            preset,
            counts: stream(seed, Purpose::Turns),
            lengths: stream(seed, Purpose::Lengths),
            waits: stream(seed, Purpose::Waits),
            added: log_normal("turn_sigma", preset.turn_tokens, preset.turn_sigma)?,
            output: log_normal("output_sigma", preset.output_tokens, preset.output_sigma)?,
            turns: Vec::new(),
        })
    }

    /// The next session's turns, at least one, and whether the context limit left room for all of them.
    fn session(&mut self) -> (&[Turn], bool) {
        self.turns.clear();
        // More would be refused anyhow; memory is not to run out before that.
        let wanted = u64::from(self.turn_count()).min(MAX_GENERATED + 1);
        let limit = self.preset.max_context_tokens;
        let mut context = self.preset.system_tokens;
        while (self.turns.len() as u64) < wanted {
            let mut added = tokens(self.added.sample(&mut self.lengths));
            let mut output = tokens(self.output.sample(&mut self.lengths));
            let wait: f64 = Exp1.sample(&mut self.waits);
            if self.turns.is_empty() {
                // A session has a first turn whatever its lengths; it is cut to what fits.
                added = added.min(limit - context - 1);
                output = output.min(limit - context - added);
            }
            if u64::from(context) + u64::from(added) + u64::from(output) > u64::from(limit) {
                return (&self.turns, false);
            }
            let prompt = context + added;
            context = prompt + output;
            self.turns.push(Turn { prompt, output, wait_ms: wait * self.preset.tool_wait_ms });
        }
        (&self.turns, true)
    }

    /// One plus a geometric number with the right mean, by inversion: one draw, whatever the mean.
    fn turn_count(&mut self) -> u32 {
        let u = 1.0 - self.counts.random::<f64>();
        let more = (u.ln() / (-1.0 / self.preset.mean_turns).ln_1p()).floor();
        // A mean of one divides by minus infinity; the cast turns what is not a number into zero.
        (more as u32).saturating_add(1)
    }
}

/// A drawn length as tokens: rounded, at least one.
fn tokens(drawn: f64) -> u32 {
    (drawn.round() as u32).clamp(1, MAX_TOKENS)
}

/// The tree of common beginnings, made directly: a session's prompts are known to extend each other.
struct Tree<'p> {
    preset: &'p AgentPreset,
    /// How many sessions begin with each system prompt, and its node once there is one.
    systems: HashMap<u32, (u32, NodeIndex)>,
    trie: PromptTrie,
}

impl<'p> Tree<'p> {
    fn new(preset: &'p AgentPreset, systems: &[u32]) -> Self {
        let mut users = HashMap::new();
        for system in systems {
            users.entry(*system).or_insert((0, NO_NODE)).0 += 1;
        }
        Self { preset, systems: users, trie: PromptTrie { block_tokens: preset.block_size, ..PromptTrie::default() } }
    }

    fn node(trie: &mut PromptTrie, parent: NodeIndex, start: u32, end: u32) -> NodeIndex {
        if start >= end {
            return parent;
        }
        trie.nodes.push(TrieNode { parent, start, end });
        trie.nodes.len() as u32 - 1
    }

    fn session(&mut self, system: u32, turns: &[Turn]) {
        let Self { preset, systems, trie } = self;
        let (mut at, mut end) = (NO_NODE, 0);
        if let Some((users, node)) = systems.get_mut(&system)
            && *users > 1
        {
            let blocks = preset.system_tokens / preset.block_size;
            if *node == NO_NODE {
                *node = Self::node(trie, NO_NODE, 0, blocks);
            }
            (at, end) = (*node, blocks);
        }
        for (number, turn) in turns.iter().enumerate() {
            // Every turn but the last leaves its complete blocks to the next one.
            if number + 1 < turns.len() {
                let blocks = turn.prompt / preset.block_size;
                at = Self::node(trie, at, end, blocks);
                end = end.max(blocks);
            }
            trie.leaf.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_begin_on_the_minute_and_run_at_their_own_rate() {
        let preset = AgentPreset {
            sessions_per_s: 1.0,
            burst_every_s: 10.0,
            burst_length_s: 2.0,
            burst_factor: 4.0,
            ..AgentPreset::default()
        };
        let starts = Starts::new(&preset, 1);
        // 10 in the quiet start, then 8 in the burst and 8 until the next one.
        for (mass, time) in
            [(0.0, 0.0), (5.0, 5.0), (10.0, 10.0), (14.0, 11.0), (18.0, 12.0), (22.0, 16.0), (26.0, 20.0), (30.0, 21.0)]
        {
            assert!((starts.time_s(mass) - time).abs() < 1e-12, "{mass}: {}", starts.time_s(mass));
        }
        let silent = Starts::new(&AgentPreset { burst_factor: 0.0, ..preset.clone() }, 1);
        assert!((silent.time_s(10.0) - 12.0).abs() < 1e-12);
        let never = Starts::new(&AgentPreset { burst_every_s: 0.0, ..preset }, 1);
        assert!((never.time_s(30.0) - 30.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_number_of_turns_is_the_given_one() {
        for mean in [1.0, 1.5, 6.0] {
            let preset = AgentPreset { mean_turns: mean, ..AgentPreset::default() };
            let mut script = Script::new(&preset, 3).expect("a script");
            let sum: u64 = (0..20_000).map(|_| u64::from(script.turn_count())).sum();
            assert!((sum as f64 / 20_000.0 - mean).abs() < 0.15, "{mean}: {sum}");
        }
        let endless = AgentPreset { mean_turns: 1e300, ..AgentPreset::default() };
        assert!(Script::new(&endless, 3).expect("a script").session().0.len() > 10);
    }

    /// Prompts spelled out as ids: the system's blocks, what each turn completes, and a last block of its own.
    fn spelled_out(preset: &AgentPreset, system: u32, turns: &[Turn], next: &mut u32) -> Vec<Vec<u32>> {
        let own = |next: &mut u32| {
            *next += 1;
            *next
        };
        let mut kept: Vec<u32> = (0..preset.system_tokens / preset.block_size).map(|b| system * 10 + b).collect();
        turns
            .iter()
            .map(|turn| {
                while (kept.len() as u32) < turn.prompt / preset.block_size {
                    kept.push(own(next));
                }
                let mut ids = kept.clone();
                if !turn.prompt.is_multiple_of(preset.block_size) {
                    ids.push(own(next));
                }
                ids
            })
            .collect()
    }

    #[test]
    fn the_tree_is_that_of_the_prompts_spelled_out() {
        let preset = AgentPreset {
            sessions: 40,
            system_prompts: 30,
            system_tokens: 100,
            turn_tokens: 20,
            output_tokens: 10,
            mean_turns: 3.0,
            block_size: 16,
            ..AgentPreset::default()
        };
        let systems = choose_systems(&preset, 9).expect("systems");
        let mut tree = Tree::new(&preset, &systems);
        let mut script = Script::new(&preset, 9).expect("a script");
        let (mut prompts, mut next) = (Vec::new(), 1_000);
        for system in systems {
            let turns = script.session().0.to_vec();
            tree.session(system, &turns);
            prompts.extend(spelled_out(&preset, system, &turns, &mut next));
        }
        let naive = PromptTrie::build(16, next + 1, prompts.iter().map(Vec::as_slice));
        assert_eq!(tree.trie.leaf.len(), prompts.len());
        let n = prompts.len() as u32;
        let pairs = || (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)));
        assert!(pairs().all(|(a, b)| tree.trie.shared_blocks(a, b) == naive.shared_blocks(a, b)));
        assert!(pairs().any(|(a, b)| tree.trie.shared_blocks(a, b) > 6));
    }
}
