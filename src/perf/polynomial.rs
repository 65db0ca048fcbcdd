//! The reference's default timing: a quadratic in prefill tokens and one in KV occupancy (Dynamo 1.4.2 DynoSim).

/// Milliseconds to prefill `count` prompts of `mean_isl` tokens of which `mean_prefix` are resident already.
pub fn prefill_ms(count: u64, mean_isl: u64, mean_prefix: u64) -> f64 {
    let new = mean_isl.saturating_sub(mean_prefix);
    if count == 0 || new == 0 {
        return 0.0;
    }
    let tokens = count.saturating_mul(new) as f64;
    (4.209_989e-07 * (tokens * tokens) + 1.518_344e-02 * tokens + 1.650_142e+01).max(0.0)
}

/// Milliseconds of one decode step with `active` of `total` KV tokens in use; at least 1.
pub fn decode_ms(active: u64, total: u64) -> f64 {
    let used = if total == 0 { 1.0 } else { active as f64 / total as f64 };
    (-25.74 * (used * used) + 54.01 * used + 5.74).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_checked_values() {
        assert!((prefill_ms(1, 1000, 0) - 32.105_859).abs() < 5e-7);
        assert!((prefill_ms(1, 14, 0) - 16.714_071).abs() < 5e-7);
        assert!((decode_ms(16, 16_384) - 5.792_720).abs() < 5e-7);
        assert!((decode_ms(8, 8) - 34.01).abs() < 5e-7);
        assert_eq!(prefill_ms(2, 64, 64), 0.0);
    }
}
