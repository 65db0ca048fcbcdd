//! The timing source that a KEY names, and what it answers.

use std::path::Path;
use std::sync::Arc;

use dynosim::perf::{
    Backend, ForwardPassTable, GpuSpec, KvCapacity, MemoryParts, ModelConfig, NpzProfile, PerfError, Precision,
    Roofline, RooflineSetup, TableLibrary, clamped_decode_ms, clamped_prefill_ms, estimate, kv_capacity,
};

/// What a KEY of an estimate starts with.
pub const ROOFLINE: &str = "roofline:";
/// Tokens per pass that memory is estimated for, as in the shipped tables.
const BATCHED_TOKENS: u64 = 8_192;
/// Largest count and length that a data sheet is asked about; it has no region of its own.
const ROOFLINE_REACH: u64 = 1 << 20;

/// Something that says how long passes take.
pub enum Source {
    /// A forward-pass table.
    Table(Arc<ForwardPassTable>),
    /// Arrays of the planner's profiler.
    Profile {
        /// File name.
        file: String,
        /// The arrays.
        profile: NpzProfile,
    },
    /// An estimate from data sheets.
    Estimate(Box<Estimate>),
}

/// A model on a GPU, without measurements.
pub struct Estimate {
    /// The model as it was named.
    pub model: String,
    /// Its sizes.
    pub config: ModelConfig,
    /// The GPU.
    pub gpu: GpuSpec,
    /// Parallelism and number formats.
    pub setup: RooflineSetup,
    /// The engine whose memory rules count.
    pub backend: Backend,
    /// Where the memory of one GPU goes.
    pub memory: MemoryParts,
    roofline: Roofline,
}

impl Source {
    /// The source that `key` names.
    pub fn find(key: &str, library: &TableLibrary) -> Result<Self, PerfError> {
        if let Some(spec) = key.strip_prefix(ROOFLINE) {
            return Estimate::parse(spec, key).map(|estimate| Self::Estimate(Box::new(estimate)));
        }
        let path = Path::new(key);
        let ends_in = |wanted: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(wanted));
        if ends_in("npz") {
            let file = path.file_name().map_or_else(|| key.to_owned(), |name| name.to_string_lossy().into_owned());
            return Ok(Self::Profile { file, profile: NpzProfile::open(path)? });
        }
        // A name in a folder is a path, even if it leads nowhere.
        if path.is_file() || (ends_in("json") && path.components().count() > 1) {
            return ForwardPassTable::parse(&read(path)?, key).map(|table| Self::Table(Arc::new(table)));
        }
        library.by_slug(key).map(Self::Table)
    }

    /// Milliseconds to compute `new` tokens of each of `count` prompts after `prefix` tokens of each. A profile does not
    /// know prefixes. None when the source has no finite answer.
    pub fn prefill_ms(&self, count: u64, new: u64, prefix: u64) -> Option<f64> {
        let raw = match self {
            Self::Table(table) => table.prefill_ms(count, new, prefix),
            Self::Profile { profile, .. } => profile.prefill_ms(count.saturating_mul(new)),
            Self::Estimate(estimate) => estimate.roofline.prefill_ms(count, new, prefix),
        };
        clamped_prefill_ms(count, new, raw)
    }

    /// Milliseconds of a decode step of `count` requests whose mean length is `context` tokens. A profile is asked for
    /// `count` times `context` KV tokens in use. None when the source has no finite answer.
    pub fn decode_ms(&self, count: u64, context: u64) -> Option<f64> {
        let raw = match self {
            Self::Table(table) => table.decode_ms(count, context),
            Self::Profile { profile, .. } => profile.decode_ms(count.saturating_mul(context), context),
            Self::Estimate(estimate) => estimate.roofline.decode_ms(count, context),
        };
        clamped_decode_ms(count, raw)
    }

    /// Whether a prefill lies within what was measured.
    pub fn covers_prefill(&self, count: u64, new: u64, prefix: u64) -> bool {
        match self {
            Self::Table(table) => table.covers_prefill(count, new, prefix),
            Self::Profile { profile, .. } => profile.covers_prefill(count.saturating_mul(new)),
            Self::Estimate(_) => count <= ROOFLINE_REACH && new.saturating_add(prefix) <= ROOFLINE_REACH,
        }
    }

    /// Whether a decode lies within what was measured.
    pub fn covers_decode(&self, count: u64, context: u64) -> bool {
        match self {
            Self::Table(table) => table.covers_decode(count, context),
            Self::Profile { profile, .. } => profile.covers_decode(count.saturating_mul(context), context),
            Self::Estimate(_) => count <= ROOFLINE_REACH && context <= ROOFLINE_REACH,
        }
    }

    /// Room for KV on one GPU by the engine's default settings, or why there is none; nothing where memory is not known.
    pub fn capacity(&self) -> Option<Result<KvCapacity, PerfError>> {
        let (memory, backend) = match self {
            // The memory rules of an engine we do not know are not known either.
            Self::Table(table) => (&table.memory, table.meta.backend.parse().ok()?),
            Self::Profile { .. } => return None,
            Self::Estimate(estimate) => (&estimate.memory, estimate.backend),
        };
        Some(kv_capacity(memory, backend, None, 1, None))
    }

    /// What to know before trusting the figures.
    pub fn caution(&self) -> Option<&'static str> {
        match self {
            Self::Table(table) if table.meta.quant.gemm == "fp8_block" => Some(
                "block-quantised FP8 carries a launch floor of about 59 µs per matrix product here, so decode is two to \
                 three times slower than with per-tensor FP8",
            ),
            Self::Estimate(_) => Some("one point in ten is off by more than a quarter"),
            _ => None,
        }
    }

    /// GPUs of one replica.
    pub fn gpus(&self) -> u64 {
        match self {
            Self::Table(table) => {
                let meta = &table.meta;
                [meta.pp, meta.attention_dp].iter().fold(u64::from(meta.tp), |n, size| n * u64::from(*size))
            }
            Self::Profile { .. } => 1,
            Self::Estimate(estimate) => estimate.setup.tp,
        }
    }
}

