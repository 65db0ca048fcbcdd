//! Everything around the scene.
//!
//! | file | idea |
//! |---|---|
//! | `transport` | play, step, speed, where in time, headline figures |
//! | `timeline` | the whole run, with the playhead |
//! | `inspector` | the selected worker or request, else the run |
//! | `facts` | the scenario, and what the colours mean |
//! | `tip` | what the pointer is over |
//! | `help` | the keys |
//! | `widgets` | small parts they share |

mod facts;
mod help;
mod inspector;
mod timeline;
mod tip;
mod transport;
mod widgets;

use bevy_egui::egui::{self, Rect, Ui};

use super::state::{Target, ViewState};
use super::theme::{Theme, mix};
use crate::time::{SimDuration, SimTime};
use crate::view::command::Command;
use crate::view::frame::FrameModel;
use crate::view::life::Life;
use crate::view::player::{Progress, Speed};
use crate::view::track::Track;

pub use facts::Facts;
pub use transport::SPEEDS;

/// Everything the panels are drawn from.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// The run at the playhead.
    pub frame: &'a FrameModel,
    /// The whole run, as far as it is known.
    pub track: &'a Track,
    /// Where the user is.
    pub playhead: SimTime,
    /// Whether time goes on.
    pub playing: bool,
    /// How fast.
    pub speed: Speed,
    /// How far computations are.
    pub progress: Progress,
    /// The life of the selected request, once the whole run is known.
    pub life: Option<&'a Life>,
    /// The scenario in words.
    pub facts: &'a Facts,
    /// Bound on TTFT, milliseconds, where there is one.
    pub sla_ttft_ms: Option<f64>,
    /// Colours.
    pub theme: &'a Theme,
    /// What went wrong last.
    pub problem: Option<&'a str>,
}

impl Desk<'_> {
    /// The end of the run, or as far as it is known.
    pub fn span(&self) -> SimTime {
        let known = self.track.end.unwrap_or(self.track.reached);
        known.max(self.playhead).max(SimTime::ZERO + SimDuration::from_nanos(1_000_000_000))
    }
}

/// What the user asks for.
#[derive(Debug, Default)]
pub struct Wishes {
    /// To the run.
    pub commands: Vec<Command>,
    /// Another selection.
    pub select: Option<Option<Target>>,
}

/// Draws the panels, and gives the part of the screen that is left for the scene.
pub fn show(ui: &mut Ui, desk: &Desk<'_>, view: &mut ViewState, wishes: &mut Wishes) -> Rect {
    let frame = egui::Frame::new().fill(desk.theme.panel);
    let padded = frame.inner_margin(egui::Margin::symmetric(14, 12));
    if view.panels {
        egui::Panel::top("transport").exact_size(46.0).resizable(false).frame(frame).show(ui, |ui| {
            transport::show(ui, desk, view, wishes);
        });
    }
    let height = if view.panels { 148.0 } else { 96.0 };
    egui::Panel::bottom("timeline").exact_size(height).resizable(false).frame(frame).show(ui, |ui| {
        timeline::show(ui, desk, wishes);
    });
    // Narrow windows keep the scene the largest thing.
    let wide = ui.available_width();
    if view.panels && wide >= 900.0 {
        egui::Panel::left("scenario").exact_size(208.0).resizable(false).frame(padded).show(ui, |ui| {
            facts::show(ui, desk);
        });
    }
    if view.panels && wide >= 640.0 {
        egui::Panel::right("inspector").exact_size(264.0).resizable(false).frame(padded).show(ui, |ui| {
            inspector::show(ui, desk, view, wishes);
        });
    }
    ui.available_rect_before_wrap()
}

/// Says what went wrong, below the transport bar.
fn banner(ctx: &egui::Context, theme: &Theme, text: &str) {
    let painter = ctx.layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::new("banner")));
    let galley = painter.layout(text.to_owned(), egui::FontId::proportional(13.0), theme.text, 520.0);
    let size = galley.size() + egui::vec2(24.0, 14.0);
    let top = ctx.content_rect().center_top() + egui::vec2(-size.x / 2.0, 54.0);
    let rect = Rect::from_min_size(top, size);
    painter.rect_filled(rect, 6.0, mix(theme.panel, theme.missed, 0.15));
    painter.rect_stroke(rect, 6.0, (1.0, theme.missed), egui::StrokeKind::Inside);
    painter.galley(top + egui::vec2(12.0, 7.0), galley, theme.text);
}

/// Draws what lies over scene and panels.
pub fn overlays(ctx: &egui::Context, desk: &Desk<'_>, view: &mut ViewState, pointer: Option<egui::Pos2>) {
    if let (Some(target), Some(at)) = (view.hovered, pointer) {
        tip::show(ctx, desk, target, at);
    }
    if let Some(problem) = desk.problem {
        banner(ctx, desk.theme, problem);
    }
    if view.help {
        help::show(ctx, desk.theme, view);
    }
}
