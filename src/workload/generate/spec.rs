//! The document that a generator works from.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dist::{Dist, rebase};
use super::error::SpecError;
use super::process::{self, Process};

/// Parameters of `workload: {"preset": "generate"}` and of `dynosim trace generate`.
///
/// Sessions begin as the arrival process says. Each belongs to a class, which says what its prompts begin with, how long
/// they are, and how the conversation goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Spec {
    /// Number of sessions; 1000 unless this or `duration_s` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// No session begins at this time or later, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Seed of all draws; the scenario's `seed` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Tokens per block that prompts can share.
    pub block_size: u32,
    /// When sessions begin; the first one begins at 0.
    #[serde(deserialize_with = "process::read")]
    #[schemars(schema_with = "process::schema")]
    pub arrivals: Process,
    /// Sessions are handed over in batches at multiples of this time, seconds: each begins at the one before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_s: Option<f64>,
    /// Kinds of sessions. Keys of a class may also stand beside this list; they hold for every class that has no value
    /// of its own, and without a list they are the only class.
    pub classes: Vec<Class>,
}

/// A kind of session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Class {
    /// Begin of the names of its sessions.
    pub name: String,
    /// How many sessions are of this class relative to the others.
    pub weight: f64,
    /// What prompts begin with, level by level (a system prompt, then tool descriptions, then examples): a tree in which
    /// every session takes a path. Sessions share what their paths have in common, classes share nothing.
    pub prefix: Vec<Level>,
    /// Tokens of the first message, after the prefix.
    pub input: Dist,
    /// Tokens of an answer.
    pub output: Dist,
    /// First message and answer together, any row of a file alike; replaces `input` and `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lengths: Option<Pairs>,
    /// Messages of the user in a session.
    pub turns: Dist,
    /// Tokens of later messages; as `input` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_input: Option<Dist>,
    /// Wait of the user between an answer and the next message, milliseconds.
    pub think_ms: Dist,
    /// Tools that the model calls before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// Longest context (prompt and answer) in tokens; a session ends before it is exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_context_tokens: Option<u32>,
}

/// One level of the tree of prefixes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Level {
    /// What it is, for the reader.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How many different ones there are after each of the level before.
    pub fan_out: u32,
    /// How unevenly they are used: the k-th is drawn with a weight of k to the power of minus this; 0 is evenly.
    pub zipf: f64,
    /// Tokens of each; drawn once for each different one.
    pub tokens: Dist,
}

/// Lengths that belong together, from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Pairs {
    /// CSV file, or any trace.
    pub file: String,
    /// Column of the first message's tokens: of a CSV file by name or number from 1, else `input`.
    #[serde(default = "input")]
    pub input: String,
    /// Column of the answer's tokens: of a CSV file by name or number from 1, else `output`.
    #[serde(default = "output")]
    pub output: String,
}

fn input() -> String {
    "input".to_owned()
}

fn output() -> String {
    "output".to_owned()
}

/// The loop of an agent: before it answers, the model calls tools, one after another. Each call is a request of its own
/// whose output is the call; its result is added to the prompt of the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Tools {
    /// Calls per message of the user.
    pub calls: Dist,
    /// Tokens of a call.
    pub output: Dist,
    /// Tokens of a result.
    pub result: Dist,
    /// Time a tool takes, milliseconds.
    pub wait_ms: Dist,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            sessions: None,
            duration_s: None,
            seed: None,
            block_size: 512,
            arrivals: Process::Poisson { rate_per_s: 1.0 },
            batch_s: None,
            classes: vec![Class::default()],
        }
    }
}

impl Default for Class {
    fn default() -> Self {
        Self {
            name: "session".to_owned(),
            weight: 1.0,
            prefix: Vec::new(),
            input: Dist::fixed(1024.0),
            output: Dist::fixed(128.0),
            lengths: None,
            turns: Dist::fixed(1.0),
            next_input: None,
            think_ms: Dist::fixed(0.0),
            tools: None,
            max_context_tokens: None,
        }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self { name: String::new(), fan_out: 1, zipf: 1.0, tokens: Dist::fixed(1024.0) }
    }
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            calls: Dist::fixed(1.0),
            output: Dist::fixed(64.0),
            result: Dist::fixed(512.0),
            wait_ms: Dist::fixed(1000.0),
        }
    }
}

/// Sessions when neither their number nor a duration is given.
pub(super) const DEFAULT_SESSIONS: u32 = 1000;
/// Levels of a tree of prefixes, and classes.
const MAX_PARTS: usize = 64;

