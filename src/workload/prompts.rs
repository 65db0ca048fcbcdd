//! The prompts of a trace as lists of numbered blocks, and what they have in common.

use super::content::{Content, PromptTrie, TokenStreams};
use super::intern::Interner;

/// Prompts in the order in which they were read.
#[derive(Debug)]
pub(super) struct PromptTable {
    /// Tokens per block.
    pub block_size: u32,
    /// Block numbers of all prompts, one after another; blocks beyond a prompt's length are left out.
    blocks: Vec<u32>,
    /// Where each prompt ends in `blocks`; it begins where the one before ends.
    ends: Vec<u32>,
    /// Authored output tokens, one list after another.
    tokens: Vec<u32>,
    /// Prompts with an authored output, ascending, and where it is in `tokens`.
    authored: Vec<(u32, usize, usize)>,
}

impl PromptTable {
    pub fn new(block_size: u32) -> Self {
        let (blocks, ends, tokens, authored) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { block_size, blocks, ends, tokens, authored }
    }

    /// The prompts in another order.
    pub fn reordered(&self, order: &[u32]) -> Self {
        let mut table = Self::new(self.block_size);
        for prompt in order {
            // As many blocks as here, or fewer.
            let _ = table.push(self.blocks_of(*prompt).iter().copied());
        }
        table
    }

    /// Adds a prompt. Nothing when there are 2^32 blocks or prompts: the tree of prompts numbers them with `u32`.
    pub fn push(&mut self, blocks: impl IntoIterator<Item = u32>) -> Option<()> {
        self.blocks.extend(blocks);
        self.end()
    }

    /// Adds a prompt that reaches the first `used` of these ids. The others are numbered too, as in the reference. Nothing
    /// when numbers are used up, and as for [`Self::push`].
    pub fn push_ids(&mut self, interner: &mut Interner, ids: &[u64], used: usize) -> Option<()> {
        for (place, id) in ids.iter().enumerate() {
            let number = interner.number(*id)?;
            if place < used {
                self.blocks.push(number);
            }
        }
        self.end()
    }

    fn end(&mut self) -> Option<()> {
        let end = u32::try_from(self.blocks.len()).ok()?;
        u32::try_from(self.ends.len() + 1).ok()?;
        self.ends.push(end);
        Some(())
    }

    /// Adds the output tokens of the prompt added last.
    pub fn author(&mut self, tokens: &[u32]) {
        if !tokens.is_empty()
            && let Some(last) = self.ends.len().checked_sub(1)
        {
            let start = self.tokens.len();
            self.tokens.extend_from_slice(tokens);
            self.authored.push((last as u32, start, self.tokens.len()));
        }
    }

    fn blocks_of(&self, prompt: u32) -> &[u32] {
        let end_of = |i: u32| self.ends.get(i as usize).map_or(0, |end| *end as usize);
        let start = prompt.checked_sub(1).map_or(0, end_of);
        self.blocks.get(start..end_of(prompt)).unwrap_or_default()
    }

    fn authored_of(&self, prompt: u32) -> Option<Box<[u32]>> {
        let at = self.authored.binary_search_by_key(&prompt, |(p, ..)| *p).ok()?;
        let (_, start, end) = self.authored.get(at)?;
        self.tokens.get(*start..*end).map(Into::into)
    }

    /// Runs of equal tokens that make up a prompt of `length` tokens.
    fn runs(&self, prompt: u32, length: u32) -> Box<[(u32, u32)]> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut left = length;
        for block in self.blocks_of(prompt) {
            let count = left.min(self.block_size);
            left -= count;
            match runs.last_mut() {
                Some((last, n)) if last == block => *n += count,
                _ => runs.push((*block, count)),
            }
        }
        runs.into()
    }

    /// What requests share: `order` gives their prompts and lengths, `blocks` how many block numbers there are.
    pub fn content(&self, order: impl Iterator<Item = (u32, u32)>, blocks: u32, delta: bool) -> Content {
        if delta || !self.tokens.is_empty() {
            let (prompts, outputs) =
                order.map(|(prompt, length)| (self.runs(prompt, length), self.authored_of(prompt))).unzip();
            Content::Streams(TokenStreams { block_tokens: self.block_size, delta, prompts, outputs })
        } else {
            let prompts = order.map(|(prompt, _)| self.blocks_of(prompt));
            Content::Trie(PromptTrie::build(self.block_size, blocks, prompts))
        }
    }
}
