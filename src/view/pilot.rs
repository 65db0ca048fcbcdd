//! Goes to instants of a run on a thread of its own. The past is not stored: to go back is to simulate again, from the
//! start or from one of a few simulations that were left standing on the way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sim::Simulation;
use crate::time::{SimDuration, SimTime};

use super::command::Direction;
use super::extract::Extractor;
use super::frame::{FrameModel, WorkerName};
use super::source::Source;
use super::tally::Tally;

/// Real time after which a long way is interrupted to see whether another one is wanted.
const LOOK_UP: Duration = Duration::from_millis(4);
/// Real time for which a simulation runs that is to run as fast as it can, between two frames.
const FULL_SPEED: Duration = Duration::from_millis(12);
/// Simulations that are kept.
const SEATS: usize = 4;

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// To an instant.
    At(SimTime),
    /// On from an instant, as far as possible in a short time.
    Onwards(SimTime),
    /// From an instant to the next or last one at which a pass (of a worker) begins or ends.
    Pass(SimTime, Direction, Option<WorkerName>),
}

/// A goal that was reached.
#[derive(Debug)]
pub(super) struct Done {
    /// Which one.
    pub ticket: u64,
    /// The run there.
    pub frame: FrameModel,
}

#[derive(Debug, Default)]
struct Desk {
    goal: Option<(u64, Goal)>,
    done: Option<Done>,
    error: Option<String>,
    reached: SimTime,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another goal is wanted, or none.
    fn is_interrupted(&self) -> bool {
        let desk = self.desk();
        desk.goal.is_some() || desk.stop
    }
}

/// A thread that goes to instants; dropping it stops it.
#[derive(Debug)]
pub(super) struct Pilot {
    shared: Arc<Shared>,
    ticket: u64,
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.shared.desk().stop = true;
        self.shared.changed.notify_all();
    }
}

impl Pilot {
    /// Begins at the start of the run, with `ticket` as the number of the last goal given to anybody before.
    pub fn start(source: Arc<Source>, ticket: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let work = || {
                Cockpit { source: &source, shared: &theirs, seats: Vec::new(), extractor: Extractor::default() }.fly()
            };
            let error = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some("the simulation failed; this is a defect of the program".to_owned()),
            };
            theirs.desk().error = error;
            theirs.changed.notify_all();
        });
        Self { shared, ticket }
    }

    /// Wants to be somewhere; what was wanted before is forgotten. Returns the number of the goal.
    pub fn go(&mut self, goal: Goal) -> u64 {
        self.ticket += 1;
        let mut desk = self.shared.desk();
        desk.goal = Some((self.ticket, goal));
        desk.done = None;
        self.shared.changed.notify_all();
        self.ticket
    }

    /// The number of the last goal.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The last goal, once it is reached.
    pub fn take_done(&self) -> Option<Done> {
        self.shared.desk().done.take_if(|done| done.ticket == self.ticket)
    }

    /// Waits until the last goal is reached.
    pub fn wait(&self) -> Option<Done> {
        let mut desk = self.shared.desk();
        loop {
            if let Some(done) = desk.done.take_if(|done| done.ticket == self.ticket) {
                return Some(done);
            }
            if desk.error.is_some() {
                return None;
            }
            desk = self.shared.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How far the simulation is on its way.
    pub fn reached(&self) -> SimTime {
        self.shared.desk().reached
    }

    /// Why it goes nowhere any more.
    pub fn error(&self) -> Option<String> {
        self.shared.desk().error.clone()
    }
}

/// A simulation that stands somewhere.
struct Seat {
    simulation: Simulation,
    tally: Tally,
    at: SimTime,
}

struct Cockpit<'a> {
    source: &'a Source,
    shared: &'a Shared,
    /// The one used last is the last one.
    seats: Vec<Seat>,
    extractor: Extractor,
}

