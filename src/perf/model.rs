//! Models by name and from a Hugging Face `config.json`.
//!
//! The shipped ones are the files of `assets/models/`: the keys of their `config.json` that matter here, and the names
//! they go by. A few that the timing model cannot describe are among them, so that asking for one says why.

use serde::Deserialize;

use super::lookup::{nearest, plain};
use super::{ModelShape, PerfError, Precision, config_json, quantization};

/// What timing and memory need to know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Sizes.
    pub shape: ModelShape,
    /// Format of the weights of layers.
    pub weights: Precision,
    /// Format of the KV cache: what the checkpoint asks for, else FP8 with FP8 weights and 16 bits with 16-bit ones.
    pub kv_cache: Precision,
}

/// The files of `assets/models/`, alphabetically.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../assets/models/", $name, ".json")))),*]
    };
}

const SHIPPED: [(&str, &str); 29] = shipped![
    "deepseek-v3",
    "gemma-2-9b",
    "gemma-3-27b",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "llama-3.1-405b",
    "llama-3.1-70b",
    "llama-3.1-8b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "mistral-7b",
    "mistral-7b-v0.1",
    "mixtral-8x22b",
    "mixtral-8x7b",
    "phi-4",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "qwen2.5-72b",
    "qwen2.5-7b",
    "qwen3-0.6b",
    "qwen3-1.7b",
    "qwen3-14b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-32b",
    "qwen3-4b",
    "qwen3-8b",
    "qwen3-coder-480b-a35b",
    "qwen3-next-80b-a3b",
];

/// Endings of names of FP8 checkpoints.
const FP8_ENDINGS: [&str; 6] = ["fp8", "fp8dynamic", "fp8kv", "fp8block", "fp8static", "fp8staticpertensor"];
/// Endings of names of 16-bit checkpoints.
const WIDE_ENDINGS: [&str; 3] = ["bf16", "fp16", "bfloat16"];
/// Parts of names of checkpoints in formats that the timing model does not know.
const OTHER_FORMATS: [&str; 12] =
    ["awq", "gptq", "int4", "int8", "w4a16", "w8a16", "w8a8", "nvfp4", "mxfp4", "gguf", "4bit", "8bit"];

/// The names in a shipped file.
#[derive(Deserialize)]
struct Names {
    #[serde(rename = "_names")]
    names: Vec<String>,
}

impl ModelConfig {
    /// Names of the shipped models, alphabetically.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The shipped model called `name`, in whatever case and punctuation, with or without an organisation before a slash.
    /// An ending such as `-FP8` or `-bf16` says the format of the weights; without it they are 16-bit.
    ///
    /// # Errors
    /// Lists the nearest names when there is none; says why when the timing model cannot describe the model or its format.
    pub fn known(name: &str) -> Result<Self, PerfError> {
        let wanted = plain(name.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
        // The longest known name that `wanted` begins with.
        let mut best: Option<(usize, &str, &str)> = None;
        for (known, text) in SHIPPED {
            let length = longest_start(&wanted, known, text)?;
            if length > best.map_or(0, |(length, ..)| length) {
                best = Some((length, known, text));
            }
        }
        let found = best.and_then(|(length, known, text)| Some((known, text, wanted.get(length..)?)));
        let Some((known, text, ending)) = found else { return Err(unknown(name)) };
        let mut model = Self::parse(text, &format!("{known}.json"))?;
        match ending {
            "" => {}
            ending if WIDE_ENDINGS.contains(&ending) => {}
            ending if FP8_ENDINGS.contains(&ending) => {
                model.weights = Precision::Fp8;
                model.kv_cache = Precision::Fp8;
            }
            ending if OTHER_FORMATS.iter().any(|format| ending.contains(format)) => {
                let cause = format!("\"{name}\" is quantised in a format that the timing model does not know");
                return Err(PerfError::setting("model", cause, quantization::CURE));
            }
            _ => return Err(unknown(name)),
        }
        Ok(model)
    }

    /// Reads a `config.json`; `source` names it in errors. Vision or audio parts of a multimodal model are left out.
    ///
    /// # Errors
    /// Names the field that is missing or implausible, or that says why the timing model cannot describe the model: latent
    /// (MLA), windowed, sparse or linear attention, an encoder, shared experts, layers unlike each other, or weights that
    /// are neither 16-bit nor FP8.
    pub fn parse(text: &str, source: &str) -> Result<Self, PerfError> {
        let (shape, formats) = config_json::parse(text, source)?;
        Ok(Self { shape, weights: formats.weights, kv_cache: formats.kv_cache })
    }
}

/// Length of the longest name of a shipped file that `wanted` begins with; 0 if none.
fn longest_start(wanted: &str, known: &str, text: &str) -> Result<usize, PerfError> {
    let file: Names = serde_json::from_str(text).map_err(|e| {
        PerfError::data(format!("{known}.json"), "_names", e.to_string(), "list the names of the model")
    })?;
    let starts = |name: &str| Some(plain(name)).filter(|name| wanted.starts_with(name)).map_or(0, |name| name.len());
    Ok(file.names.iter().map(|name| starts(name)).fold(starts(known), usize::max))
}

fn unknown(name: &str) -> PerfError {
    let candidates = nearest(name, ModelConfig::known_names()).into_iter().map(str::to_owned).collect();
    let cure = "give one of these names, or the path of the model's config.json";
    PerfError::no_match(format!("no model is called \"{name}\""), candidates, cure)
}
