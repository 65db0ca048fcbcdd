//! What a user can ask of a player. Keyboard, mouse, storyboard and tests all say it in these words.

use crate::scenario::{InterventionDocument, Scenario};
use crate::time::SimTime;

use super::frame::WorkerName;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Let time go on.
    Play,
    /// Let time stand still.
    Pause,
    /// The other one of the two.
    TogglePlay,
    /// Go to an instant, at most the end of the run.
    Seek(SimTime),
    /// Go to where most requests are in flight, as far as the track knows.
    SeekBusiest,
    /// Let so many simulated seconds pass per real second; above zero.
    SetSpeed(f64),
    /// Let time pass as fast as the simulation can.
    FullSpeed,
    /// Go to a neighbouring instant, and stand still.
    Step {
        /// Between what.
        unit: StepUnit,
        /// Which way.
        direction: Direction,
    },
    /// Look at something.
    Select(Selection),
    /// Change something while the run goes on; simulates again from the start, with this in the scenario.
    Intervene(InterventionDocument),
    /// Replace an intervention; they are numbered in the order of the scenario.
    EditIntervention(usize, InterventionDocument),
    /// Take an intervention out of the scenario.
    RemoveIntervention(usize),
    /// Run another scenario. Its relative paths start where those of the first did. The playhead stays.
    ApplyScenario(Box<Scenario>),
}

/// Between what a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepUnit {
    /// Instants at which a forward pass begins or ends; of the selected worker, if one is.
    Pass,
    /// Instants at which a request arrives, is routed, admitted, handed over, emits its first token or ends; of the selected
    /// request, if one is.
    RequestEvent,
    /// Instants at which the router places a request or replicas change.
    Decision,
    /// Ticks of the planner.
    PlannerTick,
    /// One second on.
    Second,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To a later instant.
    Forward,
    /// To an earlier one.
    Backward,
}

/// What a user looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// Nothing in particular.
    #[default]
    Nothing,
    /// A request, by its index in the workload.
    Request(u32),
    /// A worker.
    Worker(WorkerName),
    /// Blocks of a worker that hold parts of one prefix.
    Prefix(WorkerName, u32),
    /// The router.
    Router,
    /// What was decided at an instant.
    Decision(SimTime),
    /// An intervention, by its number.
    Intervention(usize),
}
