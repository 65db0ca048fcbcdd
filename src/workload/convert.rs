//! Writes any workload as Mooncake JSON Lines.
//!
//! Reading the file back gives the same requests, releases and common beginnings, so a run of it has the same results,
//! as far as the format can say what the workload holds; [`ConvertSummary::warnings`] names what it cannot. Hash ids are
//! new: what several prompts share has ids of its own, everything else ids that occur once.
//!
//! Requests that wait for others become `agentic_mooncake` rows, sessions whose turns only add to what was said
//! `mooncake-delta` rows; both are Mooncake rows with more to them.

use std::collections::HashMap;
use std::io::Write;

use crate::scenario::TraceFormat;
use crate::time::SimTime;

use super::WorkloadError;
use super::content::{Content, PromptTrie, TokenStreams};
use super::graph::Graph;
use super::model::{Release, RequestSpec, Workload};
use super::options::DEFAULT_BLOCK_SIZE;

/// What a conversion may choose. The default keeps the block size of the workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Tokens per hash id of the file, at least 1. Where prompts share blocks it must divide their size. `None` takes
    /// that size, or 512 where nothing is shared.
    pub block_size: Option<u32>,
}

/// What was written, and how to read it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertSummary {
    /// Rows written, one per request.
    pub requests: usize,
    /// Format of the rows: `mooncake`, or one that builds on it.
    pub format: TraceFormat,
    /// Tokens per hash id.
    pub block_size: u32,
    /// What the file does not say, and what replaying it needs, one sentence each.
    pub warnings: Vec<String>,
}

/// Writes `workload` to `out`, one row per request; the turns of a session follow each other.
///
/// # Errors
/// When the block size does not suit the workload, or `out` refuses the rows.
pub fn to_mooncake(
    workload: &Workload,
    out: &mut dyn Write,
    options: &ConvertOptions,
) -> Result<ConvertSummary, WorkloadError> {
    let mut prompts = Prompts::new(&workload.content, options.block_size)?;
    let format = match (&workload.release, &workload.content) {
        (Release::Graph(_), _) => TraceFormat::AgenticMooncake,
        (_, Content::Streams(TokenStreams { delta: true, .. })) => TraceFormat::MooncakeDelta,
        _ => TraceFormat::Mooncake,
    };
    let mut row = String::new();
    let mut ids = Vec::new();
    let mut places = Places::new(workload);
    for (index, request) in (0..).zip(&workload.requests) {
        row.clear();
        row.push('{');
        places.write(&mut row, workload.timed, index, request);
        ids.clear();
        prompts.ids(index, request.prompt_tokens, &mut ids);
        push_number(&mut row, "input_length", request.prompt_tokens);
        push_number(&mut row, "output_length", request.output_tokens);
        push_list(&mut row, "hash_ids", &ids);
        if let Some(tokens) = prompts.authored(index) {
            push_list(&mut row, "output_token_ids", &tokens);
        }
        push_hint(&mut row, workload, index);
        row.push_str("}\n");
        out.write_all(row.as_bytes()).map_err(WorkloadError::Write)?;
    }
    let block_size = prompts.block_size();
    Ok(ConvertSummary {
        requests: workload.requests.len(),
        format,
        block_size,
        warnings: warnings(workload, block_size),
    })
}

fn warnings(workload: &Workload, block_size: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    match (&workload.release, &workload.content) {
        (Release::Graph(graph), _) => {
            warn(
                "Requests wait for others, which plain Mooncake cannot say: replay the file with `--trace-format agentic_mooncake`, in an open loop.",
            );
            if graph.closed.is_some() {
                warn("The cap on sessions in progress is left out.");
            }
        }
        (_, Content::Streams(TokenStreams { delta: true, .. })) => {
            warn("Turns add to what was said: replay the file with `--trace-format mooncake-delta`.");
        }
        (Release::Sessions { named: false, .. }, _) => warn("Requests get session names of their own."),
        _ => {}
    }
    if block_size != DEFAULT_BLOCK_SIZE {
        warnings.push(format!(
            "A hash id stands for {block_size} tokens: replay the file with `--trace-block-size {block_size}`."
        ));
    }
    if let Release::Sessions { concurrency: Some(cap), .. } = &workload.release {
        warnings.push(format!("The workload was opened for a closed loop, so arrivals are left out: replay the file with `--replay-concurrency {cap}`."));
    } else if !workload.timed {
        warnings.push("There are no arrival times: replay the file with `--replay-concurrency`.".to_owned());
    } else if workload.requests.iter().map(|request| request.arrival.as_nanos()).min().is_some_and(|first| first > 0) {
        warnings.push("Nothing arrives at first; replaying the file begins with the first arrival.".to_owned());
    }
    if !workload.planned_outputs {
        warnings.push("Prefill workers of a disaggregated run produce the outputs of a trace in full (`dynamo` semantics), which they do not do for this load.".to_owned());
    }
    warnings
}

