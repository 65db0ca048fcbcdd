//! Running requests as tiles, waiting ones as dots.

use bevy_egui::egui::{Align2, Color32, Rect, pos2, vec2};

use super::Scene;
use crate::view::frame::{RequestDot, Tile, TilePhase};
use crate::view::window::ink::{Glyph, Ink};
use crate::view::window::state::Target;
use crate::view::window::theme::{Theme, mix};
use crate::view::window::words;

/// Colour and shape of a phase.
pub fn phase(theme: &Theme, phase: TilePhase) -> (Color32, Glyph) {
    match phase {
        TilePhase::Prefill => (theme.prefill, Glyph::Square),
        TilePhase::Decode => (theme.decode, Glyph::Disc),
        TilePhase::Held | TilePhase::Reserved => (theme.transfer, Glyph::Diamond),
        TilePhase::BringingUp => (theme.transfer, Glyph::Triangle),
    }
}

/// Height of a row of tiles as part of its step.
const LINES: f32 = 1.25;

/// Side of a tile that lets `n` of them fill `size` well, at most `most`; its gap included.
fn step(n: usize, size: bevy_egui::egui::Vec2, most: f32) -> f32 {
    let mut step = most;
    while step > 4.0 && ((size.x / step).floor() * (size.y / (step * LINES)).floor()) < n as f32 {
        step -= 0.5;
    }
    step
}

/// Draws the running batch into `rect`.
pub fn tiles(scene: &Scene<'_>, ink: &mut Ink<'_>, running: &[Tile], rect: Rect) {
    let theme = scene.theme;
    let most = (17.0 * scene.camera.zoom).clamp(8.0, 26.0);
    let step = step(running.len(), rect.size(), most);
    let columns = ((rect.width() / step) as usize).max(1);
    // A little more room between rows: a mark below a tile says that it is over its SLA.
    let down = step * LINES;
    let rows = ((rect.height() / down) as usize).max(1);
    let side = step - (step * 0.18).max(1.0);
    for (i, tile) in running.iter().enumerate() {
        if i + 1 == columns * rows && running.len() > columns * rows {
            let at = pos2(rect.max.x, rect.max.y);
            ink.text(at, Align2::RIGHT_BOTTOM, 12.0, theme.dim, &format!("+{}", running.len() - i));
            break;
        }
        let at = rect.min + vec2((i % columns) as f32 * step, (i / columns) as f32 * down);
        let (color, glyph) = phase(theme, tile.phase);
        let fill = match tile.phase {
            TilePhase::Held | TilePhase::BringingUp => 1.0,
            TilePhase::Reserved => 0.0,
            TilePhase::Prefill | TilePhase::Decode => tile.progress,
        };
        let place = Rect::from_min_size(at, vec2(side, side));
        if scene.is_selected(Target::Request(tile.request)) {
            ink.rect(place.expand(2.0), theme.selected);
            ink.rect(place.expand(1.0), theme.card);
        }
        ink.glyph(glyph, at, side, fill, color, mix(theme.card, color, 0.38));
        if tile.misses_sla {
            let top = place.max.y + 1.0;
            ink.rect(
                Rect::from_min_max(pos2(place.min.x, top), pos2(place.max.x, top + (side * 0.16).max(1.5))),
                theme.missed,
            );
        }
        ink.touch(Rect::from_min_size(at, vec2(step, down)), Target::Request(tile.request));
    }
}

/// Draws waiting requests into one row or several, first in line first, and says how many do not fit.
pub fn dots(scene: &Scene<'_>, ink: &mut Ink<'_>, waiting: &[RequestDot], rect: Rect) {
    let theme = scene.theme;
    let step = (8.0 * scene.camera.zoom).clamp(6.0, 10.0);
    let columns = ((rect.width() / step) as usize).max(1);
    let rows = ((rect.height() / step) as usize).max(1);
    let fits = columns * rows;
    let label = if waiting.len() > fits { (34.0 / step).ceil() as usize } else { 0 };
    let shown = if label > 0 { fits.saturating_sub(label) } else { waiting.len() };
    for (i, dot) in waiting.iter().take(shown).enumerate() {
        let at = rect.min + vec2((i % columns) as f32 * step, (i / columns) as f32 * step);
        let place = Rect::from_min_size(at, vec2(step, step));
        let chosen = scene.is_selected(Target::Request(dot.request));
        let color = if chosen { theme.selected } else { theme.waiting };
        ink.glyph(Glyph::Disc, at, step - 2.0, 1.0, color, color);
        ink.touch(place, Target::Request(dot.request));
    }
    if label > 0 {
        let text = format!("+{}", words::short((waiting.len() - shown) as f64));
        let y = rect.min.y + (rows as f32 - 0.5) * step - 1.0;
        ink.text(pos2(rect.max.x, y), Align2::RIGHT_CENTER, 12.0, theme.dim, &text);
    }
}
