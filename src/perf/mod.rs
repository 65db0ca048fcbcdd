//! How long a forward pass takes.
//!
//! Models give milliseconds; a [`PassTimer`] turns them into whole nanoseconds exactly as the reference does.

mod aliases;
mod clamp;
mod config_json;
mod error;
mod fused;
mod gpu;
mod grid;
mod library;
mod lookup;
mod matching;
mod memory;
mod model;
mod npy;
mod npz;
pub mod polynomial;
mod quantization;
mod roofline;
mod setup;
mod shape;
mod table;
mod table_file;
mod timer;
mod timing;

pub use clamp::{clamped_decode_ms, clamped_prefill_ms};
pub use error::PerfError;
pub use fused::{FusedPass, PrefillChunk, PromptAttention};
pub use gpu::{GpuSpec, Price, Source};
pub use library::{TableEntry, TableLibrary, TableOrigin};
pub use matching::TableKey;
pub use memory::{Backend, FractionKind, KvCapacity, MemoryParts, estimate, kv_capacity};
pub use model::ModelConfig;
pub use npz::NpzProfile;
pub use roofline::Roofline;
pub use setup::{Precision, RooflineSetup};
pub use shape::{Experts, ModelShape};
pub use table::{DecodeRow, ForwardPassTable, TableMeta, TableQuant, TableSource};
pub use timer::{DecodeLoad, DecodeStretch, PassTimer, Remarks, TimerSetup};
pub use timing::{Composition, Correction, DECODE_FLOOR_MS, Timing, TimingModel};
