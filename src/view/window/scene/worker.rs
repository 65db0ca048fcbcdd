//! A worker at one of three levels of detail, by its size on the screen: a card, a strip, a tile of a heat map.

use bevy_egui::egui::{Align2, Color32, Pos2, Rect, pos2, vec2};

use super::{Scene, batch, kv};
use crate::scenario::Role;
use crate::sim::metrics::WorkerState;
use crate::view::frame::{PassFrame, WorkerFrame};
use crate::view::window::history::{SPAN, kv_use};
use crate::view::window::ink::Ink;
use crate::view::window::state::Target;
use crate::view::window::theme::{Theme, fade, mix};
use crate::view::window::words;

/// How much of a worker is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Card,
    /// Name, pass, KV.
    Strip,
    /// Load as colour.
    Tile,
}

/// Width on the screen from which on a worker is a card.
const CARD_FROM: f32 = 118.0;
/// Width on the screen from which on it is a strip.
const STRIP_FROM: f32 = 52.0;

impl Detail {
    /// What to draw at a width on the screen.
    pub fn at(width: f32) -> Self {
        match width {
            x if x >= CARD_FROM => Self::Card,
            x if x >= STRIP_FROM => Self::Strip,
            _ => Self::Tile,
        }
    }
}

/// Colour of a role.
pub fn role_color(theme: &Theme, role: Role) -> Color32 {
    match role {
        Role::Aggregated | Role::Decode => theme.decode,
        Role::Prefill => theme.prefill,
    }
}

/// Draws a worker into `rect` of the screen.
pub fn draw(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect) {
    if !ink.sees(rect) {
        return;
    }
    let theme = scene.theme;
    let target = Target::Worker(worker.name);
    ink.touch(rect, target);
    for (detail, strength) in scene.details {
        if strength <= 0.0 {
            continue;
        }
        ink.set_opacity(strength);
        match detail {
            Detail::Card => card(scene, ink, worker, rect),
            Detail::Strip => strip(scene, ink, worker, rect),
            Detail::Tile => tile(scene, ink, worker, rect),
        }
    }
    ink.set_opacity(1.0);
    if scene.is_selected(target) {
        ink.outline(rect.expand(2.0), radius(rect) + 2.0, 2.0, theme.selected);
    } else if scene.view.hovered == Some(target) {
        ink.outline(rect.expand(1.0), radius(rect) + 1.0, 1.0, theme.dim);
    }
}

fn radius(rect: Rect) -> f32 {
    (rect.width() * 0.03).clamp(1.0, 7.0)
}

fn ground(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect) {
    let theme = scene.theme;
    ink.round(rect, radius(rect), theme.card);
    let line = if worker.state == WorkerState::Active { theme.line } else { mix(theme.line, theme.planner, 0.6) };
    ink.outline(rect, radius(rect), 1.0, line);
    if worker.state == WorkerState::Draining {
        hatch(ink, rect.shrink(2.0), fade(theme.planner, 0.16));
    }
}

fn hatch(ink: &mut Ink<'_>, rect: Rect, color: Color32) {
    let (step, mut x) = (9.0, rect.min.x - rect.height());
    while x < rect.max.x {
        // From the bottom edge up to the right, cut at the sides.
        let from = pos2(x.max(rect.min.x), rect.max.y - (rect.min.x - x).max(0.0));
        let reach = rect.height().min(rect.max.x - x);
        let to = pos2(x + reach, rect.max.y - reach);
        if to.x > from.x {
            ink.line(vec![from, to], 1.5, color);
        }
        x += step;
    }
}

