//! The simulation: one Bevy world, one schedule.
//!
//! Requests and workers are entities. [`SimStep`] runs once per *round at an instant*; rounds repeat until nothing
//! changes, then [`Simulation`] moves the clock to the next instant. Between instants workers *run on*: passes that
//! concern nobody else are advanced in bulk, which is where nearly all simulated work happens.
//!
//! | plugin | fills | does |
//! |---|---|---|
//! | [`ArrivalsPlugin`] | `Arrivals` | requests that are due become entities |
//! | [`RouterPlugin`](router::RouterPlugin) | `Completions`, `Routing` | what workers did is heard; requests get a worker |
//! | [`EnginesPlugin`] | `Completions`, `Engines` | forward passes end and start |
//! | [`HandoffPlugin`] | `Lifecycle`, `Handoff` | prefill to decode: hold, reserve, transfer, activate, release |
//! | [`TiersPlugin`] | `Completions`, `Engines` | KV is copied between tiers; only in runs that have any |
//! | [`ScalingPlugin`] | `Lifecycle`, `Scaling` | workers start, drain and disappear |

pub mod arrivals;
pub mod clock;
pub mod closeup;
pub mod engine;
pub mod handoff;
pub mod kv;
pub mod link;
pub mod metrics;
pub mod passes;
pub mod planner;
pub mod request;
pub mod router;
pub mod scaling;
mod simulation;
pub mod tiers;
pub mod worker;

use bevy::app::{App, Plugin};
use bevy::ecs::schedule::{LogLevel, ScheduleBuildSettings, ScheduleLabel, SingleThreadedExecutor};
use bevy::prelude::*;

use crate::scenario::Semantics;

pub use request::Prompts;
pub use simulation::{SimError, Simulation};

/// One round at one instant.
#[derive(ScheduleLabel, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SimStep;

/// Workers run on to the next border.
#[derive(ScheduleLabel, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunOn;

/// The stages of a round, in order.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SimSet {
    /// Passes that end now: tokens, ends of requests, sessions wake, actions that waited resume.
    Completions,
    /// Workers that become ready; transfers that arrive.
    Lifecycle,
    /// Requests due now become entities.
    Arrivals,
    /// Every new request gets a worker.
    Routing,
    /// Hold, reserve, transfer, activate, release.
    Handoff,
    /// Idle workers with work form their next pass.
    Engines,
    /// Drained workers go; the scaling script is consulted on the settled instant.
    Scaling,
}

/// What the systems must know about the run.
#[derive(Resource, Debug, Clone)]
pub struct RunFacts {
    /// Switches.
    pub semantics: Semantics,
    /// Whether there are prefill and decode pools.
    pub disaggregated: bool,
    /// Whether the reference would use its single-worker loop (differs in session fields and the time cap).
    pub single_worker: bool,
    /// Whether a decode worker reserves KV before prefill begins, as with SGLang, rather than when it is over.
    pub destination_first: bool,
    /// Whether workers run by themselves: open-loop independent requests, fixed fleet, and nobody waits at the router. The
    /// only fact that changes, with the last of these.
    pub independent: bool,
    /// Whether nothing that happens at a worker concerns another one, although the fleet may change: open-loop independent
    /// requests that nobody looks at workers for.
    pub apart: bool,
    /// Whether the router looks at workers that run by themselves when a request arrives.
    pub meets_at_arrivals: bool,
    /// Whether a closed loop is looked at between the passes of the only worker, as the reference does there, so that
    /// think times end at a pass boundary.
    pub pulls_between_passes: bool,
    /// Tokens per KV block.
    pub block_size: u32,
    /// Whether any worker has KV tiers below its GPU.
    pub has_tiers: bool,
    /// Whether requests carry planned outputs, which prefill workers then produce in full.
    pub planned_outputs: bool,
}

/// Requests arrive.
#[derive(Debug, Default)]
pub struct ArrivalsPlugin;

