//! What prompts consist of, as far as sharing goes.
//!
//! Token values never matter, only whether two prompts begin alike. A trace names prompt content by *hash ids*, one per
//! trace block; [`PromptTrie`] merges equal beginnings once, at load time, so that the KV pool can treat whole stretches
//! of blocks as one thing. Where generated tokens can be shared as well (delta sessions, authored outputs) token streams
//! are kept instead.

/// How equal prompt beginnings are found.
#[derive(Debug, Clone)]
pub enum Content {
    /// No two prompts share anything.
    Unique,
    /// Prompts named by hash ids.
    Trie(PromptTrie),
    /// Prompts and outputs as token runs; generated blocks can be shared.
    Streams(TokenStreams),
}

/// Index of a [`TrieNode`].
pub type NodeIndex = u32;
/// No node.
pub const NO_NODE: NodeIndex = u32::MAX;

/// A radix tree over hash ids in which only nodes that several prompts pass through are kept.
///
/// A node covers the trace blocks `start..end` of every prompt below it. What a single prompt has for itself needs no
/// node: nobody else can ask for it.
#[derive(Debug, Clone, Default)]
pub struct PromptTrie {
    /// Tokens per trace block.
    pub block_tokens: u32,
    /// Parents come before children.
    pub nodes: Vec<TrieNode>,
    /// Per request: the deepest shared node on its path, or [`NO_NODE`].
    pub leaf: Vec<NodeIndex>,
}

/// A stretch of trace blocks that every prompt through it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrieNode {
    /// The stretch before, or [`NO_NODE`].
    pub parent: NodeIndex,
    /// First trace block covered.
    pub start: u32,
    /// One past the last trace block covered.
    pub end: u32,
}

/// Token streams as runs of equal tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenStreams {
    /// Tokens per trace block; prompts are made of whole blocks, but for their end.
    pub block_tokens: u32,
    /// Whether a turn's prompt is everything before it in its session plus its own tokens.
    pub delta: bool,
    /// Per request: runs of (token, count) that make up its own prompt tokens.
    pub prompts: Vec<Box<[(u32, u32)]>>,
    /// Per request: authored output tokens; `None` means unique to the request.
    pub outputs: Vec<Option<Box<[u32]>>>,
}
