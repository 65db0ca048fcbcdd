//! Model milliseconds to pass durations in whole nanoseconds.

use std::sync::Arc;
use std::time::Duration;

use super::npz::DecodeWalk;
use super::{
    Composition, Correction, DecodeRow, FusedPass, PrefillChunk, PromptAttention, Timing, TimingModel, polynomial,
};
use crate::time::SimDuration;

/// Pools up to this many blocks get their decode durations computed beforehand.
const TABLE_LIMIT: u32 = 1 << 17;

/// The engine settings that shape pass durations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimerSetup {
    /// Divides pass durations; 0 leaves them unscaled.
    pub speedup_ratio: f64,
    /// Divides decode durations further; 0 leaves them unscaled.
    pub decode_speedup_ratio: f64,
    /// Tokens per KV block.
    pub block_size: u32,
    /// KV blocks of a scheduler.
    pub num_gpu_blocks: u32,
    /// Tokens in one unit of KV occupancy: a block, or a single token for SGLang, which counts contexts.
    pub occupancy_unit: u32,
    /// Draft tokens of speculative decoding; 0 without it.
    pub drafts: u32,
}

/// Requests that emit in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeLoad {
    /// Their number.
    pub count: u64,
    /// Sum of their lengths (prompt plus generated tokens) before the new token.
    pub len_sum: u64,
    /// KV tokens that live requests hold.
    pub active_tokens: u64,
}

/// Pass durations of one engine, each rounded exactly as the reference does: to nanoseconds, divided by the speed-up, and
/// to nanoseconds again.
#[derive(Debug, Clone)]
pub struct PassTimer {
    model: TimingModel,
    correction: Correction,
    floor_ms: f64,
    fused: Option<PromptAttention>,
    speedup: f64,
    decode_speedup: f64,
    unit_tokens: u64,
    total_tokens: u64,
    /// Query tokens of a decoding request.
    verified: u64,
    /// Factor on decode steps: correction and draft layers.
    decode_factor: f64,
    /// Decode duration by active blocks; the polynomial depends on nothing else.
    by_blocks: Arc<[u64]>,
    remarks: Remarks,
}

/// What pass times ran into.
#[derive(Debug, Clone, Default)]
pub struct Remarks {
    /// Passes that asked outside the measured region of a table.
    extrapolated: u64,
    /// The first pass that has no time.
    fault: Option<String>,
}

impl Remarks {
    #[inline]
    fn check(&mut self, ms: f64, what: impl FnOnce() -> String) {
        if !ms.is_finite() && self.fault.is_none() {
            self.fault = Some(format!("the timing model gives no finite time for a {}", what()));
        }
    }
}

/// Passes of a steady decode batch; see [`PassTimer::stretch`].
#[derive(Debug)]
pub struct DecodeStretch<'a> {
    timer: &'a PassTimer,
    walk: Walk<'a>,
    count: u64,
    /// Mean length in the first pass and in the next one.
    contexts: (u64, u64),
    remarks: Remarks,
}

