//! `dynosim perf show`: where a table, GPU or model comes from, what it covers, memory, example latencies.

use std::fmt::Write as _;
use std::path::Path;

use dynosim::perf::{
    Backend, FractionKind, GpuSpec, KvCapacity, ModelConfig, ModelShape, PerfError, Precision, RooflineSetup,
    TableLibrary, estimate, kv_capacity,
};
use serde_json::Value;

use super::source::{Estimate, ROOFLINE, Source, find_gpu, find_model, span};
use super::words::{backend_name, columns, gib, gpu_name, grouped, ms};
use crate::cli::error::CliError;
use crate::cli::output;

/// Flags of `dynosim perf show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A KEY, a GPU's name or description file, or a model's name or config.json
    key: String,
}

/// Widest label of a line.
const LABEL: usize = 12;
/// Axes of the example latencies.
const EXAMPLE_NEW: [u64; 5] = [128, 512, 2_048, 8_192, 32_768];
const EXAMPLE_PREFIX: [u64; 4] = [0, 2_048, 8_192, 32_768];
const EXAMPLE_BATCH: [u64; 5] = [1, 8, 32, 128, 512];
const EXAMPLE_CONTEXT: [u64; 5] = [512, 2_048, 8_192, 32_768, 131_072];
/// Longest lengths and largest batches that are tried to find what a source covers.
const FAR: u64 = 1 << 24;

/// Prints everything about what the key names.
pub fn run(args: &Args, library: &TableLibrary) -> Result<(), CliError> {
    let text = match Subject::find(&args.key, library)? {
        Subject::Source(source) => show_source(&args.key, &source),
        Subject::Gpu(gpu) => show_gpu(&gpu, library),
        Subject::Model(name, config) => show_model(&name, &config, library)?,
    };
    output::to_stdout(&text)
}

enum Subject {
    Source(Source),
    Gpu(Box<GpuSpec>),
    Model(String, ModelConfig),
}

impl Subject {
    fn find(key: &str, library: &TableLibrary) -> Result<Self, PerfError> {
        if let Some(kind) = kind_of_file(Path::new(key)) {
            return match kind {
                FileKind::Gpu => find_gpu(key).map(|gpu| Self::Gpu(Box::new(gpu))),
                FileKind::Model => find_model(key).map(|config| Self::Model(key.to_owned(), config)),
                FileKind::Source => Source::find(key, library).map(Self::Source),
            };
        }
        let error = match Source::find(key, library) {
            Ok(source) => return Ok(Self::Source(source)),
            Err(error) => error,
        };
        // What looks like a table's key, a path or a roofline means that and nothing else.
        if key.starts_with(ROOFLINE) || key.contains("__") || !matches!(error, PerfError::NoMatch { .. }) {
            return Err(error);
        }
        if let Ok(gpu) = GpuSpec::known(key) {
            return Ok(Self::Gpu(Box::new(gpu)));
        }
        match ModelConfig::known(key) {
            Ok(config) => Ok(Self::Model(key.to_owned(), config)),
            // A model that is known but cannot be described says why.
            Err(model) if !matches!(model, PerfError::NoMatch { .. }) => Err(model),
            Err(model) => {
                let cause = format!("no table, GPU or model is called \"{key}\"");
                let cure = "see `dynosim perf list`, `list --gpus` and `list --models`, or give the path of a file";
                let near = [error, model].into_iter().flat_map(|error| match error {
                    PerfError::NoMatch { candidates, .. } => candidates.into_iter().take(4).collect(),
                    _ => Vec::new(),
                });
                Err(PerfError::no_match(cause, near.collect(), cure))
            }
        }
    }
}

enum FileKind {
    Source,
    Gpu,
    Model,
}

/// What a JSON file or a folder with a `config.json` describes, by the fields it has; nothing for a name.
fn kind_of_file(path: &Path) -> Option<FileKind> {
    if path.join("config.json").is_file() {
        return Some(FileKind::Model);
    }
    if !path.is_file() {
        return None;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Value = serde_json::from_str(&text).unwrap_or_default();
    let has = |field: &str| fields.get(field).is_some();
    Some(match () {
        () if has("memory_bytes_per_s") || has("bf16_flops") => FileKind::Gpu,
        () if has("num_hidden_layers") || has("text_config") || has("model_type") => FileKind::Model,
        () => FileKind::Source,
    })
}

/// A line with a label; nothing for an empty text.
fn line(text: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        // A string takes everything.
        let _ = writeln!(text, "{label:<LABEL$}{value}");
    }
}

