//! Named random streams.
//!
//! Every purpose has its own stream, and within it every session its own stretch. So whatever is changed about one
//! thing (more sessions, other lengths, longer conversations) leaves the draws of everything else alone.

use rand_chacha::ChaCha8Rng;

use crate::workload::streams;

/// What a stream is for; the number is part of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Gaps between sessions.
    Gaps = 0x101,
    /// Changes of the rate in a modulated process.
    States = 0x102,
    /// Class of a session.
    Classes = 0x103,
    /// Path of a session through the tree of prefixes.
    Prefixes = 0x104,
    /// Length of a prefix; one stretch per prefix, not per session.
    PrefixLengths = 0x105,
    /// Turns of a session.
    Turns = 0x106,
    /// What a user says.
    Inputs = 0x107,
    /// What the model answers.
    Outputs = 0x108,
    /// Think times.
    Thinking = 0x109,
    /// Tool calls of a turn.
    Calls = 0x10a,
    /// Tokens of tool calls.
    CallOutputs = 0x10b,
    /// Tokens of tool results.
    Results = 0x10c,
    /// Waits for tools.
    ToolWaits = 0x10d,
}

/// Words of a stream that belong to one session; far more than any session draws.
const STRETCH: u32 = 32;

/// The stretch of `session` in the stream for `purpose`.
pub(super) fn stream(seed: u64, purpose: Purpose, session: u32) -> ChaCha8Rng {
    let mut rng = streams::stream(seed, purpose as u64);
    rng.set_word_pos(u128::from(session) << STRETCH);
    rng
}
