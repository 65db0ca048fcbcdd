//! Random streams.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The stream `number` of `seed`, independent of all others. Its number is part of the results.
pub(super) fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}
