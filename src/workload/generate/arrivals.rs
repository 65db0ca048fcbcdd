//! When sessions begin.
//!
//! A process has two parts: a *rate* that may change over time, and *gaps* on a clock that runs at this rate, so that one
//! session is due per tick on average. Gaps of an exponential distribution make a Poisson process, steadier ones an even
//! stream, wilder ones bursts; their coefficient of variation says which. Turning ticks into time is exact for every
//! rate, nothing is thinned out or stepped through.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma, Weibull};

use crate::workload::WorkloadError;

use super::process::{Process, State};
use super::streams::{Purpose, stream};

/// Changes of state between two sessions before a process counts as stuck.
const MAX_CHANGES: u32 = 10_000_000;

impl Process {
    fn gaps(&self) -> Gaps {
        match self {
            Self::Constant { .. } => Gaps::Even,
            Self::Poisson { .. } => Gaps::Exponential,
            Self::Gamma { cv, .. } => Gaps::of_cv(*cv),
            Self::Weibull { cv, shape, .. } => {
                let shape = shape.unwrap_or_else(|| weibull_shape(cv.unwrap_or(1.0)));
                // The scale that makes the mean 1.
                Weibull::new(1.0 / libm::tgamma(1.0 + 1.0 / shape), shape).map_or(Gaps::Exponential, Gaps::Weibull)
            }
            Self::Mmpp { cv, .. } | Self::Diurnal { cv, .. } | Self::Ramp { cv, .. } | Self::Spike { cv, .. } => {
                Gaps::of_cv(cv.unwrap_or(1.0))
            }
        }
    }
}

/// Gaps with a mean of 1.
#[derive(Debug, Clone)]
enum Gaps {
    Even,
    Exponential,
    Gamma(Gamma<f64>),
    Weibull(Weibull<f64>),
}

impl Gaps {
    fn of_cv(cv: f64) -> Self {
        if cv < 0.01 {
            Self::Even
        } else if cv == 1.0 {
            Self::Exponential
        } else {
            let variance = cv * cv;
            // Checked parameters are never refused.
            Gamma::new(1.0 / variance, variance).map_or(Self::Exponential, Self::Gamma)
        }
    }

    fn next(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Even => 1.0,
            Self::Exponential => Exp1.sample(rng),
            Self::Gamma(gaps) => gaps.sample(rng),
            Self::Weibull(gaps) => gaps.sample(rng),
        }
    }
}

/// The shape at which Weibull gaps have this coefficient of variation; it falls as the shape grows.
fn weibull_shape(cv: f64) -> f64 {
    // Squared variation plus one, as a logarithm: the gamma function of small shapes is huge.
    let wanted = (cv * cv).ln_1p();
    let (mut low, mut high) = (0.05_f64, 100.0_f64);
    for _ in 0..100 {
        let shape = (low * high).sqrt();
        let got = libm::lgamma(1.0 + 2.0 / shape) - 2.0 * libm::lgamma(1.0 + 1.0 / shape);
        if got > wanted { low = shape } else { high = shape }
    }
    (low * high).sqrt()
}

/// The begins of sessions, one after another.
pub(super) struct Starts<'p> {
    process: &'p Process,
    gaps: Gaps,
    rng: ChaCha8Rng,
    /// Ticks so far: the expected number of sessions.
    ticks: f64,
    modulation: Modulation,
}

/// Where a process of several states is.
struct Modulation {
    rng: ChaCha8Rng,
    state: usize,
    /// Begin of the stay in seconds and in ticks.
    since: (f64, f64),
    /// Length of the stay in seconds.
    stay: f64,
}

impl<'p> Starts<'p> {
    pub fn new(process: &'p Process, seed: u64) -> Self {
        let mut rng = stream(seed, Purpose::States, 0);
        let stay = match process {
            Process::Mmpp { states, .. } => states.first().map_or(0.0, |s| s.mean_s) * exponential(&mut rng),
            _ => 0.0,
        };
        let modulation = Modulation { rng, state: 0, since: (0.0, 0.0), stay };
        Self { process, gaps: process.gaps(), rng: stream(seed, Purpose::Gaps, 0), ticks: 0.0, modulation }
    }

    /// Begin of the next session in seconds, the first at 0; nothing when the rate has fallen to zero for good.
    ///
    /// # Errors
    /// When a modulated process changes its state so often that it gets nowhere.
    pub fn next(&mut self) -> Result<Option<f64>, WorkloadError> {
        let ticks = self.ticks;
        self.ticks += self.gaps.next(&mut self.rng);
        if ticks == 0.0 {
            return Ok(Some(0.0));
        }
        let at = match self.process {
            Process::Constant { rate_per_s }
            | Process::Poisson { rate_per_s }
            | Process::Gamma { rate_per_s, .. }
            | Process::Weibull { rate_per_s, .. } => ticks / rate_per_s,
            Process::Mmpp { states, .. } => return self.modulation.time(states, ticks).map(Some),
            Process::Diurnal { rate_per_s, amplitude, period_s, peak_s, .. } => {
                wave_time(ticks / rate_per_s, *amplitude, *period_s, peak_s.unwrap_or(period_s / 2.0))
            }
            Process::Ramp { from_per_s, to_per_s, over_s, .. } => {
                return Ok(ramp_time(ticks, *from_per_s, *to_per_s, *over_s));
            }
            Process::Spike { rate_per_s, factor, at_s, for_s, every_s, .. } => {
                spike_time(ticks / rate_per_s, *factor, *at_s, *for_s, *every_s)
            }
        };
        Ok(Some(at))
    }
}

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    Exp1.sample(rng)
}

