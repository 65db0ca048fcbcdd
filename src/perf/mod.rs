//! How long a forward pass takes.
//!
//! Models give milliseconds; a [`PassTimer`] turns them into whole nanoseconds exactly as the reference does.

mod error;
mod fused;
pub mod polynomial;
mod timer;
mod timing;

pub use error::PerfError;
pub use fused::{FusedPass, PrefillChunk, PromptAttention};
pub use timer::{DecodeLoad, PassTimer, TimerSetup};
pub use timing::{Composition, Correction, DECODE_FLOOR_MS, Timing, TimingModel};
