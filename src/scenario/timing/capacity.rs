//! How many KV blocks fit beside the model.

use crate::perf::{KvCapacity, PerfError, kv_capacity};

use super::super::args::Args;
use super::super::error::ScenarioError;
use super::choose::Chosen;
use super::{DEFAULT_BATCHED_TOKENS, FRACTIONS, TimingContext};

impl TimingContext {
    /// KV blocks that fit beside the model, when their number is not given.
    pub(super) fn capacity(
        &self,
        args: &Args,
        chosen: &Chosen,
        block_size: u32,
        max_num_batched_tokens: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<KvCapacity>, ScenarioError> {
        let used = chosen
            .memory
            .as_ref()
            .filter(|_| args.count("num_gpu_blocks").is_none() && self.correction.num_gpu_blocks.is_none());
        let fraction_name = used.map(|(_, backend)| backend.fraction_name());
        for name in FRACTIONS {
            if args.get(name).is_some() && fraction_name != Some(name) {
                let why = match fraction_name {
                    Some(other) => format!("the backend goes by `{other}`"),
                    None => "the number of KV blocks is not estimated".to_owned(),
                };
                warnings.push(format!("`{}` has no effect: {why}.", args.key(name)));
            }
        }
        let Some((parts, backend)) = used else { return Ok(None) };
        let tokens = max_num_batched_tokens.unwrap_or(DEFAULT_BATCHED_TOKENS);
        let fraction = args.number(backend.fraction_name());
        kv_capacity(parts, *backend, fraction, u64::from(block_size), Some(u64::from(tokens))).map(Some).map_err(
            |error| match &error {
                PerfError::Setting { field, .. } => ScenarioError::perf(args.key(field), error),
                _ => ScenarioError::perf(args.key("num_gpu_blocks"), error),
            },
        )
    }
}
