//! Speculative decoding: every pass verifies a draft and emits the accepted tokens plus one.
//!
//! Acceptance is drawn token by token from the generator the reference uses (ChaCha12 in the `StdRng` arrangement of
//! rand 0.9), so that bursts are the same. All bursts of a pass are drawn before any is applied.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::scenario::Speculation;
use crate::time::SimTime;

use super::scheduler::VllmScheduler;

/// Draws burst lengths for one scheduler.
#[derive(Debug, Clone)]
pub struct BurstSampler {
    rng: StdRng,
    /// `None` accepts without a draw; otherwise a draw below the bound accepts.
    bounds: Vec<Option<u64>>,
}

impl BurstSampler {
    /// The sampler of the scheduler with index `rank` in its pool.
    pub fn new(speculation: &Speculation, rank: u32) -> Self {
        let bounds = speculation
            .accept_rates
            .iter()
            // Rates lie in [0, 1); the product is exact because scaling by a power of two only moves the exponent.
            .map(|&rate| (rate != 1.0).then_some((rate * 18_446_744_073_709_551_616.0) as u64))
            .collect();
        Self { rng: StdRng::seed_from_u64(speculation.seed.wrapping_add(u64::from(rank))), bounds }
    }

    /// Longest possible burst.
    pub fn longest(&self) -> u32 {
        self.bounds.len() as u32 + 1
    }

    /// Length of the next burst, at most `remaining` (at least 1).
    pub fn draw(&mut self, remaining: u32) -> u32 {
        let mut tokens = 1;
        for bound in &self.bounds {
            if bound.is_some_and(|bound| self.rng.next_u64() >= bound) {
                break;
            }
            tokens += 1;
        }
        tokens.min(remaining)
    }
}

impl VllmScheduler {
    /// Reserves the blocks that the longest bursts of all ready requests could need, making others give way if there
    /// are too few. Returns whether any token comes out.
    pub(super) fn reserve_bursts(&mut self) -> bool {
        let longest = match &self.sampler {
            Some(sampler) if self.emits_to_clients() => sampler.longest(),
            _ => 1,
        };
        let size = self.config.block_size;
        loop {
            let needed: u32 = self
                .finished
                .iter()
                .map(|id| {
                    let slot = &self.slots[*id as usize];
                    let burst = longest.min(self.remaining(slot));
                    (slot.len + burst).div_ceil(size) - slot.len.div_ceil(size)
                })
                .sum();
            if self.pool.reserve(&[], 0, needed, &mut Vec::new()) {
                self.burst_blocks = needed;
                return true;
            }
            if self.pool.waits_for_copies() {
                return false;
            }
            if let [alone] = self.running[..]
                && self.outgrows_pool(alone, longest)
            {
                // The reference takes it out and in again for ever.
                let (tokens, blocks) = (self.slots[alone as usize].len, self.pool.capacity());
                self.give_up(alone, format!("{tokens} tokens and a burst do not fit into {blocks} KV blocks"));
                return false;
            }
            if self.preempt().is_none() {
                return false;
            }
            self.collect_ready();
            if self.finished.is_empty() {
                return false;
            }
        }
    }

    /// Whether the next burst of a request needs more blocks than there are.
    fn outgrows_pool(&self, id: u32, longest: u32) -> bool {
        let slot = &self.slots[id as usize];
        let burst = longest.min(self.remaining(slot));
        (slot.len + burst).div_ceil(self.config.block_size) > self.pool.capacity()
    }

    /// Emits the bursts of all ready requests; whoever is done is appended to `done`.
    pub(super) fn emit_bursts(&mut self, ready: &[u32], step: u64, end: SimTime, done: &mut Vec<u32>) {
        let size = self.config.block_size;
        let draws = self.emits_to_clients();
        let mut bursts = Vec::with_capacity(ready.len());
        for &id in ready {
            let remaining = self.remaining(&self.slots[id as usize]);
            bursts.push(match &mut self.sampler {
                Some(sampler) if draws => sampler.draw(remaining),
                _ => remaining.min(1),
            });
        }
        for (&id, burst) in ready.iter().zip(bursts) {
            for _ in 0..burst {
                let slot = &mut self.slots[id as usize];
                slot.len += 1;
                if slot.len % size == 1 {
                    self.pool.consume_reserved(1);
                    self.burst_blocks -= 1;
                    slot.private += 1;
                }
                self.note_token(id, step, end);
            }
            let slot = &mut self.slots[id as usize];
            slot.allocated = slot.len;
            slot.computed = slot.len - 1;
            let complete = (slot.len - 1) / size;
            self.register_to(id, complete);
            if self.remaining(&self.slots[id as usize]) == 0 {
                done.push(id);
            }
        }
        self.pool.return_reserved(self.burst_blocks);
        self.burst_blocks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_acceptance_draws_nothing_and_impossible_acceptance_stops_at_once() {
        let mut all = BurstSampler::new(&Speculation { accept_rates: vec![1.0, 1.0], seed: 42 }, 0);
        assert_eq!(all.draw(10), 3);
        assert_eq!(all.draw(2), 2);
        let mut none = BurstSampler::new(&Speculation { accept_rates: vec![0.0, 1.0], seed: 42 }, 0);
        assert_eq!(none.draw(10), 1);
    }

    #[test]
    fn the_generator_is_the_one_of_the_reference() {
        // First uniform doubles of seed 42 (top 53 bits).
        let mut rng = StdRng::seed_from_u64(42);
        let draw = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        assert!((draw - 0.526_557_409_002_773_8).abs() < 1e-15);
    }
}
