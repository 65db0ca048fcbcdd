//! What the pointer is over, beside it.

use bevy_egui::egui::{self, FontId, Pos2, Rect, vec2};

use super::Desk;
use crate::view::frame::TilePhase;
use crate::view::window::state::Target;
use crate::view::window::theme::mix;
use crate::view::window::words;

/// Draws the tip.
pub fn show(ctx: &egui::Context, desk: &Desk<'_>, target: Target, at: Pos2) {
    let theme = desk.theme;
    let layer = egui::LayerId::new(egui::Order::Tooltip, egui::Id::new("tip"));
    let painter = ctx.layer_painter(layer);
    let galley = painter.layout(text(desk, target), FontId::proportional(13.0), theme.text, 300.0);
    let size = galley.size() + vec2(16.0, 10.0);
    let screen = ctx.content_rect();
    let mut min = at + vec2(14.0, 16.0);
    min.x = min.x.min(screen.max.x - size.x - 4.0);
    if min.y + size.y > screen.max.y - 4.0 {
        min.y = at.y - size.y - 8.0;
    }
    let rect = Rect::from_min_size(min, size);
    painter.rect_filled(rect, 4.0, mix(theme.panel, theme.line, 0.5));
    painter.rect_stroke(rect, 4.0, (1.0, theme.line), egui::StrokeKind::Inside);
    painter.galley(min + vec2(8.0, 5.0), galley, theme.text);
}

fn text(desk: &Desk<'_>, target: Target) -> String {
    let mut workers = desk.frame.pools.iter().flat_map(|p| &p.workers);
    match target {
        Target::Worker(name) => {
            let Some(worker) = workers.find(|w| w.name == name) else { return words::worker(name) };
            let (running, waiting) = (worker.running.len(), worker.waiting.len());
            format!("{}: {running} running, {waiting} waiting", words::worker(name))
        }
        Target::Request(index) => {
            let name = format!("Request {}", words::count(index.into()));
            if let Some(tile) = workers.clone().flat_map(|w| &w.running).find(|t| t.request == index) {
                let what = match tile.phase {
                    TilePhase::Prefill => format!("prefill {}", words::percent(tile.progress.into())),
                    TilePhase::Decode => format!("decode {}", words::percent(tile.progress.into())),
                    TilePhase::Held => "held for hand-off".to_owned(),
                    TilePhase::Reserved => "blocks reserved".to_owned(),
                    TilePhase::BringingUp => "KV comes from a lower tier".to_owned(),
                };
                let (input, output) = (words::count(tile.input_tokens.into()), words::count(tile.output_tokens.into()));
                return format!("{name}: {what}\n{input} prompt tokens, {output} to emit");
            }
            let waiting = workers.flat_map(|w| &w.waiting).chain(&desk.frame.router.waiting);
            match waiting.into_iter().find(|d| d.request == index) {
                Some(dot) => format!("{name}: waiting for {}", words::span(dot.waited.as_ms())),
                None => name,
            }
        }
    }
}
