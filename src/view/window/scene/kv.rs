//! KV blocks as a mosaic: cells of equal numbers of blocks, in use first, then kept for reuse, then free.

use bevy_egui::egui::{Color32, Rect, pos2, vec2};

use super::Scene;
use crate::view::frame::{KvFrame, KvGroup, KvUse};
use crate::view::window::ink::Ink;
use crate::view::window::state::Target;
use crate::view::window::theme::{Theme, mix};

/// Most cells of a mosaic.
const CELLS: usize = 192;
/// Size of a cell at zoom 1, with its gap.
const CELL: f32 = 7.0;

/// Draws the mosaic into `rect`; `hue` is the colour of blocks in use.
pub fn mosaic(scene: &Scene<'_>, ink: &mut Ink<'_>, kv: &KvFrame, rect: Rect, hue: Color32) {
    let size = (CELL * scene.camera.zoom).max(5.0);
    let columns = ((rect.width() / size) as usize).clamp(1, 48);
    let rows = ((rect.height() / size) as usize).clamp(1, CELLS / columns.min(CELLS));
    let (step_x, step_y) = (rect.width() / columns as f32, (rect.height() / rows as f32).min(size * 1.3));
    let cells = columns * rows;
    let gap = if size >= 5.0 { 1.0 } else { 0.0 };
    let mut shares = Shares::of(kv, cells);
    for cell in 0..cells {
        // Column by column, so that the filled part grows from left to right like a bar.
        let at = pos2(rect.min.x + (cell / rows) as f32 * step_x, rect.min.y + (cell % rows) as f32 * step_y);
        let place = Rect::from_min_size(at, vec2(step_x - gap, step_y - gap));
        let (color, request) = shares.cell(scene.theme, hue, scene);
        ink.rect(place, color);
        if let Some(request) = request {
            ink.touch(place, Target::Request(request));
        }
    }
}

/// Hands out groups of blocks cell by cell.
struct Shares<'a> {
    groups: std::slice::Iter<'a, KvGroup>,
    group: Option<&'a KvGroup>,
    left: f64,
    per_cell: f64,
}

impl<'a> Shares<'a> {
    fn of(kv: &'a KvFrame, cells: usize) -> Self {
        let mut groups = kv.groups.iter();
        let group = groups.next();
        let left = group.map_or(0.0, |g| f64::from(g.blocks));
        Self { groups, group, left, per_cell: kv.total as f64 / cells as f64 }
    }

    /// Colour of the next cell, and a request that owns most of what is in it.
    fn cell(&mut self, theme: &Theme, hue: Color32, scene: &Scene<'_>) -> (Color32, Option<u32>) {
        let (mut need, mut filled, mut most) = (self.per_cell, 0.0, 0.0);
        let (mut color, mut request) = (theme.line, None);
        while need > 1e-9 {
            let Some(group) = self.group else { break };
            let taken = self.left.min(need);
            need -= taken;
            self.left -= taken;
            filled += taken;
            if taken > most {
                most = taken;
                color = shade(theme, hue, group);
                request = group.request;
                if request.is_some_and(|r| scene.is_selected(Target::Request(r))) {
                    color = theme.selected;
                    most = f64::INFINITY;
                }
            }
            if self.left <= 1e-9 {
                self.group = self.groups.next();
                self.left = self.group.map_or(0.0, |g| f64::from(g.blocks));
            }
        }
        let share = if self.per_cell > 0.0 { (filled / self.per_cell) as f32 } else { 0.0 };
        let empty = mix(theme.card, theme.line, 0.55);
        (mix(empty, color, share), request)
    }
}

/// Neighbouring owners differ in strength, so that one request's blocks can be told from the next one's.
fn shade(theme: &Theme, hue: Color32, group: &KvGroup) -> Color32 {
    match group.usage {
        KvUse::Active => {
            let key = group.request.or(group.prefix).unwrap_or(0);
            let step = (key.wrapping_mul(2_654_435_761) >> 30) as f32;
            mix(hue, theme.card, 0.10 + 0.13 * step)
        }
        KvUse::Reserved => theme.transfer,
        KvUse::Cached => theme.cached,
    }
}
