//! A pool's frame and heading, and what was decided about it.

use bevy_egui::egui::{Align2, Rect, pos2, vec2};

use super::{Scene, worker};
use crate::scenario::Role;
use crate::sim::metrics::WorkerState;
use crate::view::frame::PoolFrame;
use crate::view::window::ink::Ink;
use crate::view::window::layout::PoolLayout;
use crate::view::window::theme::mix;
use crate::view::window::words;

/// Draws frame and heading.
pub fn draw(scene: &Scene<'_>, ink: &mut Ink<'_>, pool: &PoolFrame, place: &PoolLayout) {
    let theme = scene.theme;
    let rect = scene.place(place.rect);
    ink.round(rect, 8.0, theme.pool);
    ink.outline(rect, 8.0, 1.0, mix(theme.pool, theme.line, 0.7));
    let heading = scene.place(place.heading);
    let size = scene.lettering(14.0);
    // On a small scale the heading stands above the frame.
    let y = if heading.height() >= size { heading.center().y + 2.0 } else { rect.min.y - size / 2.0 - 3.0 };
    let pad = (14.0 * scene.camera.zoom).clamp(6.0, 20.0);
    let name = match pool.role {
        Role::Aggregated => "Workers",
        Role::Prefill => "Prefill",
        Role::Decode => "Decode",
    };
    let mark = Rect::from_center_size(pos2(rect.min.x + pad + 4.0, y), vec2(8.0, 8.0));
    ink.round(mark, 2.0, worker::role_color(theme, pool.role));
    let name = ink.text(pos2(mark.max.x + 7.0, y), Align2::LEFT_CENTER, size, theme.text, name);
    let room = rect.max.x - pad - name.max.x - 12.0;
    let text = facts(pool);
    ink.text_within(
        pos2(rect.max.x - pad, y),
        Align2::RIGHT_CENTER,
        scene.lettering(13.0) - 1.0,
        theme.dim,
        &text,
        room,
    );
}

fn facts(pool: &PoolFrame) -> String {
    let of = |state: WorkerState| pool.workers.iter().filter(|w| w.state == state).count();
    let mut parts = vec![format!("{} ready", of(WorkerState::Active))];
    for (n, word) in [(of(WorkerState::Starting), "starting"), (of(WorkerState::Draining), "draining")] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    let gpus = pool.workers.len() as u32 * pool.gpus_per_worker;
    parts.push(format!("{} GPU{}", words::count(gpus.into()), if gpus == 1 { "" } else { "s" }));
    parts.join(" · ")
}

/// Draws the last decision about the pool over its lower edge.
pub fn notes(scene: &Scene<'_>, ink: &mut Ink<'_>, pool: &PoolFrame, place: &PoolLayout) {
    let theme = scene.theme;
    let Some(note) = scene.frame.notes.iter().rev().find(|n| n.role == pool.role) else { return };
    let rect = scene.place(place.rect);
    let size = 13.0;
    let width = (rect.width() - 16.0).clamp(300.0, 560.0);
    let title = match note.change {
        Some((before, after)) => format!("Planner: from {before} to {after} replicas"),
        None => "Planner".to_owned(),
    };
    let galley =
        ink.painter().layout(note.text.clone(), bevy_egui::egui::FontId::proportional(12.0), theme.dim, width - 24.0);
    let height = size + galley.size().y + 22.0;
    // Below the pool where there is room, else over its lower edge.
    let below = rect.max.y + 10.0 + height <= scene.screen.max.y - 4.0;
    let y = if below { rect.max.y + 10.0 } else { rect.max.y - height - 8.0 };
    let x = (rect.center().x - width / 2.0).min(scene.screen.max.x - width - 8.0).max(scene.screen.min.x + 8.0);
    let bubble = Rect::from_min_size(pos2(x, y), vec2(width, height));
    ink.round(bubble, 6.0, mix(theme.card, theme.planner, 0.12));
    ink.outline(bubble, 6.0, 1.0, theme.planner);
    let at = bubble.min + vec2(12.0, 8.0);
    ink.text(at, Align2::LEFT_TOP, size, theme.planner, &title);
    let ago = match scene.frame.at.since(note.at).as_ms() {
        ms if ms < 1.0 => "now".to_owned(),
        ms => format!("{} ago", words::span(ms)),
    };
    ink.text(pos2(bubble.max.x - 12.0, at.y), Align2::RIGHT_TOP, 12.0, theme.dim, &ago);
    ink.painter().galley(at + vec2(0.0, size + 6.0), galley, theme.dim);
}
