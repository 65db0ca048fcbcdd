//! Agent sessions as Applied Compute writes them (`applied_compute_agentic`): one row per session, with the lengths of
//! all its turns.
//!
//! A session's turns extend each other: what the model answers and what its tool says is added to the next prompt. A
//! block that a prompt fills only in part has the same name in the longer prompt of the next turn. Sessions share
//! nothing, unless they are put into groups whose first prompts begin alike. The rows have no arrival times.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use crate::time::{SimDuration, SimTime};

use super::WorkloadError;
use super::checks::{self, Tally};
use super::content::{Content, NO_NODE, NodeIndex, PromptTrie, TrieNode};
use super::hints::RouterHints;
use super::model::{MAX_TOKENS, Release, RequestSpec, Session, Workload};
use super::options::TraceOptions;
use super::source::{Source, lines};

/// One line of a trace. Everything is needed; the lists have `num_turns` entries each.
#[derive(Deserialize)]
struct Row {
    num_turns: u64,
    input_prompt_length: u64,
    assistant_response_length: Vec<u64>,
    tool_call_output_length: Vec<u64>,
    /// Seconds.
    tool_call_latency: Vec<f64>,
    final_assistant_response_length: u64,
}

/// Reads a trace.
pub(super) fn load(source: &Source, options: &TraceOptions) -> Result<Workload, WorkloadError> {
    let mut notes = Vec::new();
    let text = source.text(&mut notes)?;
    let path = source.path.as_path();
    let mut reader = Reader {
        path,
        options,
        requests: Vec::new(),
        sessions: Vec::new(),
        prefixes: Vec::new(),
        silent: Tally::default(),
    };
    for (line, content) in lines(text) {
        let row = serde_json::from_str(content).map_err(|_| WorkloadError::typed::<Row>(path, line, content))?;
        reader.push(line, &row)?;
    }
    checks::row_count(path, reader.sessions.len())?;
    notes.extend(reader.silent.note("without output tokens in a turn"));
    if options.reading.window.is_some() {
        let cause = "is given, but the trace has no arrival times";
        return Err(WorkloadError::setting("trace-window", cause, "leave it out"));
    }
    let content = Content::Trie(reader.tree());
    let Reader { requests, sessions, .. } = reader;
    let release = Release::Sessions { sessions, concurrency: options.concurrency, named: true };
    Ok(Workload {
        requests,
        release,
        content,
        planned_outputs: true,
        timed: false,
        hints: RouterHints::default(),
        notes,
    })
}

struct Reader<'a> {
    path: &'a Path,
    options: &'a TraceOptions,
    requests: Vec<RequestSpec>,
    sessions: Vec<Session>,
    /// Prefix group of each session, and how many blocks of it the session begins with.
    prefixes: Vec<(u32, u32)>,
    silent: Tally,
}

