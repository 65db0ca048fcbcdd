//! What the user looks at: camera, selection, colours, panels. Nothing here changes a run.

use bevy_egui::egui::{Pos2, Rect, Vec2};

use super::theme::Mode;
use crate::view::command::Selection;
use crate::view::frame::WorkerName;

/// Something in the scene that can be pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A worker.
    Worker(WorkerName),
    /// A request, by its index in the workload.
    Request(u32),
}

impl Target {
    /// The target of a player's selection, if it is one that the scene shows.
    pub fn of(selection: Selection) -> Option<Self> {
        match selection {
            Selection::Request(index) => Some(Self::Request(index)),
            Selection::Worker(name) | Selection::Prefix(name, _) => Some(Self::Worker(name)),
            _ => None,
        }
    }

    /// As a player's selection.
    pub fn selection(target: Option<Self>) -> Selection {
        match target {
            None => Selection::Nothing,
            Some(Self::Request(index)) => Selection::Request(index),
            Some(Self::Worker(name)) => Selection::Worker(name),
        }
    }
}

/// Where the scene is looked at from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Point of the scene in the middle of its part of the screen.
    pub center: Pos2,
    /// Points on the screen per unit of the scene.
    pub zoom: f32,
}

impl Camera {
    /// Shows all of `bounds` in `screen`; `extra` magnifies that.
    pub fn fit(bounds: Rect, screen: Rect, extra: f32) -> Self {
        let zoom = (screen.width() / bounds.width()).min(screen.height() / bounds.height()).clamp(0.01, MOST_FITTED);
        Self { center: bounds.center(), zoom: zoom * extra }
    }

    /// Where a point of the scene lands.
    pub fn to_screen(&self, point: Pos2, screen: Rect) -> Pos2 {
        screen.center() + (point - self.center) * self.zoom
    }

    /// Where a rectangle of the scene lands.
    pub fn rect_to_screen(&self, rect: Rect, screen: Rect) -> Rect {
        Rect::from_min_max(self.to_screen(rect.min, screen), self.to_screen(rect.max, screen))
    }

    /// The point of the scene at a point of the screen.
    pub fn to_scene(&self, point: Pos2, screen: Rect) -> Pos2 {
        self.center + (point - screen.center()) / self.zoom
    }

    /// Moves the scene along with the mouse.
    pub fn pan(&mut self, by: Vec2) {
        self.center -= by / self.zoom;
    }

    /// Magnifies by `factor`, keeping what is at `at` where it is.
    pub fn zoom_at(&mut self, at: Pos2, factor: f32, screen: Rect) {
        let fixed = self.to_scene(at, screen);
        self.zoom = (self.zoom * factor).clamp(LEAST_ZOOM, MOST_ZOOM);
        self.center = fixed - (at - screen.center()) / self.zoom;
    }
}

/// A small fleet is not blown up beyond this.
const MOST_FITTED: f32 = 1.5;
const LEAST_ZOOM: f32 = 0.01;
const MOST_ZOOM: f32 = 8.0;

/// What the user looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewState {
    /// `None`: the whole fleet, whatever its size.
    pub camera: Option<Camera>,
    /// Magnification of the whole fleet while there is no camera; 1 shows all of it.
    pub zoom: f32,
    /// What is picked.
    pub selected: Option<Target>,
    /// What the pointer is over.
    pub hovered: Option<Target>,
    /// Colours.
    pub mode: Mode,
    /// Whether the panels at the edges are shown.
    pub panels: bool,
    /// Whether the list of keys is shown.
    pub help: bool,
    /// What is typed in the search field.
    pub search: String,
    /// Whether the search field is to take the keyboard.
    pub focus_search: bool,
}

impl Default for ViewState {
    fn default() -> Self {
        Self {
            camera: None,
            zoom: 1.0,
            selected: None,
            hovered: None,
            mode: Mode::Dark,
            panels: true,
            help: false,
            search: String::new(),
            focus_search: false,
        }
    }
}

impl ViewState {
    /// The camera in use.
    pub fn camera_over(&self, bounds: Rect, screen: Rect) -> Camera {
        self.camera.unwrap_or_else(|| Camera::fit(bounds, screen.shrink(MARGIN), self.zoom))
    }
}

/// Room around the fleet, points on the screen.
const MARGIN: f32 = 22.0;
