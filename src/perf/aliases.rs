//! What a user may call a model, a GPU or an engine version, and which table that means.
//!
//! The same model goes by many names: a Hugging Face id, a folder, an entry of the hub's cache. Its pass times depend on
//! its sizes and on how its weights are quantised, so a name is read as a *family* (`llama-3.1-8b`) and a *weight format*.
//! Fine-tunes of a family (`-Instruct`, `-Thinking-2507`) have equal sizes and therefore equal times.
//!
//! `FP8` in a name says little by itself. NVIDIA and Red Hat scale per tensor; Qwen's and DeepSeek's own releases scale
//! blocks of 128 x 128 weights, which needs other and slower kernels. AIConfigurator reads the difference from the
//! checkpoint's `config.json`; so do we where the name is a folder that has one, and otherwise go by who published it.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// How the weights of the layers are stored and multiplied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WeightFormat {
    /// bfloat16 or float16.
    Bf16,
    /// FP8, one scale per tensor, activation scales known beforehand.
    Fp8,
    /// FP8, activation scales computed at run time.
    Fp8Dynamic,
    /// FP8, one scale per block of weights.
    Fp8Block,
    /// Anything else, by its name.
    Other(String),
}

impl WeightFormat {
    /// The format of AIConfigurator's name of a GEMM mode.
    pub fn of_gemm(gemm: &str) -> Self {
        match gemm {
            "bfloat16" => Self::Bf16,
            "fp8_static" => Self::Fp8,
            "fp8" => Self::Fp8Dynamic,
            "fp8_block" => Self::Fp8Block,
            other => Self::Other(other.to_owned()),
        }
    }

    /// AIConfigurator's name of the GEMM mode.
    pub fn gemm(&self) -> &str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::Fp8 => "fp8_static",
            Self::Fp8Dynamic => "fp8",
            Self::Fp8Block => "fp8_block",
            Self::Other(name) => name,
        }
    }

    /// Number format of the KV cache that AIConfigurator assumes for such weights.
    pub fn default_kv_cache(&self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::Fp8 | Self::Fp8Dynamic | Self::Fp8Block => "fp8",
            Self::Other(name) if name.contains("fp4") => "fp8",
            Self::Other(_) => "bfloat16",
        }
    }

    /// Whether a table of `other` can stand in, with a remark: both scale per tensor and differ in one small kernel.
    pub fn close_to(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Fp8, Self::Fp8Dynamic) | (Self::Fp8Dynamic, Self::Fp8))
    }
}

/// A model's name, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelName {
    /// What determines the sizes, in lower case, such as `qwen3-30b-a3b`.
    pub family: String,
    /// How the weights are stored.
    pub format: WeightFormat,
    /// Whether `format` is a guess, because the name says FP8 and its publisher is not known.
    pub guessed: bool,
}

/// Who scales FP8 weights per tensor, and who per block.
const PER_TENSOR: [&str; 5] = ["nvidia", "redhatai", "neuralmagic", "meta-llama", "amd"];
const PER_BLOCK: [&str; 5] = ["qwen", "deepseek-ai", "zai-org", "minimaxai", "moonshotai"];

/// Words of a name that leave the sizes alone.
const VARIANTS: [&str; 6] = ["instruct", "chat", "base", "thinking", "it", "hf"];

/// Families with the sizes of another one, which is the one with tables.
const SAME_SIZES: [(&str, &str); 7] = [
    ("llama-3-8b", "llama-3.1-8b"),
    ("llama-3-70b", "llama-3.1-70b"),
    ("llama-3.3-70b", "llama-3.1-70b"),
    ("llama-3.1-nemotron-70b", "llama-3.1-70b"),
    ("deepseek-r1-distill-llama-8b", "llama-3.1-8b"),
    ("deepseek-r1-distill-llama-70b", "llama-3.1-70b"),
    ("qwen3-coder-30b-a3b", "qwen3-30b-a3b"),
];

/// The family whose tables fit `family` too, sizes being equal.
pub(super) fn same_sizes(family: &str) -> Option<&'static str> {
    SAME_SIZES.iter().find(|(name, _)| *name == family).map(|(_, known)| *known)
}

impl ModelName {
    /// Like [`ModelName::parse`], but where `model` is a folder with a checkpoint, that says how its weights are stored.
    pub fn of_checkpoint(model: &str) -> Self {
        let mut parsed = Self::parse(model);
        if let Some(format) = checkpoint_format(Path::new(model.trim())) {
            (parsed.format, parsed.guessed) = (format, false);
        }
        parsed
    }

