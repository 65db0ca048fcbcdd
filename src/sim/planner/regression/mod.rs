//! How long an engine's forward passes take, learnt from those it ran.
//!
//! | file | idea |
//! |---|---|
//! | `average` | a mean over the last values |
//! | `samples` | observations, spread evenly over their range |
//! | `fit` | least squares with slopes that are not negative |
//! | `forward` | time of a pass: one fit for prompts, one for decodes, one for both |
//! | `engine` | what follows from it: TTFT of the next request, ITL of the running ones |
//! | `capacity` | requests per second within bounds |
//! | `bootstrap` | what an analytical timing model teaches before the run |

mod average;
mod bootstrap;
mod capacity;
mod engine;
mod fit;
mod forward;
mod samples;

pub use bootstrap::{Bootstrap, benchmark_points};
pub use capacity::{Capacity, CapacityQuery};
pub use engine::{DecodeQuery, EngineModel, Limits, PrefillQuery};
pub use forward::PassLoad;
