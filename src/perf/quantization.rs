//! Number formats that a `config.json` declares.
//!
//! Two formats are in the timing model: 16-bit weights, and 8-bit floating-point weights with 8-bit activations. Formats
//! that store weights in fewer bits than they are multiplied in (AWQ, GPTQ, other 4-bit and weight-only 8-bit ones) and
//! integer or 4-bit arithmetic are refused: their kernels reach other rates than the constants of the roofline say.

use serde_json::{Map, Value};

use super::{PerfError, Precision};

/// Formats of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Formats {
    /// Of the weights.
    pub weights: Precision,
    /// Of the KV cache: what the checkpoint asks for, else FP8 with FP8 weights, as in the shipped tables.
    pub kv_cache: Precision,
}

/// What to do about a format that is not in the model.
pub(super) const CURE: &str =
    "use a bf16 or FP8 checkpoint, or remove the quantisation from a copy of the file to estimate 16-bit weights";

/// Reads the formats of the config `map`, whose fields are called `prefix` plus their name.
pub(super) fn formats(map: &Map<String, Value>, source: &str, prefix: &str) -> Result<Formats, PerfError> {
    let dtype = dtype(map, source, prefix)?;
    for key in ["quantization_config", "compression_config"] {
        match map.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(config)) => return Declared { config, source, at: format!("{prefix}{key}") }.formats(),
            Some(other) => {
                let cause = format!("is {other}");
                return Err(PerfError::data(source, format!("{prefix}{key}"), cause, "give an object or leave it out"));
            }
        }
    }
    Ok(Formats { weights: dtype, kv_cache: dtype })
}

/// The format of a checkpoint without quantisation; engines serve 32-bit ones in 16 bits.
fn dtype(map: &Map<String, Value>, source: &str, prefix: &str) -> Result<Precision, PerfError> {
    for key in ["dtype", "torch_dtype"] {
        let Some(value) = map.get(key).filter(|value| !value.is_null()) else { continue };
        let name = value.as_str().unwrap_or_default();
        return match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" | "auto" => Ok(Precision::Bf16),
            name => Precision::named(name).ok_or_else(|| {
                let cure = "give bfloat16, float16, float32 or float8_e4m3fn";
                PerfError::data(source, format!("{prefix}{key}"), format!("is {value}"), cure)
            }),
        };
    }
    Ok(Precision::Bf16)
}

/// A declared quantisation.
struct Declared<'a> {
    config: &'a Map<String, Value>,
    source: &'a str,
    at: String,
}

impl Declared<'_> {
    fn formats(&self) -> Result<Formats, PerfError> {
        let method = self.text("quant_method")?.or(self.text("quant_algo")?.map(|_| "modelopt".to_owned()));
        match method.as_deref() {
            Some("fp8" | "fbgemm_fp8") => {}
            Some("modelopt") => self.check_modelopt()?,
            Some("compressed-tensors" | "compressed_tensors") => self.check_groups()?,
            Some(method) => return Err(self.refuse("quant_method", &format!("\"{method}\""))),
            None => {
                let field = format!("{}.quant_method", self.at);
                return Err(PerfError::data(self.source, field, "is missing", "add it, or leave out the quantisation"));
            }
        }
        // Whether given or not, the cache of an FP8 checkpoint is taken as FP8, as in the shipped tables.
        let kv_cache = self.kv_cache()?.unwrap_or(Precision::Fp8);
        Ok(Formats { weights: Precision::Fp8, kv_cache })
    }

    fn check_modelopt(&self) -> Result<(), PerfError> {
        match self.text("quant_algo")? {
            Some(algo) if algo.starts_with("fp8") => Ok(()),
            Some(algo) => Err(self.refuse("quant_algo", &format!("\"{algo}\""))),
            None => self.check_groups(),
        }
    }

    /// Every group must have 8-bit floating-point weights and activations.
    fn check_groups(&self) -> Result<(), PerfError> {
        let Some(Value::Object(groups)) = self.config.get("config_groups") else {
            return Err(self.refuse("config_groups", "missing or not an object"));
        };
        if groups.is_empty() {
            return Err(self.refuse("config_groups", "empty"));
        }
        for (name, group) in groups {
            for part in ["weights", "input_activations"] {
                let scheme = group.get(part).filter(|scheme| !scheme.is_null());
                if !scheme.is_some_and(is_fp8) {
                    let found = scheme.map_or_else(|| "16-bit".to_owned(), described);
                    return Err(self.refuse(&format!("config_groups.{name}.{part}"), &found));
                }
            }
        }
        Ok(())
    }

    fn kv_cache(&self) -> Result<Option<Precision>, PerfError> {
        if let Some(scheme) = self.config.get("kv_cache_scheme").filter(|scheme| !scheme.is_null()) {
            return match is_fp8(scheme) {
                true => Ok(Some(Precision::Fp8)),
                false => Err(self.refuse("kv_cache_scheme", &described(scheme))),
            };
        }
        match self.text("kv_cache_quant_algo")? {
            None => Ok(None),
            Some(algo) if algo.starts_with("fp8") => Ok(Some(Precision::Fp8)),
            Some(algo) => Err(self.refuse("kv_cache_quant_algo", &format!("\"{algo}\""))),
        }
    }

    /// A text in lower case.
    fn text(&self, key: &str) -> Result<Option<String>, PerfError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_ascii_lowercase())),
            Some(other) => {
                let field = format!("{}.{key}", self.at);
                Err(PerfError::data(self.source, field, format!("is {other}"), "give a text"))
            }
        }
    }

    fn refuse(&self, key: &str, found: &str) -> PerfError {
        let cause =
            format!("is {found}; the timing model knows 16-bit weights and FP8 weights with FP8 activations only");
        PerfError::data(self.source, format!("{}.{key}", self.at), cause, CURE)
    }
}

fn is_fp8(scheme: &Value) -> bool {
    let bits = scheme.get("num_bits").and_then(Value::as_u64);
    let kind = scheme.get("type").and_then(Value::as_str);
    bits == Some(8) && kind == Some("float")
}

fn described(scheme: &Value) -> String {
    match (scheme.get("num_bits"), scheme.get("type").and_then(Value::as_str)) {
        (Some(bits), Some(kind)) => format!("{bits}-bit {kind}"),
        _ => scheme.to_string(),
    }
}
