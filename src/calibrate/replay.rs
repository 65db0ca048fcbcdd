//! Replays the measured arrivals in a simulation with given corrections.

use crate::perf::Correction;
use crate::scenario::{EngineConfig, Run, Topology};
use crate::sim::metrics::{FinalStatus, RequestRecord};
use crate::sim::{SimError, Simulation};
use crate::time::SimDuration;
use crate::workload::content::Content;
use crate::workload::{Release, RequestSpec, RouterHints, Workload};

use super::measured::MeasuredRequest;
use super::score::Latencies;

/// The corrections of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knobs {
    /// Scales and host time.
    pub correction: Correction,
    /// KV blocks of a scheduler; `None` leaves them as they are.
    pub num_gpu_blocks: Option<u32>,
}

impl Knobs {
    /// Those that `run` has.
    pub fn of(run: &Run) -> Self {
        let engine = match &run.topology {
            Topology::Aggregated { engine, .. } | Topology::Disaggregated { decode: engine, .. } => engine,
        };
        Self { correction: engine.timing.correction, num_gpu_blocks: None }
    }

    fn apply(self, engine: &mut EngineConfig) {
        engine.timing.correction = self.correction;
        if let Some(blocks) = self.num_gpu_blocks {
            engine.num_gpu_blocks = blocks;
        }
    }
}

/// Measured arrivals, ready to be replayed. Prompts share nothing.
#[derive(Debug, Clone)]
pub struct Replay<'a> {
    run: &'a Run,
    workload: Workload,
}

impl<'a> Replay<'a> {
    /// Of `requests`, in order of arrival, on the engines of `run`.
    pub fn new(run: &'a Run, requests: &[MeasuredRequest]) -> Self {
        let requests = requests
            .iter()
            .map(|request| RequestSpec {
                arrival: request.arrival,
                delay: SimDuration::ZERO,
                prompt_tokens: request.input_tokens,
                output_tokens: request.output_tokens,
            })
            .collect();
        let workload = Workload {
            requests,
            release: Release::Flat,
            content: Content::Unique,
            planned_outputs: true,
            timed: true,
            hints: RouterHints::default(),
            notes: Vec::new(),
        };
        Self { run, workload }
    }

    /// Latencies of every request, in order.
    ///
    /// # Errors
    /// When the simulation cannot be set up.
    pub fn simulate(&self, knobs: Knobs) -> Result<Vec<Latencies>, SimError> {
        let mut run = self.run.clone();
        match &mut run.topology {
            Topology::Aggregated { engine, .. } => knobs.apply(engine),
            Topology::Disaggregated { prefill, decode, .. } => {
                knobs.apply(prefill);
                knobs.apply(decode);
            }
        }
        let mut latencies = vec![[None; 3]; self.workload.requests.len()];
        let mut simulation = Simulation::new(&run, self.workload.clone())?;
        simulation.run_to_end();
        for record in &simulation.finish().records {
            if let Some(place) = latencies.get_mut(record.request as usize) {
                *place = latencies_of(record);
            }
        }
        Ok(latencies)
    }
}

fn latencies_of(record: &RequestRecord) -> Latencies {
    let (Some(first), Some(last), FinalStatus::Completed) = (record.first_token, record.last_token, record.status)
    else {
        return [None; 3];
    };
    let gaps = record.output_tokens.saturating_sub(1);
    let tpot = (gaps > 0).then(|| last.since(first).as_ms() / f64::from(gaps));
    [Some(first.since(record.arrival).as_ms()), tpot, Some(last.since(record.arrival).as_ms())]
}
