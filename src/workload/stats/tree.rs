//! The tree of prompt blocks, whatever form the content has.

use std::collections::HashMap;

use crate::workload::content::{Content, NO_NODE, NodeIndex, TokenStreams, TrieNode};
use crate::workload::{Release, Workload};

/// Which blocks every prompt consists of: a path from the root that others may share, then blocks of its own.
#[derive(Debug)]
pub(super) struct BlockTree {
    /// Tokens per block.
    pub block_tokens: u32,
    /// Stretches of blocks; parents come before children.
    pub nodes: Vec<TrieNode>,
    /// Per request: the last stretch on its path, or [`NO_NODE`].
    pub leaf: Vec<NodeIndex>,
    /// Per request: all its blocks. A last block that is not full counts as one.
    pub blocks: Vec<u32>,
}

impl BlockTree {
    /// The tree of a workload whose prompts have `prompts` tokens. `block_tokens` is the size of a block where the
    /// content does not bring its own.
    pub fn of(workload: &Workload, prompts: &[u32], block_tokens: u32) -> Self {
        let (block_tokens, nodes, leaf) = match &workload.content {
            Content::Trie(trie) => (trie.block_tokens.max(1), trie.nodes.clone(), trie.leaf.clone()),
            Content::Unique => (block_tokens.max(1), Vec::new(), vec![NO_NODE; prompts.len()]),
            Content::Streams(streams) => {
                let mut cutter = Cutter::new(streams.block_tokens.max(1));
                let leaf = cutter.cut(workload, streams);
                (cutter.block_tokens, cutter.nodes, leaf)
            }
        };
        let blocks = prompts.iter().map(|tokens| tokens.div_ceil(block_tokens)).collect();
        Self { block_tokens, nodes, leaf, blocks }
    }

    /// The stretch with this index.
    pub fn node(&self, index: NodeIndex) -> Option<&TrieNode> {
        self.nodes.get(index as usize)
    }
}

/// Prompt tokens of every request; in delta sessions all that was said before counts.
pub(super) fn prompt_tokens(workload: &Workload) -> Vec<u32> {
    let mut tokens: Vec<u32> = workload.requests.iter().map(|r| r.prompt_tokens).collect();
    if let (Content::Streams(TokenStreams { delta: true, .. }), Release::Sessions { sessions, .. }) =
        (&workload.content, &workload.release)
    {
        for session in sessions {
            let mut before = 0_u32;
            for index in session.first..session.first + session.turns {
                let (Some(own), Some(request)) =
                    (tokens.get_mut(index as usize), workload.requests.get(index as usize))
                else {
                    continue;
                };
                *own = own.saturating_add(before);
                before = own.saturating_add(request.output_tokens);
            }
        }
    }
    tokens
}

/// Part of a block: equal tokens, or generated tokens that occur nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Run {
    Token { value: u32, count: u32 },
    Generated { request: u32, from: u32, count: u32 },
}

/// Cuts token streams into blocks; equal blocks after equal blocks are one node.
#[derive(Debug)]
struct Cutter {
    block_tokens: u32,
    nodes: Vec<TrieNode>,
    found: HashMap<(NodeIndex, Box<[Run]>), NodeIndex>,
}

/// A place in a stream: the complete blocks so far and what has begun after them.
#[derive(Debug)]
struct Cursor {
    at: NodeIndex,
    depth: u32,
    tail: Vec<Run>,
    tail_tokens: u32,
}

impl Cursor {
    fn start() -> Self {
        Self { at: NO_NODE, depth: 0, tail: Vec::new(), tail_tokens: 0 }
    }
}

impl Cutter {
    fn new(block_tokens: u32) -> Self {
        Self { block_tokens, nodes: Vec::new(), found: HashMap::new() }
    }

    /// The last node of every request.
    fn cut(&mut self, workload: &Workload, streams: &TokenStreams) -> Vec<NodeIndex> {
        let mut leaf = Vec::with_capacity(streams.prompts.len());
        let mut cursor = Cursor::start();
        let mut begins = vec![true; streams.prompts.len()];
        if let (true, Release::Sessions { sessions, .. }) = (streams.delta, &workload.release) {
            begins.fill(false);
            for session in sessions {
                if let Some(begin) = begins.get_mut(session.first as usize) {
                    *begin = true;
                }
            }
        }
        for (index, prompt) in (0_u32..).zip(&streams.prompts) {
            if begins.get(index as usize).copied().unwrap_or(true) {
                cursor = Cursor::start();
            }
            for (value, count) in prompt {
                self.token(&mut cursor, *value, *count);
            }
            leaf.push(match cursor.tail_tokens {
                0 => cursor.at,
                _ => self.step(cursor.at, cursor.depth, cursor.tail.as_slice().into()),
            });
            if streams.delta {
                match streams.outputs.get(index as usize) {
                    Some(Some(authored)) => authored.iter().for_each(|value| self.token(&mut cursor, *value, 1)),
                    _ => {
                        let count = workload.requests.get(index as usize).map_or(0, |r| r.output_tokens);
                        self.generated(&mut cursor, index, count);
                    }
                }
            }
        }
        leaf
    }

    fn step(&mut self, parent: NodeIndex, depth: u32, block: Box<[Run]>) -> NodeIndex {
        let nodes = &mut self.nodes;
        *self.found.entry((parent, block)).or_insert_with(|| {
            nodes.push(TrieNode { parent, start: depth, end: depth + 1 });
            nodes.len() as NodeIndex - 1
        })
    }

    fn token(&mut self, cursor: &mut Cursor, value: u32, mut count: u32) {
        while count > 0 {
            let part = count.min(self.block_tokens - cursor.tail_tokens);
            match cursor.tail.last_mut() {
                Some(Run::Token { value: last, count }) if *last == value => *count += part,
                _ => cursor.tail.push(Run::Token { value, count: part }),
            }
            count -= part;
            self.filled(cursor, part);
        }
    }

    fn generated(&mut self, cursor: &mut Cursor, request: u32, count: u32) {
        let mut from = 0;
        while from < count {
            let part = (count - from).min(self.block_tokens - cursor.tail_tokens);
            cursor.tail.push(Run::Generated { request, from, count: part });
            from += part;
            self.filled(cursor, part);
        }
    }

    fn filled(&mut self, cursor: &mut Cursor, tokens: u32) {
        cursor.tail_tokens += tokens;
        if cursor.tail_tokens == self.block_tokens {
            cursor.at = self.step(cursor.at, cursor.depth, cursor.tail.as_slice().into());
            cursor.depth += 1;
            cursor.tail.clear();
            cursor.tail_tokens = 0;
        }
    }
}
