//! GPUs: how fast they compute, how fast their memory and links are.

use super::PerfError;

/// A GPU as its data sheet describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSpec {
    /// Name, such as `h100_sxm`.
    pub name: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Memory bandwidth, in bytes per second.
    pub memory_bandwidth: f64,
    /// Dense bfloat16 operations per second, accumulating in 32 bits.
    pub bf16_flops: f64,
    /// Dense FP8 operations per second, where the GPU has FP8 units.
    pub fp8_flops: Option<f64>,
    /// Dense FP4 operations per second, where the GPU has FP4 units.
    pub fp4_flops: Option<f64>,
    /// Bandwidth to the other GPUs of a node in one direction, in bytes per second.
    pub intra_node_bandwidth: f64,
    /// Bandwidth to other nodes in one direction, in bytes per second and GPU.
    pub inter_node_bandwidth: Option<f64>,
    /// Bandwidth to the host in one direction, in bytes per second.
    pub pcie_bandwidth: Option<f64>,
    /// Power without load, in watts.
    pub idle_watts: Option<f64>,
    /// Board power limit, in watts.
    pub peak_watts: Option<f64>,
    /// The documents these figures come from.
    pub source: Vec<Source>,
    /// What to know about the figures.
    pub note: Option<String>,
}

/// Where figures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Title of the document.
    pub title: String,
    /// Who published it.
    pub vendor: String,
    /// Where to find it.
    pub url: String,
}