fn show_source(key: &str, source: &Source) -> String {
    let mut text = String::new();
    match source {
        Source::Table(table) => {
            let meta = &table.meta;
            let _ = writeln!(text, "{}\n", meta.key());
            line(&mut text, "Model", &format!("{}, {}", meta.model, shape_words(&table.model)));
            line(&mut text, "GPU", &format!("{} x {} ({})", source.gpus(), gpu_name(&meta.system), meta.system));
            let mut engine =
                format!("{} {}, tensor parallel {}", backend_name(&meta.backend), meta.backend_version, meta.tp);
            if let (Some(tp), Some(ep)) = (meta.moe_tp, meta.moe_ep) {
                let _ = write!(engine, ", experts: tensor parallel {tp}, expert parallel {ep}");
            }
            line(&mut text, "Engine", &engine);
            let quant = &meta.quant;
            let moe = quant.moe.as_ref().map_or_else(String::new, |moe| format!(", experts {moe}"));
            let formats =
                format!("weights {}{moe}, KV cache {}, attention {}", quant.gemm, quant.kv_cache, quant.attention);
            line(&mut text, "Formats", &formats);
            line(&mut text, "Timing", &table.provenance());
            let terms = [&meta.source.license, &meta.source.copyright, &meta.source.changes];
            let terms: Vec<&str> = terms.into_iter().flatten().map(String::as_str).collect();
            line(&mut text, "Terms", &terms.join("; "));
        }
        Source::Profile { file, .. } => {
            let _ = writeln!(text, "{key}\n");
            line(&mut text, "Profile", &format!("planner profile {file}"));
            line(&mut text, "Limits", "knows no prefix; a decode batch is its KV tokens divided by its context");
        }
        Source::Estimate(estimate) => show_estimate(&mut text, key, estimate),
    }
    line(&mut text, "Covers", &coverage(source));
    if let Some(caution) = source.caution() {
        line(&mut text, "Caution", caution);
    }
    match source.capacity() {
        Some(Ok(capacity)) => memory(&mut text, &capacity),
        Some(Err(error)) => line(&mut text, "Memory", &error.to_string()),
        None => {}
    }
    examples(&mut text, source);
    text
}

fn show_estimate(text: &mut String, key: &str, estimate: &Estimate) {
    let Estimate { model, config, gpu, setup, backend, .. } = estimate;
    let _ = writeln!(text, "{key}\n");
    line(text, "Model", &format!("{model}, {}", shape_words(&config.shape)));
    line(text, "GPU", &format!("{} x {} ({})", setup.tp, gpu_name(&gpu.name), gpu.name));
    line(text, "Engine", &format!("memory as in {}, tensor parallel {}", backend_name(&backend.to_string()), setup.tp));
    line(text, "Formats", &format!("weights {}, KV cache {}", setup.weights, setup.kv_cache));
    line(text, "Timing", "roofline estimate from data sheets, no measurement");
}

fn shape_words(shape: &ModelShape) -> String {
    let mut text = format!(
        "{} layers, hidden {}, {} heads of {}, {} KV heads, ",
        shape.layers, shape.hidden, shape.heads, shape.head_dim, shape.kv_heads
    );
    let _ = match &shape.experts {
        None => write!(text, "intermediate {}", shape.intermediate),
        Some(e) => write!(text, "{} of {} experts of {}", e.per_token, e.count, e.intermediate),
    };
    let _ = write!(text, ", vocabulary {}", grouped(shape.vocab));
    text
}

/// What was measured, in words.
fn coverage(source: &Source) -> String {
    if matches!(source, Source::Estimate(_)) {
        return "any batch and length, as an estimate".to_owned();
    }
    let range = |holds: &dyn Fn(u64) -> bool| {
        let words = |(low, high)| format!("{} to {}", grouped(low), grouped(high));
        span(FAR, holds).map_or_else(|| "none".to_owned(), words)
    };
    match source {
        Source::Profile { profile, .. } => {
            // A KV count and a context within the profile, to hold one while the other varies.
            let contexts = span(FAR, |context| (0..40).any(|e| profile.covers_decode(1 << e, context)));
            let held = contexts.map_or(0, |(low, _)| low);
            let decode = contexts
                .map_or_else(|| "none".to_owned(), |(low, high)| format!("{} to {}", grouped(low), grouped(high)));
            format!(
                "prefill: {} new tokens of a pass; decode: {} KV tokens in use, context {decode}",
                range(&|new| profile.covers_prefill(new)),
                range(&|kv| profile.covers_decode(kv, held)),
            )
        }
        _ => format!(
            "prefill: {} prompts, {} tokens with prefix; decode: {} requests, context {}",
            range(&|count| count > 0 && source.covers_prefill(count, 1, 255)),
            range(&|length| length > 0 && source.covers_prefill(1, 1, length - 1)),
            range(&|count| count > 0 && source.covers_decode(count, 256)),
            range(&|context| source.covers_decode(1, context)),
        ),
    }
}

