//! A model's shape from its Hugging Face `config.json`, or the reason why it has none here.

use serde_json::{Map, Value};

use crate::text::without_mark;

use super::quantization::{Formats, formats};
use super::{Experts, ModelShape, PerfError};

/// Keys under which multimodal models keep the config of their language model.
const NESTED: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// Keys that give latent attention away.
const LATENT: [&str; 2] = ["kv_lora_rank", "q_lora_rank"];
/// Keys of attention within chunks or windows, besides `sliding_window`.
const WINDOWED: [&str; 3] = ["attention_chunk_size", "interleaved_sliding_window", "attention_window_size"];
/// Beginnings of keys of linear attention and state-space layers.
const LINEAR: [&str; 4] = ["linear_", "mamba", "ssm_", "rwkv"];
/// Keys that list the kinds of layers.
const LAYER_KINDS: [&str; 3] = ["layer_types", "layers_block_type", "attn_type_list"];
/// Keys of experts that see every token.
const SHARED_EXPERTS: [&str; 4] =
    ["n_shared_experts", "num_shared_experts", "shared_expert_intermediate_size", "shared_intermediate_size"];
/// Keys of layers that do without experts among layers that have them.
const DENSE_LAYERS: [&str; 2] = ["first_k_dense_replace", "mlp_only_layers"];
/// Keys of the distance between layers with experts.
const EXPERT_STEP: [&str; 3] = ["decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq"];

/// Reads the text of a `config.json`; `source` names it in errors.
pub(super) fn parse(text: &str, source: &str) -> Result<(ModelShape, Formats), PerfError> {
    let cure = "give the config.json of a Hugging Face model";
    let value: Value = serde_json::from_str(without_mark(text))
        .map_err(|e| PerfError::data(source, "", format!("is not JSON: {e}"), cure))?;
    let Value::Object(top) = value else {
        return Err(PerfError::data(source, "", "is not a JSON object", cure));
    };
    let config = Config::new(&top, source);
    config.refuse_other_attention()?;
    let shape = config.shape()?;
    // Quantisation stands at the top even where the sizes are nested; newer exports nest the data type too.
    let declared = |map: &Map<String, Value>| {
        ["quantization_config", "compression_config", "dtype", "torch_dtype"].iter().any(|key| map.contains_key(*key))
    };
    let formats = if declared(&top) || config.prefix.is_empty() {
        formats(&top, source, "")?
    } else {
        formats(config.map, source, &config.prefix)?
    };
    Ok((shape, formats))
}

/// The config of a language model.
struct Config<'a> {
    map: &'a Map<String, Value>,
    source: &'a str,
    /// What precedes the names of its keys in the file, such as `text_config.`.
    prefix: String,
}