impl Spec {
    /// Checks what can be checked without drawing.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        if self.sessions == Some(0) {
            return Err(SpecError::new("sessions", "is 0", "give at least 1"));
        }
        let time = |key: &str, value: Option<f64>| match value {
            Some(s) if !(s.is_finite() && s > 0.0) => {
                Err(SpecError::new(key, format!("is {s}"), "give seconds above 0"))
            }
            _ => Ok(()),
        };
        time("duration_s", self.duration_s)?;
        time("batch_s", self.batch_s)?;
        if self.block_size == 0 {
            return Err(SpecError::new("block_size", "is 0", "give at least 1 token"));
        }
        self.arrivals.check()?;
        if self.classes.is_empty() || self.classes.len() > MAX_PARTS {
            let cause = format!("has {} entries", self.classes.len());
            return Err(SpecError::new("classes", cause, format!("give 1 to {MAX_PARTS}")));
        }
        for (index, class) in self.classes.iter().enumerate() {
            class.check(&format!("classes[{index}]"))?;
        }
        let total: f64 = self.classes.iter().map(|c| c.weight).sum();
        if !(total.is_finite() && total > 0.0) {
            let cause = format!("add up to {total}");
            return Err(SpecError::new("classes", format!("the weights {cause}"), "give one of them a weight above 0"));
        }
        Ok(())
    }

    /// Makes relative paths start at `folder`.
    pub(super) fn rebase(&mut self, folder: &Path) {
        for class in &mut self.classes {
            class.distributions().for_each(|(_, dist)| dist.rebase(folder));
            if let Some(pairs) = &mut class.lengths {
                rebase(&mut pairs.file, folder);
            }
        }
    }
}

impl Class {
    fn check(&self, key: &str) -> Result<(), SpecError> {
        if self.name.chars().count() > 100 || self.name.is_empty() {
            let cause = format!("has {} characters", self.name.chars().count());
            return Err(SpecError::new(format!("{key}.name"), cause, "give 1 to 100"));
        }
        if !(0.0..=1e12).contains(&self.weight) {
            let cause = format!("is {}", self.weight);
            return Err(SpecError::new(format!("{key}.weight"), cause, "give a number from 0 to 1e12"));
        }
        if self.prefix.len() > MAX_PARTS {
            let cause = format!("has {} levels", self.prefix.len());
            return Err(SpecError::new(format!("{key}.prefix"), cause, format!("give at most {MAX_PARTS}")));
        }
        for (index, level) in self.prefix.iter().enumerate() {
            let key = format!("{key}.prefix[{index}]");
            if level.fan_out == 0 {
                return Err(SpecError::new(format!("{key}.fan_out"), "is 0", "give at least 1"));
            }
            if !(0.0..=100.0).contains(&level.zipf) {
                let cause = format!("is {}", level.zipf);
                return Err(SpecError::new(format!("{key}.zipf"), cause, "give a number from 0 to 100"));
            }
        }
        if self.max_context_tokens.is_some_and(|limit| limit < 2) {
            let cure = "leave room for a prompt and an answer";
            return Err(SpecError::new(format!("{key}.max_context_tokens"), "is less than 2", cure));
        }
        // A copy, because the list hands out what can be changed.
        for (name, dist) in self.clone().distributions() {
            dist.check(&format!("{key}.{name}"))?;
        }
        Ok(())
    }

    /// Every distribution with the path of its key.
    fn distributions(&mut self) -> impl Iterator<Item = (String, &mut Dist)> {
        let named = |name: &str| name.to_owned();
        let Self { prefix, input, output, turns, next_input, think_ms, tools, .. } = self;
        let levels = prefix.iter_mut().enumerate().map(|(i, level)| (format!("prefix[{i}].tokens"), &mut level.tokens));
        let tools = tools.iter_mut().flat_map(|t| {
            let Tools { calls, output, result, wait_ms } = t;
            [("calls", calls), ("output", output), ("result", result), ("wait_ms", wait_ms)]
        });
        [(named("input"), input), (named("output"), output), (named("turns"), turns), (named("think_ms"), think_ms)]
            .into_iter()
            .chain(next_input.iter_mut().map(move |dist| (named("next_input"), dist)))
            .chain(levels)
            .chain(tools.map(|(name, dist)| (format!("tools.{name}"), dist)))
    }
}
