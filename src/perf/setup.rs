//! How a model is spread over GPUs and in which number formats it runs.

use std::fmt;

use super::{ModelShape, PerfError};

/// Number format of weights or of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// bfloat16 or float16.
    Bf16,
    /// 8-bit floating point; weights are then multiplied by the FP8 units where the GPU has them.
    Fp8,
}

impl Precision {
    /// The format called `name` by vLLM, Hugging Face or AIConfigurator (`bfloat16`, `fp8_block`, `float8_e4m3fn` ...).
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let name = name.strip_prefix("torch.").unwrap_or(&name);
        match name {
            "bf16" | "bfloat16" | "fp16" | "float16" | "half" => Some(Self::Bf16),
            "fp8" | "fp8_e4m3" | "fp8_e5m2" | "fp8_static" | "fp8_block" | "fp8_ootb" | "e4m3" | "float8_e4m3fn"
            | "float8_e5m2" => Some(Self::Fp8),
            _ => None,
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::Fp8 => 1,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        })
    }
}

/// Parallelism and number formats of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RooflineSetup {
    /// Tensor-parallel size: GPUs that share every attention layer.
    pub tp: u64,
    /// Attention data-parallel size: groups of `tp` GPUs that run their own requests but share the experts. No effect on
    /// a model without experts, whose groups are then simply separate.
    pub attention_dp: u64,
    /// GPUs that share one expert; all that `moe_ep` leaves unless given.
    pub moe_tp: Option<u64>,
    /// Groups that hold different experts; all that `moe_tp` leaves unless given, 1 if that is not given either.
    pub moe_ep: Option<u64>,
    /// Format of the weights of layers. Embedding and output projection are always 16-bit.
    pub weights: Precision,
    /// Format of the KV cache.
    pub kv_cache: Precision,
}

impl RooflineSetup {
    /// One GPU or `tp` of them, experts spread like everything else.
    pub fn new(tp: u64, weights: Precision, kv_cache: Precision) -> Self {
        Self { tp, attention_dp: 1, moe_tp: None, moe_ep: None, weights, kv_cache }
    }
}

/// Sizes of one GPU's share of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    pub tp: u64,
    /// Groups that feed the experts; 1 for a model without.
    pub attention_dp: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; at least one, the same one on several GPUs where there are too few.
    pub kv_heads: u64,
    /// Inner width of the dense MLP.
    pub intermediate: u64,
    /// Inner width of an expert; 0 without experts.
    pub moe_intermediate: u64,
    /// Groups that hold different experts.
    pub moe_ep: u64,
}

/// Largest parallel size that is not nonsense.
const MOST_GPUS: u64 = 65_536;

impl Shard {
    /// One GPU's share of `shape`.
    ///
    /// # Errors
    /// When a size is 0, does not divide what it splits, or the sizes of the experts do not multiply to the others'.
    pub fn new(shape: &ModelShape, setup: &RooflineSetup) -> Result<Self, PerfError> {
        let given = [
            ("tp", Some(setup.tp)),
            ("attention_dp", Some(setup.attention_dp)),
            ("moe_tp", setup.moe_tp),
            ("moe_ep", setup.moe_ep),
        ];
        for (name, size) in given {
            if let Some(size) = size.filter(|size| !(1..=MOST_GPUS).contains(size)) {
                let cure = format!("give a whole number from 1 to {MOST_GPUS}");
                return Err(PerfError::setting(name, format!("is {size}"), cure));
            }
        }
        let heads = divide("tp", setup.tp, shape.heads, "query heads")?;
        let kv_heads = shape.kv_heads.div_ceil(setup.tp);
        let Some(experts) = shape.experts else {
            let intermediate = divide("tp", setup.tp, shape.intermediate, "columns of the MLP")?;
            return Ok(Self {
                tp: setup.tp,
                attention_dp: 1,
                heads,
                kv_heads,
                intermediate,
                moe_intermediate: 0,
                moe_ep: 1,
            });
        };
        let gpus = setup.tp * setup.attention_dp;
        let (moe_tp, moe_ep) = match (setup.moe_tp, setup.moe_ep) {
            (None, None) => (gpus, 1),
            (Some(moe_tp), None) => (moe_tp, divide("moe_tp", moe_tp, gpus, "GPUs")?),
            (None, Some(moe_ep)) => (divide("moe_ep", moe_ep, gpus, "GPUs")?, moe_ep),
            (Some(moe_tp), Some(moe_ep)) => (moe_tp, moe_ep),
        };
        if moe_tp * moe_ep != gpus {
            let cause =
                format!("is {moe_tp}, which times moe_ep {moe_ep} is not the {gpus} GPUs of tp and attention_dp");
            return Err(PerfError::setting("moe_tp", cause, "give sizes whose product is tp times attention_dp"));
        }
        divide("moe_ep", moe_ep, experts.count, "experts")?;
        let moe_intermediate = divide("moe_tp", moe_tp, experts.intermediate, "columns of an expert")?;
        let attention_dp = setup.attention_dp;
        Ok(Self { tp: setup.tp, attention_dp, heads, kv_heads, intermediate: 0, moe_intermediate, moe_ep })
    }
}

/// `total / parts`, which must be whole.
fn divide(name: &str, parts: u64, total: u64, what: &str) -> Result<u64, PerfError> {
    if total.is_multiple_of(parts) {
        return Ok(total / parts);
    }
    let cause = format!("is {parts}, which does not divide the {total} {what}");
    Err(PerfError::setting(name, cause, format!("give a divisor of {total}")))
}