impl Reader<'_> {
    fn push(&mut self, line: usize, row: &Row) -> Result<(), WorkloadError> {
        let path = self.path;
        let lists = [
            ("assistant_response_length", row.assistant_response_length.len()),
            ("tool_call_output_length", row.tool_call_output_length.len()),
            ("tool_call_latency", row.tool_call_latency.len()),
        ];
        for (field, count) in lists {
            if count as u64 != row.num_turns {
                let cause = format!("has {count} entries, but `num_turns` is {}", row.num_turns);
                return Err(WorkloadError::field(path, line, field, cause, "give one entry per turn"));
            }
        }
        let first = self.requests.len() as u32;
        checks::row_count(path, self.requests.len() + row.assistant_response_length.len() + 1)?;
        let mut input = u64::from(checks::prompt_tokens(path, line, "input_prompt_length", row.input_prompt_length)?);
        self.join_group(line, input as u32);
        let mut delay_ms = 0.0;
        let tools = row.tool_call_output_length.iter().zip(&row.tool_call_latency);
        for (said, (tool, latency)) in row.assistant_response_length.iter().zip(tools) {
            self.turn(line, "assistant_response_length", input, *said, delay_ms)?;
            input = input.saturating_add(*said).saturating_add(*tool);
            if input > u64::from(MAX_TOKENS) {
                let cause = format!("with all before it the session {}", checks::over_limit(input));
                return Err(WorkloadError::field(path, line, "tool_call_output_length", cause, "shorten the session"));
            }
            if !(latency.is_finite() && *latency >= 0.0) {
                let cause = format!("has {latency} s");
                return Err(WorkloadError::field(
                    path,
                    line,
                    "tool_call_latency",
                    cause,
                    "give seconds of zero or more",
                ));
            }
            delay_ms = latency * 1_000.0;
        }
        self.turn(line, "final_assistant_response_length", input, row.final_assistant_response_length, delay_ms)?;
        let turns = self.requests.len() as u32 - first;
        let name = format!("applied_compute_agentic_session_{line}").into();
        self.sessions.push(Session { name, first, turns });
        Ok(())
    }

    fn turn(
        &mut self,
        line: usize,
        field: &'static str,
        input: u64,
        output: u64,
        delay_ms: f64,
    ) -> Result<(), WorkloadError> {
        let output_tokens = checks::tokens(self.path, line, field, output)?;
        if output == 0 {
            self.silent.add(line);
        }
        let delay = SimDuration::from_ms(delay_ms / self.options.think_speedup())
            .map_err(|e| WorkloadError::field(self.path, line, "tool_call_latency", e.to_string(), "give seconds"))?;
        // The limit on prompts is below the range of the type.
        self.requests.push(RequestSpec { arrival: SimTime::ZERO, delay, prompt_tokens: input as u32, output_tokens });
        Ok(())
    }

    /// Puts the next session into its prefix group. Lines count, blank ones included.
    fn join_group(&mut self, line: usize, input: u32) {
        let reading = &self.options.reading;
        let blocks = input.div_ceil(self.options.block_size());
        let shared = (f64::from(blocks) * reading.shared_prefix_ratio).round() as u32;
        let place = match reading.num_prefix_groups {
            0 => (0, 0),
            groups => (((line - 1) % groups as usize) as u32, shared.min(blocks)),
        };
        self.prefixes.push(place);
    }

    /// What prompts have in common, made directly: turns extend each other, groups are known.
    fn tree(&self) -> PromptTrie {
        let block_tokens = self.options.block_size();
        let mut trie = PromptTrie { block_tokens, ..PromptTrie::default() };
        let groups = self.group_nodes(&mut trie);
        for (session, prefix) in self.sessions.iter().zip(&self.prefixes) {
            let (mut at, mut end) = groups.get(prefix).copied().unwrap_or((NO_NODE, 0));
            let range = session.first as usize..(session.first + session.turns) as usize;
            let turns = self.requests.get(range).unwrap_or_default();
            for (number, turn) in turns.iter().enumerate() {
                // Every turn but the last leaves its blocks to the next one.
                let blocks = turn.prompt_tokens.div_ceil(block_tokens);
                if number + 1 < turns.len() && blocks > end {
                    at = push_node(&mut trie, at, end, blocks);
                    end = blocks;
                }
                trie.leaf.push(at);
            }
        }
        trie
    }

    /// By group and number of its blocks that a session begins with: the deepest node for it that several prompts pass
    /// through, and where that ends.
    fn group_nodes(&self, trie: &mut PromptTrie) -> HashMap<(u32, u32), (NodeIndex, u32)> {
        // Prompts by group and number of blocks.
        let mut prompts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (session, prefix) in self.sessions.iter().zip(&self.prefixes).filter(|(_, (_, blocks))| *blocks > 0) {
            *prompts.entry(*prefix).or_default() += u64::from(session.turns);
        }
        let mut passing: HashMap<u32, u64> = HashMap::new();
        for ((group, _), count) in &prompts {
            *passing.entry(*group).or_default() += count;
        }
        let mut nodes = HashMap::new();
        let (mut group, mut at, mut end) = (None, NO_NODE, 0);
        for (prefix, count) in prompts {
            if group != Some(prefix.0) {
                (group, at, end) = (Some(prefix.0), NO_NODE, 0);
            }
            let Some(left) = passing.get_mut(&prefix.0) else { continue };
            if *left > 1 {
                at = push_node(trie, at, end, prefix.1);
                end = prefix.1;
            }
            nodes.insert(prefix, (at, end));
            *left -= count;
        }
        nodes
    }
}

fn push_node(trie: &mut PromptTrie, parent: NodeIndex, start: u32, end: u32) -> NodeIndex {
    trie.nodes.push(TrieNode { parent, start, end });
    trie.nodes.len() as u32 - 1
}
