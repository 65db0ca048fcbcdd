//! How long a forward pass takes.
//!
//! Models give milliseconds; a [`PassTimer`] turns them into whole nanoseconds exactly as the reference does.

mod config_json;
mod error;
mod fused;
mod gpu;
mod lookup;
mod memory;
mod model;
pub mod polynomial;
mod quantization;
mod roofline;
mod setup;
mod shape;
mod timer;
mod timing;

pub use error::PerfError;
pub use fused::{FusedPass, PrefillChunk, PromptAttention};
pub use gpu::{GpuSpec, Source};
pub use memory::{Backend, FractionKind, KvCapacity, MemoryParts, estimate, kv_capacity};
pub use model::ModelConfig;
pub use roofline::Roofline;
pub use setup::{Precision, RooflineSetup};
pub use shape::{Experts, ModelShape};
pub use timer::{DecodeLoad, PassTimer, TimerSetup};
pub use timing::{Composition, Correction, DECODE_FLOOR_MS, Timing, TimingModel};