impl Modulation {
    fn time(&mut self, states: &[State], ticks: f64) -> Result<f64, WorkloadError> {
        let rate = |state: usize| states.get(state).map_or(0.0, |s| s.rate_per_s);
        for _ in 0..MAX_CHANGES {
            let (start, ticked) = self.since;
            let rate_now = rate(self.state);
            let until = ticked + rate_now * self.stay;
            if ticks < until || states.len() == 1 {
                return Ok(start + (ticks - ticked) / rate_now);
            }
            self.since = (start + self.stay, until);
            // Any of the others.
            let others = states.len() as u64 - 1;
            let choice = rand::Rng::random_range(&mut self.rng, 0..others) as usize;
            self.state = if choice < self.state { choice } else { choice + 1 };
            self.stay = states.get(self.state).map_or(0.0, |s| s.mean_s) * exponential(&mut self.rng);
        }
        let cause = format!("the states change more than {MAX_CHANGES} times between two sessions");
        Err(WorkloadError::setting("arrivals", cause, "choose higher rates or longer stays"))
    }
}

/// When a wave of mean rate 1 has ticked `ticks` times.
fn wave_time(ticks: f64, amplitude: f64, period: f64, peak: f64) -> f64 {
    let height = amplitude * period / TAU;
    let phase = |t: f64| (TAU * ((t - peak) / period).fract()).sin();
    let offset = phase(0.0);
    let ticked = |t: f64| t + height * (phase(t) - offset);
    // The wave is ahead of its mean or behind it by at most twice its height.
    let (mut low, mut high) = ((ticks - 2.0 * height).max(0.0), ticks + 2.0 * height);
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if ticked(middle) < ticks { low = middle } else { high = middle }
    }
    high
}

/// When a ramp has ticked `ticks` times, if ever.
fn ramp_time(ticks: f64, from: f64, to: f64, over: f64) -> Option<f64> {
    let on_ramp = (from + to) / 2.0 * over;
    if ticks <= on_ramp {
        // The smaller root of the quadratic, in the form that does not cancel.
        let root = (from * from + 2.0 * ticks * (to - from) / over).max(0.0).sqrt();
        return Some(2.0 * ticks / (from + root));
    }
    (to > 0.0).then(|| over + (ticks - on_ramp) / to)
}

/// When a rate of 1 with spikes has ticked `ticks` times.
fn spike_time(ticks: f64, factor: f64, at: f64, length: f64, every: Option<f64>) -> f64 {
    if ticks < at {
        return ticks;
    }
    let in_spike = factor * length;
    let (cycles, rest) = match every {
        None => (0.0, ticks - at),
        Some(every) => {
            let per_cycle = in_spike + every - length;
            let cycles = ((ticks - at) / per_cycle).floor();
            (cycles, (ticks - at - cycles * per_cycle).max(0.0))
        }
    };
    let within = if rest < in_spike { rest / factor } else { length + (rest - in_spike) };
    at + cycles * every.unwrap_or(0.0) + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_run_at_their_own_rate() {
        // 10 ticks before, 8 in a spike of 2 s, 8 until the next.
        for (ticks, time) in
            [(5.0, 5.0), (10.0, 10.0), (14.0, 11.0), (18.0, 12.0), (22.0, 16.0), (26.0, 20.0), (30.0, 21.0)]
        {
            let at = spike_time(ticks, 4.0, 10.0, 2.0, Some(10.0));
            assert!((at - time).abs() < 1e-12, "{ticks}: {at}");
        }
        assert_eq!(spike_time(30.0, 4.0, 10.0, 2.0, None), 24.0);
        // In an outage nothing comes.
        assert_eq!(spike_time(10.0, 0.0, 10.0, 2.0, None), 12.0);
    }

    #[test]
    fn a_ramp_reaches_its_rate_and_stays_there() {
        // From 1 to 3 in 10 s: 20 ticks.
        for (ticks, time) in [(2.5, 2.071_067_811_865_475_5), (20.0, 10.0), (26.0, 12.0)] {
            assert!((ramp_time(ticks, 1.0, 3.0, 10.0).unwrap() - time).abs() < 1e-9, "{ticks}");
        }
        assert!((ramp_time(4.0, 0.0, 2.0, 4.0).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(ramp_time(6.0, 2.0, 0.0, 5.0), None);
    }

    #[test]
    fn a_wave_keeps_its_mean_and_is_fastest_at_its_peak() {
        for cycles in [1.0, 7.0, 1e6] {
            let at = wave_time(100.0 * cycles, 0.9, 100.0, 30.0);
            assert!((at / (100.0 * cycles) - 1.0).abs() < 1e-9, "{at}");
        }
        // The rate is the inverse of the time a tick takes.
        let rate = |ticks: f64| {
            let (a, b) = (wave_time(ticks, 0.5, 1e6, 0.0), wave_time(ticks + 1.0, 0.5, 1e6, 0.0));
            (a, 1.0 / (b - a))
        };
        for ticks in [0.0, 123_456.0, 500_000.0, 800_000.0] {
            let (at, rate) = rate(ticks);
            assert!((rate - (1.0 + 0.5 * (TAU * at / 1e6).cos())).abs() < 1e-4, "{at}: {rate}");
        }
    }

    #[test]
    fn weibull_shapes_have_the_variation_asked_for() {
        for (cv, shape) in [(1.0, 1.0), (0.523_0, 2.0), (2.236_07, 0.5)] {
            assert!((weibull_shape(cv) - shape).abs() < 1e-3 * shape, "{cv}: {}", weibull_shape(cv));
        }
    }
}