/// The way through a timing model, where it has one that is cheaper than asking for each pass.
#[derive(Debug)]
enum Walk<'a> {
    Table(DecodeRow<'a>),
    Profile(DecodeWalk<'a>),
    None,
}

impl DecodeStretch<'_> {
    /// Duration of the next pass while `active_tokens` KV tokens are in use; equal to [`PassTimer::decode`] of the same
    /// load, alone.
    #[inline]
    pub fn next(&mut self, active_tokens: u64) -> SimDuration {
        let (timer, context) = (self.timer, self.contexts.1);
        self.contexts.1 += 1;
        let ms = match &mut self.walk {
            Walk::Table(row) => row.next(context),
            Walk::Profile(walk) => walk.at(active_tokens, context),
            Walk::None => timer.raw_decode_ms(self.count, active_tokens, context),
        };
        let ms = timer.finished_decode_ms(ms) + timer.correction.per_pass_overhead_ms;
        match quick_nanos(ms) {
            Some(nanos) if timer.decode_speedup == 1.0 => SimDuration::from_nanos(nanos),
            _ => self.unusual(ms, context),
        }
    }

    /// Whether [`Self::foresee`] has an answer: the durations do not depend on the KV in use.
    pub fn can_foresee(&self) -> bool {
        matches!(self.walk, Walk::Table(_))
    }

    /// Durations of the next passes, whatever KV they use, as [`Self::next`] would give them: as many as `out` takes, or
    /// fewer. Returns how many there are: none where that cannot be said. [`Self::skip`] tells how many of them were run.
    pub fn foresee(&mut self, out: &mut [SimDuration]) -> usize {
        let (timer, context) = (self.timer, self.contexts.1);
        let Walk::Table(row) = &mut self.walk else { return 0 };
        // Copies let the loop be done several passes at a time.
        let (factor, floor, overhead) = (timer.decode_factor, timer.floor_ms, timer.correction.per_pass_overhead_ms);
        let finished = |ms: f64| at_least(ms * factor, floor) + overhead;
        let mut sure = timer.decode_speedup == 1.0;
        let passes = row.run(context, out, |ms| {
            let (nanos, is_sure) = rounded(finished(ms));
            sure &= is_sure;
            SimDuration::from_nanos(nanos)
        });
        if sure {
            return passes;
        }
        let mut finite = true;
        row.run(context, &mut out[..passes], |ms| {
            let ms = finished(ms);
            finite &= ms.is_finite();
            scaled(ms, timer.decode_speedup)
        });
        if finite { passes } else { 0 }
    }

    /// So many of the passes foreseen were run.
    pub fn skip(&mut self, passes: u64) {
        self.contexts.1 += passes;
    }

    #[cold]
    fn unusual(&mut self, ms: f64, context: u64) -> SimDuration {
        self.remarks.check(ms, || format!("decode of {} requests at context {context}", self.count));
        scaled(ms, self.timer.decode_speedup)
    }

    /// What the passes ran into.
    pub fn finish(mut self) -> Remarks {
        if let Walk::Table(row) = &self.walk {
            self.remarks.extrapolated += row.outside(self.contexts.0..self.contexts.1);
        }
        self.remarks
    }
}

/// `ms`, or `least` if it is less; what is no number stays none, to be noticed.
#[inline]
fn at_least(ms: f64, least: f64) -> f64 {
    if ms < least { least } else { ms }
}

/// `ms` milliseconds rounded to nanoseconds, and whether rounding the product is sure to round as rounding the exact value
/// does: not near a tie, not negative, not huge. If not, the nanoseconds mean nothing.
#[inline]
fn rounded(ms: f64) -> (u64, bool) {
    /// From here on doubles are whole numbers, so that adding it rounds.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    /// Up to here product and exact value differ by less than 3e-6.
    const LARGEST: f64 = 1e10;
    let nanos = ms * 1e6;
    let shifted = nanos + WHOLE;
    let part = nanos - (shifted - WHOLE);
    let sure = (0.0..LARGEST).contains(&nanos) & (part.abs() < 0.499_99);
    (shifted.to_bits() & (WHOLE as u64 - 1), sure)
}

/// [`rounded`] where that is sure.
#[inline]
fn quick_nanos(ms: f64) -> Option<u64> {
    let (nanos, sure) = rounded(ms);
    sure.then_some(nanos)
}

/// `ms` milliseconds as nanoseconds, divided by `ratio` unless that is 0: each step rounded to nearest, ties to even.
#[inline]
fn scaled(ms: f64, ratio: f64) -> SimDuration {
    match quick_nanos(ms) {
        Some(nanos) if ratio == 1.0 => SimDuration::from_nanos(nanos),
        _ => scaled_exactly(ms, ratio),
    }
}

fn scaled_exactly(ms: f64, ratio: f64) -> SimDuration {
    let unscaled = Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX);
    let scaled = if ratio > 0.0 && ratio != 1.0 && !unscaled.is_zero() {
        Duration::try_from_secs_f64(unscaled.as_secs_f64() / ratio).unwrap_or(Duration::MAX)
    } else {
        unscaled
    };
    SimDuration::from_nanos(u64::try_from(scaled.as_nanos()).unwrap_or(u64::MAX))
}

impl PassTimer {
    /// The timer of an engine.
    pub fn new(timing: &Timing, setup: TimerSetup) -> Self {
        let layers = timing.model.layers().filter(|layers| *layers > 0);
        let drafts = if layers.is_some() { setup.drafts } else { 0 };
        let mut timer = Self {
            model: timing.model.clone(),
            correction: timing.correction,
            floor_ms: timing.decode_floor_ms,
            fused: match timing.composition {
                Composition::Fused(attention) if timing.model.can_fuse() => Some(attention),
                _ => None,
            },
            speedup: setup.speedup_ratio,
            decode_speedup: setup.speedup_ratio * setup.decode_speedup_ratio,
            unit_tokens: u64::from(setup.occupancy_unit),
            total_tokens: u64::from(setup.num_gpu_blocks) * u64::from(setup.block_size),
            verified: u64::from(drafts) + 1,
            decode_factor: timing.correction.decode_scale
                * layers.map_or(1.0, |layers| 1.0 + f64::from(drafts) / layers as f64),
            by_blocks: Arc::new([]),
            remarks: Remarks::default(),
        };
        if timer.by_occupancy() && setup.occupancy_unit == setup.block_size && setup.num_gpu_blocks <= TABLE_LIMIT {
            timer.by_blocks = (0..=setup.num_gpu_blocks).map(|n| timer.compute_by_occupancy(n).as_nanos()).collect();
        }
        timer
    }

