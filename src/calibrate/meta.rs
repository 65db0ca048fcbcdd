//! Reads what a measured engine was set to: `meta.json` beside the requests.
//!
//! The file is the one that the benchmark tool of LLMServingSim writes from a running vLLM. Every part may be missing;
//! what is there must have the right type.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::perf::{GpuSpec, ModelConfig};
use crate::text::without_mark;

use super::error::CalibrateError;

/// File with the settings within a run's folder.
const META: &str = "meta.json";
/// First vLLM version that schedules one pass ahead unless told otherwise.
const ASYNC_SINCE: (u64, u64) = (0, 14);
/// Tokens per KV block of vLLM unless told otherwise.
const VLLM_BLOCK_SIZE: u64 = 16;
/// Blocks of vLLM's pool that hold nothing.
const NULL_BLOCKS: u64 = 1;

/// Settings of the measured engine, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Meta {
    /// Engine arguments, each with where it comes from.
    pub args: Vec<(&'static str, Value, String)>,
    /// Usable KV blocks of a scheduler, and where that comes from.
    pub blocks: Option<(u32, String)>,
    /// Engines without anything in common, and where that comes from.
    pub workers: Option<(u32, String)>,
    /// Whether passes are scheduled one ahead, and where that comes from.
    pub async_scheduling: Option<(bool, String)>,
    /// Model and GPU, each with where it comes from.
    pub model: Option<(String, String)>,
    /// The GPU.
    pub gpu: Option<(String, String)>,
}

impl Meta {
    /// What is known about the run whose requests are in `requests`; nothing where there is no `meta.json`.
    pub fn load(requests: &Path) -> Result<Self, CalibrateError> {
        let folder = requests.parent().unwrap_or(Path::new(""));
        let path = folder.join(META);
        let name = folder.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path, name.as_deref()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { gpu: name.as_deref().and_then(gpu_of_folder), ..Self::default() })
            }
            Err(error) => Err(CalibrateError::read(&path, error)),
        }
    }

    fn parse(text: &str, path: &Path, folder: Option<&str>) -> Result<Self, CalibrateError> {
        let root: Value = serde_json::from_str(without_mark(text))
            .map_err(|e| CalibrateError::data(path, None, "", format!("is not JSON: {e}"), "correct the JSON text"))?;
        let Value::Object(map) = root else {
            return Err(CalibrateError::data(path, None, "", "holds no JSON object", "put the settings in braces"));
        };
        let file = File { path: path.to_owned(), map };
        let mut meta = Self::default();
        meta.engine(&file)?;
        meta.memory(&file)?;
        meta.model = file.text(&["model"])?.or(file.text(&["engine_kwargs", "model"])?).map(|m| (m, META.to_owned()));
        meta.parallelism(&file)?;
        meta.gpu = match file.text(&["hardware", "device_name"])? {
            Some(name) => Some((name, "meta.json, `hardware.device_name`".to_owned())),
            None => folder.and_then(gpu_of_folder),
        };
        meta.async_scheduling = file.scheduling()?;
        Ok(meta)
    }

    fn engine(&mut self, file: &File) -> Result<(), CalibrateError> {
        for name in ["max_num_seqs", "max_num_batched_tokens", "max_model_len"] {
            if let Some(count) = file.count(&["engine_kwargs", name])? {
                self.args.push((name, json!(count), format!("meta.json, `engine_kwargs.{name}`")));
            }
        }
        for name in ["enable_chunked_prefill", "enable_prefix_caching"] {
            if let Some(on) = file.flag(&["engine_kwargs", name])? {
                self.args.push((name, json!(on), format!("meta.json, `engine_kwargs.{name}`")));
            }
        }
        let format = |group: &'static str, key: &'static str| file.text(&["engine_kwargs", group]).map(|v| (key, v));
        let formats = [format("quantization", "aic_gemm_dtype")?, format("kv_cache_dtype", "aic_kv_cache_dtype")?];
        for (key, given) in formats {
            let Some(given) = given else { continue };
            // "auto" is the format of the activations, whatever that of the weights.
            let word = if given == "auto" { "bfloat16" } else { given.as_str() };
            let word = if word.starts_with("fp8") { "fp8" } else { word };
            self.args.push((key, json!(word), format!("meta.json, where it says \"{given}\"")));
        }
        Ok(())
    }

    fn memory(&mut self, file: &File) -> Result<(), CalibrateError> {
        let vllm = file.text(&["vllm_version"])?.is_some();
        match file.count(&["kv_cache", "block_size"])? {
            Some(size) => self.args.push(("block_size", json!(size), "meta.json, `kv_cache.block_size`".to_owned())),
            None if vllm => {
                self.args.push(("block_size", json!(VLLM_BLOCK_SIZE), "the default of vLLM".to_owned()));
            }
            None => {}
        }
        if let Some(blocks) = file.count(&["kv_cache", "num_gpu_blocks"])? {
            let usable = if vllm { blocks.saturating_sub(NULL_BLOCKS).max(1) } else { blocks };
            let source = if vllm {
                format!("meta.json: {blocks} blocks, of which vLLM keeps {NULL_BLOCKS} as null block")
            } else {
                "meta.json, `kv_cache.num_gpu_blocks`".to_owned()
            };
            self.blocks = Some((u32::try_from(usable).unwrap_or(u32::MAX), source));
        } else {
            for group in ["kv_cache", "engine_kwargs"] {
                if let Some(fraction) = file.number(&[group, "gpu_memory_utilization"])? {
                    let source = format!("meta.json, `{group}.gpu_memory_utilization`");
                    self.args.push(("gpu_memory_utilization", json!(fraction), source));
                    break;
                }
            }
        }
        if let Some(on) = file.flag(&["kv_cache", "enable_prefix_caching"])?
            && !self.args.iter().any(|(name, ..)| *name == "enable_prefix_caching")
        {
            let source = "meta.json, `kv_cache.enable_prefix_caching`".to_owned();
            self.args.push(("enable_prefix_caching", json!(on), source));
        }
        Ok(())
    }

    /// Tensor parallelism as it is. Data-parallel ranks share the experts of a model that has some and run in step; those
    /// of a dense model are engines of their own.
    fn parallelism(&mut self, file: &File) -> Result<(), CalibrateError> {
        let tp = file.count(&["engine_kwargs", "tensor_parallel_size"])?;
        let dp = file.count(&["engine_kwargs", "data_parallel_size"])?.unwrap_or(1);
        let spread = file.flag(&["engine_kwargs", "enable_expert_parallel"])?.unwrap_or(false);
        if let Some(tp) = tp {
            self.args.push(("aic_tp_size", json!(tp), "meta.json, `engine_kwargs.tensor_parallel_size`".to_owned()));
        }
        let name = self.model.as_ref().map(|(name, _)| name.as_str());
        let experts = name.and_then(|name| ModelConfig::known(name).ok()).is_some_and(|m| m.shape.experts.is_some());
        let source = format!("meta.json: {dp} data-parallel ranks");
        match (dp > 1, experts) {
            (true, true) => self.args.push(("aic_attention_dp_size", json!(dp), source)),
            (true, false) => self.workers = Some((u32::try_from(dp).unwrap_or(u32::MAX), source + " of a dense model")),
            _ => {}
        }
        if experts && spread {
            let groups = dp.saturating_mul(tp.unwrap_or(1));
            let source = "meta.json, `engine_kwargs.enable_expert_parallel`".to_owned();
            self.args.push(("aic_moe_ep_size", json!(groups), source));
        }
        Ok(())
    }
}