    /// Understands a Hugging Face id, a local path, or an entry of the Hugging Face cache.
    pub fn parse(model: &str) -> Self {
        let path = model.trim().replace('\\', "/");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let cached = parts.iter().find_map(|part| part.strip_prefix("models--"));
        let (publisher, name) = match (cached, parts.as_slice()) {
            (Some(entry), _) => entry.split_once("--").unwrap_or(("", entry)),
            (None, [.., publisher, name]) => (*publisher, *name),
            (None, [name]) => ("", *name),
            (None, []) => ("", ""),
        };
        let id = path.matches('/').count() == 1 && !path.starts_with(['/', '.', '~']);
        Self::from_parts(&publisher.to_lowercase(), cached.is_some() || id, name)
    }

    /// `publisher` is what comes before `name`: of an id its owner, of a path just a folder.
    fn from_parts(publisher: &str, is_id: bool, name: &str) -> Self {
        let name = name.to_lowercase().replace(['_', ' ', ':'], "-");
        let name = name.strip_prefix("meta-").unwrap_or(&name);
        let mut family: Vec<&str> = Vec::new();
        let mut format = WeightFormat::Bf16;
        let mut settled = true;
        for word in name.split('-').filter(|word| !word.is_empty()) {
            let fp8 = matches!(format, WeightFormat::Fp8 | WeightFormat::Fp8Dynamic | WeightFormat::Fp8Block);
            match word {
                "bf16" | "bfloat16" | "fp16" | "float16" => format = WeightFormat::Bf16,
                "fp8" => (format, settled) = (WeightFormat::Fp8, false),
                "fp8block" => format = WeightFormat::Fp8Block,
                "dynamic" if fp8 => (format, settled) = (WeightFormat::Fp8Dynamic, true),
                "block" if fp8 => (format, settled) = (WeightFormat::Fp8Block, true),
                "static" | "pertensor" | "tensor" if fp8 => (format, settled) = (WeightFormat::Fp8, true),
                "per" | "kv" if fp8 => {}
                "awq" | "gptq" | "gguf" | "nvfp4" | "mxfp4" | "fp4" | "int4" | "int8" | "w4a16" | "quantized.w8a8"
                | "quantized.w4a16" => (format, settled) = (WeightFormat::Other(word.to_owned()), true),
                _ if VARIANTS.contains(&word) => {}
                // A release date, such as 2507.
                _ if word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()) => {}
                _ => family.push(word),
            }
        }
        let family = family.join("-");
        let mut guessed = false;
        if !settled {
            let known = |list: &[&str]| list.contains(&publisher);
            let own_release = !is_id && !known(&PER_TENSOR) && family.starts_with("qwen");
            if known(&PER_BLOCK) || own_release {
                format = WeightFormat::Fp8Block;
            }
            guessed = !known(&PER_BLOCK) && !known(&PER_TENSOR) && !family.starts_with("llama");
        }
        Self { family, format, guessed }
    }
}

/// The weight format that the checkpoint in a local folder says it has, by AIConfigurator's rules; none where `folder` is
/// no folder with a readable `config.json`.
fn checkpoint_format(folder: &Path) -> Option<WeightFormat> {
    if folder.as_os_str().is_empty() {
        return None;
    }
    let read = |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok() };
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_lowercase());
    let config = read("config.json")?;
    let quantisation = config.get("quantization_config").cloned().unwrap_or(Value::Null);
    let modelopt = read("hf_quant_config.json").and_then(|value| value.get("quantization").cloned());
    let method = modelopt
        .as_ref()
        .and_then(|value| text(value, "quant_algo"))
        .or_else(|| text(&quantisation, "quant_algo"))
        .or_else(|| text(&quantisation, "quant_method"));
    let blocks = quantisation.get("weight_block_size").and_then(Value::as_array);
    let scheme = text(&quantisation, "activation_scheme");
    Some(match method.as_deref() {
        None => WeightFormat::Bf16,
        Some("fp8") if blocks.is_some_and(|size| !size.is_empty()) => WeightFormat::Fp8Block,
        Some("fp8") if scheme.as_deref() == Some("dynamic") => WeightFormat::Fp8Dynamic,
        Some("fp8") => WeightFormat::Fp8,
        Some(other) => {
            let weights = quantisation.pointer("/config_groups/group_0/weights").unwrap_or(&Value::Null);
            let bits = weights.get("num_bits").and_then(Value::as_u64);
            let dynamic = quantisation.pointer("/config_groups/group_0/input_activations/dynamic");
            match (text(weights, "type").as_deref(), bits, text(weights, "strategy").as_deref()) {
                (Some("float"), Some(8), Some("block")) => WeightFormat::Fp8Block,
                (Some("float"), Some(8), _) if dynamic == Some(&Value::Bool(true)) => WeightFormat::Fp8Dynamic,
                (Some("float"), Some(8), _) => WeightFormat::Fp8,
                _ => WeightFormat::Other(other.to_owned()),
            }
        }
    })
}