    /// Whether the decode time of a pass without prefill depends on the KV blocks in use alone.
    pub fn by_occupancy(&self) -> bool {
        matches!(self.model, TimingModel::Polynomial)
    }

    /// Whether a pass is priced as a whole ([`Self::fused`]).
    pub fn is_fused(&self) -> bool {
        self.fused.is_some()
    }

    /// Passes so far that asked outside the measured region of a table.
    pub fn extrapolated(&self) -> u64 {
        self.remarks.extrapolated
    }

    /// The first pass for which the model had no finite time, if there was one.
    pub fn fault(&self) -> Option<&str> {
        self.remarks.fault.as_deref()
    }

    /// Tokens in `units` of KV occupancy.
    pub fn tokens(&self, units: u32) -> u64 {
        u64::from(units) * self.unit_tokens
    }

    /// Prefill part of a pass over `count` prompts with `sum_isl` tokens up to the end of their chunks, of which
    /// `sum_prefix` were there before. Means are truncated.
    pub fn prefill(&mut self, count: u64, sum_isl: u64, sum_prefix: u64) -> SimDuration {
        if count == 0 {
            return SimDuration::ZERO;
        }
        let prefix = sum_prefix / count;
        let new = (sum_isl / count).saturating_sub(prefix);
        if new == 0 {
            return SimDuration::ZERO;
        }
        if let TimingModel::Table(table) = &self.model
            && !table.covers_prefill(count, new, prefix)
        {
            self.remarks.extrapolated += 1;
        }
        let ms = self.raw_prefill_ms(count, new, prefix) * self.correction.prefill_scale;
        let ms = at_least(ms, 0.0) + self.correction.per_pass_overhead_ms;
        self.remarks.check(ms, || format!("prefill of {count} prompts, {new} new tokens after {prefix}"));
        scaled(ms, self.speedup)
    }

    /// Decode part of a pass. `alone`: there is no prefill part that carries the overhead of the pass.
    pub fn decode(&mut self, load: DecodeLoad, alone: bool) -> SimDuration {
        if load.count == 0 {
            return SimDuration::ZERO;
        }
        let context = load.len_sum / load.count;
        let ms = self.decode_ms(load.count, load.active_tokens, context);
        let ms = if alone { ms + self.correction.per_pass_overhead_ms } else { ms };
        self.remarks.check(ms, || format!("decode of {} requests at context {context}", load.count));
        scaled(ms, self.decode_speedup)
    }