fn card(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect) {
    let theme = scene.theme;
    ground(scene, ink, worker, rect);
    let hue = role_color(theme, worker.name.role);
    let size = scene.lettering(13.0);
    let pad = (9.0 * scene.camera.zoom).clamp(6.0, 14.0);
    let inner = rect.shrink(pad);
    let line = size + 4.0;

    let mut y = inner.min.y;
    header(scene, ink, worker, Rect::from_min_size(inner.min, vec2(inner.width(), line)), hue, size);
    y += line + 3.0;
    if worker.state == WorkerState::Starting {
        starting(scene, ink, worker, Rect::from_min_max(pos2(inner.min.x, y), inner.max), size);
        return;
    }

    let bar =
        Rect::from_min_size(pos2(inner.min.x, y), vec2(inner.width(), (7.0 * scene.camera.zoom).clamp(5.0, 12.0)));
    pass_bar(scene, ink, worker.pass.as_ref(), bar);
    y = bar.max.y + 2.0;
    let roomy = inner.height() > 118.0;
    if roomy {
        pass_words(scene, ink, worker.pass.as_ref(), pos2(inner.min.x, y), size - 1.0, inner.width());
        y += line;
    } else {
        y += 3.0;
    }

    // From below: KV figures, mosaic; the batch takes what is left.
    let foot = Rect::from_min_max(pos2(inner.min.x, inner.max.y - line), inner.max);
    kv_line(scene, ink, worker, foot, hue, size - 1.0);
    let left = foot.min.y - y - 6.0;
    let mosaic = Rect::from_min_max(pos2(inner.min.x, foot.min.y - left * 0.42), pos2(inner.max.x, foot.min.y - 2.0));
    kv::mosaic(scene, ink, &worker.kv, mosaic, hue);
    let row = (8.0 * scene.camera.zoom).clamp(6.0, 10.0);
    let waits = !worker.waiting.is_empty();
    let queue_height = if waits { row + 2.0 } else { 0.0 };
    let tiles = Rect::from_min_max(pos2(inner.min.x, y), pos2(inner.max.x, mosaic.min.y - 5.0 - queue_height));
    batch::tiles(scene, ink, &worker.running, tiles);
    if waits {
        let queue = Rect::from_min_max(pos2(inner.min.x, tiles.max.y + 2.0), pos2(inner.max.x, mosaic.min.y - 3.0));
        batch::dots(scene, ink, &worker.waiting, queue);
    }
}

fn header(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, row: Rect, hue: Color32, size: f32) {
    let theme = scene.theme;
    let mark = Rect::from_center_size(pos2(row.min.x + 2.0, row.center().y), vec2(4.0, size));
    ink.round(mark, 2.0, hue);
    let name = words::worker(worker.name);
    let at = pos2(row.min.x + 10.0, row.center().y);
    let name = ink.text(at, Align2::LEFT_CENTER, size + 1.0, theme.text, &name);
    let state = match worker.state {
        WorkerState::Active => None,
        WorkerState::Starting => Some("starting"),
        WorkerState::Draining => Some("draining"),
    };
    if let Some(state) = state {
        let at = pos2(name.max.x + 7.0, row.center().y);
        ink.text(at, Align2::LEFT_CENTER, size - 1.0, theme.planner, state);
    }
    if worker.state == WorkerState::Starting {
        return;
    }
    let (running, waiting) = (worker.running.len(), worker.waiting.len());
    let at = row.right_center();
    let mut left = at.x;
    let wide = row.width() > 124.0;
    if waiting > 0 {
        let n = words::short(waiting as f64);
        let text = if wide { format!("{n} wait") } else { format!("+ {n}") };
        left = ink.text(at, Align2::RIGHT_CENTER, size - 1.0, theme.text, &text).min.x - 8.0;
    }
    let text = match running {
        0 if waiting == 0 => "idle".to_owned(),
        n => format!("{}{}", words::short(n as f64), if wide || waiting == 0 { " run" } else { "" }),
    };
    let color = if running == 0 { theme.dim } else { theme.text };
    ink.text(pos2(left, at.y), Align2::RIGHT_CENTER, size - 1.0, color, &text);
}

/// A ring that closes until the worker is ready.
fn starting(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, room: Rect, size: f32) {
    let theme = scene.theme;
    let left = worker.ready_at.map(|ready| ready.since(scene.frame.at).as_secs());
    let radius = (room.height() * 0.3).min(room.width() * 0.2);
    let center = room.center() - vec2(0.0, size * 0.4);
    ink.painter().circle_stroke(center, radius, (3.0, theme.line));
    let text = match left {
        Some(left) => words::span(left * 1e3),
        None => "waits".to_owned(),
    };
    if let Some(left) = left {
        // The model tells when it will be ready, not when it was asked for: the ring is a clock of one minute.
        let share = ((left % 60.0) / 60.0) as f32;
        let points: Vec<Pos2> = (0..=48)
            .map(|i| {
                let angle = (i as f32 / 48.0 * share - 0.25) * std::f32::consts::TAU;
                center + vec2(angle.cos(), angle.sin()) * radius
            })
            .collect();
        ink.line(points, 3.0, theme.planner);
    }
    ink.text(center, Align2::CENTER_CENTER, size, theme.text, &text);
    let at = pos2(center.x, room.max.y);
    ink.text(at, Align2::CENTER_BOTTOM, size - 1.0, theme.dim, "until ready");
}

