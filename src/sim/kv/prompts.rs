//! Names for prompt blocks, in blocks of the engine's size.
//!
//! Two prompts share their first `k` KV blocks exactly if their first `k * block_size` tokens are equal. A block ends in
//! one trace block, so it belongs to the trie node that covers that trace block: node blocks are `floor(start * T / B)`
//! to `floor(end * T / B)` with trace block `T` and engine block `B`, whether or not one divides the other.

use std::collections::HashMap;

use crate::workload::Workload;
use crate::workload::content::{Content, NO_NODE};

/// Blocks `lo..hi` of a sequence, named by `node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Name.
    pub node: u32,
    /// First block.
    pub lo: u32,
    /// One past the last block.
    pub hi: u32,
}

#[derive(Debug, Clone, Copy)]
struct BlockNode {
    parent: u32,
    lo: u32,
    hi: u32,
}

/// What identifies one block given the block before it.
type BlockKey = (u32, Box<[Run]>);

/// Part of a block: equal tokens, or tokens that occur nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Run {
    Token { value: u32, count: u32 },
    Unique { request: u32, from: u32, count: u32 },
}

impl Run {
    fn count(self) -> u32 {
        match self {
            Self::Token { count, .. } | Self::Unique { count, .. } => count,
        }
    }

    /// The run without its first `n` tokens.
    fn skip(self, n: u32) -> Self {
        match self {
            Self::Token { value, count } => Self::Token { value, count: count - n },
            Self::Unique { request, from, count } => Self::Unique { request, from: from + n, count: count - n },
        }
    }

    /// The first `n` tokens of the run.
    fn first(self, n: u32) -> Self {
        match self {
            Self::Token { value, .. } => Self::Token { value, count: n },
            Self::Unique { request, from, .. } => Self::Unique { request, from, count: n },
        }
    }
}

/// Token streams, interned block by block as requests arrive.
#[derive(Debug, Default)]
struct Streams {
    delta: bool,
    prompts: Vec<Box<[(u32, u32)]>>,
    outputs: Vec<Option<Box<[u32]>>>,
    /// What a session has said so far, by request of its next turn.
    history: HashMap<u32, Vec<Run>>,
    blocks: HashMap<BlockKey, u32>,
    /// Names of the blocks of a request in flight.
    names: HashMap<u32, Box<[u32]>>,
}

/// Finds the names of a request's blocks.
#[derive(Debug)]
pub struct PromptIndex {
    block_size: u32,
    nodes: Vec<BlockNode>,
    leaf: Vec<u32>,
    streams: Option<Streams>,
}

fn push_run(runs: &mut Vec<Run>, run: Run) {
    if run.count() == 0 {
        return;
    }
    if let (Some(Run::Token { value, count }), Run::Token { value: v, count: c }) = (runs.last_mut(), run)
        && *value == v
    {
        *count += c;
        return;
    }
    runs.push(run);
}

impl PromptIndex {
    /// The index of a workload for engines with blocks of `block_size` tokens.
    pub fn new(workload: &mut Workload, block_size: u32) -> Self {
        let mut index = Self { block_size, nodes: Vec::new(), leaf: Vec::new(), streams: None };
        match std::mem::replace(&mut workload.content, Content::Unique) {
            Content::Unique => {}
            Content::Trie(trie) => {
                let (trace, engine) = (u64::from(trie.block_tokens), u64::from(block_size));
                let block =
                    |trace_block: u32| (u64::from(trace_block) * trace / engine).min(u64::from(u32::MAX)) as u32;
                index.nodes = trie
                    .nodes
                    .iter()
                    .map(|n| BlockNode { parent: n.parent, lo: block(n.start), hi: block(n.end) })
                    .collect();
                index.leaf = trie.leaf;
            }
            Content::Streams(streams) => {
                index.streams = Some(Streams {
                    delta: streams.delta,
                    prompts: streams.prompts,
                    outputs: streams.outputs,
                    ..Streams::default()
                });
            }
        }
        index
    }

