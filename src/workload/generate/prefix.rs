//! The tree of prefixes that sessions begin with, and the tree of common beginnings that comes of it.

use std::collections::HashMap;

use rand_distr::{Distribution, Zipf};

use crate::workload::WorkloadError;
use crate::workload::content::{NO_NODE, NodeIndex, PromptTrie, TrieNode};
use crate::workload::model::MAX_TOKENS;

use super::dist::Sampler;
use super::spec::Class;
use super::streams::{Purpose, stream};

/// One prefix: what several sessions may begin with.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    parent: u32,
    /// Tokens up to its end.
    tokens: u32,
    /// Sessions that begin with it.
    sessions: u32,
    /// Its node in the tree of common beginnings, if it has one.
    node: NodeIndex,
    /// Blocks that this node and those above cover.
    blocks: u32,
}

/// No prefix: the root.
pub(super) const NO_PREFIX: u32 = u32::MAX;

/// How a class draws the path through its tree.
struct Chooser {
    /// Popularity of the children on each level, and the length of a prefix there.
    levels: Vec<(Zipf<f64>, Sampler)>,
}

/// The prefixes of all classes as far as sessions use them.
pub(super) struct Prefixes {
    seed: u64,
    choosers: Vec<Chooser>,
    all: Vec<Prefix>,
    /// By parent (or class, on the first level) and number of the child.
    found: HashMap<(bool, u32, u32), u32>,
}

impl Prefixes {
    pub fn new(classes: &[Class], seed: u64) -> Result<Self, WorkloadError> {
        let level = |level: &super::spec::Level| {
            let zipf = Zipf::new(f64::from(level.fan_out), level.zipf)
                .map_err(|e| WorkloadError::setting("prefix", e.to_string(), "choose another fan_out or zipf"))?;
            Ok((zipf, level.tokens.sampler("prefix")?))
        };
        let chooser = |class: &Class| {
            let levels = class.prefix.iter().map(level).collect::<Result<_, WorkloadError>>()?;
            Ok(Chooser { levels })
        };
        let choosers = classes.iter().map(chooser).collect::<Result<_, WorkloadError>>()?;
        Ok(Self { seed, choosers, all: Vec::new(), found: HashMap::new() })
    }

    /// The prefix that `session` begins with.
    pub fn choose(&mut self, class: u32, session: u32) -> Result<u32, WorkloadError> {
        let Self { seed, choosers, all, found } = self;
        let levels = choosers.get(class as usize).map_or([].as_slice(), |c| c.levels.as_slice());
        if levels.is_empty() {
            return Ok(NO_PREFIX);
        }
        let mut rng = stream(*seed, Purpose::Prefixes, session);
        let mut at = NO_PREFIX;
        // Names a prefix whatever else there is: a number in the system of the fan-outs, class first.
        let mut place = u64::from(class) + 1;
        for (zipf, length) in levels {
            let child = zipf.sample(&mut rng) as u32;
            place = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(child)).rotate_left(23);
            let key = if at == NO_PREFIX { (true, class, child) } else { (false, at, child) };
            at = match found.get(&key) {
                Some(known) => *known,
                None => {
                    let before = all.get(at as usize).map_or(0, |prefix: &Prefix| prefix.tokens);
                    // Folded to 32 bits: two prefixes that meet there only have the same length.
                    let mut rng = stream(*seed, Purpose::PrefixLengths, (place ^ (place >> 32)) as u32);
                    let tokens = u64::from(before) + u64::from(length.tokens(&mut rng));
                    let Some(tokens) = u32::try_from(tokens).ok().filter(|t| *t <= MAX_TOKENS) else {
                        let cause = format!("the levels add up to {tokens} tokens");
                        return Err(WorkloadError::setting("prefix", cause, format!("stay below {MAX_TOKENS}")));
                    };
                    all.push(Prefix { parent: at, tokens, sessions: 0, node: NO_NODE, blocks: 0 });
                    let index = all.len() as u32 - 1;
                    found.insert(key, index);
                    index
                }
            };
        }
        if let Some(prefix) = all.get_mut(at as usize) {
            prefix.sessions += 1;
        }
        Ok(at)
    }

    /// Tokens of a prefix with all before it.
    pub fn tokens(&self, prefix: u32) -> u32 {
        self.all.get(prefix as usize).map_or(0, |p| p.tokens)
    }

    /// Gives every prefix that several sessions begin with its node in `trie`. All sessions have chosen by now.
    pub fn plant(&mut self, trie: &mut PromptTrie) {
        // Parents come before children, so that backwards every sum is complete when it is handed on.
        for index in (0..self.all.len()).rev() {
            let Some(Prefix { parent, sessions, .. }) = self.all.get(index).copied() else { continue };
            if let Some(parent) = self.all.get_mut(parent as usize) {
                parent.sessions += sessions;
            }
        }
        for index in 0..self.all.len() {
            let Some(Prefix { parent, tokens, sessions, .. }) = self.all.get(index).copied() else { continue };
            let (mut node, mut blocks) = self.all.get(parent as usize).map_or((NO_NODE, 0), |p| (p.node, p.blocks));
            let end = tokens / trie.block_tokens.max(1);
            if sessions > 1 && end > blocks {
                trie.nodes.push(TrieNode { parent: node, start: blocks, end });
                (node, blocks) = (trie.nodes.len() as NodeIndex - 1, end);
            }
            if let Some(prefix) = self.all.get_mut(index) {
                (prefix.node, prefix.blocks) = (node, blocks);
            }
        }
    }

    /// Node of the last prefix of a session that others share, and how many blocks are shared.
    pub fn shared(&self, prefix: u32) -> (NodeIndex, u32) {
        self.all.get(prefix as usize).map_or((NO_NODE, 0), |p| (p.node, p.blocks))
    }
}

/// Adds the prompts of one session to `trie`: each complete block of a turn is found again by all later ones.
pub(super) fn add_session(
    trie: &mut PromptTrie,
    (mut node, mut blocks): (NodeIndex, u32),
    prompts: impl ExactSizeIterator<Item = u32>,
) {
    let last = prompts.len().saturating_sub(1);
    for (turn, prompt) in prompts.enumerate() {
        let end = prompt / trie.block_tokens.max(1);
        // What only the last turn has is found by nobody.
        if turn < last && end > blocks {
            trie.nodes.push(TrieNode { parent: node, start: blocks, end });
            (node, blocks) = (trie.nodes.len() as NodeIndex - 1, end);
        }
        trie.leaf.push(node);
    }
}
