//! Moves through the time of a run.
//!
//! A player holds a scenario, a simulation of the whole run in the background, and a thread that goes to the playhead. The
//! caller never waits: [`Player::update`] takes what has been computed by then, and until there is something new the last
//! good frame stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::scenario::{InterventionDocument, Run, Scenario};
use crate::time::{SimDuration, SimTime};

use super::background::{Background, RunResult};
use super::command::{Command, Direction, Selection, StepUnit};
use super::frame::FrameModel;
use super::life::Life;
use super::pilot::{Done, Goal, Pilot};
use super::source::{OpenError, Source};
use super::track::Track;

/// Simulated seconds per real second when a scenario is opened: the first minute takes ten seconds.
const FIRST_SPEED: f64 = 6.0;
/// Longest real time that one update makes up for; the rest of a long pause is lost.
const LONGEST_UPDATE: Duration = Duration::from_millis(100);

/// How fast time passes while playing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Simulated seconds per real second.
    Times(f64),
    /// As fast as the simulation can.
    Full,
}

/// How far computations are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Whether the frame is on its way to the playhead.
    pub seeking: bool,
    /// How far the simulation is on that way.
    pub reached: SimTime,
    /// Share of the requests that ended in the background run, 0 to 1; 1 exactly when it is over.
    pub run: f32,
}

/// Why a command is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The changed scenario cannot be run; the one before stays.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It takes the whole run to know.
    #[error("the run is still being computed; this step is known when it is over")]
    NotYet,
    /// A number that names nothing or means nothing.
    #[error("{0}")]
    Invalid(String),
}

/// A run with a playhead.
#[derive(Debug)]
pub struct Player {
    base: PathBuf,
    source: Arc<Source>,
    background: Background,
    pilot: Pilot,
    result: Option<Arc<RunResult>>,
    /// Number of the goal that is not reached yet.
    pending: Option<u64>,
    /// Whether the playhead follows the frame rather than the other way round.
    follows: bool,
    playing: bool,
    speed: Speed,
    playhead: SimTime,
    /// Real time that the playhead is behind.
    debt: Duration,
    selection: Selection,
    frame: FrameModel,
}

impl Player {
    /// Opens a scenario whose relative paths start at `base`: stands at its start, not playing yet.
    ///
    /// # Errors
    /// When the scenario cannot be run.
    pub fn open(scenario: Scenario, base: &Path) -> Result<Self, OpenError> {
        let source = Arc::new(Source::open(scenario, base, None)?);
        // Says what is wrong before any thread does.
        source.simulation()?;
        let mut player = Self {
            base: base.to_path_buf(),
            background: Background::start(Arc::clone(&source)),
            pilot: Pilot::start(Arc::clone(&source), 0),
            source,
            result: None,
            pending: None,
            follows: false,
            playing: false,
            speed: Speed::Times(FIRST_SPEED),
            playhead: SimTime::ZERO,
            debt: Duration::ZERO,
            selection: Selection::Nothing,
            frame: FrameModel::default(),
        };
        player.frame_at(SimTime::ZERO);
        Ok(player)
    }

    /// Lets `real` time pass: takes over what has been computed, and moves the playhead while playing. Never waits.
    pub fn update(&mut self, real: Duration) {
        if let Some(done) = self.pilot.take_done() {
            self.take(done);
        }
        if self.result.is_none() {
            self.result = self.background.result();
        }
        if let Some(end) = self.end().filter(|end| self.playhead > *end) {
            self.go_to(end);
        }
        if !self.playing {
            return;
        }
        self.debt = (self.debt + real).min(LONGEST_UPDATE);
        // While the frame is on its way, the playhead waits for it rather than running away.
        if self.pending.is_some() {
            return;
        }
        if self.end().is_some_and(|end| self.playhead >= end) {
            self.playing = false;
            return;
        }
        let debt = std::mem::take(&mut self.debt);
        match self.speed {
            Speed::Full => self.want(Goal::Onwards(self.playhead), true),
            Speed::Times(speed) => {
                let span = SimDuration::from_nanos((debt.as_secs_f64() * speed * 1e9).round() as u64);
                let to = self.within(self.playhead + span);
                self.go_to(to);
            }
        }
    }

