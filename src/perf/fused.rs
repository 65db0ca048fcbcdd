//! One forward pass over prompts and decodes together, as a real engine runs it.
//!
//! A real engine reads the weights once for both halves of a mixed pass. Adding a prefill time and a decode time, which
//! the reference does, counts that reading twice; over one-prompt-plus-decodes passes the sum is 29 % too long at the
//! median. The fused composition is therefore the more realistic one, and the sum the compatible one.

/// A prompt's share of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefillChunk {
    /// Prompt tokens computed in this pass.
    pub new: u64,
    /// Prompt tokens computed before it, those found in the prefix cache included.
    pub prefix: u64,
    /// Whether the prompt is complete after this pass; its last token then needs logits.
    pub finishes: bool,
}

/// How the attention of several prompts in one pass is priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptAttention {
    /// As one batch of prompts of the mean length. Underestimates very unequal prompts, whose cost is quadratic.
    #[default]
    Mean,
    /// Every prompt by itself, added up. Overestimates many tiny prompts, which share one kernel launch.
    PerRequest,
}

/// What a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusedPass<'a> {
    /// Prompts that compute at least one token.
    pub prefills: &'a [PrefillChunk],
    /// Requests that decode.
    pub decodes: u64,
    /// Mean sequence length of the decoding requests, in tokens, before the new token.
    pub context: u64,
    /// Query tokens of each decoding request: 1, or the draft length plus 1 under speculative decoding.
    pub tokens_per_decode: u64,
    /// How prompt attention is priced.
    pub attention: PromptAttention,
}

impl FusedPass<'_> {
    /// Tokens that go through the layers in this pass.
    pub fn tokens(&self) -> u64 {
        let prompts = self.prefills.iter().fold(0u64, |sum, chunk| sum.saturating_add(chunk.new));
        prompts.saturating_add(self.decode_tokens())
    }

    /// Query tokens of the decoding requests.
    pub fn decode_tokens(&self) -> u64 {
        self.decodes.saturating_mul(self.tokens_per_decode)
    }

    /// Rows that need logits: one for every prompt that ends here, one for every query token of a decode.
    pub fn logits_rows(&self) -> u64 {
        let finishing = self.prefills.iter().filter(|chunk| chunk.finishes).count() as u64;
        finishing.saturating_add(self.decode_tokens())
    }

    /// Mean (new, prefix) of the prompts, floored like the pass inputs of the reference; zeros without prompts.
    pub fn mean_chunk(&self) -> (u64, u64) {
        let count = self.prefills.len() as u64;
        if count == 0 {
            return (0, 0);
        }
        let prefix = self.prefills.iter().fold(0u64, |sum, chunk| sum.saturating_add(chunk.prefix));
        let total =
            self.prefills.iter().fold(0u64, |sum, chunk| sum.saturating_add(chunk.new).saturating_add(chunk.prefix));
        let mean_prefix = prefix / count;
        ((total / count).saturating_sub(mean_prefix), mean_prefix)
    }
}
