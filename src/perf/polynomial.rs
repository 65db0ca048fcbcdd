//! The reference's default timing: a quadratic in prefill tokens and one in KV occupancy (Dynamo 1.4.2 DynoSim).

/// Milliseconds to prefill `tokens` new tokens, over all prompts of the pass.
pub fn prefill_ms(tokens: u64) -> f64 {
    let tokens = tokens as f64;
    4.209_989e-07 * (tokens * tokens) + 1.518_344e-02 * tokens + 1.650_142e+01
}

/// Milliseconds of one decode step with `active` of `total` KV tokens in use.
pub fn decode_ms(active: u64, total: u64) -> f64 {
    let used = if total == 0 { 1.0 } else { active as f64 / total as f64 };
    -25.74 * (used * used) + 54.01 * used + 5.74
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_checked_values() {
        assert!((prefill_ms(1000) - 32.105_859).abs() < 5e-7);
        assert!((prefill_ms(8192) - 169.136_918).abs() < 5e-7);
        assert!((prefill_ms(14) - 16.714_071).abs() < 5e-7);
        assert!((decode_ms(0, 16_384) - 5.74).abs() < 5e-7);
        assert!((decode_ms(16, 16_384) - 5.792_720).abs() < 5e-7);
        assert!((decode_ms(8, 8) - 34.01).abs() < 5e-7);
    }
}
