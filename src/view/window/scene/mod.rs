//! The fleet: traffic, router, pools, workers and what moves between them.
//!
//! | file | idea |
//! |---|---|
//! | `worker` | a worker at one of three levels of detail |
//! | `batch` | running requests as tiles, waiting ones as dots |
//! | `kv` | KV blocks as a mosaic |
//! | `edges` | arrivals on their way, KV transfers at their simulated progress |
//! | `front` | traffic source and router |
//! | `pool` | a pool's frame, heading and notes |

mod batch;
mod edges;
mod front;
mod kv;
mod pool;
mod worker;

use bevy_egui::egui::{Painter, Pos2, Rect};

use super::history::History;
use super::ink::Ink;
use super::layout::Layout;
use super::state::{Camera, Target, ViewState};
use super::theme::Theme;
use crate::view::frame::FrameModel;

pub use batch::phase;
pub use worker::{Detail, role_color};

/// Everything the scene is drawn from.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The run at the playhead.
    pub frame: &'a FrameModel,
    /// Where things stand.
    pub layout: &'a Layout,
    /// The last minute.
    pub history: &'a History,
    /// What the user looks at.
    pub view: &'a ViewState,
    /// Simulated seconds per second.
    pub speed: f64,
    /// Colours.
    pub theme: &'a Theme,
    /// Part of the screen.
    pub screen: Rect,
    /// Where from.
    pub camera: Camera,
    /// Levels of detail, the second one while it fades away.
    pub details: [(Detail, f32); 2],
}

impl Scene<'_> {
    fn place(&self, rect: Rect) -> Rect {
        self.camera.rect_to_screen(rect, self.screen)
    }

    fn is_selected(&self, target: Target) -> bool {
        self.view.selected == Some(target)
    }

    /// Size of lettering that is `size` at zoom 1, kept readable.
    fn lettering(&self, size: f32) -> f32 {
        (size * self.camera.zoom).clamp(12.0, 17.0)
    }
}

/// Draws the scene; gives what the pointer is over.
pub fn draw(scene: &Scene<'_>, painter: &Painter, pointer: Option<Pos2>) -> Option<Target> {
    let painter = painter.with_clip_rect(scene.screen);
    let mut ink = Ink::new(&painter, pointer);
    ink.rect(scene.screen, scene.theme.background);
    edges::trunks(scene, &mut ink);
    front::traffic(scene, &mut ink);
    front::router(scene, &mut ink);
    for (pool, place) in scene.frame.pools.iter().zip(&scene.layout.pools) {
        pool::draw(scene, &mut ink, pool, place);
        for (worker, (_, rect)) in pool.workers.iter().zip(&place.workers) {
            worker::draw(scene, &mut ink, worker, scene.place(*rect));
        }
    }
    edges::transfers(scene, &mut ink);
    edges::arrivals(scene, &mut ink);
    for (pool, place) in scene.frame.pools.iter().zip(&scene.layout.pools) {
        pool::notes(scene, &mut ink, pool, place);
    }
    ink.finish()
}