impl Cockpit<'_> {
    fn fly(mut self) -> Result<(), String> {
        loop {
            let (ticket, goal) = {
                let mut desk = self.shared.desk();
                loop {
                    if desk.stop {
                        return Ok(());
                    }
                    if let Some(goal) = desk.goal.take() {
                        break goal;
                    }
                    desk = self.shared.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if !self.reach(goal)? {
                continue;
            }
            let Some(Seat { simulation, tally, at }) = self.seats.last_mut() else { continue };
            let over = simulation.next_event().is_none();
            let frame = self.extractor.frame(&self.source.run, simulation, tally, *at);
            if over {
                // Nothing changes any more: it stands at the end as well.
                *at = simulation.last_event().min(*at);
            }
            let mut desk = self.shared.desk();
            desk.done = Some(Done { ticket, frame });
            self.shared.changed.notify_all();
        }
    }

    /// Goes there. Returns `false` if another goal is wanted meanwhile.
    fn reach(&mut self, goal: Goal) -> Result<bool, String> {
        Ok(match goal {
            Goal::At(at) => self.go_to(at)?,
            Goal::Onwards(from) => self.go_to(from)? && self.go_on(),
            Goal::Pass(from, Direction::Forward, worker) => self.go_to(from)? && self.go_to_next_pass(worker),
            Goal::Pass(from, Direction::Backward, worker) => {
                let there = self.go_to(from)?;
                let border = self.seats.last().and_then(|seat| border_before(&seat.simulation, from, worker));
                there && self.go_to(border.unwrap_or(SimTime::ZERO))?
            }
        })
    }

    /// Takes the simulation that is nearest before `at` and runs it to there. Returns `false` when interrupted.
    fn go_to(&mut self, at: SimTime) -> Result<bool, String> {
        let before = (0..self.seats.len()).filter(|index| self.seats[*index].at <= at);
        match before.max_by_key(|index| self.seats[*index].at) {
            Some(index) => {
                let seat = self.seats.remove(index);
                self.seats.push(seat);
            }
            None => {
                let mut simulation = self.source.simulation().map_err(|error| error.to_string())?;
                simulation.watch_passes();
                simulation.run_until(SimTime::ZERO);
                if self.seats.len() == SEATS {
                    self.seats.remove(0);
                }
                self.seats.push(Seat { simulation, tally: Tally::default(), at: SimTime::ZERO });
            }
        }
        let Some(seat) = self.seats.last_mut() else { return Ok(false) };
        let mut span = SimDuration::from_nanos(100_000_000);
        while seat.at < at {
            let (to, start) = (at.min(seat.at + span), Instant::now());
            seat.simulation.run_until(to);
            seat.at = to;
            let took = start.elapsed();
            if took < LOOK_UP / 2 {
                span = SimDuration::from_nanos(span.as_nanos().saturating_mul(2));
            } else if took > LOOK_UP * 2 {
                span = SimDuration::from_nanos((span.as_nanos() / 2).max(1));
            }
            self.shared.desk().reached = to;
            if to < at && self.shared.is_interrupted() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs for a short real time.
    fn go_on(&mut self) -> bool {
        let Some(seat) = self.seats.last_mut() else { return false };
        let start = Instant::now();
        let mut span = SimDuration::from_nanos(10_000_000);
        while start.elapsed() < FULL_SPEED {
            let Some(next) = seat.simulation.next_event() else { break };
            let (to, begun) = (seat.at.max(next) + span, Instant::now());
            seat.simulation.run_until(to);
            seat.at = to;
            if seat.simulation.next_event().is_none() {
                seat.at = seat.simulation.last_event().min(to);
            }
            if begun.elapsed() < FULL_SPEED / 8 {
                span = SimDuration::from_nanos(span.as_nanos().saturating_mul(2));
            }
        }
        true
    }

    /// Runs to the next instant at which a pass begins or ends. Returns `false` when interrupted.
    fn go_to_next_pass(&mut self, worker: Option<WorkerName>) -> bool {
        let Some(seat) = self.seats.last_mut() else { return false };
        loop {
            let Some(next) = seat.simulation.next_event().filter(|next| *next > seat.at) else { return true };
            seat.simulation.run_until(next);
            seat.at = next;
            let after = next + SimDuration::from_nanos(1);
            if border_before(&seat.simulation, after, worker) == Some(next) {
                return true;
            }
            if self.shared.is_interrupted() {
                return false;
            }
        }
    }
}

fn border_before(simulation: &Simulation, at: SimTime, worker: Option<WorkerName>) -> Option<SimTime> {
    simulation.border_before(at, worker.map(|worker| (worker.role, worker.id)))
}
