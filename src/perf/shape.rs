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

/// Largest values that are not nonsense, by the names of the `model` block of a table.
const LIMITS: [(&str, u64); 10] = [
    ("layers", 10_000),
    ("hidden", 1_000_000),
    ("heads", 100_000),
    ("kv_heads", 100_000),
    ("head_dim", 100_000),
    ("intermediate", 100_000_000),
    ("vocab", 1_000_000_000),
    ("experts", 100_000),
    ("experts_per_token", 100_000),
    ("moe_intermediate", 100_000_000),
];

impl ModelShape {
    /// Checks that every size is plausible; `prefix` precedes the names of fields in errors, such as `model.`.
    ///
    /// # Errors
    /// Names `source` and the first field that is zero, absurdly large or at odds with another.
    pub fn check(&self, source: &str, prefix: &str) -> Result<(), PerfError> {
        self.check_named(source, |field| format!("{prefix}{field}"))
    }

    /// The same, where `name` turns the field names of a table into those of `source`.
    pub(super) fn check_named(&self, source: &str, name: impl Fn(&'static str) -> String) -> Result<(), PerfError> {
        let experts = self.experts.unwrap_or(Experts { count: 1, per_token: 1, intermediate: 1 });
        // A mixture of experts may leave the dense width out.
        let intermediate = if self.experts.is_some() { self.intermediate.max(1) } else { self.intermediate };
        let sizes = [
            self.layers,
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_dim,
            intermediate,
            self.vocab,
            experts.count,
            experts.per_token,
            experts.intermediate,
        ];
        for (size, (field, most)) in sizes.into_iter().zip(LIMITS) {
            if !(1..=most).contains(&size) {
                let cure = format!("give a whole number from 1 to {most}");
                return Err(PerfError::data(source, name(field), format!("is {size}"), cure));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let cause = format!("is {}, which does not divide the {} query heads", self.kv_heads, self.heads);
            let cure = "give a divisor of the number of query heads";
            return Err(PerfError::data(source, name("kv_heads"), cause, cure));
        }
        if experts.per_token > experts.count {
            let cause = format!("is {}, but there are {} experts", experts.per_token, experts.count);
            let cure = "give at most the number of experts";
            return Err(PerfError::data(source, name("experts_per_token"), cause, cure));
        }
        Ok(())
    }
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