/// The one name of a GPU that goes by many, such as `h200_sxm` for `H200`, `h200-sxm` or `NVIDIA H200 141GB HBM3e`.
pub(super) fn system_name(system: &str) -> String {
    let lower = system.trim().to_lowercase();
    let mut words: Vec<&str> = Vec::new();
    for word in lower.split(['_', '-', ' ', '/']).filter(|word| !word.is_empty()) {
        let memory = word.strip_suffix("gb").is_some_and(|size| size.bytes().all(|b| b.is_ascii_digit()));
        if memory || word.starts_with("hbm") || matches!(word, "nvidia" | "tensor" | "core" | "gpu") {
            continue;
        }
        words.push(if word.starts_with("sxm") { "sxm" } else { word });
    }
    match words.as_slice() {
        [gpu @ ("a100" | "h100" | "h200" | "b200" | "b300")] => format!("{gpu}_sxm"),
        [gpu @ ("gb200" | "gb300"), ..] => (*gpu).to_owned(),
        _ => words.join("_"),
    }
}

/// The one name of a serving engine.
pub(super) fn backend_name(backend: &str) -> String {
    let name = backend.trim().to_lowercase();
    match name.replace(['-', '_', ' '], "").as_str() {
        "trtllm" | "tensorrtllm" => "trtllm".to_owned(),
        _ => name,
    }
}

/// AIConfigurator's name of a number format; none where the choice is left to the model, as with `auto`.
pub(super) fn number_format(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    match name.as_str() {
        "" | "auto" | "none" | "null" => None,
        "int4" => Some("int4_wo".to_owned()),
        "bf16" | "fp16" | "float16" => Some("bfloat16".to_owned()),
        _ => Some(name),
    }
}

/// A version in the order of releases: `1.3.0rc10` < `1.3.0rc20` < `1.3.0` < `1.3.0.post1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u64; 3],
    /// Candidate number; a release is past all of them.
    candidate: u64,
    post: u64,
}

impl Version {
    /// Reads a version; none without a number at its beginning.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let text = text.strip_prefix('v').unwrap_or(&text);
        let mut rest = text.split('+').next().unwrap_or(text);
        let mut numbers = [0; 3];
        for (index, number) in numbers.iter_mut().enumerate() {
            match leading_number(rest) {
                Some((value, after)) => (*number, rest) = (value, after),
                None if index == 0 => return None,
                None => break,
            }
            match rest.strip_prefix('.') {
                Some(next) => rest = next,
                None => break,
            }
        }
        let after = |mark: &str| {
            let (_, tail) = rest.split_once(mark)?;
            Some(leading_number(tail).map_or(0, |(value, _)| value))
        };
        Some(Self { numbers, candidate: after("rc").unwrap_or(u64::MAX), post: after("post").unwrap_or(0) })
    }

    /// Which of `self` and `other` is nearer to `wanted`: the newest that is not newer, else the oldest that is. The nearer
    /// one is the lesser.
    pub fn nearer(&self, other: &Self, wanted: &Self) -> Ordering {
        match (self <= wanted, other <= wanted) {
            (true, true) => other.cmp(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.cmp(other),
        }
    }
}