    /// Number of names known now.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The name before this one in every prompt that has it, if known: what comes before a block is the same for all.
    pub fn before(&self, node: u32) -> Option<u32> {
        self.nodes.get(node as usize).map(|node| node.parent).filter(|parent| *parent != NO_NODE)
    }

    /// Whether blocks with generated tokens have names too.
    pub fn names_outputs(&self) -> bool {
        self.streams.is_some()
    }

    /// Replaces `path` by the names of the blocks of `request` that others may have too, in order and without a gap
    /// from block 0; at most the complete blocks of `tokens` tokens.
    pub fn path(&self, request: u32, tokens: u32, path: &mut Vec<Segment>) {
        path.clear();
        let full = tokens / self.block_size;
        if let Some(streams) = &self.streams {
            if let Some(names) = streams.names.get(&request) {
                path.extend((0..).zip(names.iter()).map(|(block, node)| Segment {
                    node: *node,
                    lo: block,
                    hi: block + 1,
                }));
            }
            return;
        }
        let mut node = self.leaf.get(request as usize).copied().unwrap_or(NO_NODE);
        while node != NO_NODE {
            let n = self.nodes[node as usize];
            let hi = n.hi.min(full);
            if n.lo < hi {
                path.push(Segment { node, lo: n.lo, hi });
            }
            node = n.parent;
        }
        path.reverse();
    }

    /// Called when `request` arrives with `own` prompt tokens of its own and `output` planned ones: returns its whole
    /// prompt length (longer than `own` in delta sessions).
    pub fn arrive(&mut self, request: u32, own: u32, output: u32) -> u32 {
        let Some(streams) = &mut self.streams else { return own };
        let mut runs = streams.history.remove(&request).unwrap_or_default();
        for &(value, count) in &streams.prompts[request as usize] {
            push_run(&mut runs, Run::Token { value, count });
        }
        let prompt: u64 = runs.iter().map(|r| u64::from(r.count())).sum();
        let prompt_runs = runs.clone();
        streams.push_output(&mut runs, request, output);
        let names = streams.intern(&runs, self.block_size);
        streams.names.insert(request, names);
        if streams.delta {
            // Kept until the turn ends: only then is it known how much was said.
            streams.history.insert(request, prompt_runs);
        }
        prompt.min(u64::from(u32::MAX / 2)) as u32
    }

    /// Called when a turn ends after `output` tokens; `next` is the session's next turn.
    pub fn end_turn(&mut self, request: u32, output: u32, next: Option<u32>) {
        let Some(streams) = &mut self.streams else { return };
        streams.names.remove(&request);
        if !streams.delta {
            return;
        }
        let mut runs = streams.history.remove(&request).unwrap_or_default();
        if let Some(next) = next {
            streams.push_output(&mut runs, request, output);
            streams.history.insert(next, runs);
        }
    }
}

impl Streams {
    fn push_output(&self, runs: &mut Vec<Run>, request: u32, output: u32) {
        match self.outputs.get(request as usize).and_then(Option::as_ref) {
            Some(tokens) => {
                for &value in tokens.iter().take(output as usize) {
                    push_run(runs, Run::Token { value, count: 1 });
                }
            }
            None => push_run(runs, Run::Unique { request, from: 0, count: output }),
        }
    }

    /// Names of all complete blocks of a token stream.
    fn intern(&mut self, runs: &[Run], block_size: u32) -> Box<[u32]> {
        let mut names = Vec::new();
        let mut parent = NO_NODE;
        let mut block: Vec<Run> = Vec::new();
        let mut missing = block_size;
        for &run in runs {
            let mut run = run;
            while run.count() > 0 {
                let n = run.count().min(missing);
                push_run(&mut block, run.first(n));
                run = run.skip(n);
                missing -= n;
                if missing == 0 {
                    let fresh = self.blocks.len() as u32;
                    parent = *self.blocks.entry((parent, block.as_slice().into())).or_insert(fresh);
                    names.push(parent);
                    block.clear();
                    missing = block_size;
                }
            }
        }
        names.into()
    }
}
