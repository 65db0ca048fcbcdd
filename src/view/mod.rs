//! What a viewer shows of a run, and how it moves through its time.
//!
//! | file | idea |
//! |---|---|
//! | [`frame`] | everything there is to draw at one instant, as plain data |
//! | [`player`] | a run with a playhead: plays, seeks, steps, never lets the caller wait |
//! | [`command`] | what a user can ask of it |
//! | [`track`] | the time line of the whole run |
//! | [`life`] | the stages that a request went through |
//! | `window` | the window, with feature `gui` |
//! | `source` | a scenario made ready to be simulated as often as wanted |
//! | `background` | the whole run, simulated in the background |
//! | `pilot` | the thread that goes to the playhead |
//! | `extract` | from a simulation to a frame |
//! | `tally` | figures over the requests that ended so far |
//! | `notes` | decisions as sentences |
//!
//! Nothing here draws. Scene and panels are functions of a [`FrameModel`](frame::FrameModel) and of what the user looks at.
//! The past is not stored: to show an instant, a simulation runs to it.

mod background;
pub mod command;
mod extract;
pub mod frame;
pub mod life;
mod notes;
mod pilot;
pub mod player;
mod source;
mod tally;
pub mod track;
#[cfg(feature = "gui")]
pub mod window;

pub use background::RunResult;
pub use extract::MAX_KV_GROUPS;
pub use source::OpenError;