/// The GPU that the folder of a run is named after (`RTX4090_Llama-3.1-8B`).
fn gpu_of_folder(name: &str) -> Option<(String, String)> {
    let ends = name.char_indices().filter(|(_, c)| ['_', '-', ' '].contains(c)).map(|(at, _)| at);
    let parts = ends.chain([name.len()]).map(|end| &name[..end]);
    let gpu = parts.filter(|part| GpuSpec::known(part).is_ok()).max_by_key(|part| part.len())?;
    Some((gpu.to_owned(), "the name of the folder".to_owned()))
}

struct File {
    path: PathBuf,
    map: Map<String, Value>,
}

impl File {
    /// The value at the end of `keys`; `null` is no value.
    fn find(&self, keys: &[&str]) -> Result<Option<&Value>, CalibrateError> {
        let mut at = &self.map;
        let Some((last, groups)) = keys.split_last() else { return Ok(None) };
        for (depth, group) in groups.iter().enumerate() {
            match at.get(*group) {
                Some(Value::Object(map)) => at = map,
                Some(Value::Null) | None => return Ok(None),
                Some(other) => return Err(self.wrong(&keys[..=depth], other, "an object")),
            }
        }
        Ok(at.get(*last).filter(|value| !value.is_null()))
    }

    fn wrong(&self, keys: &[&str], value: &Value, expected: &str) -> CalibrateError {
        CalibrateError::data(&self.path, None, keys.join("."), format!("is {value}"), format!("give {expected}"))
    }