/// The number `text` begins with, and what follows it.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(model: &str) -> (String, WeightFormat, bool) {
        let ModelName { family, format, guessed } = ModelName::of_checkpoint(model);
        (family, format, guessed)
    }

    #[test]
    fn a_name_is_read_as_family_and_weight_format() {
        use WeightFormat::{Bf16, Fp8, Fp8Block, Fp8Dynamic, Other};
        for (model, family, format, guessed) in [
            ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", Fp8, false),
            ("NVIDIA/llama_3.1_8b_instruct_fp8", "llama-3.1-8b", Fp8, false),
            ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", Fp8, false),
            ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b", Fp8Dynamic, false),
            ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", Bf16, false),
            ("meta-llama/Meta-Llama-3.1-70B", "llama-3.1-70b", Bf16, false),
            ("Qwen/Qwen3-32B", "qwen3-32b", Bf16, false),
            ("Qwen/Qwen3-32B-FP8", "qwen3-32b", Fp8Block, false),
            ("Qwen/Qwen3-32B-FP8-Static-PerTensor", "qwen3-32b", Fp8, false),
            ("nvidia/Qwen3-32B-FP8", "qwen3-32b", Fp8, false),
            ("RedHatAI/Qwen3-32B-FP8-block", "qwen3-32b", Fp8Block, false),
            ("someone/Qwen3-32B-FP8", "qwen3-32b", Fp8, true),
            ("/models/Qwen3-32B-FP8/", "qwen3-32b", Fp8Block, true),
            ("/models/Qwen/Qwen3-32B-FP8", "qwen3-32b", Fp8Block, false),
            ("/models/nvidia/Qwen3-32B-FP8", "qwen3-32b", Fp8, false),
            ("./nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", Fp8, false),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b", Fp8Block, false),
            ("Qwen/Qwen3-235B-A22B-Thinking-2507", "qwen3-235b-a22b", Bf16, false),
            ("/hub/models--Qwen--Qwen3-8B/snapshots/0a1b", "qwen3-8b", Bf16, false),
            ("nvidia/Qwen3-32B-NVFP4", "qwen3-32b", Other("nvfp4".to_owned()), false),
            ("", "", Bf16, false),
        ] {
            assert_eq!(name(model), (family.to_owned(), format, guessed), "{model}");
        }
    }

    #[test]
    fn a_folder_says_itself_how_its_weights_are_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Qwen3-32B-FP8");
        fs::create_dir(&path).unwrap();
        let model = path.to_str().unwrap();
        for (config, format) in [
            (r#"{}"#, WeightFormat::Bf16),
            (r#"{"quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}"#, WeightFormat::Fp8Block),
            (
                r#"{"quantization_config":{"quant_method":"fp8","activation_scheme":"dynamic"}}"#,
                WeightFormat::Fp8Dynamic,
            ),
            (r#"{"quantization_config":{"quant_algo":"FP8","config_groups":{}}}"#, WeightFormat::Fp8),
            (
                r#"{"quantization_config":{"quant_method":"compressed-tensors","config_groups":{"group_0":{
                    "input_activations":{"dynamic":true},"weights":{"type":"float","num_bits":8,"strategy":"channel"}}}}}"#,
                WeightFormat::Fp8Dynamic,
            ),
            (r#"{"quantization_config":{"quant_method":"awq"}}"#, WeightFormat::Other("awq".to_owned())),
        ] {
            fs::write(path.join("config.json"), config).unwrap();
            assert_eq!(name(model), ("qwen3-32b".to_owned(), format, false), "{config}");
        }
        fs::write(path.join("config.json"), "no JSON").unwrap();
        assert_eq!(name(model), ("qwen3-32b".to_owned(), WeightFormat::Fp8Block, true));
    }

    #[test]
    fn gpus_engines_and_formats_go_by_one_name() {
        for system in ["h200_sxm", "H200-SXM", "h200", "NVIDIA H200", "h200_sxm5", "NVIDIA H200 141GB HBM3e"] {
            assert_eq!(system_name(system), "h200_sxm", "{system}");
        }
        assert_eq!(system_name("H100_PCIe"), "h100_pcie");
        assert_eq!(system_name("gb200_nvl72"), "gb200");
        assert_eq!(backend_name("TensorRT-LLM"), "trtllm");
        assert_eq!(number_format("auto"), None);
        assert_eq!(number_format("BF16").as_deref(), Some("bfloat16"));
    }

    #[test]
    fn the_nearest_older_version_wins_else_the_nearest_newer() {
        let order = ["1.3.0rc10", "1.3.0rc20", "v1.3.0", "1.3.0.post2", "1.10"].map(|v| Version::parse(v).unwrap());
        assert!(order.is_sorted());
        assert_eq!(Version::parse("0.24.0+cu128"), Version::parse("0.24"));
        assert_eq!(Version::parse("next"), None);
        let nearest = |wanted: &str| {
            let wanted = Version::parse(wanted).unwrap();
            ["0.19.0", "0.24.0", "0.22.1"]
                .into_iter()
                .min_by(|a, b| Version::parse(a).unwrap().nearer(&Version::parse(b).unwrap(), &wanted))
        };
        assert_eq!(
            (nearest("0.23"), nearest("0.30"), nearest("0.1")),
            (Some("0.22.1"), Some("0.24.0"), Some("0.19.0"))
        );
    }
}
