//! What happens in a session: messages, answers, tools, waits.

use crate::workload::WorkloadError;
use crate::workload::model::MAX_TOKENS;

use super::dist::Sampler;
use super::samples;
use super::spec::{Class, Pairs};
use super::streams::{Purpose, stream};

use rand::Rng;

/// Most requests of a session.
const MAX_REQUESTS: usize = 1_000_000;

/// A request of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    /// Prompt tokens: all that was said so far.
    pub prompt: u32,
    /// Output tokens.
    pub output: u32,
    /// Wait since the request before, milliseconds.
    pub wait_ms: f64,
}

/// First messages and answers.
enum Lengths {
    Apart { input: Sampler, output: Sampler },
    Together { rows: [Vec<f64>; 2] },
}

struct Loop {
    calls: Sampler,
    output: Sampler,
    result: Sampler,
    wait: Sampler,
}

/// Writes the sessions of a class.
pub(super) struct Script {
    lengths: Lengths,
    next_input: Option<Sampler>,
    turns: Sampler,
    think: Sampler,
    tools: Option<Loop>,
    limit: u32,
}

impl Script {
    pub fn new(class: &Class) -> Result<Self, WorkloadError> {
        let lengths = match &class.lengths {
            None => Lengths::Apart { input: class.input.sampler("input")?, output: class.output.sampler("output")? },
            Some(Pairs { file, input, output }) => {
                Lengths::Together { rows: samples::read(file.as_ref(), [("input", input), ("output", output)])? }
            }
        };
        let tools = class.tools.as_ref().map(|tools| -> Result<Loop, WorkloadError> {
            Ok(Loop {
                calls: tools.calls.sampler("calls")?,
                output: tools.output.sampler("output")?,
                result: tools.result.sampler("result")?,
                wait: tools.wait_ms.sampler("wait_ms")?,
            })
        });
        Ok(Self {
            lengths,
            next_input: class.next_input.as_ref().map(|dist| dist.sampler("next_input")).transpose()?,
            turns: class.turns.sampler("turns")?,
            think: class.think_ms.sampler("think_ms")?,
            tools: tools.transpose()?,
            limit: class.max_context_tokens.unwrap_or(MAX_TOKENS).min(MAX_TOKENS),
        })
    }

    /// Writes the requests of `session` to `turns`; tells whether the context left room for all of them.
    ///
    /// # Errors
    /// When its prefix leaves no room for a first message and an answer, or it has too many requests.
    pub fn session(&self, seed: u64, session: u32, prefix: u32, turns: &mut Vec<Turn>) -> Result<bool, WorkloadError> {
        turns.clear();
        if prefix > self.limit.saturating_sub(2) {
            let cause = format!("is {}, but a session begins with a prefix of {prefix} tokens", self.limit);
            return Err(WorkloadError::setting("max_context_tokens", cause, "leave room for a message and an answer"));
        }
        let rng = |purpose| stream(seed, purpose, session);
        let messages = self.turns.count(&mut rng(Purpose::Turns)).max(1);
        let (mut inputs, mut outputs) = (rng(Purpose::Inputs), rng(Purpose::Outputs));
        let mut thinking = (messages > 1).then(|| rng(Purpose::Thinking));
        let mut work = self.tools.as_ref().map(|tools| (tools, Work::new(seed, session)));
        let mut talk = Talk { context: prefix, limit: self.limit, turns };
        let mut wait_ms = 0.0;
        for message in 0..messages {
            if let (true, Some(rng)) = (message > 0, &mut thinking) {
                wait_ms = self.think.amount(rng);
            }
            let (mut said, answer) = self.lengths(&mut inputs, &mut outputs);
            if let (true, Some(next)) = (message > 0, &self.next_input) {
                said = next.tokens(&mut inputs);
            }
            if let Some((tools, work)) = &mut work {
                let calls = tools.calls.count(&mut work.calls);
                for _ in 0..calls {
                    let call = tools.output.tokens(&mut work.outputs);
                    if !talk.request(said, call, wait_ms)? {
                        return Ok(false);
                    }
                    said = tools.result.tokens(&mut work.results);
                    wait_ms = tools.wait.amount(&mut work.waits);
                }
            }
            if !talk.request(said, answer, wait_ms)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lengths(&self, inputs: &mut impl Rng, outputs: &mut impl Rng) -> (u32, u32) {
        match &self.lengths {
            Lengths::Apart { input, output } => (input.tokens(inputs), output.tokens(outputs)),
            Lengths::Together { rows: [input, output] } => {
                let row = inputs.random_range(0..input.len().max(1) as u64) as usize;
                let tokens = |column: &[f64]| {
                    let drawn = column.get(row).copied().unwrap_or(1.0);
                    (drawn.round() as u32).min(MAX_TOKENS)
                };
                (tokens(input), tokens(output))
            }
        }
    }
}

/// Streams of the loop of an agent.
struct Work {
    calls: rand_chacha::ChaCha8Rng,
    outputs: rand_chacha::ChaCha8Rng,
    results: rand_chacha::ChaCha8Rng,
    waits: rand_chacha::ChaCha8Rng,
}

impl Work {
    fn new(seed: u64, session: u32) -> Self {
        Self {
            calls: stream(seed, Purpose::Calls, session),
            outputs: stream(seed, Purpose::CallOutputs, session),
            results: stream(seed, Purpose::Results, session),
            waits: stream(seed, Purpose::ToolWaits, session),
        }
    }
}

/// A session so far.
struct Talk<'t> {
    context: u32,
    limit: u32,
    turns: &'t mut Vec<Turn>,
}

impl Talk<'_> {
    /// Adds a request; false if there is no room for it.
    fn request(&mut self, said: u32, mut output: u32, wait_ms: f64) -> Result<bool, WorkloadError> {
        // A prompt has at least one token.
        let mut prompt = u64::from(self.context) + u64::from(said.max(u32::from(self.context == 0)));
        if prompt + u64::from(output) > u64::from(self.limit) {
            if !self.turns.is_empty() {
                return Ok(false);
            }
            // A session has a first request whatever its lengths; it is cut to what fits.
            prompt = prompt.min(u64::from(self.limit) - 1);
            output = output.min(self.limit - prompt as u32);
        }
        let prompt = prompt as u32;
        if self.turns.len() >= MAX_REQUESTS {
            let cause = format!("a session has more than {MAX_REQUESTS} requests");
            return Err(WorkloadError::setting("turns", cause, "choose fewer turns or tool calls, or a context limit"));
        }
        self.turns.push(Turn { prompt, output, wait_ms });
        self.context = prompt + output;
        Ok(true)
    }
}
