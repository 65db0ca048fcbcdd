//! GPU budgets: a hard ceiling and a soft floor.

/// Bounds on GPUs; a negative one is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Floor. With a ceiling as well, one replica short of it will do.
    pub min_gpus: i64,
    /// Ceiling.
    pub max_gpus: i64,
    /// Fewest replicas of a pool.
    pub min_endpoint: i64,
}

impl Budget {
    fn is_off(self) -> bool {
        self.min_gpus < 0 && self.max_gpus < 0
    }

    fn is_exceeded(self, gpus: i64) -> bool {
        self.max_gpus >= 0 && gpus > self.max_gpus
    }

    /// Whether `gpus` lie in the band, whose floor is soft by `step`.
    fn holds(self, gpus: i64, step: i64) -> bool {
        let tolerance = if self.min_gpus >= 0 && self.max_gpus >= 0 { step } else { 0 };
        !self.is_exceeded(gpus) && (self.min_gpus < 0 || gpus >= self.min_gpus - tolerance)
    }

    /// Replicas of the only pool, `gpus` each, that the budget makes of `desired`. 0 where it holds not even the fewest.
    pub fn single(self, desired: i64, gpus: i64) -> i64 {
        if self.is_off() || gpus <= 0 || self.holds(desired.saturating_mul(gpus), gpus) {
            return desired;
        }
        if self.is_exceeded(desired.saturating_mul(gpus)) {
            if self.max_gpus < self.min_endpoint.saturating_mul(gpus) {
                return 0;
            }
            return self.min_endpoint.max(self.max_gpus / gpus);
        }
        self.min_endpoint.max(div_ceil(self.min_gpus, gpus))
    }

    /// Prefill and decode replicas, `gpus` each, that the budget makes of `desired`. Nothing of either where it does not
    /// hold the fewest of both.
    pub fn pair(self, desired: (i64, i64), gpus: (i64, i64)) -> (i64, i64) {
        let ((p, d), (p_gpus, d_gpus)) = (desired, gpus);
        if self.is_off() || p_gpus <= 0 || d_gpus <= 0 {
            return desired;
        }
        let sum = |p: i64, d: i64| p.saturating_mul(p_gpus).saturating_add(d.saturating_mul(d_gpus));
        let total = sum(p, d);
        if self.holds(total, p_gpus.max(d_gpus)) {
            return desired;
        }
        let least = self.min_endpoint;
        if self.is_exceeded(total) {
            if self.max_gpus < sum(least, least) {
                return (0, 0);
            }
            let scale = self.max_gpus as f64 / total as f64;
            let room = (self.max_gpus - least * d_gpus).div_euclid(p_gpus);
            let p = least.max(room.min((p as f64 * scale).floor() as i64));
            // Decode takes what is left, which may be more than it asked for.
            return (p, least.max((self.max_gpus - p * p_gpus).div_euclid(d_gpus)));
        }
        let floor = self.min_gpus;
        let grown = if total <= 0 {
            (floor as f64 / 2.0 / p_gpus as f64).ceil()
        } else {
            (p as f64 * (floor as f64 / total as f64)).ceil()
        };
        let p = least.max(grown as i64);
        let d = least.max(div_ceil((floor - p * p_gpus).max(0), d_gpus));
        if self.is_exceeded(sum(p, d)) { desired } else { (p, d) }
    }
}

fn div_ceil(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}
