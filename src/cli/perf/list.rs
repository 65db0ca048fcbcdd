//! `dynosim perf list`: which tables, GPUs and models there are.

use dynosim::perf::{GpuSpec, ModelConfig, PerfError, TableEntry, TableLibrary, TableOrigin, kv_capacity};
use serde_json::{Value, json};

use super::words::{columns, gib, grouped};
use crate::cli::error::CliError;
use crate::cli::output;

/// Flags of `dynosim perf list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only names that contain all of these words
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// List GPUs, for rooflines
    #[arg(long, conflicts_with = "models")]
    gpus: bool,
    /// List models, for rooflines
    #[arg(long)]
    models: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

/// Something that can be listed: its name, its cells, its JSON form.
struct Row {
    name: String,
    cells: Vec<String>,
    json: Value,
}

/// Prints the list.
pub fn run(args: &Args, library: &TableLibrary) -> Result<(), CliError> {
    let (what, header, left, rows) = if args.gpus {
        ("GPU", &GPU_HEADER[..], 1, gpus()?)
    } else if args.models {
        ("model", &MODEL_HEADER[..], 1, models())
    } else {
        ("table", &TABLE_HEADER[..], 6, library.entries().map(table).collect())
    };
    let words: Vec<String> = args.words.iter().map(|word| word.to_lowercase()).collect();
    let chosen = |row: &Row| words.iter().all(|word| row.name.to_lowercase().contains(word));
    let rows: Vec<Row> = rows.into_iter().filter(chosen).collect();
    if rows.is_empty() && !args.json {
        let cause = format!("no {what} has a name with \"{}\"", args.words.join("\" and \""));
        return Err(PerfError::setting("list", cause, "leave a word out").into());
    }
    let text = if args.json {
        let list = Value::Array(rows.into_iter().map(|row| row.json).collect());
        format!("{list:#}\n")
    } else {
        columns(header, rows.into_iter().map(|row| row.cells), left)
    };
    output::to_stdout(&text)
}

const TABLE_HEADER: [&str; 8] = ["KEY", "MODEL", "GPU", "ENGINE", "TP", "WEIGHTS/KV CACHE", "KV TOKENS", "KV PER GPU"];

fn table(entry: &TableEntry) -> Row {
    let TableEntry { meta, memory, origin, .. } = entry;
    // Without memory rules for the engine there is no capacity to show.
    let capacity = meta.backend.parse().ok().and_then(|backend| kv_capacity(memory, backend, None, 1, None).ok());
    let tokens = capacity.as_ref().map_or_else(|| "-".to_owned(), |c| grouped(c.kv_tokens));
    let size = capacity.as_ref().map_or_else(|| "-".to_owned(), |c| gib(c.kv_budget_bytes));
    let parallel = match (meta.moe_tp, meta.moe_ep) {
        (Some(_), Some(ep)) if ep > 1 => format!("{} ep{ep}", meta.tp),
        _ => meta.tp.to_string(),
    };
    let engine = format!("{} {}", meta.backend, meta.backend_version);
    let file = match origin {
        TableOrigin::Embedded => None,
        TableOrigin::File(path) => Some(path.display().to_string()),
    };
    let name = format!("{} {} {engine} {}", entry.key(), meta.model, file.as_deref().unwrap_or_default());
    let formats = format!("{}/{}", meta.quant.gemm, meta.quant.kv_cache);
    let cells = [&entry.key(), &meta.model, &meta.system, &engine, &parallel, &formats];
    let json = json!({
        "key": entry.key(),
        "model": meta.model,
        "slug": meta.slug,
        "system": meta.system,
        "backend": meta.backend,
        "backend_version": meta.backend_version,
        "tp": meta.tp,
        "moe_tp": meta.moe_tp,
        "moe_ep": meta.moe_ep,
        "quant": meta.quant,
        "kv_tokens": capacity.as_ref().map(|c| c.kv_tokens),
        "kv_bytes": capacity.as_ref().map(|c| c.kv_budget_bytes),
        "kv_bytes_per_token": memory.kv_bytes_per_token,
        "source": meta.source,
        "file": file,
    });
    Row { name, cells: cells.into_iter().cloned().chain([tokens, size]).collect(), json }
}

const GPU_HEADER: [&str; 7] = ["GPU", "MEMORY", "BANDWIDTH", "BF16 TFLOP/s", "FP8 TFLOP/s", "LINK", "POWER"];

fn gpus() -> Result<Vec<Row>, PerfError> {
    let row = |name: &str| {
        let gpu = GpuSpec::known(name)?;
        let tera = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0}", rate / 1e12));
        let cells = vec![
            gpu.name.clone(),
            gib(gpu.memory_bytes),
            format!("{:.2} TB/s", gpu.memory_bytes_per_s / 1e12),
            tera(Some(gpu.bf16_flops)),
            tera(gpu.fp8_flops),
            gpu.peer_bytes_per_s().map_or_else(|| "-".to_owned(), |rate| format!("{:.0} GB/s", rate / 1e9)),
            gpu.peak_watts.map_or_else(|| "-".to_owned(), |watts| format!("{watts} W")),
        ];
        let json = json!({
            "name": gpu.name,
            "aliases": gpu.aliases,
            "memory_bytes": gpu.memory_bytes,
            "memory_bytes_per_s": gpu.memory_bytes_per_s,
            "bf16_flops": gpu.bf16_flops,
            "fp8_flops": gpu.fp8_flops,
            "intra_node_bytes_per_s": gpu.intra_node_bytes_per_s,
            "inter_node_bytes_per_s": gpu.inter_node_bytes_per_s,
            "pcie_bytes_per_s": gpu.pcie_bytes_per_s,
            "peak_watts": gpu.peak_watts,
        });
        Ok(Row { name: format!("{} {}", gpu.name, gpu.aliases.join(" ")), cells, json })
    };
    GpuSpec::known_names().map(row).collect()
}

const MODEL_HEADER: [&str; 8] =
    ["MODEL", "LAYERS", "HIDDEN", "HEADS", "KV HEADS", "EXPERTS", "WEIGHTS", "KV PER TOKEN"];

fn models() -> Vec<Row> {
    // A model that the timing model cannot describe is known only to say so.
    let usable = ModelConfig::known_names().filter_map(|name| Some((name, ModelConfig::known(name).ok()?)));
    let row = |(name, config): (&str, ModelConfig)| {
        let ModelConfig { shape, weights, kv_cache } = config;
        let kv_bytes = shape.layers * 2 * shape.kv_heads * shape.head_dim * kv_cache.bytes();
        let experts = shape.experts.map_or_else(|| "-".to_owned(), |e| format!("{} of {}", e.per_token, e.count));
        let cells = vec![
            name.to_owned(),
            shape.layers.to_string(),
            shape.hidden.to_string(),
            shape.heads.to_string(),
            shape.kv_heads.to_string(),
            experts,
            weights.to_string(),
            format!("{} B", grouped(kv_bytes)),
        ];
        let json = json!({
            "name": name,
            "shape": shape,
            "weights": weights.to_string(),
            "kv_cache": kv_cache.to_string(),
            "kv_bytes_per_token": kv_bytes,
        });
        Row { name: name.to_owned(), cells, json }
    };
    usable.map(row).collect()
}
