//! A scenario made ready to be simulated as often as wanted.

use std::path::Path;

use crate::report::SessionNames;
use crate::scenario::{Run, Scenario, ScenarioError};
use crate::sim::{SimError, Simulation};
use crate::time::SimTime;
use crate::workload::{self, Release, Workload, WorkloadError};

/// Why a scenario cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The scenario is at fault.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Its traffic is.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// It cannot be simulated.
    #[error(transparent)]
    Simulation(#[from] SimError),
}

/// What every simulation of a run starts from.
#[derive(Debug)]
pub(super) struct Source {
    pub scenario: Scenario,
    pub run: Run,
    pub sessions: SessionNames,
    pub notes: Vec<String>,
    workload: Workload,
}

impl Source {
    /// Resolves a scenario and loads its traffic, unless `before` has the same.
    pub fn open(scenario: Scenario, base: &Path, before: Option<&Self>) -> Result<Self, OpenError> {
        let run = scenario.resolve(base)?;
        let same = before.filter(|before| {
            let (old, new) = (&before.run, &run);
            // What loading a workload depends on.
            let topology = std::mem::discriminant(&old.topology) == std::mem::discriminant(&new.topology);
            old.traffic == new.traffic && old.seed == new.seed && old.max_sim_time == new.max_sim_time && topology
        });
        let workload = match same {
            Some(before) => before.workload.clone(),
            None => workload::load(&run)?,
        };
        let (sessions, notes) = (SessionNames::of(&workload), workload.notes.clone());
        Ok(Self { scenario, run, sessions, notes, workload })
    }

    /// A simulation that stands at the start.
    pub fn simulation(&self) -> Result<Simulation, SimError> {
        Simulation::new(&self.run, self.workload.clone())
    }

    /// The last arrival that is known before the run, if any is.
    pub fn span(&self) -> SimTime {
        let closed = match &self.workload.release {
            Release::Flat => false,
            Release::Sessions { concurrency, .. } => concurrency.is_some(),
            Release::Graph(graph) => graph.closed.is_some(),
        };
        let last = self.workload.requests.iter().map(|request| request.arrival).max().filter(|_| !closed);
        last.unwrap_or_default().min(self.run.max_sim_time.unwrap_or(SimTime::MAX))
    }
}
