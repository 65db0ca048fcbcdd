//! What a model looks like to the timing and memory formulas: sizes of its layers, and nothing of its weights.

use serde::{Deserialize, Serialize};

use super::PerfError;

/// Sizes of a decoder-only transformer with full multi-head or grouped-query attention and gated MLPs.
///
/// Other kinds of attention (latent, windowed, linear) do not fit in here and are refused where models are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct ModelShape {
    /// Transformer layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Inner width of a dense MLP; unused by a model whose layers are all experts.
    pub intermediate: u64,
    /// Entries of the vocabulary.
    pub vocab: u64,
    /// Experts in place of a dense MLP.
    pub experts: Option<Experts>,
}

/// Mixture-of-experts layers: every layer has them, all of one size, none shared by all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u64,
    /// Experts that see a token.
    pub per_token: u64,
    /// Inner width of an expert.
    pub intermediate: u64,
}

/// The shape as files write it.
#[derive(Serialize, Deserialize)]
struct Flat {
    layers: u64,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    intermediate: u64,
    vocab: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experts_per_token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moe_intermediate: Option<u64>,
}

impl From<Flat> for ModelShape {
    fn from(flat: Flat) -> Self {
        // What is missing becomes 0, which `check` reports by its name.
        let experts = flat.experts.map(|count| Experts {
            count,
            per_token: flat.experts_per_token.unwrap_or(0),
            intermediate: flat.moe_intermediate.unwrap_or(0),
        });
        Self {
            layers: flat.layers,
            hidden: flat.hidden,
            heads: flat.heads,
            kv_heads: flat.kv_heads,
            head_dim: flat.head_dim,
            intermediate: flat.intermediate,
            vocab: flat.vocab,
            experts,
        }
    }
}

impl From<ModelShape> for Flat {
    fn from(shape: ModelShape) -> Self {
        Self {
            layers: shape.layers,
            hidden: shape.hidden,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            intermediate: shape.intermediate,
            vocab: shape.vocab,
            experts: shape.experts.map(|e| e.count),
            experts_per_token: shape.experts.map(|e| e.per_token),
            moe_intermediate: shape.experts.map(|e| e.intermediate),
        }
    }
}

/// A size, what files call it, and the largest value that is not nonsense.
type Size = (&'static str, u64, u64);

impl ModelShape {
    /// Checks that every size is plausible; `prefix` precedes the names of fields in errors, such as `model.`.
    ///
    /// # Errors
    /// Names `source` and the first field that is zero, absurdly large or at odds with another.
    pub fn check(&self, source: &str, prefix: &str) -> Result<(), PerfError> {
        let experts = self.experts.unwrap_or(Experts { count: 1, per_token: 1, intermediate: 1 });
        // A mixture of experts may leave the dense width out.
        let intermediate = if self.experts.is_some() { self.intermediate.max(1) } else { self.intermediate };
        let sizes: [Size; 10] = [
            ("layers", self.layers, 10_000),
            ("hidden", self.hidden, 1_000_000),
            ("heads", self.heads, 100_000),
            ("kv_heads", self.kv_heads, 100_000),
            ("head_dim", self.head_dim, 100_000),
            ("intermediate", intermediate, 100_000_000),
            ("vocab", self.vocab, 1_000_000_000),
            ("experts", experts.count, 100_000),
            ("experts_per_token", experts.per_token, 100_000),
            ("moe_intermediate", experts.intermediate, 100_000_000),
        ];
        for (name, value, most) in sizes {
            check_size(source, &format!("{prefix}{name}"), value, most)?;
        }
        let odds = |name: &str, cause: String, cure: &str| {
            Err(PerfError::data(source, format!("{prefix}{name}"), cause, cure))
        };
        if !self.heads.is_multiple_of(self.kv_heads) {
            let cause = format!("is {}, which does not divide the {} query heads", self.kv_heads, self.heads);
            return odds("kv_heads", cause, "give a divisor of the number of query heads");
        }
        if experts.per_token > experts.count {
            let cause = format!("is {}, but there are {} experts", experts.per_token, experts.count);
            return odds("experts_per_token", cause, "give at most the number of experts");
        }
        Ok(())
    }
}

/// A size from 1 to `most`.
pub(super) fn check_size(source: &str, field: &str, value: u64, most: u64) -> Result<(), PerfError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(PerfError::data(source, field, format!("is {value}"), format!("give a whole number from 1 to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_its_file_form_and_missing_expert_sizes_are_found() {
        let text = r#"{"layers":2,"hidden":8,"heads":4,"kv_heads":2,"head_dim":2,"intermediate":16,"vocab":32,
                       "experts":8,"experts_per_token":2,"moe_intermediate":4}"#;
        let shape: ModelShape = serde_json::from_str(text).unwrap();
        assert_eq!(shape.experts, Some(Experts { count: 8, per_token: 2, intermediate: 4 }));
        shape.check("m.json", "model.").unwrap();
        let again: ModelShape = serde_json::from_str(&serde_json::to_string(&shape).unwrap()).unwrap();
        assert_eq!(again, shape);

        let shape: ModelShape = serde_json::from_str(&text.replace(r#""experts_per_token":2,"#, "")).unwrap();
        let error = shape.check("m.json", "model.").unwrap_err().to_string();
        assert_eq!(error, "m.json, `model.experts_per_token`: is 0; give a whole number from 1 to 100000");
    }
}