/// Writes where requests stand: session, time, what they wait for.
enum Places<'a> {
    Flat,
    Sessions {
        names: Vec<(u32, String)>,
        at: usize,
        timed: bool,
    },
    Graph {
        graph: &'a Graph,
        /// A request that waits and gets a timestamp of 0, which keeps the arrivals of the others where they are.
        anchor: Option<u32>,
    },
}

impl<'a> Places<'a> {
    fn new(workload: &'a Workload) -> Self {
        match &workload.release {
            Release::Flat => Self::Flat,
            Release::Sessions { sessions, named, concurrency } => {
                let name = |name: &str| if *named { quoted(name) } else { String::new() };
                let names = sessions.iter().map(|session| (session.first, name(&session.name))).collect();
                Self::Sessions { names, at: 0, timed: concurrency.is_none() }
            }
            Release::Graph(graph) => {
                let waits = |index: &u32| !graph.waits_for.of(*index).is_empty();
                let requests = || (0..).zip(&workload.requests);
                let begins = requests().any(|(index, request)| !waits(&index) && request.arrival == SimTime::ZERO);
                let anchor = requests().map(|(index, _)| index).find(waits).filter(|_| !begins);
                Self::Graph { graph, anchor }
            }
        }
    }

    fn write(&mut self, row: &mut String, timed: bool, index: u32, request: &RequestSpec) {
        match self {
            Self::Flat => push_ms(row, "timestamp", request.arrival.as_nanos()),
            Self::Sessions { names, at, timed: open } => {
                while names.get(*at + 1).is_some_and(|(first, _)| *first <= index) {
                    *at += 1;
                }
                let Some((first, name)) = names.get(*at) else { return };
                if !name.is_empty() {
                    push_key(row, "session_id");
                    row.push_str(name);
                }
                if *first == index {
                    if timed && *open {
                        push_ms(row, "timestamp", request.arrival.as_nanos());
                    }
                } else if !request.delay.is_zero() {
                    push_ms(row, "delay", request.delay.as_nanos());
                }
            }
            Self::Graph { graph, anchor } => {
                push_key(row, "request_id");
                row.push_str(&format!("\"r{index}\""));
                let session = graph.turns.get(index as usize).and_then(|(s, _)| graph.sessions.get(*s as usize));
                if let Some(name) = session {
                    push_key(row, "session_id");
                    row.push_str(&quoted(name));
                }
                let waits = graph.waits_for.of(index);
                if waits.is_empty() {
                    if timed {
                        push_ms(row, "timestamp", request.arrival.as_nanos());
                    }
                } else {
                    let names: Vec<String> = waits.iter().map(|request| format!("\"r{request}\"")).collect();
                    if timed && *anchor == Some(index) {
                        push_ms(row, "timestamp", 0);
                    }
                    push_list(row, "wait_for", &names);
                    push_ms(row, "delay", request.delay.as_nanos());
                }
            }
        }
    }
}

/// Finds the hash ids of prompts.
enum Prompts<'a> {
    /// Nothing is shared: every id is new.
    Unique { block_size: u32, next: u64 },
    /// Ids by tree node.
    Trie {
        trie: &'a PromptTrie,
        /// New ids per id of the tree.
        split: u32,
        /// First id of each node.
        bases: Vec<u64>,
        next: u64,
    },
    /// Ids by token value.
    Streams { streams: &'a TokenStreams, block_size: u32, numbers: HashMap<u32, u32> },
}

impl<'a> Prompts<'a> {
    fn new(content: &'a Content, wanted: Option<u32>) -> Result<Self, WorkloadError> {
        let divisor = |size: u32| match wanted {
            None => Ok(size),
            Some(wanted) if wanted > 0 && size.is_multiple_of(wanted) => Ok(wanted),
            Some(wanted) => {
                let cause = format!("is {wanted}, but prompts share blocks of {size} tokens");
                Err(WorkloadError::setting("block-size", cause, format!("choose {size} or a divisor of it")))
            }
        };
        match content {
            Content::Unique => match wanted.unwrap_or(DEFAULT_BLOCK_SIZE) {
                0 => Err(WorkloadError::setting("block-size", "is 0", "choose at least 1")),
                block_size => Ok(Self::Unique { block_size, next: 0 }),
            },
            Content::Trie(trie) => {
                let split = trie.block_tokens.max(1) / divisor(trie.block_tokens.max(1))?;
                let mut next = 0;
                let bases = trie.nodes.iter().map(|node| {
                    let base = next;
                    next += u64::from(node.end - node.start) * u64::from(split);
                    base
                });
                let bases = bases.collect();
                Ok(Self::Trie { trie, split, bases, next })
            }
            Content::Streams(streams) => {
                let block_size = divisor(streams.block_tokens.max(1))?;
                Ok(Self::Streams { streams, block_size, numbers: numbers(streams)? })
            }
        }
    }