impl Plugin for ArrivalsPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<arrivals::Unrouted>()
            .add_systems(SimStep, arrivals::release_arrivals.in_set(SimSet::Arrivals));
    }
}

/// Forward passes.
#[derive(Debug, Default)]
pub struct EnginesPlugin {
    /// Whether a pass may let a request go that waits at a router.
    pub router_queues: bool,
}

impl Plugin for EnginesPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<request::News>()
            .init_resource::<worker::Stuck>()
            .init_resource::<request::Requests>()
            .add_systems(SimStep, (passes::complete_passes, request::apply_news).chain().in_set(SimSet::Completions))
            .add_systems(RunOn, (passes::run_on, request::apply_news).chain());
        if self.router_queues {
            app.add_systems(SimStep, passes::start_passes_and_release.in_set(SimSet::Engines));
        } else {
            app.add_systems(SimStep, passes::start_passes.in_set(SimSet::Engines));
        }
    }
}

/// Prefill to decode.
#[derive(Debug, Default)]
pub struct HandoffPlugin;

impl Plugin for HandoffPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<handoff::Handoffs>()
            .add_systems(
                SimStep,
                scaling::complete_transfers.after(scaling::activate_ready_workers).in_set(SimSet::Lifecycle),
            )
            .add_systems(SimStep, handoff::run_handoffs.run_if(handoff::anything_to_hand_off).in_set(SimSet::Handoff));
    }
}

/// KV tiers below the GPU.
#[derive(Debug, Default)]
pub struct TiersPlugin;

impl Plugin for TiersPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            SimStep,
            (
                tiers::end_copies.before(passes::complete_passes).in_set(SimSet::Completions),
                tiers::await_copies.after(SimSet::Engines).before(SimSet::Scaling),
            ),
        );
    }
}

/// Workers come and go.
#[derive(Debug, Default)]
pub struct ScalingPlugin;

impl Plugin for ScalingPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<scaling::Scaling>()
            .add_systems(SimStep, scaling::activate_ready_workers.in_set(SimSet::Lifecycle))
            .add_systems(
                SimStep,
                (scaling::remove_drained_workers, scaling::run_scaling_tick, scaling::remove_drained_workers)
                    .chain()
                    .in_set(SimSet::Scaling),
            );
    }
}

/// The schedules and every plugin of the simulation.
#[derive(Debug, Default)]
pub struct SimPlugin {
    /// Whether a router wants to know what becomes of requests.
    pub router_listens: bool,
    /// Whether a router may hold requests back.
    pub router_queues: bool,
    /// Whether workers have KV tiers below their GPUs.
    pub tiers: bool,
}

impl Plugin for SimPlugin {
    fn build(&self, app: &mut App) {
        use SimSet::{Arrivals, Completions, Engines, Handoff, Lifecycle, Routing, Scaling};
        app.init_resource::<clock::VirtualClock>()
            .init_resource::<clock::Agenda>()
            .init_schedule(SimStep)
            .init_schedule(RunOn);
        for label in [SimStep.intern(), RunOn.intern()] {
            app.edit_schedule(label, |schedule| {
                schedule.set_executor(SingleThreadedExecutor::new());
                // The order of systems decides results: leaving it open is an error, not a warning.
                schedule.set_build_settings(ScheduleBuildSettings {
                    ambiguity_detection: LogLevel::Error,
                    ..ScheduleBuildSettings::default()
                });
            });
        }
        app.configure_sets(SimStep, (Completions, Lifecycle, Arrivals, Routing, Handoff, Engines, Scaling).chain())
            .add_plugins((
                ArrivalsPlugin,
                router::RouterPlugin { listens: self.router_listens },
                EnginesPlugin { router_queues: self.router_queues },
                HandoffPlugin,
                ScalingPlugin,
            ));
        if self.tiers {
            app.add_plugins(TiersPlugin);
        }
    }
}