/// A GPU by name, or by the path of its description.
pub fn find_gpu(name: &str) -> Result<GpuSpec, PerfError> {
    let path = Path::new(name);
    if path.is_file() { GpuSpec::parse(&read(path)?, name) } else { GpuSpec::known(name) }
}

/// A model by name, or by the path of its `config.json` or the folder that holds one.
pub fn find_model(name: &str) -> Result<ModelConfig, PerfError> {
    let path = Path::new(name);
    let inside = path.join("config.json");
    match () {
        () if inside.is_file() => ModelConfig::parse(&read(&inside)?, &inside.display().to_string()),
        () if path.is_file() => ModelConfig::parse(&read(path)?, name),
        () => ModelConfig::known(name),
    }
}

fn read(path: &Path) -> Result<String, PerfError> {
    std::fs::read_to_string(path).map_err(|error| PerfError::read(path, &error))
}

/// First and last number up to `most` of the stretch for which `holds`, looked for around powers of two; none if it
/// holds for none of these.
pub fn span(most: u64, holds: impl Fn(u64) -> bool) -> Option<(u64, u64)> {
    let probes = (0..64).map(|e| 1_u64 << e).take_while(|n| *n < most).chain([most]);
    let within: Vec<u64> = probes.filter(|n| holds(*n)).collect();
    let (first, last) = (*within.first()?, *within.last()?);
    // The border lies before the power of two below, or after the one above.
    let (mut low, mut high) = (first / 2, first);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    let (mut inside, mut limit) = (last, last.saturating_mul(2).min(most));
    while inside < limit {
        let middle = inside + (limit - inside).div_ceil(2);
        if holds(middle) { inside = middle } else { limit = middle - 1 }
    }
    Some((low, inside))
}

impl Estimate {
    /// Reads `MODEL@GPU[:OPTION...]`; `key` is the whole KEY, for errors.
    fn parse(spec: &str, key: &str) -> Result<Self, PerfError> {
        let Some((model, rest)) = spec.rsplit_once('@').filter(|(model, rest)| !model.is_empty() && !rest.is_empty())
        else {
            let cure = "write roofline:MODEL@GPU, such as roofline:qwen3-32b@h200_sxm:tp2";
            return Err(PerfError::setting(key, "names no model and GPU", cure));
        };
        let mut options = rest.split(':');
        let gpu = find_gpu(options.next().unwrap_or_default())?;
        let config = find_model(model)?;
        let mut setup = RooflineSetup::new(1, config.weights, config.kv_cache);
        let mut backend = Backend::Vllm;
        for option in options {
            let size = |prefix: &str| option.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
            match (option, size("tp"), size("ep")) {
                (_, Some(tp), _) => setup.tp = tp,
                (_, _, Some(ep)) => setup.moe_ep = Some(ep),
                ("bf16", ..) => setup.weights = Precision::Bf16,
                ("fp8", ..) => setup.weights = Precision::Fp8,
                ("kv-bf16", ..) => setup.kv_cache = Precision::Bf16,
                ("kv-fp8", ..) => setup.kv_cache = Precision::Fp8,
                _ => backend = option.parse().map_err(|_| unknown_option(key, option))?,
            }
        }
        let roofline = Roofline::new(&gpu, &config.shape, &setup)?;
        let memory = estimate(&gpu, &config.shape, &setup, backend, BATCHED_TOKENS)?;
        Ok(Self { model: model.to_owned(), config, gpu, setup, backend, memory, roofline })
    }
}

fn unknown_option(key: &str, option: &str) -> PerfError {
    let cure = "use tpN, epN, vllm, sglang, trtllm, bf16, fp8, kv-bf16 or kv-fp8";
    PerfError::setting(key, format!("has an unknown option \"{option}\""), cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stretch_is_found_to_its_ends() {
        for (low, high) in [(0, 1), (1, 1), (1, 1_000), (3, 9), (63, 65), (64, 64), (100, 131), (5, 777)] {
            let found = span(1_000, |n| (low..=high).contains(&n));
            // 0 and numbers between two powers of two are not looked at by themselves.
            assert_eq!(found, Some((low, high)), "{low} to {high}");
        }
        assert_eq!(span(1_000, |n| n == 70), None);
    }
}