impl<'a> Config<'a> {
    fn new(top: &'a Map<String, Value>, source: &'a str) -> Self {
        let nested = NESTED.iter().find_map(|key| Some((key, top.get(*key)?.as_object()?)));
        match nested.filter(|_| !top.contains_key("num_hidden_layers")) {
            Some((key, map)) => Self { map, source, prefix: format!("{key}.") },
            None => Self { map: top, source, prefix: String::new() },
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn error(&self, key: &str, cause: impl Into<String>, cure: impl Into<String>) -> PerfError {
        PerfError::data(self.source, format!("{}{key}", self.prefix), cause, cure)
    }

    /// Refuses what the formulas do not describe.
    fn refuse_other_attention(&self) -> Result<(), PerfError> {
        let refuse = |key: &str, what: &str| {
            let value = self.get(key).map_or_else(String::new, Value::to_string);
            let cause = format!("is {value}: the model has {what}, which the timing model does not describe");
            Err(self.error(
                key,
                cause,
                "use a model with full attention in every layer, or a measured table of this one",
            ))
        };
        if self.is_on("is_encoder_decoder") {
            return refuse("is_encoder_decoder", "an encoder");
        }
        if let Some(key) = LATENT.into_iter().find(|key| self.is_on(key)) {
            return refuse(key, "latent attention (MLA)");
        }
        if self.has_window() {
            return refuse("sliding_window", "windowed attention");
        }
        if let Some(key) = WINDOWED.into_iter().find(|key| self.is_on(key)) {
            return refuse(key, "windowed attention");
        }
        for key in LAYER_KINDS {
            for kind in self.get(key).and_then(Value::as_array).into_iter().flatten() {
                let kind = kind.as_str().unwrap_or_default();
                if kind.contains("sliding") || kind.contains("chunked") || kind.contains("local") {
                    return refuse(key, "windowed attention in some layers");
                }
                if !matches!(kind, "full_attention" | "attention" | "full") {
                    return refuse(key, "linear or other attention in some layers");
                }
            }
        }
        let linear = |key: &&String| LINEAR.iter().any(|start| key.starts_with(start)) && self.is_on(key);
        if let Some(key) = self.map.keys().find(linear) {
            return refuse(key, "linear attention or state-space layers");
        }
        if self.is_on("index_topk") {
            return refuse("index_topk", "sparse attention");
        }
        if self.get("block_configs").is_some() {
            return refuse("block_configs", "layers of different shapes");
        }
        Ok(())
    }

    /// Whether a sliding window cuts attention short: it is set, not switched off, and shorter than the longest sequence.
    fn has_window(&self) -> bool {
        if !self.is_on("sliding_window") || self.get("use_sliding_window") == Some(&Value::Bool(false)) {
            return false;
        }
        let size = |key: &str| self.get(key).and_then(Value::as_u64);
        !matches!((size("sliding_window"), size("max_position_embeddings")), (Some(window), Some(most)) if window >= most)
    }

    /// Whether `key` is given and not an empty or zero value.
    fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        })
    }

    fn shape(&self) -> Result<ModelShape, PerfError> {
        let (experts, expert_keys) = self.experts()?;
        let hidden = self.required("hidden_size")?;
        let heads = self.required("num_attention_heads")?;
        let head_dim = match self.whole("head_dim")? {
            Some(head_dim) => head_dim,
            // Reported below as what it is: no heads.
            None if heads == 0 => 0,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let cause = format!("is missing, and {hidden} (`hidden_size`) over {heads} heads is not whole");
                return Err(self.error("head_dim", cause, "add it: the width of one attention head"));
            }
        };
        let shape = ModelShape {
            layers: self.required("num_hidden_layers")?,
            hidden,
            heads,
            kv_heads: self.whole("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            intermediate: match experts {
                Some(_) => self.whole("intermediate_size")?.unwrap_or(0),
                None => self.required("intermediate_size")?,
            },
            vocab: self.required("vocab_size")?,
            experts,
        };
        shape.check_named(self.source, |field| {
            let key = match field {
                "layers" => "num_hidden_layers",
                "hidden" => "hidden_size",
                "heads" => "num_attention_heads",
                "kv_heads" => "num_key_value_heads",
                "intermediate" => "intermediate_size",
                "vocab" => "vocab_size",
                "experts" => expert_keys[0],
                "experts_per_token" => expert_keys[1],
                "moe_intermediate" => expert_keys[2],
                other => other,
            };
            format!("{}{key}", self.prefix)
        })?;
        Ok(shape)
    }

    /// The experts, if any, and the keys that say their count, how many a token takes, and their width.
    fn experts(&self) -> Result<(Option<Experts>, [&'static str; 3]), PerfError> {
        let counts = ["num_experts", "num_local_experts", "n_routed_experts"];
        let Some(count_key) = counts.into_iter().find(|key| self.is_on(key)) else {
            return Ok((None, [counts[0], "num_experts_per_tok", "moe_intermediate_size"]));
        };
        let unlike = |key: &str, what: &str| {
            let value = self.get(key).map_or_else(String::new, Value::to_string);
            let cause = format!("is {value}: {what}, which the timing model does not describe");
            Err(self.error(key, cause, "use a model whose layers all have routed experts only, or a measured table"))
        };
        if let Some(key) = SHARED_EXPERTS.into_iter().find(|key| self.is_on(key)) {
            return unlike(key, "experts are shared by all tokens");
        }
        if let Some(key) = DENSE_LAYERS.into_iter().find(|key| self.is_on(key)) {
            return unlike(key, "some layers have no experts");
        }
        let is_one = |value: &Value| match value {
            Value::Array(layers) => layers.iter().all(|layer| layer.as_u64() == Some(1)),
            other => other.as_u64() == Some(1),
        };
        if let Some(key) = EXPERT_STEP.into_iter().find(|key| self.get(key).is_some_and(|step| !is_one(step))) {
            return unlike(key, "some layers have no experts");
        }
        let per_token_key = if self.get("num_experts_per_tok").is_none() && self.get("experts_per_token").is_some() {
            "experts_per_token"
        } else {
            "num_experts_per_tok"
        };
        // Mixtral keeps the width of its experts where dense models keep theirs.
        let plain_width = self.get("moe_intermediate_size").is_none() && self.get("intermediate_size").is_some();
        let width_key = if plain_width { "intermediate_size" } else { "moe_intermediate_size" };
        let experts = Experts {
            count: self.required(count_key)?,
            per_token: self.required(per_token_key)?,
            intermediate: self.required(width_key)?,
        };
        Ok((Some(experts), [count_key, per_token_key, width_key]))
    }

    fn whole(&self, key: &str) -> Result<Option<u64>, PerfError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(key, format!("is {value}"), "give a whole number, at least 1")),
        }
    }

    fn required(&self, key: &str) -> Result<u64, PerfError> {
        self.whole(key)?.ok_or_else(|| self.error(key, "is missing", "add it, as in the config.json of the model"))
    }
}