    fn take(&mut self, done: Done) {
        if self.pending == Some(done.ticket) {
            self.pending = None;
        }
        if self.follows {
            self.playhead = self.within(done.frame.at);
            self.follows = false;
        }
        self.frame = done.frame;
        if self.frame.at > self.playhead {
            self.go_to(self.playhead);
        }
    }

    fn want(&mut self, goal: Goal, follows: bool) {
        self.follows = follows;
        self.pending = Some(self.pilot.go(goal));
    }

    fn go_to(&mut self, at: SimTime) {
        self.playhead = at;
        self.want(Goal::At(at), false);
    }

    /// At most the end of the run, once that is known.
    fn within(&self, at: SimTime) -> SimTime {
        self.end().map_or(at, |end| at.min(end))
    }

    /// Does what a command says.
    ///
    /// # Errors
    /// When it cannot be done; nothing has changed then.
    pub fn apply(&mut self, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Play => self.play(true),
            Command::Pause => self.play(false),
            Command::TogglePlay => self.play(!self.playing),
            Command::Seek(at) => self.go_to(self.within(at)),
            Command::SeekBusiest => {
                if let Some(at) = self.track().busiest() {
                    self.go_to(self.within(at));
                }
            }
            Command::SetSpeed(speed) if speed.is_finite() && speed > 0.0 => self.speed = Speed::Times(speed),
            Command::SetSpeed(speed) => {
                return Err(CommandError::Invalid(format!("a speed of {speed} is none; give more than 0")));
            }
            Command::FullSpeed => self.speed = Speed::Full,
            Command::Step { unit, direction } => return self.step(unit, direction),
            Command::Select(selection) => self.selection = selection,
            Command::Intervene(_) | Command::EditIntervention(..) | Command::RemoveIntervention(_) => {
                return Err(CommandError::Invalid("interventions are not supported yet".to_owned()));
            }
            Command::ApplyScenario(scenario) => return self.reopen(*scenario),
        }
        Ok(())
    }

    fn play(&mut self, playing: bool) {
        self.debt = Duration::ZERO;
        self.playing = playing;
        // From the end, playing starts again.
        if playing && self.end().is_some_and(|end| self.playhead >= end) {
            self.go_to(SimTime::ZERO);
        }
    }

    fn step(&mut self, unit: StepUnit, direction: Direction) -> Result<(), CommandError> {
        self.playing = false;
        let at = self.playhead;
        let second = SimDuration::from_nanos(1_000_000_000);
        let to = match (unit, direction) {
            (StepUnit::Pass, _) => {
                let worker = match self.selection {
                    Selection::Worker(name) | Selection::Prefix(name, _) => Some(name),
                    _ => None,
                };
                self.want(Goal::Pass(at, direction, worker), true);
                return Ok(());
            }
            (StepUnit::Second, Direction::Forward) => Some(self.within(at + second)),
            (StepUnit::Second, Direction::Backward) => {
                Some(SimTime::from_nanos(at.as_nanos().saturating_sub(second.as_nanos())))
            }
            (unit, direction) => {
                let result = self.result.clone().or_else(|| self.background.result()).ok_or(CommandError::NotYet)?;
                let own = match self.selection {
                    Selection::Request(request) if unit == StepUnit::RequestEvent => result.record(request),
                    _ => None,
                };
                let mut own: Vec<SimTime> = own.map_or_else(Vec::new, |record| Life::instants(record).collect());
                own.sort_unstable();
                let instants = match unit {
                    StepUnit::RequestEvent if !own.is_empty() => &own,
                    StepUnit::RequestEvent => &result.request_events,
                    StepUnit::Decision => &result.decisions,
                    _ => &result.planner_ticks,
                };
                match direction {
                    Direction::Forward => instants.get(instants.partition_point(|instant| *instant <= at)).copied(),
                    Direction::Backward => {
                        let before = instants.partition_point(|instant| *instant < at);
                        before.checked_sub(1).and_then(|index| instants.get(index)).copied()
                    }
                }
            }
        };
        if let Some(to) = to {
            self.go_to(to);
        }
        Ok(())
    }

    /// Runs another scenario from here on.
    fn reopen(&mut self, scenario: Scenario) -> Result<(), CommandError> {
        let source = Arc::new(Source::open(scenario, &self.base, Some(&self.source))?);
        self.background = Background::start(Arc::clone(&source));
        self.pilot = Pilot::start(Arc::clone(&source), self.pilot.ticket());
        (self.source, self.result) = (source, None);
        self.go_to(self.playhead);
        Ok(())
    }

    /// Goes to an instant and waits until its frame is there. For pictures without a window, and for tests.
    pub fn frame_at(&mut self, at: SimTime) -> &FrameModel {
        self.go_to(self.within(at));
        self.settle()
    }

    /// Waits until the frame is that of the playhead.
    pub fn settle(&mut self) -> &FrameModel {
        while self.pending.is_some() {
            match self.pilot.wait() {
                Some(done) => self.take(done),
                None => self.pending = None,
            }
        }
        &self.frame
    }

    /// Waits until the whole run is known; `None` if it failed.
    pub fn wait_for_run(&mut self) -> Option<Arc<RunResult>> {
        self.result = self.background.wait();
        self.result.clone()
    }

    /// What is to be drawn: the run at [`FrameModel::at`], which may be behind the playhead for a moment.
    pub fn frame(&self) -> &FrameModel {
        &self.frame
    }

    /// Whether the frame is that of the playhead.
    pub fn is_current(&self) -> bool {
        self.pending.is_none()
    }

    /// How far computations are.
    pub fn progress(&self) -> Progress {
        let (ended, total) = self.background.progress();
        let share = (ended as f32 / total.max(1) as f32).min(0.999);
        let run = if self.result.is_some() { 1.0 } else { share };
        Progress { seeking: self.pending.is_some(), reached: self.pilot.reached(), run }
    }

    /// Why nothing is computed any more, if so.
    pub fn problem(&self) -> Option<String> {
        self.pilot.error().or_else(|| self.background.error())
    }

    /// Where the user is.
    pub fn playhead(&self) -> SimTime {
        self.playhead
    }

    /// The end of the run, once it is known.
    pub fn end(&self) -> Option<SimTime> {
        self.result.as_ref().map(|result| result.outcome.end)
    }

    /// Whether time goes on.
    pub fn is_playing(&self) -> bool {
        self.playing
    }

    /// How fast it does.
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// What the user looks at.
    pub fn selection(&self) -> Selection {
        self.selection
    }

    /// The time line, as far as the background run is.
    pub fn track(&self) -> Arc<Track> {
        self.background.track()
    }

    /// The whole run, once it is over.
    pub fn result(&self) -> Option<&Arc<RunResult>> {
        self.result.as_ref()
    }

    /// The scenario, interventions included; its JSON gives the same run again.
    pub fn scenario(&self) -> &Scenario {
        &self.source.scenario
    }

    /// The scenario in full.
    pub fn run(&self) -> &Run {
        &self.source.run
    }

    /// The interventions of the scenario.
    pub fn interventions(&self) -> &[InterventionDocument] {
        &[]
    }

    /// The life of a request, once the whole run is known.
    pub fn life(&self, request: u32) -> Option<Life> {
        let record = self.result.as_ref()?.record(request)?;
        Some(Life::of(&self.source.run, record))
    }
}