    fn get<'a, T>(
        &'a self,
        keys: &[&str],
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CalibrateError> {
        let Some(value) = self.find(keys)? else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(keys, value, expected))
    }

    fn count(&self, keys: &[&str]) -> Result<Option<u64>, CalibrateError> {
        let whole = |value: &Value| value.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        self.get(keys, "a whole number from 1 to 4294967295", whole)
    }

    fn number(&self, keys: &[&str]) -> Result<Option<f64>, CalibrateError> {
        self.get(keys, "a number", Value::as_f64)
    }

    fn flag(&self, keys: &[&str]) -> Result<Option<bool>, CalibrateError> {
        self.get(keys, "true or false", Value::as_bool)
    }

    fn text(&self, keys: &[&str]) -> Result<Option<String>, CalibrateError> {
        self.get(keys, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Whether the engine scheduled one pass ahead.
    fn scheduling(&self) -> Result<Option<(bool, String)>, CalibrateError> {
        for keys in [
            ["resolved_config", "scheduler_config", "async_scheduling"].as_slice(),
            &["engine_kwargs", "async_scheduling"],
        ] {
            if let Some(on) = self.flag(keys)? {
                return Ok(Some((on, format!("meta.json, `{}`", keys.join(".")))));
            }
        }
        let Some(version) = self.text(&["vllm_version"])? else { return Ok(None) };
        let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else { return Ok(None) };
        Ok(Some(((major, minor) >= ASYNC_SINCE, format!("the default of vLLM {version}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, folder: &str) -> Result<Meta, CalibrateError> {
        Meta::parse(text, Path::new("run/meta.json"), Some(folder))
    }

    fn arg(meta: &Meta, name: &str) -> Option<Value> {
        meta.args.iter().find(|(other, ..)| *other == name).map(|(_, value, _)| value.clone())
    }

    #[test]
    fn experts_over_data_parallel_ranks_run_in_step_and_dense_ranks_are_engines_of_their_own() {
        let text = |model: &str| {
            format!(
                r#"{{"model":"{model}","vllm_version":"0.19.0","engine_kwargs":{{"tensor_parallel_size":1,"data_parallel_size":2,
                "enable_expert_parallel":true,"max_num_seqs":128,"max_model_len":null,"kv_cache_dtype":"auto"}}}}"#
            )
        };
        let moe = parse(&text("Qwen/Qwen3-30B-A3B-Instruct-2507"), "RTXPRO6000_Qwen3-30B-A3B").unwrap();
        assert_eq!(arg(&moe, "aic_attention_dp_size"), Some(json!(2)));
        assert_eq!(arg(&moe, "aic_moe_ep_size"), Some(json!(2)));
        assert_eq!(arg(&moe, "block_size"), Some(json!(16)));
        assert_eq!(arg(&moe, "max_model_len"), None);
        assert_eq!(arg(&moe, "aic_kv_cache_dtype"), Some(json!("bfloat16")));
        assert_eq!(moe.workers, None);
        assert!(moe.async_scheduling.unwrap().0);
        assert_eq!(moe.gpu.unwrap().0, "RTXPRO6000");
        let dense = parse(&text("Qwen/Qwen3-32B"), "unknown_gpu").unwrap();
        assert_eq!(arg(&dense, "aic_attention_dp_size"), None);
        assert_eq!(arg(&dense, "aic_moe_ep_size"), None);
        assert_eq!(dense.workers.map(|(count, _)| count), Some(2));
        assert!(dense.gpu.is_none());
    }

    #[test]
    fn the_null_block_of_vllm_is_not_usable() {
        let meta =
            parse(r#"{"vllm_version":"0.11.2","kv_cache":{"num_gpu_blocks":2588,"block_size":32}}"#, "").unwrap();
        assert_eq!(arg(&meta, "block_size"), Some(json!(32)));
        assert_eq!(meta.blocks.unwrap().0, 2_587);
        assert!(!meta.async_scheduling.unwrap().0);
    }

    #[test]
    fn a_setting_of_the_wrong_type_is_named() {
        let cases = [
            ("[]", "run/meta.json: holds no JSON object"),
            ("{", "run/meta.json: is not JSON"),
            (r#"{"model":1}"#, "run/meta.json, `model`: is 1; give a string"),
            (r#"{"engine_kwargs":3}"#, "run/meta.json, `engine_kwargs`: is 3; give an object"),
            (
                r#"{"engine_kwargs":{"max_num_seqs":0}}"#,
                "run/meta.json, `engine_kwargs.max_num_seqs`: is 0; give a whole",
            ),
        ];
        for (text, start) in cases {
            let error = parse(text, "").unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
        }
        assert!(parse("{}", "").unwrap().args.is_empty());
    }
}