/// The forward pass: prefill and decode part side by side, filled up to now.
fn pass_bar(scene: &Scene<'_>, ink: &mut Ink<'_>, pass: Option<&PassFrame>, rect: Rect) {
    let theme = scene.theme;
    ink.rect(rect, mix(theme.card, theme.line, 0.6));
    let Some(pass) = pass else { return };
    let done = progress(pass, scene);
    // A decoding request computes one token of the pass.
    let all = pass.prefill_tokens as f32 + pass.decode_requests as f32;
    let share = if all > 0.0 { pass.prefill_tokens as f32 / all } else { 0.0 };
    // A part that is there is seen.
    let share = match (pass.prefill_tokens, pass.decode_requests) {
        (0, _) => 0.0,
        (_, 0) => 1.0,
        _ => share.clamp(0.08, 0.92),
    };
    let split = rect.min.x + rect.width() * share;
    let now = rect.min.x + rect.width() * done;
    for (from, to, color) in [(rect.min.x, split, theme.prefill), (split, rect.max.x, theme.decode)] {
        let part = |a: f32, b: f32| Rect::from_min_max(pos2(a, rect.min.y), pos2(b.max(a), rect.max.y));
        ink.rect(part(from, to), mix(theme.card, color, 0.3));
        ink.rect(part(from, to.min(now)), color);
    }
}

fn progress(pass: &PassFrame, scene: &Scene<'_>) -> f32 {
    let all = pass.end.since(pass.start).as_nanos();
    let done = scene.frame.at.since(pass.start).as_nanos().min(all);
    if all == 0 { 1.0 } else { (done as f64 / all as f64) as f32 }
}

fn pass_words(scene: &Scene<'_>, ink: &mut Ink<'_>, pass: Option<&PassFrame>, at: Pos2, size: f32, width: f32) {
    let theme = scene.theme;
    let Some(pass) = pass else {
        ink.text(at, Align2::LEFT_TOP, size, theme.dim, "no pass");
        return;
    };
    let took = words::span(pass.end.since(pass.start).as_ms());
    let took = ink.text(at, Align2::LEFT_TOP, size, theme.text, &took);
    let mut parts = Vec::new();
    if pass.prefill_tokens > 0 {
        parts.push(format!("{} tok prefill", words::short(pass.prefill_tokens as f64)));
    }
    if pass.decode_requests > 0 {
        parts.push(format!("{} decode", words::short(f64::from(pass.decode_requests))));
    }
    let room = width - took.width() - 8.0;
    let right = pos2(at.x + width, at.y);
    ink.text_within(right, Align2::RIGHT_TOP, size, theme.dim, &parts.join(" + "), room);
}

/// Share of KV in use, and its last minute.
fn kv_line(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect, hue: Color32, size: f32) {
    let theme = scene.theme;
    let used = kv_use(worker.kv.active + worker.kv.reserved, worker.kv.total);
    let label = ink.text(rect.left_center(), Align2::LEFT_CENTER, size, theme.dim, "KV");
    let figure = pos2(label.max.x + 5.0, rect.center().y);
    let color = if used > 0.9 { theme.missed } else { theme.text };
    ink.text(figure, Align2::LEFT_CENTER, size, color, &words::percent(f64::from(used)));
    let plot = Rect::from_min_max(pos2(label.max.x + 46.0, rect.min.y + 2.0), pos2(rect.max.x, rect.max.y - 2.0));
    if plot.width() < 24.0 {
        return;
    }
    ink.rect(Rect::from_min_max(pos2(plot.min.x, plot.max.y - 1.0), plot.max), theme.line);
    let now = scene.frame.at;
    let points: Vec<Pos2> = scene
        .history
        .of(worker.name)
        .filter(|s| s.at <= now)
        .map(|s| {
            let age = now.since(s.at).as_nanos() as f32 / SPAN.as_nanos() as f32;
            pos2(plot.max.x - age * plot.width(), plot.max.y - s.kv * plot.height())
        })
        .collect();
    if points.len() > 1 {
        ink.line(points, 1.5, mix(theme.card, hue, 0.85));
    }
}