fn memory(text: &mut String, capacity: &KvCapacity) {
    let of = match capacity.fraction_kind {
        FractionKind::OfTotal => "of all memory",
        FractionKind::OfFree => "of what is left",
    };
    let _ = writeln!(text, "\nMemory of each GPU, {} {of} used by the engine\n", capacity.fraction);
    let used = [
        ("weights", capacity.weights_bytes, String::new()),
        (
            "activations",
            capacity.activations_bytes,
            format!("passes of up to {} tokens", grouped(capacity.max_num_batched_tokens)),
        ),
        ("runtime", capacity.runtime_overhead_bytes, String::new()),
        ("communication", capacity.comm_overhead_bytes, String::new()),
        (
            "KV cache",
            capacity.kv_budget_bytes,
            format!("{} tokens of {} bytes", grouped(capacity.kv_tokens), grouped(capacity.kv_bytes_per_token)),
        ),
    ];
    let sum: u64 = used.iter().map(|(_, bytes, _)| bytes).sum();
    let rest = ("not used", capacity.gpu_capacity_bytes.saturating_sub(sum), String::new());
    for (name, bytes, note) in used.into_iter().chain([rest]) {
        let _ = writeln!(text, "{}", format!("  {name:<14}{:>11}  {note}", gib(bytes)).trim_end());
    }
}

fn examples(text: &mut String, source: &Source) {
    let tokens = |n: &u64| grouped(*n);
    let cell = |value: Option<f64>, covered: bool| match value {
        Some(value) if covered => ms(value),
        // Beyond what was measured.
        Some(value) => format!("({})", ms(value)),
        None => "-".to_owned(),
    };
    // A profile knows no prefix: one column says it all.
    let prefixes = if matches!(source, Source::Profile { .. }) { &EXAMPLE_PREFIX[..1] } else { &EXAMPLE_PREFIX[..] };
    let header: Vec<String> =
        ["new tokens".to_owned()].into_iter().chain(prefixes.iter().map(|p| format!("prefix {}", tokens(p)))).collect();
    let rows = EXAMPLE_NEW.iter().map(|new| {
        let cells = prefixes.iter().map(|p| cell(source.prefill_ms(1, *new, *p), source.covers_prefill(1, *new, *p)));
        [tokens(new)].into_iter().chain(cells).collect()
    });
    let prefill = table(&header, rows);
    let _ = writeln!(text, "\nPrefill of one prompt, ms{}\n\n{prefill}", signs(&prefill));
    let room = source.capacity().and_then(Result::ok).map_or(u64::MAX, |capacity| capacity.kv_tokens);
    let contexts: Vec<u64> =
        EXAMPLE_CONTEXT.into_iter().filter(|c| *c <= room && source.covers_decode(1, *c)).collect();
    let header: Vec<String> =
        ["batch".to_owned()].into_iter().chain(contexts.iter().map(|c| format!("context {}", tokens(c)))).collect();
    let rows = EXAMPLE_BATCH.iter().map(|batch| {
        let cells = contexts.iter().map(|c| {
            let fits = batch.saturating_mul(*c) <= room;
            let value = source.decode_ms(*batch, *c).filter(|_| fits);
            cell(value, source.covers_decode(*batch, *c))
        });
        [tokens(batch)].into_iter().chain(cells).collect()
    });
    let decode = table(&header, rows);
    let _ = write!(text, "Decode step, ms per token{}\n\n{decode}", signs(&decode));
}

/// What the signs in a table of latencies mean, where there are any.
fn signs(table: &str) -> String {
    let mut text = String::new();
    if table.contains(" -") {
        text += "; - is beyond the KV cache";
    }
    if table.contains('(') {
        text += "; (figures) are beyond the measurements";
    }
    text
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    columns(&header, rows, 0)
}