    fn block_size(&self) -> u32 {
        match self {
            Self::Unique { block_size, .. } | Self::Streams { block_size, .. } => *block_size,
            Self::Trie { trie, split, .. } => trie.block_tokens.max(1) / split,
        }
    }

    /// Appends the ids of a prompt.
    fn ids(&mut self, request: u32, prompt_tokens: u32, ids: &mut Vec<u64>) {
        let blocks = prompt_tokens.div_ceil(self.block_size()) as usize;
        let next = match self {
            Self::Unique { next, .. } => next,
            Self::Trie { trie, split, bases, next } => {
                let mut at = trie.leaf.get(request as usize).copied().unwrap_or(u32::MAX);
                while let (Some(node), Some(base)) = (trie.nodes.get(at as usize), bases.get(at as usize)) {
                    let count = u64::from(node.end - node.start) * u64::from(*split);
                    // From the leaf to the root: backwards, to be turned round.
                    ids.extend((*base..*base + count).rev());
                    at = node.parent;
                }
                ids.reverse();
                ids.truncate(blocks);
                next
            }
            Self::Streams { streams, block_size, numbers } => {
                for (token, count) in streams.prompts.get(request as usize).map_or(&[][..], |runs| runs) {
                    let id = numbers.get(token).copied().unwrap_or_default();
                    ids.extend(std::iter::repeat_n(u64::from(id), count.div_ceil(*block_size) as usize));
                }
                return;
            }
        };
        while ids.len() < blocks {
            ids.push(*next);
            *next += 1;
        }
    }

    /// The output tokens that a request is to produce, if they are given.
    fn authored(&self, request: u32) -> Option<Vec<u32>> {
        let Self::Streams { streams, numbers, .. } = self else { return None };
        let tokens = streams.outputs.get(request as usize)?.as_ref()?;
        Some(tokens.iter().map(|token| numbers.get(token).copied().unwrap_or_default()).collect())
    }
}

/// New values for all tokens, so that prompt tokens are numbered as reading the rows will number them, and output tokens
/// are equal to prompt tokens exactly where they were.
fn numbers(streams: &TokenStreams) -> Result<HashMap<u32, u32>, WorkloadError> {
    let mut numbers = HashMap::new();
    let prompts = streams.prompts.iter().flat_map(|runs| runs.iter().map(|(token, _)| *token));
    let outputs = streams.outputs.iter().flatten().flat_map(|tokens| tokens.iter().copied());
    for token in prompts.chain(outputs) {
        let Ok(next) = u32::try_from(numbers.len()) else {
            return Err(WorkloadError::setting("trace", "has too many different tokens", "split the trace"));
        };
        numbers.entry(token).or_insert(next);
    }
    Ok(numbers)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a key, after a comma unless it is the first of the row.
fn push_key(row: &mut String, key: &str) {
    if !row.ends_with('{') {
        row.push_str(", ");
    }
    row.push('"');
    row.push_str(key);
    row.push_str("\": ");
}

/// Writes what the request asks of a router's queue, if anything.
fn push_hint(row: &mut String, workload: &Workload, index: u32) {
    let hint = workload.hints.get(index);
    if hint.priority != 0 {
        push_number(row, "priority", hint.priority);
    }
    if hint.strict_priority != 0 {
        push_number(row, "strict_priority", hint.strict_priority);
    }
    if let Some(class) = hint.class.and_then(|class| workload.hints.classes.get(class as usize)) {
        push_key(row, "policy_class");
        row.push_str(&quoted(class));
    }
}

fn push_number(row: &mut String, key: &str, value: impl std::fmt::Display) {
    push_key(row, key);
    row.push_str(&value.to_string());
}

/// Nanoseconds as milliseconds, written out so that they are read back to the same nanosecond (within 26 days).
fn push_ms(row: &mut String, key: &str, nanos: u64) {
    push_key(row, key);
    row.push_str(&(nanos / 1_000_000).to_string());
    let rest = nanos % 1_000_000;
    if rest > 0 {
        let digits = format!(".{rest:06}");
        row.push_str(digits.trim_end_matches('0'));
    }
}

fn push_list<T: std::fmt::Display>(row: &mut String, key: &str, list: &[T]) {
    push_key(row, key);
    row.push('[');
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            row.push_str(", ");
        }
        row.push_str(&item.to_string());
    }
    row.push(']');
}
