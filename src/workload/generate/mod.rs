//! Generators of workloads: how sessions arrive, what they begin with, how long they are, how they go on.
//!
//! A [`Spec`] is one JSON document. It is the `workload` of a scenario, so that a run needs no trace file, and what
//! `dynosim trace generate` writes a trace from; both give the same requests.
//!
//! | file | holds |
//! |---|---|
//! | `spec` | the document |
//! | `read` | reading it: presets, keys for all classes |
//! | `dist` | amounts that are drawn |
//! | `samples` | amounts from files |
//! | `process` | arrival processes |
//! | `arrivals` | when sessions begin |
//! | `prefix` | what they begin with, and which prompts begin alike |
//! | `script` | what happens in a session |
//! | `streams` | named random streams |
//! | `error` | what is wrong with a document |
//!
//! Two prompts share the complete blocks they have in common: of their prefixes, and within a session of everything said
//! before. A block that an earlier prompt fills only in part has a new name in a later one. Generated tokens are new to
//! the prompt that quotes them.

mod arrivals;
mod dist;
mod error;
mod prefix;
mod process;
mod read;
mod samples;
mod script;
mod spec;
mod streams;

use rand::Rng;

pub use dist::{Dist, Shape};
pub use error::SpecError;
pub use process::{Process, State};
pub use read::PRESETS;
pub use spec::{Class, Level, Pairs, Spec, Tools};

use crate::scenario::Run;
use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::content::{Content, PromptTrie};
use super::hints::RouterHints;
use super::model::{MAX_GENERATED, Release, RequestSpec, Session, Workload};
use arrivals::Starts;
use prefix::Prefixes;
use script::Script;
use streams::{Purpose, stream};

/// Begin, class and prefix of a session.
struct Begin {
    at_s: f64,
    class: u32,
    prefix: u32,
}

/// The sessions of `spec`, with the loop, the speed-up and the seed of `run`.
pub(super) fn generate(spec: &Spec, run: &Run) -> Result<Workload, WorkloadError> {
    let seed = spec.seed.unwrap_or(run.seed);
    let concurrency = run.traffic.concurrency;
    let speedup = if concurrency.is_none() { run.traffic.arrival_speedup } else { 1.0 };
    let scripts = spec.classes.iter().map(Script::new).collect::<Result<Vec<_>, _>>()?;
    let mut prefixes = Prefixes::new(&spec.classes, seed)?;
    let mut notes = Vec::new();
    let begins = begins(spec, seed, &mut prefixes, &mut notes)?;
    let mut trie = PromptTrie { block_tokens: spec.block_size, ..PromptTrie::default() };
    prefixes.plant(&mut trie);

    let mut requests = Vec::with_capacity(begins.len());
    let mut sessions = Vec::with_capacity(begins.len());
    let mut turns = Vec::new();
    let mut cut_short = 0_u32;
    for (index, begin) in (0..).zip(&begins) {
        let Some((script, class)) = scripts.get(begin.class as usize).zip(spec.classes.get(begin.class as usize))
        else {
            continue;
        };
        let complete = script.session(seed, index, prefixes.tokens(begin.prefix), &mut turns)?;
        cut_short += u32::from(!complete);
        if (requests.len() + turns.len()) as u64 > MAX_GENERATED {
            let cause = format!("the sessions have more than {MAX_GENERATED} requests in all");
            return Err(WorkloadError::setting("sessions", cause, "choose fewer sessions or fewer turns"));
        }
        // Whole nanoseconds first, as in a trace file, so that a run of one is a run of the other.
        let arrival = match concurrency {
            Some(_) => SimTime::ZERO,
            None => SimTime::from_ms(begin.at_s * 1_000.0)
                .and_then(|at| SimTime::from_ms(at.as_ms() / speedup))
                .map_err(|e| WorkloadError::setting("arrivals", e.to_string(), "choose a higher rate"))?,
        };
        let first = requests.len() as u32;
        for turn in &turns {
            let delay = SimDuration::from_ms(turn.wait_ms)
                .and_then(|wait| SimDuration::from_ms(wait.as_ms() / speedup))
                .map_err(|e| WorkloadError::setting("think_ms", e.to_string(), "choose a shorter wait"))?;
            requests.push(RequestSpec { arrival, delay, prompt_tokens: turn.prompt, output_tokens: turn.output });
        }
        prefix::add_session(&mut trie, prefixes.shared(begin.prefix), turns.iter().map(|turn| turn.prompt));
        sessions.push(Session { name: format!("{}_{index}", class.name).into(), first, turns: turns.len() as u32 });
    }
    if cut_short > 0 {
        notes.push(format!("{cut_short} of {} sessions ended at max_context_tokens", sessions.len()));
    }
    // Alone in their sessions and open loop, requests need no sessions, and a trace file shows none.
    let flat = concurrency.is_none() && sessions.iter().all(|s| s.turns == 1);
    let release = if flat { Release::Flat } else { Release::Sessions { sessions, concurrency, named: true } };
    Ok(Workload {
        requests,
        release,
        content: Content::Trie(trie),
        planned_outputs: true,
        timed: true,
        hints: RouterHints::default(),
        notes,
    })
}

/// Draws when sessions begin, and of which class and with which prefix.
fn begins(
    spec: &Spec,
    seed: u64,
    prefixes: &mut Prefixes,
    notes: &mut Vec<String>,
) -> Result<Vec<Begin>, WorkloadError> {
    let wanted = match (spec.sessions, spec.duration_s) {
        (None, None) => u64::from(spec::DEFAULT_SESSIONS),
        (Some(sessions), _) => u64::from(sessions),
        (None, Some(_)) => u64::MAX,
    };
    let too_many = || {
        let cause = format!("there are more than {MAX_GENERATED} sessions");
        let field = if spec.sessions.is_some() { "sessions" } else { "duration_s" };
        WorkloadError::setting(field, cause, "choose fewer sessions or a shorter time")
    };
    // What is sure to be refused needs no drawing.
    if let Some(rate) = spec.arrivals.level_rate() {
        let expected = spec.duration_s.map_or(f64::INFINITY, |seconds| seconds * rate).min(wanted as f64);
        if expected > 2.0 * MAX_GENERATED as f64 {
            return Err(too_many());
        }
    }
    let total: f64 = spec.classes.iter().map(|c| c.weight).sum();
    let shares: Vec<f64> = spec
        .classes
        .iter()
        .scan(0.0, |sum, class| {
            *sum += class.weight / total;
            Some(*sum)
        })
        .collect();
    let mut starts = Starts::new(&spec.arrivals, seed);
    let mut begins = Vec::new();
    while (begins.len() as u64) < wanted {
        let Some(mut at_s) = starts.next()? else {
            if spec.sessions.is_some() {
                let count = begins.len();
                notes.push(format!("only {count} of {wanted} sessions begin: the arrival rate falls to zero"));
            }
            break;
        };
        if let Some(batch) = spec.batch_s {
            at_s = (at_s / batch).floor() * batch;
        }
        if spec.duration_s.is_some_and(|end| at_s >= end) {
            break;
        }
        if begins.len() as u64 >= MAX_GENERATED {
            return Err(too_many());
        }
        let session = begins.len() as u32;
        let class = match shares.len() {
            1 => 0,
            _ => dist::pick(shares.iter().copied(), stream(seed, Purpose::Classes, session).random()) as u32,
        };
        begins.push(Begin { at_s, class, prefix: prefixes.choose(class, session)? });
    }
    Ok(begins)
}