fn show_gpu(gpu: &GpuSpec, library: &TableLibrary) -> String {
    let mut text = format!("{}\n\n", gpu.name);
    line(&mut text, "Also called", &gpu.aliases.join(", "));
    let memory = format!(
        "{} ({} bytes), {:.2} TB/s",
        gib(gpu.memory_bytes),
        grouped(gpu.memory_bytes),
        gpu.memory_bytes_per_s / 1e12
    );
    line(&mut text, "Memory", &memory);
    let rates = [("bf16", Some(gpu.bf16_flops)), ("fp8", gpu.fp8_flops), ("fp4", gpu.fp4_flops)];
    let rates: Vec<String> =
        rates.iter().filter_map(|(name, rate)| rate.map(|rate| format!("{name} {:.0}", rate / 1e12))).collect();
    line(&mut text, "Compute", &format!("{} TFLOP/s, dense", rates.join(", ")));
    let links = [
        ("within a node", gpu.intra_node_bytes_per_s),
        ("between nodes", gpu.inter_node_bytes_per_s),
        ("PCIe", gpu.pcie_bytes_per_s),
    ];
    let links: Vec<String> =
        links.iter().filter_map(|(name, rate)| rate.map(|rate| format!("{name} {:.0}", rate / 1e9))).collect();
    if !links.is_empty() {
        line(&mut text, "Links", &format!("{} GB/s, one direction", links.join(", ")));
    }
    let watts = [("idle", gpu.idle_watts), ("busy", gpu.busy_watts), ("limit", gpu.peak_watts)];
    let watts: Vec<String> = watts.iter().filter_map(|(name, w)| w.map(|w| format!("{name} {w} W"))).collect();
    line(&mut text, "Power", &watts.join(", "));
    if let Some(price) = &gpu.price {
        line(&mut text, "Price", &format!("{} USD per GPU and hour", price.usd_per_hour));
    }
    line(&mut text, "Note", gpu.note.as_deref().unwrap_or_default());
    let priced = gpu.price.iter().filter_map(|price| price.source.as_ref());
    for (index, source) in gpu.source.iter().chain(priced).enumerate() {
        let label = if index == 0 { "Sources" } else { "" };
        let read = source.date.as_ref().map_or_else(String::new, |date| format!(", read {date}"));
        line(&mut text, label, &format!("{} ({}), {}{read}", source.title, source.vendor, source.url));
    }
    tables_line(&mut text, library.entries().filter(|e| e.meta.system == gpu.name).map(|e| e.key()));
    text
}

fn tables_line(text: &mut String, keys: impl Iterator<Item = String>) {
    for (index, key) in keys.enumerate() {
        line(text, if index == 0 { "Tables" } else { "" }, &key);
    }
}

fn show_model(name: &str, config: &ModelConfig, library: &TableLibrary) -> Result<String, PerfError> {
    let mut text = format!("{name}\n\n");
    line(&mut text, "Shape", &shape_words(&config.shape));
    line(&mut text, "Formats", &format!("weights {}, KV cache {}", config.weights, config.kv_cache));
    tables_line(&mut text, library.entries().filter(|e| e.model == config.shape).map(|e| e.key()));
    let sizes = [1, 2, 4, 8];
    let mut rows = Vec::new();
    for gpu in GpuSpec::known_names() {
        let gpu = GpuSpec::known(gpu)?;
        let cells = sizes.iter().map(|tp| room(&gpu, config, *tp).map_or_else(|| "-".to_owned(), grouped));
        rows.push([gpu.name.clone()].into_iter().chain(cells).collect());
    }
    let title = match config.weights {
        Precision::Bf16 => "KV tokens that fit beside the weights (bf16; add -FP8 to the name for FP8), vLLM defaults",
        Precision::Fp8 => "KV tokens that fit beside the weights (fp8), vLLM defaults",
    };
    let header: Vec<String> = ["GPU".to_owned()].into_iter().chain(sizes.iter().map(|tp| format!("tp{tp}"))).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let _ = write!(text, "\n{title}\n\n{}", columns(&header, rows, 1));
    Ok(text)
}

/// KV tokens that fit on `tp` GPUs; none when the model does not fit or cannot be split so.
fn room(gpu: &GpuSpec, config: &ModelConfig, tp: u64) -> Option<u64> {
    let setup = RooflineSetup::new(tp, config.weights, config.kv_cache);
    let parts = estimate(gpu, &config.shape, &setup, Backend::Vllm, 8_192).ok()?;
    kv_capacity(&parts, Backend::Vllm, None, 16, None).ok().map(|capacity| capacity.kv_tokens)
}
