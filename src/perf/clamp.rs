//! Limits that every model's answer keeps when it becomes a time.

use super::DECODE_FLOOR_MS;

/// A model's `raw` milliseconds for a prefill of `count` prompts with `new` tokens each, as a time: never negative, and
/// 0 where nothing is computed. None when the model has no finite answer.
pub fn clamped_prefill_ms(count: u64, new: u64, raw: f64) -> Option<f64> {
    if count == 0 || new == 0 {
        return Some(0.0);
    }
    raw.is_finite().then(|| raw.max(0.0))
}

/// A model's `raw` milliseconds for a decode step of `count` requests, as a time: at least [`DECODE_FLOOR_MS`], and 0
/// where nobody decodes. None when the model has no finite answer.
pub fn clamped_decode_ms(count: u64, raw: f64) -> Option<f64> {
    if count == 0 {
        return Some(0.0);
    }
    raw.is_finite().then(|| raw.max(DECODE_FLOOR_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_finite_and_within_its_limits() {
        assert_eq!(clamped_prefill_ms(1, 10, -3.0), Some(0.0));
        assert_eq!(clamped_prefill_ms(1, 10, 3.5), Some(3.5));
        assert_eq!(clamped_prefill_ms(1, 0, f64::NAN), Some(0.0));
        assert_eq!(clamped_prefill_ms(1, 10, f64::NAN), None);
        assert_eq!(clamped_decode_ms(1, 0.2), Some(1.0));
        assert_eq!(clamped_decode_ms(1, f64::INFINITY), None);
        assert_eq!(clamped_decode_ms(0, 7.0), Some(0.0));
    }
}