    /// Durations of passes in which the requests of `load` decode again and again and nothing else happens, each longer
    /// by a token from pass to pass; cheaper than asking [`Self::decode`] for each. What they ran into is told by
    /// [`DecodeStretch::finish`] and goes to [`Self::note`].
    pub fn stretch(&self, load: DecodeLoad) -> DecodeStretch<'_> {
        let rows = load.count.saturating_mul(self.verified);
        let context = load.len_sum / load.count.max(1);
        let walk = match &self.model {
            TimingModel::Table(table) => Walk::Table(table.decode_row(rows, context)),
            TimingModel::Profile(profile) => Walk::Profile(profile.decode_walk()),
            TimingModel::Polynomial | TimingModel::Roofline(_) => Walk::None,
        };
        DecodeStretch {
            timer: self,
            walk,
            count: load.count,
            contexts: (context, context),
            remarks: Remarks::default(),
        }
    }

    /// Takes over what a stretch ran into.
    pub fn note(&mut self, remarks: Remarks) {
        self.remarks.extrapolated += remarks.extrapolated;
        if self.remarks.fault.is_none() {
            self.remarks.fault = remarks.fault;
        }
    }

    /// A pass without prefill in which anybody emits while `units` of KV are in use; only where that says it all
    /// ([`Self::by_occupancy`]).
    pub fn at_occupancy(&self, units: u32) -> SimDuration {
        match self.by_blocks.get(units as usize) {
            Some(ns) => SimDuration::from_nanos(*ns),
            None => self.compute_by_occupancy(units),
        }
    }

    /// A whole pass over `prefills` and `load`, the latter without those whose prompt ends in this pass.
    pub fn fused(&mut self, prefills: &[PrefillChunk], load: DecodeLoad) -> SimDuration {
        let Some(attention) = self.fused else { return SimDuration::ZERO };
        let context = load.len_sum.checked_div(load.count).unwrap_or(0);
        let decode_ms = if load.count > 0 { self.decode_ms(load.count, load.active_tokens, context) } else { 0.0 };
        let mut ms = decode_ms;
        if prefills.iter().any(|chunk| chunk.new > 0) {
            let pass =
                FusedPass { prefills, decodes: load.count, context, tokens_per_decode: self.verified, attention };
            let (count, (new, prefix)) = (prefills.len() as u64, pass.mean_chunk());
            let whole = match &self.model {
                TimingModel::Table(table) => {
                    if !table.covers_prefill(count, new, prefix) {
                        self.remarks.extrapolated += 1;
                    }
                    table.fused_ms(&pass)
                }
                TimingModel::Roofline(roofline) => roofline.fused_ms(&pass),
                TimingModel::Polynomial | TimingModel::Profile(_) => 0.0,
            };
            // What the prompts add to the decodes is theirs to scale.
            let verify = self.raw_decode_ms(load.count, load.active_tokens, context);
            ms += at_least((whole - verify) * self.correction.prefill_scale, 0.0);
        }
        if ms != 0.0 {
            ms += self.correction.per_pass_overhead_ms;
        }
        self.remarks.check(ms, || format!("pass of {} prompts and {} decodes", prefills.len(), load.count));
        scaled(ms, self.speedup)
    }

    /// Milliseconds to prefill one prompt of `new` tokens after `prefix` resident ones, unscaled by speed-ups.
    pub fn prompt_ms(&self, new: u64, prefix: u64) -> f64 {
        if new == 0 {
            return 0.0;
        }
        at_least(self.raw_prefill_ms(1, new, prefix) * self.correction.prefill_scale, 0.0)
    }

    /// Milliseconds of a decode step of `count` requests at mean context `context`, draft layers included, unscaled by
    /// speed-ups and without floor or overhead; only where the KV in use plays no part.
    pub fn step_ms(&self, count: u64, context: u64) -> f64 {
        at_least(self.raw_decode_ms(count, 0, context) * self.decode_factor, 0.0)
    }

    fn raw_prefill_ms(&self, count: u64, new: u64, prefix: u64) -> f64 {
        match &self.model {
            TimingModel::Polynomial => polynomial::prefill_ms(count.saturating_mul(new)),
            TimingModel::Profile(profile) => profile.prefill_ms(count.saturating_mul(new)),
            TimingModel::Table(table) => table.prefill_ms(count, new, prefix),
            TimingModel::Roofline(roofline) => roofline.prefill_ms(count, new, prefix),
        }
    }

    fn raw_decode_ms(&self, count: u64, active_tokens: u64, context: u64) -> f64 {
        let rows = count.saturating_mul(self.verified);
        match &self.model {
            TimingModel::Polynomial => polynomial::decode_ms(active_tokens, self.total_tokens),
            TimingModel::Profile(profile) => profile.decode_ms(active_tokens, context),
            _ if count == 0 => 0.0,
            TimingModel::Table(table) => table.decode_ms(rows, context),
            TimingModel::Roofline(roofline) => roofline.decode_ms(rows, context),
        }
    }

    /// A decode step with its draft layers, corrected, and not below the floor.
    #[inline]
    fn finished_decode_ms(&self, ms: f64) -> f64 {
        at_least(ms * self.decode_factor, self.floor_ms)
    }

    fn decode_ms(&mut self, count: u64, active_tokens: u64, context: u64) -> f64 {
        if let TimingModel::Table(table) = &self.model
            && !table.covers_decode(count.saturating_mul(self.verified), context)
        {
            self.remarks.extrapolated += 1;
        }
        self.finished_decode_ms(self.raw_decode_ms(count, active_tokens, context))
    }

    fn compute_by_occupancy(&self, units: u32) -> SimDuration {
        let ms = self.finished_decode_ms(self.raw_decode_ms(1, self.tokens(units), 0));
        scaled(ms + self.correction.per_pass_overhead_ms, self.decode_speedup)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TableLibrary;
    use super::*;

    #[test]
    fn durations_are_whole_nanoseconds_and_zero_speedup_means_unscaled() {
        assert_eq!(scaled(32.105_859, 0.0).as_nanos(), 32_105_859);
        assert_eq!(scaled(32.105_859, 1.0).as_nanos(), 32_105_859);
        assert_eq!(scaled(32.105_859, 3.0).as_nanos(), 10_701_953);
        assert_eq!(scaled(0.0, 2.0), SimDuration::ZERO);
    }

    #[test]
    fn rounding_quickly_is_rounding_exactly() {
        for i in 0..100_000u32 {
            let ms = f64::from(i).powi(2) * 1.234_567_891e-4 + f64::from(i) * 0.5e-6;
            assert_eq!(scaled(ms, 1.0), scaled_exactly(ms, 1.0), "{ms}");
        }
    }

    fn timer(correction: Correction) -> PassTimer {
        let timing = Timing { correction, ..Timing::default() };
        let setup = TimerSetup {
            speedup_ratio: 1.0,
            decode_speedup_ratio: 1.0,
            block_size: 64,
            num_gpu_blocks: 256,
            occupancy_unit: 64,
            drafts: 0,
        };
        PassTimer::new(&timing, setup)
    }

    #[test]
    fn the_overhead_of_a_pass_is_charged_once() {
        let mut plain = timer(Correction::default());
        let mut slow = timer(Correction { per_pass_overhead_ms: 2.0, ..Correction::default() });
        let load = DecodeLoad { count: 4, len_sum: 400, active_tokens: 512 };
        let pass = |timer: &mut PassTimer| {
            let prefill = timer.prefill(1, 1_000, 0);
            (prefill + timer.decode(load, prefill.is_zero())).as_nanos()
        };
        assert_eq!(pass(&mut slow) - pass(&mut plain), 2_000_000);
        assert_eq!((slow.decode(load, true)).as_nanos() - plain.decode(load, true).as_nanos(), 2_000_000);
        assert_eq!(slow.decode(load, true), slow.at_occupancy(8));
        assert_eq!(slow.prefill(1, 64, 64), SimDuration::ZERO);
    }

    /// All passes of a stretch of 500, foreseen by and by and not always run as far.
    fn foreseen(timer: &PassTimer, load: DecodeLoad) -> Vec<SimDuration> {
        let mut stretch = timer.stretch(load);
        let mut all = Vec::new();
        let mut ahead = [SimDuration::ZERO; 64];
        while all.len() < 500 {
            let passes = stretch.foresee(&mut ahead[..1 + all.len() % 64]);
            let run = passes.div_ceil(2).max(1);
            all.extend(&ahead[..run]);
            stretch.skip(run as u64);
        }
        all
    }

    #[test]
    fn foreseen_passes_take_what_each_takes_alone() {
        let table = TableLibrary::embedded().by_slug("llama-3.1-8b-fp8__h200_sxm__vllm__tp1").unwrap();
        for (speedup, scale, overhead, floor) in
            [(1.0, 1.0, 0.0, 1.0), (1.0, 1.37, 0.21, 1.0), (1.7, 1.0, 0.1, 0.0), (0.0, 1.0, 0.0, 9.0)]
        {
            let timing = Timing {
                model: TimingModel::Table(table.clone()),
                correction: Correction { decode_scale: scale, per_pass_overhead_ms: overhead, ..Correction::default() },
                decode_floor_ms: floor,
                ..Timing::default()
            };
            let setup = TimerSetup { speedup_ratio: speedup, decode_speedup_ratio: 1.0, ..TimerSetup::default() };
            let mut timer = PassTimer::new(&timing, setup);
            for (count, context) in [(1u64, 0u64), (1, 4_000), (13, 9_999), (77, 130_900), (5_000, 30)] {
                let load = |pass: u64| DecodeLoad { count, len_sum: count * (context + pass), active_tokens: 0 };
                let all = foreseen(&timer, load(0));
                for (pass, duration) in (0..).zip(all) {
                    assert_eq!(duration, timer.decode(load(pass), true), "{count} requests at {context}, pass {pass}");
                }
            }
        }
    }

    #[test]
    fn corrections_scale_their_own_half() {
        let mut plain = timer(Correction::default());
        let mut scaled = timer(Correction { prefill_scale: 2.0, decode_scale: 3.0, per_pass_overhead_ms: 0.0 });
        let load = DecodeLoad { count: 1, len_sum: 100, active_tokens: 0 };
        let near = |got: SimDuration, expected: f64| assert!((got.as_nanos() as f64 - expected).abs() <= 3.0);
        near(scaled.prefill(1, 500, 0), 2.0 * plain.prefill(1, 500, 0).as_nanos() as f64);
        near(scaled.decode(load, true), 3.0 * plain.decode(load, true).as_nanos() as f64);
    }
}
