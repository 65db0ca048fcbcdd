//! Random draws of a router. Each purpose has a stream of its own, and each pool its own streams, so that a draw more in
//! one place changes nothing elsewhere.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::{Role, Ties};

/// What a stream is for; the number is part of the results.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Ties = 1,
    Choices = 2,
}

fn stream(seed: u64, role: Role, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pool = match role {
        Role::Aggregated => 0x100,
        Role::Prefill => 0x200,
        Role::Decode => 0x300,
    };
    rng.set_stream(pool + purpose as u64);
    rng
}

/// The draws of one pool's router.
#[derive(Debug, Clone)]
pub struct Draws {
    rule: Ties,
    ties: ChaCha8Rng,
    choices: ChaCha8Rng,
}

impl Draws {
    /// The streams of a pool.
    pub fn new(seed: u64, rule: Ties, role: Role) -> Self {
        Self { rule, ties: stream(seed, role, Purpose::Ties), choices: stream(seed, role, Purpose::Choices) }
    }

    /// One of `count` equally good workers (at least one), in ascending order of number.
    pub fn tie(&mut self, count: usize) -> usize {
        match self.rule {
            Ties::Random if count > 1 => self.ties.random_range(0..count),
            _ => 0,
        }
    }

    /// A number below `count`, at least 1.
    pub fn below(&mut self, count: usize) -> usize {
        if count > 1 { self.choices.random_range(0..count) } else { 0 }
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        self.choices.random()
    }
}