fn strip(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect) {
    let theme = scene.theme;
    ground(scene, ink, worker, rect);
    let hue = role_color(theme, worker.name.role);
    let inner = rect.shrink((rect.width() * 0.06).clamp(3.0, 7.0));
    let size = 12.0_f32;
    let wide = inner.width() >= 58.0;
    let name = pos2(inner.min.x, inner.min.y);
    ink.text(name, Align2::LEFT_TOP, size, theme.text, &words::worker(worker.name));
    if worker.state == WorkerState::Starting {
        let left = worker.ready_at.map_or(0.0, |ready| ready.since(scene.frame.at).as_ms());
        ink.text(inner.center_bottom(), Align2::CENTER_BOTTOM, size, theme.planner, &words::span(left));
        return;
    }
    if wide {
        let text = words::short((worker.running.len() + worker.waiting.len()) as f64);
        ink.text(pos2(inner.max.x, inner.min.y), Align2::RIGHT_TOP, size, theme.dim, &text);
    }
    let room = inner.max.y - (inner.min.y + size + 3.0);
    let thick = (room * 0.3).clamp(3.0, 8.0);
    let bar = |up: f32| {
        let bottom = inner.max.y - up;
        Rect::from_min_max(pos2(inner.min.x, bottom - thick), pos2(inner.max.x, bottom))
    };
    pass_bar(scene, ink, worker.pass.as_ref(), bar(thick + 3.0));
    kv_bar(scene, ink, worker, bar(0.0), hue);
    let between = Rect::from_min_max(
        pos2(inner.min.x, inner.min.y + size + 5.0),
        pos2(inner.max.x, bar(thick + 3.0).min.y - 3.0),
    );
    if between.height() >= 8.0 {
        batch::tiles(scene, ink, &worker.running, between);
    }
}

fn kv_bar(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect, hue: Color32) {
    let theme = scene.theme;
    ink.rect(rect, mix(theme.card, theme.line, 0.6));
    let mut x = rect.min.x;
    let kv = &worker.kv;
    let parts = [(kv.active, mix(hue, theme.card, 0.25)), (kv.reserved, theme.transfer), (kv.cached, theme.cached)];
    for (blocks, color) in parts {
        let width = rect.width() * kv_use(blocks, kv.total);
        ink.rect(Rect::from_min_max(pos2(x, rect.min.y), pos2(x + width, rect.max.y)), color);
        x += width;
    }
}

/// One cell of a heat map: the fuller the KV, the stronger the role's colour; requests that wait warm it up.
fn tile(scene: &Scene<'_>, ink: &mut Ink<'_>, worker: &WorkerFrame, rect: Rect) {
    let theme = scene.theme;
    let hue = role_color(theme, worker.name.role);
    let used = kv_use(worker.kv.active + worker.kv.reserved, worker.kv.total);
    let base = if worker.running.is_empty() { theme.card } else { mix(theme.card, hue, 0.22 + 0.78 * used.sqrt()) };
    ink.rect(rect, base);
    let corner = |color: Color32, share: f32, ink: &mut Ink<'_>| {
        let side = rect.height() * share;
        let points = [rect.right_top() - vec2(side, 0.0), rect.right_top(), rect.right_top() + vec2(0.0, side)];
        ink.polygon(&points, color);
    };
    if !worker.waiting.is_empty() {
        let share = (worker.waiting.len() as f32 / worker.running.len().max(8) as f32).clamp(0.15, 1.0);
        let bar = Rect::from_min_max(pos2(rect.min.x, rect.max.y - rect.height() * 0.22), rect.max);
        ink.rect(Rect::from_min_max(bar.min, pos2(bar.min.x + bar.width() * share, bar.max.y)), theme.missed);
    }
    match worker.state {
        WorkerState::Active => {}
        WorkerState::Starting => {
            ink.rect(rect, mix(theme.pool, theme.planner, 0.2));
            corner(theme.planner, 0.7, ink);
        }
        WorkerState::Draining => corner(theme.planner, 0.7, ink),
    }
}
